package node

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/testnet"
)

func newKey(t *testing.T) (crypto.PrivKey, peer.ID) {
	t.Helper()
	k, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, id
}

// club is a relay's side of tokens: it has members and strangers.
type club struct {
	t     *testing.T
	key   crypto.PrivKey
	trust auth.Trust

	mu    sync.Mutex // guards the fields below
	class map[peer.ID]string
	shown []string // the class of each token presented, "" for none, "?" if refused
	hold  chan struct{}
}

func newClub(t *testing.T) *club {
	key, issuer := newKey(t)
	return &club{t: t, key: key, trust: auth.Trust{Issuers: []peer.ID{issuer}}, class: make(map[peer.ID]string)}
}

// doorman makes a host take the club's tokens.
func (c *club) doorman(h host.Host) {
	stop := auth.Receive(h, auth.Relay{Accept: func(from peer.ID, s *auth.Signed) (auth.Grant, error) {
		c.mu.Lock()
		hold := c.hold
		c.mu.Unlock()
		if hold != nil {
			<-hold
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if s == nil {
			c.shown = append(c.shown, "")
			delete(c.class, from)
			return auth.Grant{}, nil
		}
		if err := c.trust.Verify(s, from, time.Now()); err != nil {
			c.shown = append(c.shown, "?")
			return auth.Grant{}, err
		}
		c.shown = append(c.shown, s.Class)
		c.class[from] = s.Class
		return auth.Grant{Class: s.Class, Expires: s.Expires}, nil
	}})
	c.t.Cleanup(stop)
}

// holdUp makes the doorman slow, until the function returned is called.
func (c *club) holdUp() func() {
	hold := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = hold
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hold = nil
		close(hold)
	}
}

// story is what was presented so far.
func (c *club) story() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.shown, " ")
}

func (c *club) token(p peer.ID, class string) string {
	c.t.Helper()
	text, err := auth.Sign(c.key, auth.Token{Peer: p, Class: class, Expires: time.Now().Add(24 * time.Hour)})
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

var clubLimits = map[string]uint64{"": 1 << 20, "member": 1 << 30, "patron": 1 << 40}

// reserve answers RESERVE with the limits of the peer's class.
func (c *club) reserve(s network.Stream) {
	defer s.Close()
	var req pbv2.HopMessage
	if err := util.NewDelimitedReader(s, 4096).ReadMsg(&req); err != nil {
		s.Reset()
		return
	}
	c.mu.Lock()
	data := clubLimits[c.class[s.Conn().RemotePeer()]]
	c.mu.Unlock()
	expire := uint64(time.Now().Add(time.Hour).Unix())
	util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(),
		Reservation: &pbv2.Reservation{Expire: &expire, Addrs: [][]byte{s.Conn().LocalMultiaddr().Bytes()}},
		Limit:       &pbv2.Limit{Data: &data},
	})
}

func (c *club) relay(w *world) host.Host {
	k, _ := newKey(c.t)
	h, _ := w.fakeRelay(k, c.reserve)
	c.doorman(h)
	return h
}

// limitsOf lists the bytes that circuits over the relays held may carry.
func limitsOf(n *Node) (list []uint64) {
	for _, r := range n.Status().AutoRelay.Relays {
		if r.LimitBytes > 0 {
			list = append(list, r.LimitBytes)
		}
	}
	return list
}

// history is what has happened to a node.
func history[E Event](t *testing.T, n *Node) (list []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events := n.History(ctx)
	synctest.Wait()
	cancel()
	for e := range events {
		if e, is := e.(E); is {
			list = append(list, e.String())
		}
	}
	return list
}

// TestToken: it is there before the reservation, and a new one at once.
func TestToken(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		c := newClub(t)
		one, two := c.relay(w), c.relay(w)
		k, id := newKey(t)
		n := w.behind("A", testnet.PortRestricted(), Config{
			Identity: k, Token: c.token(id, "member") + "\n",
			StaticRelays: []peer.AddrInfo{*host.InfoFromHost(one), *host.InfoFromHost(two)},
		})
		limits := func(want uint64) {
			t.Helper()
			for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				if got := limitsOf(n); len(got) == 2 && got[0] == want && got[1] == want {
					t.Logf("both relays after %v", time.Since(begun))
					return
				}
				if time.Since(begun) > 2*time.Second {
					t.Fatalf("limits known: got %v, want %d from both relays; presented: %s", limitsOf(n), want, c.story())
				}
			}
		}
		limits(clubLimits["member"])
		if got := c.story(); got != "member member" {
			t.Errorf("presented: %q", got)
		}
		if got := history[TokenTaken](t, n); len(got) != 2 || !strings.Contains(got[0], "took the token: class member") {
			t.Errorf("events: %q", got)
		}
		if err := n.SetToken(c.token(id, "patron")); err != nil {
			t.Fatal(err)
		}
		limits(clubLimits["patron"])
		if err := n.SetToken(""); err != nil {
			t.Fatal(err)
		}
		limits(clubLimits[""])
		if got := c.story(); got != "member member patron patron  " {
			t.Errorf("presented: %q", got)
		}
		if lost := history[RelayLost](t, n); len(lost) > 0 {
			t.Errorf("lost: %v", lost)
		}

		if testing.Short() {
			return // hours of refreshes follow
		}
		// Strangers say nothing, also when they refresh.
		time.Sleep(2 * time.Hour)
		if got := c.story(); got != "member member patron patron  " {
			t.Errorf("presented: %q", got)
		}
		// Members say who they are each time, and it is news once.
		if err := n.SetToken(c.token(id, "member")); err != nil {
			t.Fatal(err)
		}
		before := len(history[TokenTaken](t, n))
		time.Sleep(2 * time.Hour)
		if got := strings.Count(c.story(), "member"); got < 8 {
			t.Errorf("presented %d times in two hours: %s", got-2, c.story())
		}
		if got := len(history[TokenTaken](t, n)) - before; got > 2 {
			t.Errorf("%d events in two hours, want 2", got)
		}
	})
}

// TestTokenChangesWhilePresented: the last one set is the last one seen.
func TestTokenChangesWhilePresented(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		c := newClub(t)
		r := c.relay(w)
		k, id := newKey(t)
		goOn := c.holdUp()
		n := w.behind("A", testnet.PortRestricted(), Config{
			Identity: k, Token: c.token(id, "member"), StaticRelays: []peer.AddrInfo{*host.InfoFromHost(r)},
		})
		time.Sleep(time.Second)
		for _, class := range []string{"x", "y", "patron"} {
			if err := n.SetToken(c.token(id, class)); err != nil {
				t.Fatal(err)
			}
		}
		goOn()
		time.Sleep(time.Second)
		if got := c.story(); !strings.HasPrefix(got, "member patron") || strings.ContainsAny(got, "xy") {
			t.Errorf("presented: %q", got)
		}
		if got := limitsOf(n); len(got) != 1 || got[0] != clubLimits["patron"] {
			t.Errorf("limits known: got %v", got)
		}
	})
}

// TestTokenRefused: the reservation is asked for all the same, and the refusal
// told once.
func TestTokenRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("hours of refreshes")
	}
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		c, others := newClub(t), newClub(t)
		r, stock := c.relay(w), others.relay(w)
		auth.Receive(stock, auth.Relay{})() // takes none
		k, id := newKey(t)
		n := w.behind("A", testnet.PortRestricted(), Config{
			Identity: k, Token: others.token(id, "member"),
			StaticRelays: []peer.AddrInfo{*host.InfoFromHost(r), *host.InfoFromHost(stock)},
		})
		await(t, n, "two circuit addresses", func(e AddrsChanged) bool { return e.Circuits == 2 })
		time.Sleep(2 * time.Hour)
		if got := c.story(); !strings.HasPrefix(got, "? ? ?") {
			t.Errorf("presented: %q", got)
		}
		got := history[TokenRefused](t, n)
		if want := "relay " + ShortID(r.ID()) + " did not take the token: the relay does not know who signed the token"; len(got) != 1 || got[0] != want {
			t.Errorf("events: %q, want %q", got, want)
		}
		if limits := limitsOf(n); len(limits) != 2 || limits[0] != clubLimits[""] {
			t.Errorf("limits: got %v, want a stranger's", limits)
		}
	})
}

// TestRelayHangsOverToken: it costs half of the time for a reservation, and
// less before a circuit.
func TestRelayHangsOverToken(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		c := newClub(t)
		r := c.relay(w)
		defer c.holdUp()()
		k, id := newKey(t)
		begun := time.Now()
		n := w.behind("A", testnet.PortRestricted(), Config{
			Identity: k, Token: c.token(id, "member"), StaticRelays: []peer.AddrInfo{*host.InfoFromHost(r)},
		})
		await(t, n, "a circuit address", func(e AddrsChanged) bool { return e.Circuits == 1 })
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("a circuit address after %v", took)
		}
		if got := history[TokenRefused](t, n); len(got) != 1 || !strings.HasSuffix(got[0], "no answer that makes sense") {
			t.Errorf("events: %q", got)
		}
	})
}

// TestTokenBeforeCircuit: over a relay where somebody else is reachable, once.
func TestTokenBeforeCircuit(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r, a, _ := w.behindOneRelay()
		b := w.onRelay(r, "B")
		c := newClub(t)
		c.doorman(r.Host())
		k, id := newKey(t)
		caller := w.behind("caller", testnet.Symmetric(), Config{
			NoHolePunching: true, Relays: -1, Identity: k, Token: c.token(id, "member"),
		})
		call := func(p *Node, presented string) {
			t.Helper()
			caller.Host().Peerstore().AddAddrs(p.ID(), p.Host().Addrs(), time.Hour)
			begun := time.Now()
			if err := caller.Connect(t.Context(), p.ID()); err != nil {
				t.Fatal(err)
			}
			t.Logf("circuit after %v", time.Since(begun))
			if got := c.story(); got != presented {
				t.Errorf("presented: %q, want %q", got, presented)
			}
		}
		hangUp := func(p *Node) {
			caller.Host().Network().ClosePeer(p.ID())
			time.Sleep(100 * time.Millisecond)
		}
		call(a, "member")
		call(b, "member")
		hangUp(a)
		if err := caller.SetToken(c.token(id, "patron")); err != nil {
			t.Fatal(err)
		}
		call(a, "member patron")
		hangUp(a)
		caller.SetToken("")
		call(a, "member patron ")
		hangUp(a)
		call(a, "member patron ")
		caller.SetToken(c.token(id, "member"))
		hangUp(a)
		hangUp(b)
		hangUp(r)
		call(a, "member patron  member")

		// A relay that hangs holds up the call, but not for long.
		hangUp(a)
		caller.SetToken(c.token(id, "patron"))
		goOn := c.holdUp()
		begun := time.Now()
		call(a, "member patron  member")
		if took := time.Since(begun); took > introduceTimeout+time.Second {
			t.Errorf("a call over a relay that hangs took %v", took)
		}
		hangUp(a)
		begun = time.Now()
		call(a, "member patron  member")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the next call took %v", took)
		}
		goOn()
	})
}

func TestTokensThatAreNotOurs(t *testing.T) {
	c := newClub(t)
	k, id := newKey(t)
	_, other := newKey(t)
	n, err := New(Config{Identity: k})
	if err != nil {
		t.Fatal(err)
	}
	good := c.token(id, "member")
	for text, want := range map[string]string{
		"":                       "",
		good:                     "",
		" " + good + "\n":        "",
		"x":                      "this is not a token",
		good[:50]:                "this is not a token",
		c.token(other, "member"): "the token is for peer " + other.String() + ", and this is " + id.String(),
	} {
		if err := n.SetToken(text); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("SetToken(%q): got %v, want %q", text, err, want)
		}
		if _, err := New(Config{Identity: k, Token: text}); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("New with %q: got %v, want %q", text, err, want)
		}
	}
	if _, err := New(Config{Token: good}); err == nil {
		t.Error("New with a token and a fresh identity: got no error")
	}
}
