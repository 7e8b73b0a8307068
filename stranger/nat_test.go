package stranger

import (
	"errors"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestBehindBoxes: only who can be dialled by a stranger is.
func TestBehindBoxes(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine func(*testnet.Net) *testnet.Host
		want    error
	}{
		{"no box", func(n *testnet.Net) *testnet.Host { return n.Host("client") }, nil},
		{"full cone", func(n *testnet.Net) *testnet.Host { return n.NAT("box", testnet.FullCone()).Host("client") }, nil},
		{"address-restricted", func(n *testnet.Net) *testnet.Host { return n.NAT("box", testnet.AddressRestricted()).Host("client") }, ErrDialFailed},
		{"port-restricted", func(n *testnet.Net) *testnet.Host { return n.NAT("box", testnet.PortRestricted()).Host("client") }, ErrDialFailed},
		{"symmetric", func(n *testnet.Net) *testnet.Host { return n.NAT("box", testnet.Symmetric()).Host("client") }, ErrDialFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				server, third := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), true, Limits{})
				client := join(t, c.machine(n), false, Limits{})
				meet(t, server, third)
				meet(t, client, server)
				const nonce = 0xfeed
				began := time.Now()
				err := client.Ask(t.Context(), server.ID(), external(t, server, client.ID()), nonce)
				took := time.Since(began)
				t.Logf("%v after %v", err, took)
				if !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				if most := dialDelay + time.Second; c.want == nil && took > most || took > dialDelay+dialTimeout+time.Second {
					t.Errorf("took %v", took)
				}
				if took > 3200*time.Millisecond {
					t.Errorf("took %v: nobody knows within 4 s of its start then", took)
				}
				if from, arrived := client.nonces.of(nonce); arrived != (c.want == nil) || arrived && from != third.machine.IP() {
					t.Errorf("nonce arrived: %v, from %v; want %v, from %v", arrived, from, c.want == nil, third.machine.IP())
				}
				if third.dialled.Load() != 1 || server.dialled.Load() != 0 {
					t.Errorf("third node dialled %d times and server %d, want 1 and 0", third.dialled.Load(), server.dialled.Load())
				}
			})
		})
	}
}

// TestContactIsNoStranger: a third node that the client knows is not asked, and
// the one is that it does not know.
func TestContactIsNoStranger(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server, known := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("known"), true, Limits{})
		client := join(t, n.NAT("box", testnet.AddressRestricted()).Host("client"), false, Limits{})
		meet(t, server, known)
		meet(t, client, server)
		meet(t, client, known)
		addr := external(t, server, client.ID())
		if err := client.Ask(t.Context(), server.ID(), addr, 1); !errors.Is(err, ErrNobody) {
			t.Errorf("only contacts there: got %v, want %v", err, ErrNobody)
		}
		client.Network().ClosePeer(known.ID())
		time.Sleep(time.Second)
		if err := client.Ask(t.Context(), server.ID(), addr, 1); !errors.Is(err, ErrNobody) {
			t.Errorf("only one that was a contact a moment ago: got %v, want %v", err, ErrNobody)
		}
		third := join(t, n.Host("third"), true, Limits{})
		meet(t, server, third)
		if err := client.Ask(t.Context(), server.ID(), addr, 2); !errors.Is(err, ErrDialFailed) {
			t.Errorf("a stranger there: got %v, want %v", err, ErrDialFailed)
		}
		if known.dialled.Load() != 0 || third.dialled.Load() != 1 {
			t.Errorf("the known one dialled %d times and the stranger %d, want 0 and 1", known.dialled.Load(), third.dialled.Load())
		}
		if _, arrived := client.nonces.of(2); arrived {
			t.Error("the box let a stranger in")
		}
	})
}

// TestSecondTry: one that is busy is passed over.
func TestSecondTry(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server := join(t, n.Host("server"), true, Limits{PerAsker: 100})
		a, b := join(t, n.Host("a"), true, Limits{PerServer: 1}), join(t, n.Host("b"), true, Limits{PerServer: 1})
		client := join(t, n.Host("client"), false, Limits{})
		for _, p := range []*party{a, b, client} {
			meet(t, p, server)
		}
		addr := external(t, server, client.ID())
		for nonce := range uint64(2) {
			if err := client.Ask(t.Context(), server.ID(), addr, nonce); err != nil {
				t.Errorf("request %d: %v", nonce, err)
			}
		}
		if a.dialled.Load() != 1 || b.dialled.Load() != 1 {
			t.Errorf("dialled %d and %d times, want 1 and 1", a.dialled.Load(), b.dialled.Load())
		}
		if err := client.Ask(t.Context(), server.ID(), addr, 3); !errors.Is(err, ErrNobody) {
			t.Errorf("both have done their part: got %v, want %v", err, ErrNobody)
		}
	})
}

// TestSetPublic: a node that cannot be dialled does not serve.
func TestSetPublic(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		server, third := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), false, Limits{})
		client := join(t, n.Host("client"), false, Limits{})
		meet(t, server, third)
		meet(t, client, server)
		addr := external(t, server, client.ID())
		if err := client.Ask(t.Context(), server.ID(), addr, 1); !errors.Is(err, ErrNobody) {
			t.Errorf("the third node is not public: got %v, want %v", err, ErrNobody)
		}
		third.SetPublic(true)
		time.Sleep(time.Second)
		if err := client.Ask(t.Context(), server.ID(), addr, 2); err != nil {
			t.Errorf("it is now: got %v", err)
		}
		server.SetPublic(false)
		time.Sleep(time.Second)
		if err := client.Ask(t.Context(), server.ID(), addr, 3); err == nil {
			t.Error("the server is not public any more, and served")
		}
	})
}
