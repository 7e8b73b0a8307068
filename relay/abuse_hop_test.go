package relay

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"
)

// TestSilentHopStreams: many are opened, and nothing, or half a message, is ever
// said on them.
func TestSilentHopStreams(t *testing.T) {
	besiege(t, Limits{RequestsPerPeer: 200}, func(t *testing.T, s *siege) { // else it would be 120
		hosts := s.strangers(t, scaled(8))
		half := delimited(t, askReservation)[:1]
		const each = 200 // QUIC here takes 256 streams of a connection
		for i := range each * len(hosts) {
			st := s.hop(t, hosts[i%len(hosts)])
			if i%2 == 0 { // the first bytes of a stream make the relay see it
				half = half[:1]
			}
			st.Write(half)
		}
		time.Sleep(time.Second)
		if got := s.scope().NumStreamsInbound; got < each*len(hosts) {
			t.Errorf("%d streams wait, want %d", got, each*len(hosts))
		}
		if got, most := s.scope().Memory-s.own.Memory, int64(each*len(hosts)*maxMessage); got > most {
			t.Errorf("%d bytes for streams that say nothing, want at most %d", got, most)
		}
		time.Sleep(askTimeout)
		if got := s.scope().NumStreamsInbound; got != s.own.NumStreamsInbound {
			t.Errorf("%d streams after %v, want %d", got, askTimeout, s.own.NumStreamsInbound)
		}
		leave(hosts...)
	})
}

// TestBadMessages: what is no request is answered, or reset, and leaves nothing
// behind.
func TestBadMessages(t *testing.T) {
	besiege(t, Limits{}, func(t *testing.T, s *siege) {
		h := s.strangers(t, 1)[0]
		big := delimited(t, connectTo(h.ID(), bytes.Repeat([]byte("a"), maxMessage)))
		for _, c := range []struct {
			name string
			data []byte
			want pbv2.Status
		}{
			{"a length of 2^63", bytes.Repeat([]byte{0xff}, 9), pbv2.Status_MALFORMED_MESSAGE},
			{"a length that does not end", bytes.Repeat([]byte{0x80}, 64), pbv2.Status_MALFORMED_MESSAGE},
			{"too long", big, pbv2.Status_MALFORMED_MESSAGE},
			{"too long by its length alone", []byte{0x81, 0x20}, pbv2.Status_MALFORMED_MESSAGE},
			{"no protobuf", []byte{3, 0xff, 0xff, 0xff}, pbv2.Status_MALFORMED_MESSAGE},
			{"a megabyte of nothing", make([]byte, 1<<20), pbv2.Status_OK}, // RESERVE is 0, and left out: stock relays say the same
			{"an unknown type", delimited(t, &pbv2.HopMessage{Type: pbv2.HopMessage_Type(9).Enum()}), pbv2.Status_UNEXPECTED_MESSAGE},
			{"an answer", delimited(t, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()}), pbv2.Status_UNEXPECTED_MESSAGE},
			{"nobody", delimited(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum()}), pbv2.Status_MALFORMED_MESSAGE},
			{"a peer without an ID", delimited(t, connectTo("")), pbv2.Status_MALFORMED_MESSAGE},
			{"no peer ID", delimited(t, connectTo("me")), pbv2.Status_MALFORMED_MESSAGE},
			{"itself", delimited(t, connectTo(h.ID())), pbv2.Status_PERMISSION_DENIED},
			{"the relay", delimited(t, connectTo(s.host.ID())), pbv2.Status_NO_RESERVATION},
			{"somebody else", delimited(t, connectTo(fuzzDst)), pbv2.Status_NO_RESERVATION},
		} {
			if got := s.status(t, h, c.data); got != c.want {
				t.Errorf("%s: answered %v, want %v", c.name, got, c.want)
			}
		}
		// Whoever says half of it and closes is answered, and at once.
		for n := range len(big[:64]) {
			st := s.hop(t, h)
			st.Write(big[:n])
			st.CloseWrite()
			st.SetDeadline(time.Now().Add(time.Second))
			if b, err := io.ReadAll(st); err != nil || len(b) == 0 {
				t.Errorf("the first %d bytes: answered %x, %v", n, b, err)
			}
			st.Close()
		}
		leave(h)
	})
}

// TestResetAtEveryStage of the opening of a circuit, by either end.
func TestResetAtEveryStage(t *testing.T) {
	besiege(t, Limits{RequestsPerPeer: Unlimited}, func(t *testing.T, s *siege) {
		hosts := s.strangers(t, 2)
		src, dst := hosts[0], hosts[1]
		ends := map[string]func(network.Stream){
			"reset":       func(st network.Stream) { st.Reset() },
			"close":       func(st network.Stream) { st.Close() },
			"close write": func(st network.Stream) { st.CloseWrite() },
			"close read":  func(st network.Stream) { st.CloseRead() },
			"go silent":   func(network.Stream) {},
		}
		for what, end := range ends {
			for stage, take := range map[string]func(network.Stream){
				"at once": end,
				"when asked": func(st network.Stream) {
					st.Read(make([]byte, 1))
					end(st)
				},
				"after consent": agreesTo(end),
				"in the middle": agreesTo(func(st network.Stream) {
					io.CopyN(st, st, 10_000)
					end(st)
				}),
			} {
				to := s.takes(t, dst, take)
				st, _ := s.says(t, src, delimited(t, connectTo(to)))
				st.Write(make([]byte, 20_000))
				st.CloseWrite()
				st.SetDeadline(time.Now().Add(time.Minute))
				io.Copy(io.Discard, st)
				st.Reset()
				if err := s.Check(); err != nil {
					t.Fatalf("destination: %s %s: %v", what, stage, err)
				}
			}
			to := s.takes(t, dst, agreesTo(func(st network.Stream) {
				io.Copy(st, st)
				st.Close()
			}))
			msg := delimited(t, connectTo(to))
			for n := 0; n <= len(msg); n += 5 { // the request
				st := s.hop(t, src)
				st.Write(msg[:n])
				end(st)
			}
			st := s.hop(t, src) // before the answer
			st.Write(msg)
			end(st)
			for _, n := range []int{0, 10_000} { // after it
				st, _ := s.says(t, src, msg)
				st.Write(make([]byte, n))
				end(st)
			}
		}
		leave(hosts...)
	})
}

// TestDataBeforeTheAnswer is kept for the destination, however early it comes and
// although the source has closed its side already.
func TestDataBeforeTheAnswer(t *testing.T) {
	besiege(t, Limits{}, func(t *testing.T, s *siege) {
		hosts := s.strangers(t, 2)
		got := make(chan []byte, 1)
		to := s.takes(t, hosts[1], agreesTo(func(st network.Stream) {
			b, _ := io.ReadAll(st)
			got <- b
			st.Write(b)
			st.Close()
		}))
		early := bytes.Repeat([]byte("early "), 10_000)
		st := s.hop(t, hosts[0])
		st.SetDeadline(time.Now().Add(time.Minute))
		go func() {
			st.Write(append(delimited(t, connectTo(to)), early...))
			st.CloseWrite()
		}()
		if b := <-got; !bytes.Equal(b, early) {
			t.Errorf("the destination got %d bytes, want %d", len(b), len(early))
		}
		if b, err := io.ReadAll(st); err != nil || !bytes.HasSuffix(b, early) {
			t.Errorf("%d bytes came back, %v; want %d and an answer before them", len(b), err, len(early))
		}
		leave(hosts...)
	})
}

// TestOverACircuit: a relay does not serve those who come through another.
func TestOverACircuit(t *testing.T) {
	besiege(t, Limits{}, func(t *testing.T, s *siege) {
		other := run(t, start(t, s.net.Host("another relay")), Config{Mode: On})
		other.mustReserve(t, s.host)
		h := start(t, s.net.Host("stranger"))
		if err := h.Connect(timeout(t), circuitTo(other.host, s.host)); err != nil {
			t.Fatal(err)
		}
		for name, msg := range map[string]*pbv2.HopMessage{"reserve": askReservation, "connect": connectTo(s.host.ID())} {
			if got := s.status(t, h, delimited(t, msg)); got != pbv2.Status_PERMISSION_DENIED {
				t.Errorf("%s: answered %v, want %v", name, got, pbv2.Status_PERMISSION_DENIED)
			}
		}
		leave(h)
		other.host.Close()
	})
}

// circuitTo is how to reach a host through a relay.
func circuitTo(relay, to host.Host) peer.AddrInfo {
	via := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", relay.Addrs()[0], relay.ID()))
	return peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{via}}
}
