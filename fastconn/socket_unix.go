//go:build unix

package fastconn

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns the socket of a TCP connection, and nil for anything else,
// such as WebSocket and circuits.
//
// Behind libp2p's shared TCP listener there is a conn that has read 3 bytes of
// its socket (v0.51, tcpreuse/internal/sampledconn): they are long consumed
// when multistream has agreed on a security protocol.
func rawConn(c net.Conn) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	if _, ok := c.LocalAddr().(*net.TCPAddr); !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// readSocket reads once; again means that there is nothing to read yet.
func readSocket(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch {
		case err == nil && n > 0:
			return n, false, nil
		case err == nil:
			return 0, false, io.EOF
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		default:
			return 0, false, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
		}
	}
}
