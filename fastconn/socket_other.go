//go:build !unix

package fastconn

import (
	"net"
	"syscall"
)

// rawConn: there is no reading of sockets without waiting here.
func rawConn(net.Conn) syscall.RawConn { return nil }

func readSocket(uintptr, []byte) (n int, again bool, err error) { return 0, false, nil }
