//go:build !linux

package fastconn

import "net"

// receiveMany: there is no generic receive offload here.
func receiveMany(c *net.UDPConn) net.PacketConn { return c }
