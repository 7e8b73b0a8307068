package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// lan is a cable: what one says, all hear, the one who spoke too.
type lan struct {
	mu    sync.Mutex // guards the fields below
	ports []*port
	said  int
}

type port struct {
	lan *lan
	in  chan []byte
}

func (l *lan) plug(context.Context) (link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &port{l, make(chan []byte, 1000)}
	l.ports = append(l.ports, p)
	return p, nil
}

func (p *port) join() error          { return nil }
func (p *port) heard() <-chan []byte { return p.in }

func (p *port) send(data []byte) error {
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	p.lan.said++
	for _, to := range p.lan.ports {
		to.in <- slices.Clone(data)
	}
	return nil
}

func (p *port) close() {
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	p.lan.ports = slices.DeleteFunc(p.lan.ports, func(q *port) bool { return q == p })
}

func (l *lan) messages() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said
}

// resident is a host on the cable.
type resident struct {
	host.Host
	d *Discovery

	mu    sync.Mutex // guards the fields below
	addr  ma.Multiaddr
	found []Candidate
}

func (r *resident) candidates() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.found)
}

func (r *resident) moveTo(t *testing.T, ip string) {
	t.Helper()
	r.mu.Lock()
	r.addr = ma.StringCast("/ip4/" + ip + "/tcp/4001")
	r.mu.Unlock()
	em, err := r.EventBus().Emitter(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer em.Close()
	if err := em.Emit(event.EvtLocalAddressesUpdated{}); err != nil {
		t.Fatal(err)
	}
}

// resides starts discovery on a cable, on a network by its service.
func resides(t *testing.T, n *testnet.Net, l *lan, name, ip, service string) *resident {
	t.Helper()
	r := &resident{Host: start(t, n.Host(name)), addr: ma.StringCast("/ip4/" + ip + "/tcp/4001")}
	r.d = New(Config{Host: r.Host, MDNS: service, Found: func(c Candidate) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.found = append(r.found, c)
	}})
	r.d.mdns.open = l.plug
	r.d.mdns.addrs = func() ([]ma.Multiaddr, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return []ma.Multiaddr{r.addr}, nil
	}
	run(t, r.d)
	synctest.Wait() // it is on the cable
	return r
}

func (r *resident) knows(other *resident) string {
	return fmt.Sprint(r.Peerstore().Addrs(other.ID()))
}

func TestNeighboursFindEachOther(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		l := &lan{}
		a := resides(t, n, l, "a", "192.168.1.10", StandardMDNS)
		time.Sleep(time.Hour) // a has become quiet
		b := resides(t, n, l, "b", "192.168.1.11", StandardMDNS)
		c := resides(t, n, l, "c", "192.168.1.12", "_p2p-other._udp")
		begun := time.Now()
		for a.knows(b) == "[]" || b.knows(a) == "[]" {
			time.Sleep(time.Millisecond)
			if time.Since(begun) > time.Second {
				t.Fatalf("after a second: a knows b at %s, b knows a at %s", a.knows(b), b.knows(a))
			}
		}
		if took := time.Since(begun); took > answerMax {
			t.Errorf("it took %v, want %v at most", took, answerMax)
		}
		if got, want := b.knows(a), "[/ip4/192.168.1.10/tcp/4001]"; got != want {
			t.Errorf("b knows a at %s, want %s", got, want)
		}
		if c.knows(a) != "[]" || a.knows(c) != "[]" {
			t.Error("peers of two networks have met")
		}
		time.Sleep(10 * time.Minute)
		if a.knows(b) == "[]" {
			t.Error("a has forgotten b, who is still there")
		}
		if got := fmt.Sprint(a.d.Neighbour(b.ID())); got != "[/ip4/192.168.1.11/tcp/4001]" {
			t.Errorf("neighbour b is at %s", got)
		}
		if got := a.d.Neighbour(c.ID()); len(got) != 0 {
			t.Errorf("c of another network is a neighbour at %s", got)
		}
		if a.candidates() != 0 {
			t.Error("b is a candidate for a relay, and never said that it is one")
		}
	})
}

func TestNeighbourLeaves(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		l := &lan{}
		a := resides(t, n, l, "a", "192.168.1.10", StandardMDNS)
		synctest.Wait() // a's port is the first
		b := resides(t, n, l, "b", "192.168.1.11", StandardMDNS)
		time.Sleep(answerGap * 3 / 2) // both have told twice, and nothing is on its way
		l.mu.Lock()
		l.ports = l.ports[:1] // b's cable is out
		l.mu.Unlock()
		if b.knows(a) == "[]" {
			t.Error("b has not found a")
		}
		b.moveTo(t, "10.0.0.5")
		synctest.Wait()
		if got := b.knows(a); got != "[]" {
			t.Errorf("on another LAN b still knows a at %s", got)
		}
	})
}

// TestMovedPeerIsFoundAnew: its new address is told at once.
func TestMovedPeerIsFoundAnew(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		l := &lan{}
		a := resides(t, n, l, "a", "192.168.1.10", StandardMDNS)
		b := resides(t, n, l, "b", "192.168.1.11", StandardMDNS)
		time.Sleep(time.Hour)
		b.moveTo(t, "192.168.1.99")
		time.Sleep(answerGap)
		addrs := a.Peerstore().Addrs(b.ID())
		if !ma.Contains(addrs, ma.StringCast("/ip4/192.168.1.99/tcp/4001")) {
			t.Errorf("a knows b at %s, want the new address too", addrs)
		}
	})
}

// TestRelayOnLAN: one that serves says so, and is a candidate.
func TestRelayOnLAN(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		l := &lan{}
		a := resides(t, n, l, "a", "192.168.1.10", StandardMDNS)
		b := resides(t, n, l, "b", "192.168.1.11", StandardMDNS)
		time.Sleep(5 * time.Second)
		b.d.Announce(true)
		time.Sleep(answerGap)
		a.mu.Lock()
		found := slices.Clone(a.found)
		a.mu.Unlock()
		if len(found) == 0 || found[0].ID != b.ID() || found[0].Source != MDNS {
			t.Fatalf("got %v, want the relay by mdns", found)
		}
		b.d.Announce(false)
		time.Sleep(answerGap)
		before := a.candidates()
		time.Sleep(time.Hour)
		if got := a.candidates(); got != before {
			t.Errorf("%d more candidates from one that serves no longer", got-before)
		}
	})
}

// TestLANIsNotFlooded: what neighbours can make us say, and keep.
func TestLANIsNotFlooded(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		l := &lan{}
		a := resides(t, n, l, "a", "192.168.1.10", StandardMDNS)
		plugged, err := l.plug(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stranger := plugged.(*port)
		q, err := question(lanDomain)
		if err != nil {
			t.Fatal(err)
		}
		drain := func() {
			for len(stranger.in) > 0 {
				<-stranger.in
			}
		}
		time.Sleep(time.Minute)
		before := l.messages()
		const rounds = 600 // a minute of ten questions a second
		for range rounds {
			if err := stranger.send(q); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			drain()
		}
		// One answer a second, and a question of its own.
		if got := l.messages() - before - rounds; got > 63 {
			t.Errorf("%d questions in a minute drew %d messages, want 63 at most", rounds, got)
		}
		for range 2 * maxLANPeers {
			texts, ips := textsOf(testID(t), multiaddrs("/ip4/192.168.1.66/tcp/1"), false)
			data, err := answer(lanDomain, "x", texts, ips)
			if err != nil {
				t.Fatal(err)
			}
			if err := stranger.send(data); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			drain()
		}
		if got := len(a.Peerstore().PeersWithAddrs()); got > maxLANPeers+1 {
			t.Errorf("%d peers in the peerstore after %d were said to be there, want %d at most", got, 2*maxLANPeers, maxLANPeers+1)
		}
	})
}

// TestNoMulticast: discovery goes on without.
func TestNoMulticast(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		d := New(Config{Host: start(t, n.Host("a")), MDNS: StandardMDNS, Found: func(Candidate) {}})
		d.mdns.open = func(context.Context) (link, error) { return nil, errors.New("no interface has multicast") }
		run(t, d)
		time.Sleep(time.Minute)
	})
}

func testID(t *testing.T) peer.ID {
	t.Helper()
	_, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
