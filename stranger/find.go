package stranger

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/stranger/pb"
)

const (
	// maxTries is how many third nodes are asked: one may be busy, or have no
	// IPv6. A dial that failed is an answer; that others try too is up to the
	// client, who can ask another server.
	maxTries = 2
	// tryTimeout is more than what a third node may take: longer than ours do,
	// for the data 4 s, until it dials 1 s, and to dial 4 s
	// (docs/protocols/stranger.md).
	tryTimeout = 10 * time.Second
	// serveTimeout bounds a request in all: a third node that has hung, and
	// most of the next.
	serveTimeout = 16 * time.Second
)

// find serves an Ask: somebody else is to dial the asker.
func (s *Stranger) find(ctx context.Context, st network.Stream, m *pb.Ask) error {
	asker := st.Conn().RemotePeer()
	a, err := parseAsk(m)
	switch {
	case err != nil:
		return err
	case !direct(st.Conn()):
		return refuse(Relayed)
	case !slices.Contains(seenAt(s.host, asker), a.ip): // any of its connections will do
		return refuse(NotYours)
	}
	own := ownIPs(s.host)
	if slices.Contains(own, a.ip) {
		return refuse(OwnAddress)
	}
	leave, err := s.asks.enter(a.ip, a.ip, time.Now())
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	avoid := append(a.known, around(a.ip))
	for _, ip := range own {
		avoid = append(avoid, around(ip))
	}
	thirds := s.strangers(asker, a.ip.Is4(), avoid)
	if len(thirds) == 0 {
		return ErrNobody // before it has cost anything
	}
	// First the payment, and only then a place at somebody else's: who pays
	// slowly takes up ours alone.
	if err := collect(st); err != nil {
		return err
	}
	order := &pb.Dial{PeerId: []byte(asker), Addr: a.addr.Bytes(), Nonce: a.nonce}
	for _, p := range thirds {
		paid, err := s.order(ctx, p, order)
		if err == nil || errors.Is(err, ErrDialFailed) {
			return err
		}
		log.Debug("third node does not dial", "peer", p, "err", err)
		if paid || ctx.Err() != nil {
			break // what was paid to us is spent
		}
	}
	return ErrNobody
}

// strangers are some peers that can be the third node, chosen at random.
func (s *Stranger) strangers(asker peer.ID, four bool, avoid []netip.Prefix) []peer.ID {
	peers := s.host.Network().Peers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	var out []peer.ID
	for _, p := range peers {
		if p != asker && s.isStranger(p, four, avoid) {
			if out = append(out, p); len(out) == maxTries {
				break
			}
		}
	}
	return out
}

// isStranger reports whether a peer can be the third node: all that is known of
// where it is lies away from the networks to avoid, and some of it in the right
// IP family.
func (s *Stranger) isStranger(p peer.ID, four bool, avoid []netip.Prefix) bool {
	if !oneshot.Speaks(s.host, p, Protocol) {
		return false
	}
	at := seenAt(s.host, p)
	if len(at) == 0 {
		return false // relayed, or on our LAN
	}
	for _, a := range s.host.Peerstore().Addrs(p) {
		if ip, ok := publicIP(a); ok {
			at = append(at, ip)
		}
	}
	fits := false
	for _, ip := range at {
		if slices.ContainsFunc(avoid, func(n netip.Prefix) bool { return n.Contains(ip) }) {
			return false
		}
		fits = fits || ip.Is4() == four
	}
	return fits
}

// order asks a third node to dial, and pays for it. It reports whether it has
// paid, and what came of it.
func (s *Stranger) order(ctx context.Context, third peer.ID, m *pb.Dial) (paid bool, outcome error) {
	err := oneshot.Call(ctx, s.host, third, Protocol, tryTimeout, func(st network.Stream) (err error) {
		// No more than was paid to us.
		paid, outcome, err = inquire(st, &pb.Message{Kind: &pb.Message_Dial{Dial: m}}, dialData)
		return err
	})
	if err != nil {
		return paid, err
	}
	return paid, outcome
}
