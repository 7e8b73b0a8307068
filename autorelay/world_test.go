package autorelay

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) {
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		golog.SetAllLoggers(golog.LevelFatal) // relays break by the dozen here
	}
	goleak.VerifyTestMain(m)
}

// oneWay makes the round trip time 50 ms.
const oneWay = 25 * time.Millisecond

// world is a simulated internet in virtual time.
type world struct {
	*testing.T
	net   *testnet.Net
	boxes int
	away  sync.Map // netip.Addr → one-way time.Duration to that machine, if not oneWay
}

// latency is testnet's LatencyFunc.
func (w *world) latency(from, to netip.Addr) time.Duration {
	for _, ip := range []netip.Addr{from, to} {
		if d, ok := w.away.Load(ip); ok {
			return d.(time.Duration)
		}
	}
	return oneWay
}

// simulate runs f in a world of its own. Everything made in it is closed in
// reverse order at its end, dialers before those they dial.
func simulate(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	virtual.Test(t, func(t *testing.T) {
		w := &world{T: t}
		w.net = testnet.New(testnet.Config{LatencyFunc: w.latency})
		t.Cleanup(testnet.Linger)
		t.Cleanup(w.net.Close)
		f(t, w)
	})
}

func (w *world) host(box *testnet.Host, key crypto.PrivKey) host.Host {
	w.Helper()
	return w.hostOver(box, box.Transport(), key)
}

func (w *world) hostOver(box *testnet.Host, transport libp2p.Option, key crypto.PrivKey) host.Host {
	w.Helper()
	if key == nil {
		var err error
		if key, _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
			w.Fatal(err)
		}
	}
	h, err := libp2p.New(
		libp2p.Identity(key),
		transport,
		libp2p.ListenAddrs(box.ListenAddr(4001)),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		// As node does: with it, a few dials at dead relays end all dials for a while.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.DisableMetrics(),
	)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { h.Close() })
	return h
}

// stock is a host with go-libp2p's relay service.
type stock struct {
	host.Host
	box     *testnet.Host
	key     crypto.PrivKey
	service *relayv2.Relay
	asked   atomic.Int64 // RESERVE messages answered
	refused atomic.Int64 // of these, for lack of room
	slots   atomic.Int64 // reservations that it thinks are held
	deny    atomic.Bool
}

func (s *stock) RelayStatus(bool)                     {}
func (s *stock) ConnectionOpened()                    {}
func (s *stock) ConnectionClosed(time.Duration)       {}
func (s *stock) ConnectionRequestHandled(pbv2.Status) {}
func (s *stock) BytesTransferred(int)                 {}

func (s *stock) ReservationRequestHandled(status pbv2.Status) {
	s.asked.Add(1)
	if status == pbv2.Status_RESERVATION_REFUSED {
		s.refused.Add(1)
	}
}

func (s *stock) ReservationClosed(n int) { s.slots.Add(-int64(n)) }

func (s *stock) ReservationAllowed(renewed bool) {
	if !renewed {
		s.slots.Add(1)
	}
}

func (s *stock) AllowReserve(peer.ID, ma.Multiaddr) bool          { return !s.deny.Load() }
func (s *stock) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return true }

// relay starts a stock relay on a machine of its own.
func (w *world) relay(opts ...relayv2.Option) *stock {
	w.Helper()
	w.boxes++
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	s := &stock{box: w.net.Host(fmt.Sprint("relay", w.boxes)), key: key}
	s.start(w, opts...)
	return s
}

// start starts the relay, again after Close with the same key and address.
func (s *stock) start(w *world, opts ...relayv2.Option) {
	w.Helper()
	s.Host = w.host(s.box, s.key)
	s.serve(w, opts...)
}

func (s *stock) serve(w *world, opts ...relayv2.Option) {
	w.Helper()
	service, err := relayv2.New(s.Host, append([]relayv2.Option{relayv2.WithMetricsTracer(s), relayv2.WithACL(s)}, opts...)...)
	if err != nil {
		w.Fatal(err)
	}
	s.service = service
	w.Cleanup(func() { service.Close() })
}

func (w *world) relays(n int) []*stock {
	w.Helper()
	list := make([]*stock, n)
	for i := range list {
		list[i] = w.relay()
	}
	return list
}

// node is a host behind a NAT with an AutoRelay, and a record of what that said.
type node struct {
	*AutoRelay
	w    *world
	host host.Host
	stop func()

	mu     sync.Mutex // guards the fields below
	events []Event
	addrs  [][]ma.Multiaddr // every call of OnAddrs
	needs  []bool           // every call of OnNeed
}

// node starts one that wants reservations from the start.
func (w *world) node(cfg Config) *node {
	w.Helper()
	w.boxes++
	return w.nodeOn(w.net.NAT(fmt.Sprint("nat", w.boxes), testnet.PortRestricted()).Host(fmt.Sprint("node", w.boxes)), nil, cfg)
}

// nodeOn starts it on a machine, with a transport other than that machine's
// unless it is nil.
func (w *world) nodeOn(box *testnet.Host, transport libp2p.Option, cfg Config) *node {
	w.Helper()
	n := &node{w: w}
	if transport == nil {
		transport = box.Transport()
	}
	n.host = w.hostOver(box, transport, nil)
	cfg.Host = n.host
	if cfg.Standby == 0 {
		cfg.Standby = -1 // most tests count reservations
	}
	cfg.OnEvent = func(e Event) { n.mu.Lock(); defer n.mu.Unlock(); n.events = append(n.events, e) }
	cfg.OnAddrs = func(a []ma.Multiaddr) { n.mu.Lock(); defer n.mu.Unlock(); n.addrs = append(n.addrs, a) }
	cfg.OnNeed = func(b bool) { n.mu.Lock(); defer n.mu.Unlock(); n.needs = append(n.needs, b) }
	var err error
	if n.AutoRelay, err = New(cfg); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	n.stop = sync.OnceFunc(func() {
		cancel()
		begun := time.Now()
		if err := <-done; err != nil {
			w.Errorf("Run: got %v, want nil when its context ends", err)
		}
		if took := time.Since(begun); took > time.Second {
			w.Errorf("Run ended %v after its context, want at most 1 s", took)
		}
	})
	w.Cleanup(n.stop)
	n.Want(true)
	go func() { done <- n.Run(ctx) }()
	return n
}

// add offers relays as candidates.
func (n *node) add(relays ...*stock) {
	for _, r := range relays {
		n.Add(Candidate{AddrInfo: *host.InfoFromHost(r), Source: "test"})
	}
}

// calls lists every set of addresses advertised so far.
func (n *node) calls() [][]ma.Multiaddr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.addrs)
}

// idle fails the test if the loop does not rest while nothing happens.
func (n *node) idle() {
	n.w.Helper()
	rounds, last := 0, n.status.Load()
	for range 10000 {
		time.Sleep(time.Millisecond)
		if now := n.status.Load(); now != last {
			rounds, last = rounds+1, now
		}
	}
	// A few probes a second, and what they find.
	if rounds > 100 {
		n.w.Errorf("rounds of the loop in ten seconds: got %d, want at most 100", rounds)
	}
}

// neverWithout fails the test if, after the first one, there was a moment with
// fewer addresses than this.
func (n *node) neverWithout(least int) {
	n.w.Helper()
	begun := false
	for i, set := range n.calls() {
		if begun = begun || len(set) >= least; begun && len(set) < least {
			n.w.Errorf("call %d of OnAddrs: got %v, want at least %d addresses; events:%s", i, set, least, n.story())
		}
	}
}

// current is what was advertised last.
func (n *node) current() []ma.Multiaddr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.addrs) == 0 {
		return nil
	}
	return n.addrs[len(n.addrs)-1]
}

// through reports whether an address through the relay is advertised.
func (n *node) through(id peer.ID) bool {
	return slices.ContainsFunc(n.current(), func(a ma.Multiaddr) bool {
		named, err := a.ValueForProtocol(ma.P_P2P)
		return err == nil && named == textOf(id)
	})
}

// held counts reservations.
func (n *node) held() (count int) {
	for _, r := range n.Status().Relays {
		if r.State == Reserved {
			count++
		}
	}
	return count
}

func (n *node) state(id peer.ID) RelayStatus {
	for _, r := range n.Status().Relays {
		if r.ID == textOf(id) {
			return r
		}
	}
	return RelayStatus{}
}

// seen lists the events of one kind, of one relay unless id is empty.
func (n *node) seen(k Kind, id peer.ID) (list []Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == k && (id == "" || e.Relay == id) {
			list = append(list, e)
		}
	}
	return list
}

// story is all events in a line each, for failure texts.
func (n *node) story() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, e := range n.events[max(0, len(n.events)-40):] {
		id := e.Relay.String()
		fmt.Fprintf(&b, "\n  %s %s %s %s %s", e.Time.Format("04:05.000"), id[len(id)-4:], e.Kind, e.Reason, e.Detail)
	}
	return b.String()
}

// within waits in virtual time until ok, and returns how long that took. It
// looks when all that a moment brings has happened: in the midst of a round of
// the loop, addresses, metrics and status need not agree.
func (n *node) within(limit time.Duration, what string, ok func() bool) time.Duration {
	n.w.Helper()
	begun := time.Now()
	for synctest.Wait(); !ok(); synctest.Wait() {
		if time.Since(begun) > limit {
			n.w.Fatalf("%s: not within %v; advertised %v; events:%s", what, limit, n.current(), n.story())
		}
		time.Sleep(2 * time.Millisecond)
	}
	n.w.Logf("%s: %v", what, time.Since(begun))
	return time.Since(begun)
}

var texts sync.Map // peer.ID → string

// textOf is id.String, which is slow, and asked for thousands of times.
func textOf(id peer.ID) string {
	if s, ok := texts.Load(id); ok {
		return s.(string)
	}
	s, _ := texts.LoadOrStore(id, id.String())
	return s.(string)
}

// throughout checks for a while that ok holds: 1000 times, but not more often
// than every 20 ms, and as within does when all that a moment brings has happened.
func (n *node) throughout(d time.Duration, what string, ok func() bool) {
	n.w.Helper()
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(max(20*time.Millisecond, d/1000)) {
		synctest.Wait()
		if !ok() {
			n.w.Fatalf("%s: not any more after %v of %v; advertised %v; events:%s", what, time.Since(begun), d, n.current(), n.story())
		}
	}
}

func (n *node) advertised() bool { return len(n.current()) > 0 }

// settled waits until the node holds all it wants, advertised.
func (n *node) settled(relays ...*stock) {
	n.w.Helper()
	n.within(2*time.Second, fmt.Sprintf("%d relays advertised", len(relays)), func() bool {
		for _, r := range relays {
			if !n.through(r.ID()) {
				return false
			}
		}
		return true
	})
}
