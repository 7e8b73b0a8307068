package testnet_test

import (
	"testing"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/testnet"
)

func listen6(t *testing.T, h *testnet.Host, port int) socket {
	t.Helper()
	c, err := h.ListenPacket6(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return socket{c, t}
}

// TestIPv6: no box is in the way, whatever the IPv4 goes through.
func TestIPv6(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		home := n.NAT("box", testnet.Symmetric()).Host("home")
		a, b := listen6(t, home, 4001), listen6(t, n.Host("server"), 53)
		if !manet.IsPublicAddr(home.ListenAddr6(4001)) {
			t.Errorf("%s is no public address", home.ListenAddr6(4001))
		}
		if got := a.seenBy(b); got != a.addr() {
			t.Errorf("seen at %v, want %v", got, a.addr())
		}
		if !b.reaches(a.addr(), a) {
			t.Error("not reached from outside")
		}
		// The same port of the other family is another socket.
		four := listen(t, home, 4001)
		if b.reaches(a.addr(), four) {
			t.Error("a packet to the IPv6 address came to the IPv4 socket")
		}
		a.receive()
	})
}

func TestFirewall6(t *testing.T) {
	simulate(t, testnet.Config{}, func(t *testing.T, n *testnet.Net) {
		home := n.Host("home")
		home.Firewall6(true)
		a := listen6(t, home, 4001)
		m := n.Host("server")
		b, other := listen6(t, m, 53), listen6(t, m, 54)
		if b.reaches(a.addr(), a) {
			t.Error("a stranger got through")
		}
		a.seenBy(b)
		if !b.reaches(a.addr(), a) {
			t.Error("an answer did not get through")
		}
		if other.reaches(a.addr(), a) {
			t.Error("another port of the same machine got through")
		}
		four, server := listen(t, home, 4001), listen(t, m, 53)
		if !server.reaches(four.addr(), four) {
			t.Error("the firewall stopped IPv4")
		}
		time.Sleep(6 * time.Minute)
		if b.reaches(a.addr(), a) {
			t.Error("an answer got through minutes later")
		}
		home.Firewall6(false)
		if !other.reaches(a.addr(), a) {
			t.Error("not reached without the firewall")
		}
	})
}
