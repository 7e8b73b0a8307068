package node

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	identifypb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

const (
	// verifySettle is the pause after a change of our circuit addresses before
	// it is verified: identify's own push takes a round trip, and changes
	// come in pairs. It is not put off for longer than verifyLatest.
	verifySettle, verifyLatest = time.Second, 5 * time.Second
	// verifyPeers bounds whom we ask: the DHT servers nearest to us, whom
	// others ask for us (kad-dht's bucket has 20).
	verifyPeers = 32
	// verifyTimeout bounds asking one of them and telling it.
	verifyTimeout = 5 * time.Second
	// pushAgain is the pause before a push is repeated, with jitter and
	// doubled each time up to pushAgainMax: identify takes one in 5 s from all
	// of a /24 (go-libp2p v0.51, p2p/protocol/identify/id.go,
	// defaultIPv4SubnetRateLimits), and we may share ours with many.
	pushAgain, pushAgainMax = 5 * time.Second, time.Minute
	// maxPushes bounds the attempts at one peer for one change; they span
	// about five minutes. What is stale then, the DHT's own refresh mends.
	maxPushes = 8
)

// PushStatus counts what it took to make our circuit addresses known.
type PushStatus struct {
	// Asked is how often a DHT server was asked what it knows of us, Stale how
	// often that was not what we advertise.
	Asked uint64 `json:"asked"`
	Stale uint64 `json:"stale"`
	// Repeated is how many identify pushes we sent again, Refused how many of
	// those were not taken.
	Repeated uint64 `json:"repeated"`
	Refused  uint64 `json:"refused"`
}

// verifier makes sure that DHT servers know our circuit addresses. go-libp2p
// pushes them once, and a receiver that got too many pushes from our network
// throws ours away, which go-libp2p only logs; its answers to others are then
// wrong until the next change.
type verifier struct {
	host  host.Host
	dht   *dht.IpfsDHT
	ask   *dhtpb.ProtocolMessenger
	agent string
	poke  chan struct{}

	mu     sync.Mutex // guards the fields below
	told   []ma.Multiaddr
	counts PushStatus
}

func newVerifier(h host.Host, d *dht.IpfsDHT, agent string) (*verifier, error) {
	ask, err := dhtpb.NewProtocolMessenger(d.MessageSender())
	if err != nil {
		return nil, err
	}
	return &verifier{host: h, dht: d, ask: ask, agent: agent, poke: make(chan struct{}, 1)}, nil
}

// changed takes the addresses that we advertise.
func (v *verifier) changed(addrs []ma.Multiaddr) {
	circuits := ma.FilterAddrs(addrs, maddr.IsCircuit)
	v.mu.Lock()
	same := sameAddrs(circuits, v.told)
	v.told = circuits
	v.mu.Unlock()
	if same {
		return
	}
	select {
	case v.poke <- struct{}{}:
	default:
	}
}

func (v *verifier) status() PushStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counts
}

func (v *verifier) count(f func(*PushStatus)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.counts)
}

func (v *verifier) run(ctx context.Context) error {
	var (
		latest  time.Time // until when the first of several changes may wait
		attempt int
		stale   []peer.ID
	)
	timer := time.NewTimer(0)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.poke:
			if latest.IsZero() {
				latest = time.Now().Add(verifyLatest)
			}
			attempt = 0
			timer.Reset(max(0, min(verifySettle, time.Until(latest))))
		case <-timer.C:
			if attempt == 0 {
				stale, latest = v.servers(), time.Time{}
			}
			stale = v.round(ctx, stale)
			if attempt++; len(stale) > 0 && attempt < maxPushes {
				d := min(pushAgain<<(attempt-1), pushAgainMax)
				timer.Reset(d + rand.N(d))
			}
		}
	}
}

// servers lists the DHT servers that we are connected to, the nearest to us
// first.
func (v *verifier) servers() []peer.ID {
	list := v.dht.RoutingTable().ListPeers() // by bucket, the farthest first
	slices.Reverse(list)
	list = slices.DeleteFunc(list, func(p peer.ID) bool {
		return v.host.Network().Connectedness(p) != network.Connected
	})
	return list[:min(len(list), verifyPeers)]
}

// round asks and tells several peers at once and returns those to try again.
func (v *verifier) round(ctx context.Context, peers []peer.ID) (again []peer.ID) {
	var working sync.WaitGroup
	var mu sync.Mutex // guards again
	for _, p := range peers {
		working.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
			defer cancel()
			if !v.tell(ctx, p) {
				mu.Lock()
				defer mu.Unlock()
				again = append(again, p)
			}
		})
	}
	working.Wait()
	return again
}

// tell makes sure that p knows our circuit addresses. It reports false if that
// is worth another attempt.
func (v *verifier) tell(ctx context.Context, p peer.ID) bool {
	conn := bestConn(v.host.Network(), p)
	if conn == nil || !PathOf(conn).Direct() {
		return true // when we meet again, identify tells it
	}
	v.count(func(c *PushStatus) { c.Asked++ })
	infos, err := v.ask.GetClosestPeers(ctx, p, v.host.ID())
	if err != nil {
		return ctx.Err() == nil // no DHT server any more, or slow
	}
	for _, info := range infos {
		// An old server does not tell us about ourselves; then a push cannot
		// hurt.
		if info.ID == v.host.ID() && v.upToDate(info.Addrs, conn) {
			return true
		}
	}
	if ok, err := v.host.Peerstore().SupportsProtocols(p, identify.IDPush); err != nil || len(ok) == 0 {
		return true
	}
	v.count(func(c *PushStatus) { c.Stale++; c.Repeated++ })
	if err := v.push(ctx, conn); err != nil {
		v.count(func(c *PushStatus) { c.Refused++ })
		log.Debug("identify push not taken", "peer", p, "err", err)
		return false
	}
	return true
}

// upToDate reports whether the circuit addresses that a peer has of us are
// those that we advertise, less those that it does not take from us: private
// ones over a public connection (identify/id.go, filterAddrs).
func (v *verifier) upToDate(known []ma.Multiaddr, conn network.Conn) bool {
	v.mu.Lock()
	want := slices.Clone(v.told)
	v.mu.Unlock()
	known = ma.FilterAddrs(slices.Clone(known), maddr.IsCircuit)
	if manet.IsPublicAddr(conn.RemoteMultiaddr()) {
		want, known = publicAddrs(want), publicAddrs(known)
	}
	return sameAddrs(known, want)
}

// sameAddrs compares two sets.
func sameAddrs(a, b []ma.Multiaddr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(m ma.Multiaddr) bool { return !ma.Contains(b, m) })
}

// push sends what identify would. It returns an error if the receiver did not
// read it to the end, as when it takes no more from our network.
func (v *verifier) push(ctx context.Context, conn network.Conn) error {
	msg, record, err := v.message(conn)
	if err != nil {
		return err
	}
	s, err := pinned{v.host, conn}.NewStream(ctx, conn.RemotePeer(), identify.IDPush)
	if err != nil {
		return err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	for _, m := range []*identifypb.Identify{msg, record} {
		if _, err := protodelim.MarshalTo(s, m); err != nil {
			return err
		}
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	// The receiver closes the stream when it has taken everything in.
	switch n, err := s.Read(make([]byte, 1)); {
	case n > 0:
		return errors.New("the peer answers a push")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// message is the host's identify message, in two parts as go-libp2p sends it
// when it is long (identify/id.go, writeChunkedIdentifyMsg).
func (v *verifier) message(conn network.Conn) (msg, rec *identifypb.Identify, err error) {
	book := v.host.Peerstore()
	key, err := crypto.MarshalPublicKey(book.PubKey(v.host.ID()))
	if err != nil {
		return nil, nil, err
	}
	msg = &identifypb.Identify{
		AgentVersion: &v.agent,
		PublicKey:    key,
		ObservedAddr: conn.RemoteMultiaddr().Bytes(),
		Protocols:    protocol.ConvertToStrings(v.host.Mux().Protocols()),
	}
	for _, a := range v.host.Addrs() {
		msg.ListenAddrs = append(msg.ListenAddrs, a.Bytes())
	}
	rec = &identifypb.Identify{}
	if cab, ok := peerstore.GetCertifiedAddrBook(book); ok {
		if envelope := cab.GetPeerRecord(v.host.ID()); envelope != nil {
			rec.SignedPeerRecord, err = envelope.Marshal()
		}
	}
	return msg, rec, err
}
