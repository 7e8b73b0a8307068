package cli

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/node"
)

func TestStartError(t *testing.T) {
	for _, c := range []struct {
		addr      string
		err       error
		text, try string
	}{
		{"/ip4/0.0.0.0/tcp/443/tls/ws", syscall.EACCES, "permission denied, since ports below 1024 are root's", "setcap cap_net_bind_service=+ep"},
		{"/ip4/0.0.0.0/udp/443/quic-v1", syscall.EACCES, "permission denied, since ports below 1024 are root's", "AmbientCapabilities=CAP_NET_BIND_SERVICE"},
		{"/ip4/0.0.0.0/tcp/4001", syscall.EACCES, "permission denied", "a port above 1023"},
		{"/ip4/0.0.0.0/tcp/4001", syscall.EADDRINUSE, "the port is in use", "stop the other program"},
		{"/ip4/11.0.0.1/tcp/4001", syscall.EADDRNOTAVAIL, "this machine does not have the address", "--announce"},
		{"/ip4/0.0.0.0/tcp/4001", errors.New("odd"), "odd", "another --listen address"},
	} {
		var h *hinted
		err := StartError(&node.ListenError{Addr: ma.StringCast(c.addr), Err: c.err})
		if !errors.As(err, &h) || h.Error() != "cannot listen on "+c.addr+": "+c.text || !strings.Contains(h.try, c.try) || h.usage {
			t.Errorf("%s, %v: got %v", c.addr, c.err, err)
		}
	}
}
