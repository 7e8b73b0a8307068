package fastconn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unsentLimit bounds what the kernel takes without being able to send it. Its
// send buffer grows to megabytes, and everything waits behind what is in it.
const unsentLimit = 128 << 10

// limitUnsent shortens the kernel's queue of unsent data. Where the kernel
// does not know the option the queue is as long as it was.
func limitUnsent(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}
