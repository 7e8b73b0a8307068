package netwatch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// groups are the rtnetlink(7) messages that may mean a change.
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// hints hears the kernel. What it says is not looked at: messages get lost
// under load, and the state is read anew anyway.
func hints(ctx context.Context, hinted chan<- struct{}) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("netlink bind: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	buf := make([]byte, 8<<10) // what does not fit is cut off, and not missed
	for {
		// The first hint is that we listen: what has changed before that, and
		// after the first look, is told by nothing else.
		select {
		case hinted <- struct{}{}:
		default:
		}
		// ENOBUFS: there was more than the socket holds. That is a hint too.
		if _, err := f.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("netlink read: %w", err)
		}
	}
}
