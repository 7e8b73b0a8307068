package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-p2p/causeway/auth/pb"
	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		t.Cleanup(n.Close)
		f(t, n)
	})
}

func startHost(t *testing.T, m *testnet.Host) host.Host {
	t.Helper()
	h, err := libp2p.New(
		m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ForceReachabilityPublic(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// connect returns when both know what the other speaks.
func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// desk is the relay's side: it knows one issuer and one class, and keeps the
// newest grant of each peer.
type desk struct {
	host  host.Host
	key   crypto.PrivKey
	trust Trust
	stop  func()

	mu      sync.Mutex    // guards the fields below
	shift   time.Duration // by how much its clock is off
	grants  map[peer.ID]Grant
	asked   int
	refused map[Reason]int
}

func newDesk(t *testing.T, m *testnet.Host) *desk {
	t.Helper()
	key, issuer := newKey(t)
	d := &desk{
		host: startHost(t, m), key: key, trust: Trust{Issuers: []peer.ID{issuer}},
		grants: make(map[peer.ID]Grant), refused: make(map[Reason]int),
	}
	d.stop = Receive(d.host, Relay{Accept: d.accept, Refused: func(_ peer.ID, why Reason) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.refused[why]++
	}})
	t.Cleanup(d.stop)
	return d
}

var strangers, members = Limits{Circuits: 4, Rate: 1000}, Limits{Circuits: 16, Rate: Unlimited}

func (d *desk) accept(from peer.ID, s *Signed) (Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if s == nil {
		delete(d.grants, from)
		return Grant{Limits: strangers}, nil
	}
	now := time.Now()
	if err := d.trust.Verify(s, from, now.Add(d.shift)); err != nil {
		return Grant{}, err
	}
	if s.Class != "member" {
		return Grant{}, fmt.Errorf("class %q is not known", s.Class)
	}
	g := Grant{Class: s.Class, Limits: s.Limits.Over(members), Expires: s.Expires.Add(-d.shift)}
	d.grants[from] = g
	return g, nil
}

func (d *desk) grant(p peer.ID) Grant {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.grants[p]
}

func (d *desk) counts(why Reason) (asked, refused int) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked, d.refused[why]
}

func (d *desk) token(t *testing.T, p peer.ID, spoil func(*Token)) string {
	t.Helper()
	token := Token{Peer: p, Class: "member", NotBefore: time.Now(), Expires: time.Now().Add(time.Hour)}
	if spoil != nil {
		spoil(&token)
	}
	return sign(t, d.key, token)
}

func TestPresent(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := newDesk(t, n.Host("relay"))
		p := startHost(t, n.NAT("box", testnet.Symmetric()).Host("peer"))
		connect(t, p, d.host)
		hour := time.Now().Add(time.Hour).Truncate(time.Second)
		for _, c := range []struct {
			name  string
			token string
			want  Grant
		}{
			{"first", d.token(t, p.ID(), nil), Grant{Class: "member", Limits: members, Expires: hour}},
			{
				"another", d.token(t, p.ID(), func(t *Token) { t.Limits, t.Expires = Limits{Circuits: 99, Rate: 5}, hour.Add(time.Hour) }),
				Grant{Class: "member", Limits: Limits{Circuits: 99, Rate: 5}, Expires: hour.Add(time.Hour)},
			},
			{"given back", "", Grant{Limits: strangers}},
			{"given back again", "", Grant{Limits: strangers}},
		} {
			began := time.Now()
			got, err := Present(t.Context(), p, d.host.ID(), c.token)
			if took := time.Since(began); err != nil || took > 50*time.Millisecond {
				t.Errorf("%s: %v after %v, want about a round trip of 20ms", c.name, err, took)
			}
			// Rounded up to a second, on the way of 20 ms.
			if d := got.Expires.Sub(c.want.Expires); d < 0 || d > 2*time.Second {
				t.Errorf("%s: expires %v, want %v", c.name, got.Expires, c.want.Expires)
			}
			if got.Expires = c.want.Expires; got != c.want {
				t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
			}
			if kept := d.grant(p.ID()).Class; kept != c.want.Class {
				t.Errorf("%s: the relay keeps %q", c.name, kept)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := newDesk(t, n.Host("relay"))
		p, thief := startHost(t, n.Host("peer")), startHost(t, n.Host("thief"))
		connect(t, p, d.host)
		connect(t, thief, d.host)
		other, _ := newKey(t)
		good := d.token(t, p.ID(), nil)
		if _, err := Present(t.Context(), p, d.host.ID(), good); err != nil {
			t.Fatal(err)
		}
		const year = 365 * 24 * time.Hour
		for _, c := range []struct {
			name  string
			from  host.Host
			token string
			shift time.Duration
			want  Reason
		}{
			{"stolen", thief, good, 0, OtherPeer},
			{"self-made", p, sign(t, other, Token{Peer: p.ID(), Class: "member", Expires: time.Now().Add(year)}), 0, UnknownIssuer},
			{"class", p, d.token(t, p.ID(), func(t *Token) { t.Class = "admin" }), 0, NotTaken},
			{"relay 5 years late", p, good, -5 * year, NotYetValid},
			{"relay 5 years early", p, good, 5 * year, Expired},
		} {
			d.mu.Lock()
			d.shift = c.shift
			d.mu.Unlock()
			before, _ := d.counts("")
			g, err := Present(t.Context(), c.from, d.host.ID(), c.token)
			var why Reason
			if !errors.As(err, &why) || why != c.want || g != (Grant{}) {
				t.Errorf("%s: got %+v, %v, want %q", c.name, g, err, string(c.want))
			}
			if asked, told := d.counts(c.want); asked != before+1 || told != 1 {
				t.Errorf("%s: the relay was asked %d times and told %d", c.name, asked-before, told)
			}
		}
		if d.grant(thief.ID()) != (Grant{}) || d.grant(p.ID()).Class != "member" {
			t.Error("a refusal must neither give nor take a grant")
		}
		// What is not a token does not get as far as the wire.
		asked, _ := d.counts("")
		for _, text := range []string{"x", good[:len(good)-5], " "} {
			began := time.Now()
			if _, err := Present(t.Context(), p, d.host.ID(), text); !errors.Is(err, Malformed) && !errors.Is(err, BadSignature) || time.Since(began) > 0 {
				t.Errorf("%q: got %v after %v", text, err, time.Since(began))
			}
		}
		// And if it does, not as far as the relay's own code.
		s, _ := Parse(good)
		changed := append([]byte{}, s.sealed...)
		changed[len(changed)-1] ^= 1
		for want, sealed := range map[Reason][]byte{BadSignature: changed, Malformed: make([]byte, 2000)} {
			if g, err := say(t, p, d.host.ID(), &pb.Present{Token: sealed}); err != want {
				t.Errorf("got %+v, %v, want %q", g, err, string(want))
			}
			if now, told := d.counts(want); now != asked || told != 1 {
				t.Errorf("%q: the relay was asked %d times and told %d", string(want), now-asked, told)
			}
		}
	})
}

// say presents what Present would not.
func say(t *testing.T, from host.Host, to peer.ID, m *pb.Present) (g Grant, err error) {
	t.Helper()
	err = oneshot.Call(t.Context(), from, to, Protocol, presentTimeout, func(s network.Stream) error {
		if err := oneshot.Write(s, m); err != nil {
			return err
		}
		var answer pb.Answer
		if err := oneshot.Read(s, maxMessage, &answer); err != nil {
			return err
		}
		g, err = outcome(&answer, time.Now())
		return err
	})
	return g, err
}

// TestClockOfThePeer does not matter: what the relay says counts from now.
func TestClockOfThePeer(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := newDesk(t, n.Host("relay"))
		p := startHost(t, n.Host("peer"))
		connect(t, p, d.host)
		const off = 5 * 365 * 24 * time.Hour
		d.shift = off
		there := time.Now().Add(off) // to the relay and the issuer it is
		token := d.token(t, p.ID(), func(t *Token) { t.NotBefore, t.Expires = there, there.Add(time.Hour) })
		g, err := Present(t.Context(), p, d.host.ID(), token)
		if left := time.Until(g.Expires); err != nil || left < time.Hour-time.Second || left > time.Hour+2*time.Second {
			t.Errorf("got %v, %v left, want about an hour", err, left)
		}
	})
}

// TestLaterVersions add fields to the messages, which are passed over.
func TestLaterVersions(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := newDesk(t, n.Host("relay"))
		p := startHost(t, n.Host("peer"))
		connect(t, p, d.host)
		s, err := Parse(d.token(t, p.ID(), nil))
		if err != nil {
			t.Fatal(err)
		}
		m := &pb.Present{Token: s.sealed}
		m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 42, protowire.BytesType), "hello"))
		if g, err := say(t, p, d.host.ID(), m); err != nil || g.Class != "member" {
			t.Errorf("got %+v, %v", g, err)
		}
		d.stop()
		d.host.SetStreamHandler(Protocol, func(s network.Stream) {
			var in pb.Present
			oneshot.Read(s, maxMessage, &in)
			a := granted(Grant{Class: "member"}, time.Now())
			a.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 42, protowire.VarintType), 7))
			oneshot.Write(s, a)
			s.Close()
		})
		time.Sleep(time.Second)
		if g, err := Present(t.Context(), p, d.host.ID(), s.Text()); err != nil || g.Class != "member" {
			t.Errorf("got %+v, %v", g, err)
		}
	})
}

// TestPresentLeavesAlone those who take no tokens, or are not here.
func TestPresentLeavesAlone(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		stock, gone := startHost(t, n.Host("stock")), newDesk(t, n.Host("gone"))
		p := startHost(t, n.Host("peer"))
		connect(t, p, stock)
		connect(t, p, gone.host)
		p.Network().ClosePeer(gone.host.ID())
		for name, h := range map[string]host.Host{"stock": stock, "gone": gone.host} {
			began := time.Now()
			if _, err := Present(t.Context(), p, h.ID(), ""); err == nil || time.Since(began) > 0 {
				t.Errorf("%s: got %v after %v, want an error at once", name, err, time.Since(began))
			}
		}
		if len(p.Network().ConnsToPeer(stock.ID())) != 1 || len(p.Network().ConnsToPeer(gone.host.ID())) != 0 {
			t.Error("the stock relay must stay connected, and nobody be dialled")
		}
	})
}

// TestHostileRelays cost a peer five seconds.
func TestHostileRelays(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		relay, p := startHost(t, n.Host("relay")), startHost(t, n.Host("peer"))
		behave := make(chan network.StreamHandler, 1)
		relay.SetStreamHandler(Protocol, func(s network.Stream) { (<-behave)(s) })
		connect(t, p, relay)
		says := func(b []byte) network.StreamHandler {
			return func(s network.Stream) { s.Write(b); s.CloseWrite() }
		}
		for _, c := range []struct {
			name    string
			handler network.StreamHandler
			within  time.Duration
			want    error // if not nil
		}{
			{"hangs", func(network.Stream) {}, 5 * time.Second, context.DeadlineExceeded},
			{"drips", func(s network.Stream) { s.Write([]byte{200, 1, 0x0a}) }, 5 * time.Second, context.DeadlineExceeded},
			{"resets", func(s network.Stream) { s.Reset() }, 50 * time.Millisecond, network.ErrReset},
			{"closes", says(nil), 50 * time.Millisecond, nil},
			{"empty", says([]byte{0}), 50 * time.Millisecond, errAnswer},
			{"truncated", says([]byte{9, 0x0a, 0x07}), 50 * time.Millisecond, nil},
			{"garbage", says([]byte("HTTP/1.1 400 Bad Request\r\n")), 50 * time.Millisecond, nil},
			{"oversized", says(protowire.AppendVarint(nil, maxMessage+1)), 50 * time.Millisecond, nil},
			{"endless", says(append(protowire.AppendVarint(nil, 1<<40), make([]byte, 100<<10)...)), 50 * time.Millisecond, nil},
		} {
			began := time.Now()
			behave <- c.handler
			g, err := Present(t.Context(), p, relay.ID(), "")
			if err == nil || c.want != nil && !errors.Is(err, c.want) || time.Since(began) > c.within || g != (Grant{}) {
				t.Errorf("%s: got %+v, %v after %v, want %v within %v", c.name, g, err, time.Since(began), c.want, c.within)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		behave <- func(network.Stream) {}
		if _, err := Present(ctx, p, relay.ID(), ""); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
			t.Errorf("got %v after %v, want the context's end after 300ms", err, time.Since(began))
		}
	})
}

// TestFlood: a hostile peer is heard 10 times a minute, and keeps nobody from
// being heard, nor do those who say nothing.
func TestFlood(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := newDesk(t, n.Host("relay"))
		hostile, honest := startHost(t, n.Host("hostile")), startHost(t, n.Host("honest"))
		connect(t, hostile, d.host)
		connect(t, honest, d.host)
		flood := func() {
			var all sync.WaitGroup
			for range 200 {
				all.Go(func() { Present(t.Context(), hostile, d.host.ID(), "") })
			}
			all.Wait()
		}
		flood()
		if asked, _ := d.counts(""); asked != bounds.Burst {
			t.Errorf("asked %d times of 200, want %d", asked, bounds.Burst)
		}
		if g, err := Present(t.Context(), honest, d.host.ID(), d.token(t, honest.ID(), nil)); err != nil || g.Class != "member" {
			t.Errorf("the honest peer: %+v, %v", g, err)
		}
		began := time.Now()
		for time.Since(began) < 5*time.Minute {
			flood()
			time.Sleep(10 * time.Second)
		}
		if asked, _ := d.counts(""); asked > 62 {
			t.Errorf("asked %d times in 5 minutes, want 61", asked)
		}
		time.Sleep(time.Minute)
		for _, said := range [][]byte{{}, {0x80}, {0x04, 0x12}} {
			s, err := hostile.NewStream(t.Context(), d.host.ID(), Protocol)
			if err != nil {
				t.Fatal(err)
			}
			s.Write(said)
			began := time.Now()
			_, err = s.Read(make([]byte, 1))
			if took := time.Since(began); !errors.Is(err, network.ErrReset) || took > bounds.Timeout+100*time.Millisecond {
				t.Errorf("said %x: got %v after %v, want a reset after %v", said, err, took, bounds.Timeout)
			}
		}
	})
}

func TestStop(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := newDesk(t, n.Host("relay"))
		p := startHost(t, n.Host("peer"))
		connect(t, p, d.host)
		if !Speaks(p, d.host.ID()) {
			t.Error("the relay takes tokens, and the peer does not know")
		}
		// One that says nothing does not hold up the stop.
		s, err := p.NewStream(t.Context(), d.host.ID(), Protocol)
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte{0x80})
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		d.stop()
		d.stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("the stop took %v", took)
		}
		time.Sleep(time.Second)
		if Speaks(p, d.host.ID()) {
			t.Error("the relay has stopped, and the peer does not know")
		}
		if asked, _ := d.counts(""); asked != 0 {
			t.Errorf("asked %d times", asked)
		}
	})
}
