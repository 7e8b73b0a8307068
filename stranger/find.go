package stranger

import (
	"context"
	"errors"
	"io"
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
	// IPv6. A dial that failed is an answer and not tried again elsewhere.
	maxTries = 2
	// tryTimeout is more than what a third node takes at most.
	tryTimeout = dataWait + dialDelay + dialTimeout + time.Second
	// serveTimeout bounds a request in all: a third node that has hung, and
	// most of the next.
	serveTimeout = 16 * time.Second
)

// errNotPaid: the asker's data did not come.
var errNotPaid = errors.New("the dial was not paid for")

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
	order := &pb.Dial{PeerId: []byte(asker), Addr: a.addr.Bytes(), Nonce: a.nonce}
	peers, tries := s.host.Network().Peers(), 0
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	for _, p := range peers {
		if p == asker || !s.isStranger(p, a.ip.Is4(), avoid) {
			continue
		}
		err := s.pass(ctx, st, p, order)
		if err == nil || errors.Is(err, ErrDialFailed) || errors.Is(err, errNotPaid) || ctx.Err() != nil {
			return err
		}
		log.Debug("third node does not dial", "peer", p, "err", err)
		if tries++; tries == maxTries {
			break
		}
	}
	return ErrNobody
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

// pass asks a third node to dial, and passes on what it demands for that to the
// asker: nothing is sent that was not received first.
func (s *Stranger) pass(ctx context.Context, asker network.Stream, third peer.ID, m *pb.Dial) error {
	var outcome error
	err := oneshot.Call(ctx, s.host, third, Protocol, tryTimeout, func(st network.Stream) error {
		if err := oneshot.Write(st, &pb.Message{Kind: &pb.Message_Dial{Dial: m}}); err != nil {
			return err
		}
		wanted, o, err := reply(st)
		if outcome = o; err != nil || wanted == 0 {
			return err
		}
		if err := payOn(asker, st, wanted); err != nil {
			return err
		}
		wanted, o, err = reply(st)
		if outcome = o; err == nil && wanted > 0 {
			return errMessage
		}
		return err
	})
	if err != nil {
		return broken("third node", err)
	}
	return outcome
}

// payOn has the asker pay and hands it on. It takes the whole payment even if
// the third node is gone, so that the next word on the stream is the next word.
func payOn(asker, third network.Stream, n int64) error {
	if err := asker.SetReadDeadline(time.Now().Add(dataWait)); err != nil {
		return errors.Join(errNotPaid, err)
	}
	if err := wantData(asker, n); err != nil {
		return errors.Join(errNotPaid, err)
	}
	p := &payment{from: asker, left: n}
	_, err := io.Copy(third, p)
	if p.err == nil && p.left > 0 {
		io.Copy(io.Discard, p) //nolint:errcheck // p keeps it
	}
	if p.err != nil {
		return errors.Join(errNotPaid, p.err)
	}
	return err
}

// payment reads so many bytes, and remembers why there are not so many.
type payment struct {
	from io.Reader
	left int64
	err  error
}

func (p *payment) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.from.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	if err != nil && p.left > 0 {
		p.err = err
	}
	if p.left == 0 {
		err = nil // whatever the end of the stream has to say
	}
	return n, err
}
