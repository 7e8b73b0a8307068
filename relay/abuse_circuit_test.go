package relay

import (
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"google.golang.org/protobuf/encoding/protodelim"
)

// halves splits strangers into those who ask for circuits, and those who have
// said that they take some.
func (s *siege) halves(t *testing.T, n int, take func(network.Stream)) (src []host.Host, dst []peer.ID, all []host.Host) {
	t.Helper()
	all = s.strangers(t, 2*n)
	for _, h := range all[n:] {
		dst = append(dst, s.takes(t, h, take))
	}
	return all[:n], dst, all
}

// request asks for each circuits from each source to the destination of the
// same number, and reads no answer.
func (s *siege) request(t *testing.T, src []host.Host, dst []peer.ID, each int) (out []network.Stream) {
	t.Helper()
	for i, h := range src {
		msg := delimited(t, connectTo(dst[i%len(dst)]))
		for range each {
			st := s.hop(t, h)
			st.Write(msg)
			out = append(out, st)
		}
	}
	return out
}

// TestDestinationsThatDoNotAnswer: a circuit is half open for connectTimeout at
// most, and counts meanwhile.
func TestDestinationsThatDoNotAnswer(t *testing.T) {
	besiege(t, Limits{}, func(t *testing.T, s *siege) {
		src, dst, all := s.halves(t, scaled(16), func(network.Stream) {})
		const each = 70
		stand := perPair(64) // of each source
		streams := s.request(t, src, dst, each)
		time.Sleep(time.Second)
		if got, want := s.Status().Circuits, int64(1+len(src)*stand); got != want {
			t.Errorf("%d half-open circuits of %d asked for, want %d", got, each*len(src), want)
		}
		// Each has two small buffers, and room for one message.
		if got, most := s.scope().Memory-s.own.Memory, int64(len(src)*stand*(2*smallBuffer+maxMessage)); got > most {
			t.Errorf("%d bytes for half-open circuits, want at most %d", got, most)
		}
		time.Sleep(connectTimeout)
		if got := s.Status().Circuits; got != 1 {
			t.Errorf("%d circuits after %v, want that of the honest pair", got, connectTimeout)
		}
		got := make(map[pbv2.Status]int)
		for _, st := range streams {
			got[readStatus(st)]++
		}
		if got[pbv2.Status_CONNECTION_FAILED] != stand*len(src) || got[pbv2.Status_RESOURCE_LIMIT_EXCEEDED] != (each-stand)*len(src) {
			t.Errorf("answered %v, want all refused, %d of each source for the silence of the destination", got, stand)
		}
		leave(all...)
	})
}

// TestSourcesThatDoNotRead the answer, or anything else, and destinations that
// send them all they can.
func TestSourcesThatDoNotRead(t *testing.T) {
	besiege(t, Limits{}, func(t *testing.T, s *siege) {
		each := perPair(64)
		pairs := scaled(24)
		src, dst, all := s.halves(t, pairs, agreesTo(func(st network.Stream) {
			for b := make([]byte, 32<<10); ; {
				if _, err := st.Write(b); err != nil {
					return
				}
			}
		}))
		s.request(t, src, dst, each)
		time.Sleep(10 * time.Second)
		if got := s.Status().Circuits; got != int64(1+pairs*each) {
			t.Errorf("%d circuits, want %d", got, 1+pairs*each)
		}
		// In one direction of each there may be a large buffer.
		if got, most := s.scope().Memory-s.own.Memory, int64(pairs*each*(2*smallBuffer+largeBuffer)); got > most {
			t.Errorf("%d bytes for circuits that nobody reads, want at most %d", got, most)
		}
		carried := s.Status().Bytes
		time.Sleep(2 * stallTime)
		if got := s.Status().Circuits; got != 1 {
			t.Errorf("%d circuits in which nothing has moved for %v, want only that of the honest pair", got, 2*stallTime)
		}
		t.Logf("%d circuits carried %d kB before they stalled", pairs*each, carried>>10)
		leave(all...)
	})
}

// TestStormAtOneDestination: it has the circuits that one peer may have, and
// keeps those that stand.
func TestStormAtOneDestination(t *testing.T) {
	besiege(t, Limits{CircuitsPerPeer: 16}, func(t *testing.T, s *siege) {
		dst := s.stranger(t, s.net.Host("in demand"))
		to := s.takes(t, dst, agreesTo(func(st network.Stream) {
			io.Copy(st, st)
			st.Close()
		}))
		callers := s.strangers(t, 30)
		got := make(map[pbv2.Status]int)
		for _, st := range s.request(t, callers, []peer.ID{to}, 20) {
			got[readStatus(st)]++
		}
		if ok := got[pbv2.Status_OK]; ok != 16 || got[pbv2.Status_RESOURCE_LIMIT_EXCEEDED] != 30*20-16 {
			t.Errorf("answered %v, want 16 circuits", got)
		}
		leave(append(callers, dst)...)
	})
}

// TestCircuitsInARing: each is a source and a destination, and all
// hand on what they get.
func TestCircuitsInARing(t *testing.T) {
	const most = 16
	besiege(t, Limits{CircuitsPerPeer: most}, func(t *testing.T, s *siege) {
		ring := s.strangers(t, 6)
		ids := make([]peer.ID, len(ring))
		for i, h := range ring {
			next := ring[(i+1)%len(ring)]
			ids[i] = s.takes(t, h, agreesTo(func(st network.Stream) {
				defer st.Reset()
				on, answer := s.says(t, h, delimited(t, connectTo(next.ID())))
				defer on.Reset()
				if answer.GetStatus() == pbv2.Status_OK {
					io.Copy(on, st)
				}
			}))
		}
		on, answer := s.says(t, ring[0], delimited(t, connectTo(ids[1])))
		if answer.GetStatus() != pbv2.Status_OK {
			t.Fatalf("the first circuit: %v", answer)
		}
		on.Write(make([]byte, 10_000))
		time.Sleep(10 * time.Second)
		// Each circuit has two ends.
		if got, all := s.Status().Circuits, int64(1+len(ring)*most/2); got > all {
			t.Errorf("%d circuits of %d peers, want at most %d", got, len(ring), all)
		}
		on.Reset()
		leave(ring...)
	})
}

// readStatus reads the answer on a hop stream.
func readStatus(st network.Stream) pbv2.Status {
	st.SetReadDeadline(time.Now().Add(time.Minute))
	var answer pbv2.HopMessage
	if err := protodelim.UnmarshalFrom(bytewise{st}, &answer); err != nil {
		return pbv2.Status_UNUSED
	}
	return answer.GetStatus()
}
