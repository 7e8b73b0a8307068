package notice

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/notice/pb"
)

const (
	// maxMessage bounds a notice without its length prefix, in bytes; 8
	// siblings with 8 ordinary addresses each fit.
	maxMessage = 4096
	// maxWithin bounds how long a relay may say that it drains. Whoever takes
	// longer will say so again.
	maxWithin = 24 * time.Hour
	// maxSiblings and maxAddrs bound what one notice makes others dial.
	maxSiblings = 8
	maxAddrs    = 8
	// maxAddrLen bounds one address, in bytes. Ordinary ones have 8 to 40,
	// WebTransport's with two hashes 90.
	maxAddrLen = 300
	// maxIDLen bounds a peer ID, in bytes. Those in use have 34 to 39.
	maxIDLen = 64
	// MaxEnded bounds the circuits in one notice: with a reason and two
	// counters each they fit with room to spare.
	MaxEnded = 16
	// maxReason bounds a reason.
	maxReason = 32
)

var errKind = errors.New("a notice is of exactly one kind")

// encode returns the message with its length before it. What is too much for a
// receiver is left out: siblings beyond 8, and addresses until it fits.
func encode(n Notice) ([]byte, error) {
	var m pb.Notice
	switch {
	case n.Draining != nil && n.Load == nil && n.Ended == nil:
		d := &pb.Draining{Seconds: uint32(clamp(n.Draining.Within) / time.Second)}
		m.Kind = &pb.Notice_Draining{Draining: d}
		for most := maxAddrs; ; most-- {
			d.Siblings = siblingsToWire(n.Draining.Siblings, most)
			if most == 0 || proto.Size(&m) <= maxMessage {
				break
			}
		}
	case n.Load != nil && n.Draining == nil && n.Ended == nil:
		m.Kind = &pb.Notice_Load{Load: &pb.Load{
			Reservations:    count(n.Load.Reservations),
			MaxReservations: count(n.Load.MaxReservations),
			Full:            n.Load.Full,

			RetryAfterSeconds: uint32(clamp(n.Load.RetryAfter) / time.Second),
		}}
	case n.Ended != nil && n.Draining == nil && n.Load == nil:
		m.Kind = &pb.Notice_Ended{Ended: &pb.Ended{Circuits: circuitsToWire(n.Ended.Circuits)}}
	default:
		return nil, errKind
	}
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, &m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// fromWire reads a notice, and reports whether it is of a kind that we know. A
// sibling or an address that makes no sense to us is left out, and the notice
// stands: it may be in order for those who know newer addresses, and that the
// relay drains is what matters. None of the peers in except is a sibling.
func fromWire(m *pb.Notice, except ...peer.ID) (Notice, bool) {
	switch k := m.GetKind().(type) {
	case *pb.Notice_Draining:
		return Notice{Draining: &Draining{
			Within:   clamp(time.Duration(k.Draining.GetSeconds()) * time.Second),
			Siblings: siblingsFromWire(k.Draining.GetSiblings(), except),
		}}, true
	case *pb.Notice_Load:
		return Notice{Load: &Load{
			Reservations:    int(min(k.Load.GetReservations(), math.MaxInt32)),
			MaxReservations: int(min(k.Load.GetMaxReservations(), math.MaxInt32)),
			Full:            k.Load.GetFull(),
			RetryAfter:      clamp(time.Duration(k.Load.GetRetryAfterSeconds()) * time.Second),
		}}, true
	case *pb.Notice_Ended:
		return Notice{Ended: &Ended{Circuits: circuitsFromWire(k.Ended.GetCircuits())}}, true
	}
	return Notice{}, false
}

func circuitsToWire(list []Circuit) []*pb.Circuit {
	out := make([]*pb.Circuit, 0, MaxEnded)
	for _, e := range list[:min(len(list), MaxEnded)] {
		out = append(out, &pb.Circuit{
			PeerId: []byte(e.Peer), Reason: e.Reason, BytesSent: uint64(max(e.Sent, 0)), BytesReceived: uint64(max(e.Received, 0)),
			Milliseconds: uint32(min(max(e.Lasted.Milliseconds(), 0), math.MaxUint32)),
		})
	}
	return out
}

// circuitsFromWire leaves out what makes no sense.
func circuitsFromWire(list []*pb.Circuit) []Circuit {
	var out []Circuit
	for _, w := range list {
		if len(out) == MaxEnded {
			break
		}
		id, err := peer.IDFromBytes(w.GetPeerId())
		if err != nil || !validID(id) || !validReason(w.GetReason()) {
			continue
		}
		out = append(out, Circuit{
			Peer: id, Reason: w.GetReason(),
			Sent:     int64(min(w.GetBytesSent(), math.MaxInt64)),
			Received: int64(min(w.GetBytesReceived(), math.MaxInt64)),
			Lasted:   time.Duration(w.GetMilliseconds()) * time.Millisecond,
		})
	}
	return out
}

// validReason keeps a hostile relay from writing to our logs what it likes.
func validReason(s string) bool {
	return s != "" && len(s) <= maxReason && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}

func clamp(d time.Duration) time.Duration { return min(max(d, 0), maxWithin) }

func count(n int) uint32 { return uint32(min(max(n, 0), math.MaxInt32)) }

func siblingsToWire(list []peer.AddrInfo, mostAddrs int) []*pb.Sibling {
	out := make([]*pb.Sibling, 0, maxSiblings)
	for _, s := range list {
		if len(out) == maxSiblings {
			break
		}
		if !validID(s.ID) {
			continue
		}
		w := &pb.Sibling{PeerId: []byte(s.ID)}
		for _, a := range s.Addrs {
			if len(w.Addrs) == mostAddrs {
				break
			}
			if a = dialable(a, s.ID); a != nil {
				w.Addrs = append(w.Addrs, a.Bytes())
			}
		}
		out = append(out, w)
	}
	return out
}

func siblingsFromWire(list []*pb.Sibling, except []peer.ID) []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, w := range list {
		if len(out) == maxSiblings {
			break
		}
		id, err := peer.IDFromBytes(w.GetPeerId())
		if err != nil || !validID(id) || slices.Contains(except, id) ||
			slices.ContainsFunc(out, func(s peer.AddrInfo) bool { return s.ID == id }) {
			continue
		}
		s := peer.AddrInfo{ID: id}
		for _, b := range w.GetAddrs() {
			if len(s.Addrs) == maxAddrs {
				break
			}
			if len(b) > maxAddrLen {
				continue
			}
			a, err := ma.NewMultiaddrBytes(b)
			if err != nil {
				continue
			}
			if a = dialable(a, id); a != nil && !ma.Contains(s.Addrs, a) {
				s.Addrs = append(s.Addrs, a)
			}
		}
		out = append(out, s)
	}
	return out
}

func validID(id peer.ID) bool { return len(id) <= maxIDLen && id.Validate() == nil }

// dialable returns where a relay listens, without its peer ID, or nil if it
// does not listen there itself.
func dialable(a ma.Multiaddr, id peer.ID) ma.Multiaddr {
	at, of := peer.SplitAddr(a)
	if len(at) == 0 || of != "" && of != id || len(at.Bytes()) > maxAddrLen {
		return nil
	}
	for _, c := range at { // no circuits, and nothing else through other peers
		if c.Code() == ma.P_CIRCUIT || c.Code() == ma.P_P2P {
			return nil
		}
	}
	return at
}
