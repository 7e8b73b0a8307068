//go:build !linux

package fastconn

import "syscall"

func limitUnsent(syscall.RawConn) {}
