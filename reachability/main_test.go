package reachability

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const port = 4001

// simulate runs f in virtual time on a network of its own.
func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{Latency: 25 * time.Millisecond})
		t.Cleanup(testnet.Linger)
		t.Cleanup(n.Close)
		f(t, n)
	})
}

// start starts a host as package node does (node/host.go): no reachability of
// go-libp2p's own. If server, its AutoNAT v2 server runs.
func start(t *testing.T, m *testnet.Host, server bool, more ...libp2p.Option) host.Host {
	t.Helper()
	return startAt(t, m, port, server, more...)
}

func startAt(t *testing.T, m *testnet.Host, port int, server bool, more ...libp2p.Option) host.Host {
	t.Helper()
	var nat *autonatv2.AutoNAT
	h, err := libp2p.New(append(more,
		m.Transport(), libp2p.ListenAddrs(m.ListenAddr(port)),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableMetrics(),
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.EnableAutoNATv2(),
		libp2p.WithFxOption(fx.Decorate(func(an *autonatv2.AutoNAT) *autonatv2.AutoNAT {
			nat = an
			return nil
		})),
		libp2p.ForceReachabilityPublic(),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := nat.Start(h); err != nil {
		t.Fatal(err)
	}
	if !server {
		h.RemoveStreamHandler(autonatv2.DialProtocol)
	}
	t.Cleanup(func() { nat.Close(); h.Close() })
	return h
}

func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Network().ListenAddresses()}); err != nil {
		t.Fatalf("connect to %v: %v", to.Network().ListenAddresses(), err)
	}
}

// subject is a host with a running tracker, and the verdicts it gave.
type subject struct {
	host.Host
	tracker *Tracker
	begun   time.Time

	mu       sync.Mutex // guards the fields below
	verdicts []Verdict
	changed  chan struct{}
}

func track(t *testing.T, h host.Host, announced ...ma.Multiaddr) *subject {
	t.Helper()
	return trackWith(t, Config{Host: h, Announced: announced})
}

func trackWith(t *testing.T, cfg Config) *subject {
	t.Helper()
	s := &subject{Host: cfg.Host, begun: time.Now(), changed: make(chan struct{})}
	cfg.OnChange = s.note
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.tracker = tr
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	return s
}

func (s *subject) note(v Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verdicts = append(s.verdicts, v)
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until a verdict is as wanted, and returns it with the time that
// passed meanwhile.
func (s *subject) await(t *testing.T, what string, limit time.Duration, ok func(Verdict) bool) (Verdict, time.Duration) {
	t.Helper()
	begun := time.Now()
	timeout := time.After(limit)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if v := s.tracker.Verdict(); ok(v) {
			return v, time.Since(begun)
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // of counts nobody is told
		case <-timeout:
			t.Fatalf("%s: not within %v; the verdict is %+v", what, limit, s.tracker.Verdict())
		}
	}
}

func is(r Reachability) func(Verdict) bool {
	return func(v Verdict) bool { return v.Reachability == r }
}

// ever reports whether any verdict so far said r.
func (s *subject) ever(r Reachability) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.verdicts {
		if v.Reachability == r {
			return true
		}
	}
	return false
}

// turns counts how often the answer, not the evidence, became another.
func (s *subject) turns() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range s.verdicts {
		if i > 0 && v.Reachability != s.verdicts[i-1].Reachability {
			n++
		}
	}
	return n
}

// request is what a scripted server was asked.
type request struct {
	stream network.Stream
	reader pbio.Reader
	addr   ma.Multiaddr
	nonce  uint64
}

// reply sends a message to the client; a client that hung up is no fault.
func (r request) reply(m *pb.Message) { pbio.NewDelimitedWriter(r.stream).WriteMsg(m) }

func (r request) respond(status pb.DialResponse_ResponseStatus, dial pb.DialStatus, idx uint32) {
	r.reply(&pb.Message{Msg: &pb.Message_DialResponse{DialResponse: &pb.DialResponse{
		Status: status, DialStatus: dial, AddrIdx: idx,
	}}})
}

// wantData asks for dial data and returns how much came until the client
// stopped.
func (r request) wantData(n uint64, idx uint32) (got int) {
	r.reply(&pb.Message{Msg: &pb.Message_DialDataRequest{DialDataRequest: &pb.DialDataRequest{NumBytes: n, AddrIdx: idx}}})
	for uint64(got) < n {
		var m pb.Message
		if err := r.reader.ReadMsg(&m); err != nil || m.GetDialDataResponse() == nil {
			break
		}
		got += len(m.GetDialDataResponse().GetData())
	}
	return got
}

// scripted is an AutoNAT v2 server that does what a test says.
type scripted struct {
	host.Host
	mu    sync.Mutex // guards asked
	asked []ma.Multiaddr
}

func (s *scripted) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *scripted) askedAbout(a ma.Multiaddr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.asked {
		if a.Equal(b) {
			return true
		}
	}
	return false
}

// script makes a machine a server; its connections come from another port of
// the same machine only if the script dials.
func script(t *testing.T, m *testnet.Host, do func(s *scripted, r request)) *scripted {
	t.Helper()
	s := &scripted{Host: start(t, m, false)}
	s.SetStreamHandler(autonatv2.DialProtocol, func(st network.Stream) {
		defer st.Close()
		st.SetDeadline(time.Now().Add(time.Minute))
		r := request{stream: st, reader: pbio.NewDelimitedReader(st, maxMessage)}
		var m pb.Message
		if err := r.reader.ReadMsg(&m); err != nil {
			return
		}
		addrs := m.GetDialRequest().GetAddrs()
		if len(addrs) != 1 {
			t.Errorf("a request for %d addresses, want one", len(addrs))
			return
		}
		addr, err := ma.NewMultiaddrBytes(addrs[0])
		if err != nil {
			t.Errorf("a request for a bad address: %v", err)
			return
		}
		r.addr, r.nonce = addr, m.GetDialRequest().GetNonce()
		s.mu.Lock()
		s.asked = append(s.asked, addr)
		s.mu.Unlock()
		do(s, r)
	})
	return s
}

// dialBack dials and delivers the nonce, from a machine of its own so that its path to the
// subject can be cut while the server's stands.
func dialBack(dialer host.Host, p peer.ID, addr ma.Multiaddr, nonce uint64) error {
	defer func() {
		dialer.Network().ClosePeer(p)
		dialer.Peerstore().ClearAddrs(p)
	}()
	dialer.Peerstore().AddAddr(p, addr, peerstore.TempAddrTTL)
	return sendNonce(dialer, p, nonce)
}

// sendNonce opens a dial-back stream on whatever connection there is.
func sendNonce(from host.Host, p peer.ID, nonce uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	st, err := from.NewStream(ctx, p, autonatv2.DialBackProtocol)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if err := pbio.NewDelimitedWriter(st).WriteMsg(&pb.DialBack{Nonce: nonce}); err != nil {
		return err
	}
	return pbio.NewDelimitedReader(st, maxNonceMsg).ReadMsg(new(pb.DialBackResponse))
}

// honest is a script that dials back through dialer.
func honest(dialer host.Host) func(*scripted, request) {
	return func(_ *scripted, r request) {
		status := pb.DialStatus_OK
		if err := dialBack(dialer, r.stream.Conn().RemotePeer(), r.addr, r.nonce); err != nil {
			status = pb.DialStatus_E_DIAL_ERROR
		}
		r.respond(pb.DialResponse_OK, status, 0)
	}
}
