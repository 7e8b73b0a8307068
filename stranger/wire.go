package stranger

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/stranger/pb"
)

const (
	// maxMessage bounds a message without its length prefix, in bytes: an
	// address and 32 networks fit in 350.
	maxMessage = 512
	// maxKnown bounds the networks that an asker names. Only peers that speak
	// the protocol can be chosen, so that few are of any use.
	maxKnown = 32
	// maxIDLen bounds a peer ID, in bytes. Those in use have 34 to 39.
	maxIDLen = 64
	// dialData is what a dial costs whoever asks for it, in bytes: the least
	// that AutoNAT v2 demands (autonat-v2.md, "Amplification Attack
	// Prevention"), and more than a dial can put on the wire.
	dialData = 30_000
	// dataWait is for dialData over a slow line.
	dataWait = 4 * time.Second
	// maxData is the most that we pay for one dial: the most that AutoNAT v2
	// lets a server demand.
	maxData = 100_000
)

// ask is what a client wants.
type ask struct {
	target
	nonce uint64
	known []netip.Prefix
}

func parseAsk(m *pb.Ask) (ask, error) {
	t, err := parseTarget(m.GetAddr())
	if err != nil {
		return ask{}, err
	}
	if len(m.GetKnown()) > maxKnown {
		return ask{}, refuse(Malformed)
	}
	a := ask{target: t, nonce: m.GetNonce()}
	for _, b := range m.GetKnown() {
		p, ok := prefixFromWire(b)
		if !ok {
			return ask{}, refuse(Malformed)
		}
		a.known = append(a.known, p)
	}
	return a, nil
}

// order is what a server wants of a third node.
type order struct {
	target
	peer  peer.ID
	nonce uint64
}

func parseDial(m *pb.Dial) (order, error) {
	t, err := parseTarget(m.GetAddr())
	if err != nil {
		return order{}, err
	}
	if len(m.GetPeerId()) > maxIDLen {
		return order{}, refuse(Malformed)
	}
	id, err := peer.IDFromBytes(m.GetPeerId())
	if err != nil || id.Validate() != nil {
		return order{}, refuse(Malformed)
	}
	return order{target: t, peer: id, nonce: m.GetNonce()}, nil
}

// On the wire a network is the first bytes of its addresses, as many as make
// two addresses near.

func prefixToWire(p netip.Prefix) []byte { return p.Addr().AsSlice()[:p.Bits()/8] }

func prefixFromWire(b []byte) (netip.Prefix, bool) {
	switch len(b) {
	case near4 / 8:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(append(b[:3:3], 0))), near4), true
	case near6 / 8:
		var ip [16]byte
		copy(ip[:], b)
		return netip.PrefixFrom(netip.AddrFrom16(ip), near6), true
	}
	return netip.Prefix{}, false
}

// inquire sends a request, pays for it if that is wanted and not more than most
// bytes, and hears what came of it: nil if somebody got through.
func inquire(s network.Stream, request *pb.Message, most int64) (paid bool, outcome, err error) {
	if err := oneshot.Write(s, request); err != nil {
		return false, nil, err
	}
	wanted, outcome, err := reply(s)
	if err != nil || wanted == 0 {
		return false, outcome, err
	}
	if wanted > most {
		return false, nil, errMessage
	}
	if _, err := s.Write(make([]byte, wanted)); err != nil {
		return true, nil, err
	}
	if wanted, outcome, err = reply(s); err == nil && wanted > 0 {
		err = errMessage // who asks for more has had enough
	}
	return true, outcome, err
}

// reply reads what comes back: how many bytes are wanted first, or what it came
// to.
func reply(s network.Stream) (wanted int64, outcome, err error) {
	var m pb.Message
	if err := oneshot.Read(s, maxMessage, &m); err != nil {
		return 0, nil, err
	}
	switch k := m.GetKind().(type) {
	case *pb.Message_Answer:
		return 0, outcomeOf(k.Answer), nil
	case *pb.Message_DataWanted:
		if n := k.DataWanted.GetBytes(); n > 0 {
			return int64(n), nil, nil
		}
	}
	return 0, nil, errMessage
}

// collect has whoever opened the stream pay for a dial.
func collect(s network.Stream) error {
	if err := s.SetReadDeadline(time.Now().Add(dataWait)); err != nil {
		return err
	}
	m := &pb.Message{Kind: &pb.Message_DataWanted{DataWanted: &pb.DataWanted{Bytes: dialData}}}
	if err := oneshot.Write(s, m); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, s, dialData); err != nil {
		return fmt.Errorf("dial data: %w", err)
	}
	return nil
}
