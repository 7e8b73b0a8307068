package stranger

import (
	"net/netip"
	"testing"

	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestIsStranger: all that is known of where a peer is counts.
func TestIsStranger(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server, third := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), true, Limits{})
		mute := join(t, n.Host("mute"), false, Limits{})
		meet(t, server, third)
		meet(t, server, mute)
		is := func(four bool, avoid ...string) bool {
			var list []netip.Prefix
			for _, a := range avoid {
				list = append(list, netip.MustParsePrefix(a))
			}
			return server.isStranger(third.ID(), four, list)
		}
		if !is(true) || is(false) {
			t.Error("it is known at an IPv4 address, and at no other")
		}
		if server.isStranger(mute.ID(), true, nil) {
			t.Error("one that does not serve is chosen")
		}
		near := around(third.machine.IP()).String()
		if is(true, near) || !is(true, "8.8.8.0/24", "2a00:1:2::/48") {
			t.Errorf("who is in %s is no stranger there, and one elsewhere", near)
		}
		server.Peerstore().AddAddr(third.ID(), ma.StringCast("/ip6/2a00:1:2::3/tcp/1"), peerstore.PermanentAddrTTL)
		if !is(false) || !is(true) {
			t.Error("it says that it has IPv6")
		}
		if is(true, "2a00:1:2::/48") || is(false, near) {
			t.Error("a contact over one IP family is a contact")
		}
		server.Network().ClosePeer(third.ID())
		if is(true) {
			t.Error("one that is gone is chosen")
		}
	})
}

// TestContacts names those first who could be chosen, in one IP family.
func TestContacts(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		c := join(t, n.Host("client"), false, Limits{})
		var stock *party
		for range maxKnown + 8 {
			stock = join(t, n.Host("stock"), false, Limits{})
			meet(t, c, stock)
		}
		server := join(t, n.Host("server"), true, Limits{})
		meet(t, c, server)
		got := c.contacts(true)
		if len(got) != maxKnown || got[0] != around(server.machine.IP()) {
			t.Errorf("got %d, %v, want %d with the one that serves first", len(got), got, maxKnown)
		}
		if got := c.contacts(false); len(got) != 0 {
			t.Errorf("of IPv6: %v, want none", got)
		}
	})
}
