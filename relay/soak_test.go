package relay

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/fastconn"
	"github.com/causeway-p2p/causeway/relay/acl"
	"github.com/causeway-p2p/causeway/relay/usage"
	"github.com/causeway-p2p/causeway/testnet"
)

var soakTime = flag.Duration("soak", 0, "how long TestSoak runs, on the real loopback")

// TestSoak is a relay in the life that it leads, quickly: everybody comes, goes,
// talks and misbehaves at random, while the operator changes everything that can
// be changed. Nothing is said about who succeeds in what; but what arrives is
// what was sent, the books agree at any time, nothing grows, and at the end
// nothing is left.
//
// With -soak 10m it takes that long, over TCP and QUIC on the loopback; without,
// 20 seconds of virtual time.
func TestSoak(t *testing.T) {
	if *soakTime > 0 {
		live := soak{peers: 32, lasts: *soakTime, check: 3 * time.Second, join: func(t *testing.T, _ string, opts ...libp2p.Option) host.Host {
			h, err := libp2p.New(append(opts, libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic(),
				libp2p.ResourceManager(&network.NullResourceManager{}),
				libp2p.Transport(libp2pquic.NewTransport), libp2p.Transport(tcp.NewTCPTransport))...)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}}
		live.run(t)
		return
	}
	simulate(t, func(t *testing.T, n *testnet.Net) {
		short := soak{peers: 10, lasts: 20 * time.Second, check: time.Second, join: func(t *testing.T, name string, opts ...libp2p.Option) host.Host {
			return start(t, n.Host(name), opts...)
		}}
		short.run(t)
	})
}

type soak struct {
	peers        int
	lasts, check time.Duration
	join         func(t *testing.T, name string, opts ...libp2p.Option) host.Host

	host   host.Host
	relay  *Relay
	issuer crypto.PrivKey

	mu    sync.Mutex // guards the fields below
	here  []peer.ID  // by the number of the citizen
	did   map[string]int
	bytes int64
}

// sample is what must not grow.
type sample struct {
	goroutines, files int
	heap              uint64
}

func (s *soak) run(t *testing.T) {
	opts := []libp2p.Option{libp2p.Identity(wireKey())}
	if *soakTime > 0 {
		opts = append(opts, fastconn.Options(), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"))
	}
	s.host = s.join(t, "relay", opts...)
	defer s.host.Close()
	s.did, s.here = make(map[string]int), make([]peer.ID, s.peers)
	s.issuer = newKey(t)
	accounts, err := usage.Open("")
	if err != nil {
		t.Fatal(err)
	}
	if s.relay, err = New(Config{Host: s.host, Mode: On, Limits: soakLimits(0), Usage: accounts, Access: Access{Trust: s.trust(t)}}); err != nil {
		t.Fatal(err)
	}
	var services, citizens sync.WaitGroup
	life, stopped := context.WithCancel(t.Context())
	defer stopped()
	services.Go(func() { accounts.Run(life) })
	services.Go(func() {
		if err := s.relay.Run(life); err != nil {
			t.Errorf("Run: %v", err)
		}
	})

	ctx, cancel := context.WithTimeout(t.Context(), s.lasts)
	defer cancel()
	for i := range s.peers {
		citizens.Go(func() { s.citizen(ctx, t, i) })
	}
	citizens.Go(func() { s.operator(ctx, t) })
	samples := s.watch(ctx, t)
	// The last ones end while the relay drains.
	drain, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	if err := s.relay.Drain(drain, 2*time.Second, nil); err != nil {
		t.Errorf("drain: %v, with %d circuits", err, s.relay.Status().Circuits)
	}
	citizens.Wait()
	stopped()
	services.Wait()
	if st := s.relay.Status(); st.Reservations != 0 || st.Circuits != 0 || s.relay.larges.lent.Load() != 0 {
		t.Errorf("at the end there are %d reservations, %d circuits and %d large buffers", st.Reservations, st.Circuits, s.relay.larges.lent.Load())
	}
	if err := s.relay.Check(); err != nil {
		t.Errorf("at the end: %v", err)
	}
	s.report(t, samples)
}

// watch looks at the books and at what grows, until ctx ends.
func (s *soak) watch(ctx context.Context, t *testing.T) (samples []sample) {
	began := time.Now()
	for s.pause(ctx, s.check) {
		if err := s.relay.Check(); err != nil {
			t.Errorf("after %d checks: %v", len(samples), err)
			return samples
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		files, _ := filesInUse()
		samples = append(samples, sample{runtime.NumGoroutine(), files, m.HeapAlloc})
		if *soakTime > 0 && len(samples)%20 == 0 {
			st := s.relay.Status()
			t.Logf("%v: %d reservations, %d circuits, %d MB relayed, %d goroutines, %d MB of heap", time.Since(began).Round(time.Second),
				st.Reservations, st.Circuits, st.Bytes>>20, runtime.NumGoroutine(), m.HeapAlloc>>20)
		}
	}
	return samples
}

// report prints what happened, and compares the beginning with the end.
func (s *soak) report(t *testing.T, all []sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.did)) {
		t.Logf("%7d %s", s.did[k], k)
	}
	t.Logf("%d MB arrived as they were sent, %d MB relayed, %d checks", s.bytes>>20, s.relay.Status().Bytes>>20, len(all))
	if s.did["transfer: ok"] == 0 {
		t.Error("no transfer succeeded: this was no test")
	}
	minute := int(time.Minute / s.check)
	if len(all) < 4*minute {
		return
	}
	first, last := median(all[minute:2*minute]), median(all[len(all)-minute:]) // the first one fills caches
	t.Logf("medians of the second and the last minute: %d and %d goroutines, %d and %d descriptors, %d and %d kB of heap",
		first.goroutines, last.goroutines, first.files, last.files, first.heap>>10, last.heap>>10)
	if last.goroutines > first.goroutines*5/4+50 || last.files > first.files*5/4+20 || last.heap > first.heap*5/4+8<<20 {
		t.Error("that grows")
	}
}

func median(all []sample) sample {
	middle := func(of func(sample) int) int {
		list := make([]int, len(all))
		for i, s := range all {
			list[i] = of(s)
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return sample{
		goroutines: middle(func(s sample) int { return s.goroutines }),
		files:      middle(func(s sample) int { return s.files }),
		heap:       uint64(middle(func(s sample) int { return int(s.heap) })),
	}
}

// operator changes everything that can be changed, at random.
func (s *soak) operator(ctx context.Context, t *testing.T) {
	open, err := acl.Parse(strings.NewReader("allow all\n"), "open")
	if err != nil {
		t.Error(err)
		return
	}
	for s.pause(ctx, 200*time.Millisecond) {
		what, p := rand.IntN(8), s.other(-1)
		if p == "" {
			continue // nobody has come yet
		}
		s.note("operator: " + []string{"kick", "ban", "unban", "limits", "deny", "allow", "trust", "look"}[what])
		switch what {
		case 0:
			s.relay.Kick(p)
		case 1:
			s.relay.Ban(p, time.Second)
		case 2:
			s.relay.Unban(p)
		case 3:
			if err := s.relay.SetLimits(soakLimits(rand.IntN(4))); err != nil {
				t.Error(err)
			}
		case 4:
			deny, err := acl.Parse(strings.NewReader("deny "+p.String()+"\nallow all member\n"), "deny")
			if err != nil {
				t.Error(err)
			}
			s.relay.SetACL(deny)
		case 5:
			s.relay.SetACL(open)
		case 6:
			s.relay.SetTrust(auth.Trust{})
			s.relay.SetTrust(s.trust(t))
		case 7:
			s.relay.Dump()
			s.relay.Top(5, usage.ByBytes)
		}
	}
}

// soakLimits are those between which the operator cannot decide.
func soakLimits(i int) Limits {
	l := Limits{
		RequestsPerPeer: Unlimited, RequestsPerIP: Unlimited, Memory: Unlimited, Files: Unlimited,
		Classes: []Class{{Name: "member"}, {Name: "slow", Rate: 64 << 10}},
	}
	switch i {
	case 1:
		l.Bandwidth, l.CircuitsPerPeer = 8<<20, 4
	case 2:
		l.Reservations, l.CircuitTime, l.CircuitBytes = 8, 2*time.Second, 64<<10
	case 3:
		l.Rate, l.MonthlyBytes = 256<<10, 4<<20
	}
	return l
}

func (s *soak) trust(t *testing.T) auth.Trust {
	id, err := peer.IDFromPrivateKey(s.issuer)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Trust{Issuers: []peer.ID{id}}
}

func newKey(t *testing.T) crypto.PrivKey {
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// citizen is one place in the crowd. Whoever is there leaves now and then, and
// comes back, or another comes.
func (s *soak) citizen(ctx context.Context, t *testing.T, i int) {
	key := newKey(t)
	for n := 0; ctx.Err() == nil; n++ {
		if rand.IntN(2) == 0 {
			key = newKey(t)
		}
		opts := []libp2p.Option{libp2p.Identity(key)}
		if *soakTime > 0 {
			opts = append(opts, libp2p.NoListenAddrs, libp2p.EnableRelay())
		}
		h := s.join(t, fmt.Sprintf("citizen %d the %dth", i, n), opts...)
		stock := i%2 == 0
		if !stock {
			h.SetStreamHandler(proto.ProtoIDv2Stop, agreesTo(echoBack))
		}
		h.SetStreamHandler(echo, echoBack)
		s.mu.Lock()
		s.here[i] = h.ID()
		s.mu.Unlock()
		s.note("citizen comes")
		s.act(ctx, t, h, i, 0) // most want to be reached
		for range rand.IntN(60) {
			if !s.pause(ctx, 50*time.Millisecond) {
				break
			}
			s.act(ctx, t, h, i, rand.IntN(12))
		}
		h.Close()
	}
}

func echoBack(st network.Stream) {
	st.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(st, st); err != nil {
		st.Reset()
		return
	}
	st.Close()
}

// act does something: what is a number below 12.
func (s *soak) act(ctx context.Context, t *testing.T, h host.Host, i, what int) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	at := s.host.Addrs()
	one := at[rand.IntN(len(at))] // TCP or QUIC
	if err := h.Connect(ctx, peer.AddrInfo{ID: s.host.ID(), Addrs: at[:0:0]}); err != nil {
		h.Peerstore().ClearAddrs(s.host.ID())
		err = h.Connect(ctx, peer.AddrInfo{ID: s.host.ID(), Addrs: append(at[:0:0], one)})
		s.outcome("connect", err)
	}
	to := s.other(i)
	switch what {
	case 0, 1, 2:
		_, err := s.hop(ctx, h, delimited(t, askReservation))
		s.outcome("reserve", err)
	case 3, 4, 5, 6:
		st, err := s.hop(ctx, h, delimited(t, connectTo(to)))
		s.outcome("circuit", err)
		if err != nil {
			return
		}
		if s.isRaw(to) { // others expect a handshake
			s.outcome("transfer", s.transfer(t, st))
		}
		st.Close()
	case 7, 8:
		if s.isRaw(to) { // no handshake there
			return
		}
		err := h.Connect(ctx, circuitTo(s.host, toID{id: to}))
		s.outcome("connect through", err)
		if err != nil {
			return
		}
		st, err := h.NewStream(network.WithAllowLimitedConn(ctx, "soak"), to, echo)
		s.outcome("stream through", err)
		if err == nil {
			s.outcome("transfer", s.transfer(t, st))
			st.Close()
		}
		if rand.IntN(2) == 0 {
			h.Network().ClosePeer(to)
		}
	case 9:
		junk := make([]byte, rand.IntN(100))
		for j := range junk {
			junk[j] = byte(rand.Int())
		}
		s.hop(ctx, h, junk)
		s.note("junk")
	case 10:
		class := []string{"member", "slow", "unknown"}[rand.IntN(3)]
		text, err := auth.Sign(s.issuer, auth.Token{Peer: h.ID(), Class: class, Expires: time.Now().Add(time.Minute)})
		if err != nil {
			t.Error(err)
		}
		_, err = auth.Present(ctx, h, s.host.ID(), text)
		s.outcome("token", err)
	case 11:
		h.Network().ClosePeer(s.host.ID())
		s.note("disconnect")
	}
}

// toID is a host of which only the ID is known.
type toID struct {
	host.Host
	id peer.ID
}

func (t toID) ID() peer.ID { return t.id }

func (s *soak) isRaw(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Index(s.here, p)%2 == 1
}

// hop is one request. The error is a refusal too.
func (s *soak) hop(ctx context.Context, h host.Host, data []byte) (network.Stream, error) {
	st, err := h.NewStream(network.WithNoDial(ctx, "soak"), s.host.ID(), proto.ProtoIDv2Hop)
	if err != nil {
		return nil, err
	}
	st.SetDeadline(time.Now().Add(10 * time.Second))
	var answer pbv2.HopMessage
	if _, err = st.Write(data); err == nil {
		err = protodelim.UnmarshalFrom(bytewise{st}, &answer)
	}
	if err == nil && answer.GetStatus() != pbv2.Status_OK {
		err = errors.New(answer.GetStatus().String())
	}
	if err != nil {
		st.Reset()
	}
	return st, err
}

// transfer sends something, and reads some of it back. What comes must be what
// was sent, however far it comes.
func (s *soak) transfer(t *testing.T, st network.Stream) error {
	sent := make([]byte, 1+rand.IntN(300_000))
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	st.SetDeadline(time.Now().Add(10 * time.Second))
	var writing sync.WaitGroup
	writing.Go(func() {
		st.Write(sent)
		st.CloseWrite()
	})
	defer writing.Wait()
	if rand.IntN(8) == 0 { // enough of it
		io.ReadFull(st, make([]byte, len(sent)/2))
		st.Reset()
		return errors.New("ended by ourselves")
	}
	got, err := io.ReadAll(st)
	if !bytes.HasPrefix(sent, got) {
		t.Errorf("%d bytes came back, and not those that were sent", len(got))
	}
	s.mu.Lock()
	s.bytes += int64(len(got))
	s.mu.Unlock()
	switch {
	case err != nil:
		st.Reset()
	case len(got) < len(sent):
		err = io.ErrUnexpectedEOF // the circuit's limit
	}
	return err
}

// other is anybody but the one of that number; nobody if there is no other.
func (s *soak) other(than int) peer.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range rand.Perm(len(s.here)) {
		if i != than && s.here[i] != "" {
			return s.here[i]
		}
	}
	return ""
}

func (s *soak) outcome(what string, err error) {
	if err != nil {
		s.note(what + ": no")
		return
	}
	s.note(what + ": ok")
}

func (s *soak) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[what]++
}

// pause waits for up to twice as long, and tells whether to go on.
func (s *soak) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rand.N(2 * d)):
		return true
	}
}
