package relay

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

const (
	// mostRead is what the relay may read before it has decided: the length of
	// a message, and the message.
	mostRead = 10 + maxMessage
	fuzzDst  = peer.ID("\x00\x03dst") // the identity multihash of "dst"
	fuzzSrc  = peer.ID("\x00\x03src")
)

func delimited(t testing.TB, m proto.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func connectTo(id peer.ID, addrs ...[]byte) *pbv2.HopMessage {
	return &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(id), Addrs: addrs}}
}

var (
	askReservation = &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}
	consent        = &pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()}
)

// exchange sends data on a hop stream of a relay at which fuzzDst holds a
// reservation, and returns what comes back. The books must agree at the end.
// Nothing in it waits for a clock.
func exchange(t *testing.T, data []byte, answers func(dst peer.ID, s *side)) (answer *pbv2.HopMessage, rest []byte, read int) {
	t.Helper()
	w := newWire(t, 1<<20, answers)
	r, err := New(Config{Host: w, Mode: On, Limits: Limits{CircuitTime: Unlimited}})
	if err != nil {
		t.Fatal(err)
	}
	w.SetStreamHandler("/libp2p/circuit/relay/0.2.0/hop", r.handleHop)
	if _, _, why := r.table.reserve(fuzzDst, origin{}, r.policy.Load().anonymous, r.policy.Load(), r.table.expiry.base); why != "" {
		t.Fatal(why)
	}
	s := w.ask(fuzzSrc, "")
	s.Write(data)
	s.CloseWrite()
	back, err := io.ReadAll(s)
	w.runs.Wait()
	r.running.Wait()

	if err := r.Check(); err != nil {
		t.Error(err)
	}
	if n := r.table.openCircuits(); n != 0 || r.larges.lent.Load() != 0 {
		t.Errorf("%d circuits and %d large buffers are left", n, r.larges.lent.Load())
	}
	if n := r.table.reservations(); n > 2 {
		t.Errorf("%d reservations, of two peers", n)
	}
	r.shut()
	switch {
	case errors.Is(err, network.ErrReset) && len(back) == 0:
		return nil, nil, s.read()
	case errors.Is(err, network.ErrReset): // a circuit that broke
	case err != nil:
		t.Fatalf("neither an answer nor a reset: %v", err)
	}
	in := bytes.NewReader(back)
	answer = new(pbv2.HopMessage)
	if err := protodelim.UnmarshalFrom(in, answer); err != nil {
		t.Fatalf("the answer %x: %v", back, err)
	}
	if answer.GetType() != pbv2.HopMessage_STATUS || answer.Status == nil {
		t.Errorf("answered %v, want a status", answer)
	}
	rest, _ = io.ReadAll(in)
	return answer, rest, s.read()
}

// agrees is an honest destination that sends back what it gets.
func agrees(_ peer.ID, s *side) {
	defer s.CloseWrite()
	if err := protodelim.UnmarshalFrom(bytewise{s}, new(pbv2.StopMessage)); err != nil {
		return
	}
	if _, err := protodelim.MarshalTo(s, consent); err != nil {
		return
	}
	io.Copy(s, s)
}

// bytewise reads no further than it must.
type bytewise struct{ io.Reader }

func (b bytewise) ReadByte() (byte, error) {
	var c [1]byte
	_, err := io.ReadFull(b, c[:])
	return c[0], err
}

// FuzzHop: whatever a stranger sends, it gets one answer, or a reset.
func FuzzHop(f *testing.F) {
	reserve, circuit := delimited(f, askReservation), delimited(f, connectTo(fuzzDst))
	for _, seed := range [][]byte{
		nil,
		{0},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{0x80, 0x20},
		{0x81, 0x20, 1},
		reserve, reserve[:1], append(bytes.Clone(reserve), reserve...),
		circuit, circuit[:len(circuit)/2], append(bytes.Clone(circuit), "data before the answer"...),
		delimited(f, connectTo(fuzzSrc)), delimited(f, connectTo("")), delimited(f, connectTo("\x00\x04gone")),
		delimited(f, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum()}),
		delimited(f, &pbv2.HopMessage{Type: pbv2.HopMessage_Type(77).Enum()}),
		delimited(f, connectTo(fuzzDst, bytes.Repeat([]byte("a"), maxMessage))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		answer, rest, read := exchange(t, data, agrees)
		if answer == nil {
			return
		}
		var asked pbv2.HopMessage
		in := bytes.NewReader(data)
		if err := (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(in, &asked); err != nil && answer.GetStatus() == pbv2.Status_OK {
			t.Errorf("%x is no message (%v), and was answered %v", data, err, answer)
		}
		if answer.GetStatus() == pbv2.Status_OK && asked.GetType() == pbv2.HopMessage_CONNECT {
			if want := data[len(data)-in.Len():]; !bytes.Equal(rest, want) {
				t.Errorf("through the circuit came %.200x, want %.200x", rest, want)
			}
			return
		}
		if len(rest) > 0 {
			t.Errorf("%x after the answer %v", rest, answer)
		}
		if read > mostRead {
			t.Errorf("%d bytes were read, want at most %d", read, mostRead)
		}
	})
}

// FuzzStop: whatever the destination answers, there is a circuit only if it
// agreed, and then everything behind its answer arrives.
func FuzzStop(f *testing.F) {
	yes := delimited(f, consent)
	for _, seed := range [][]byte{
		nil,
		{0},
		{0xff},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{0x81, 0x20, 1},
		yes, yes[:2], append(bytes.Clone(yes), "data at once"...), append(bytes.Clone(yes), yes...),
		delimited(f, &pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum()}),
		delimited(f, &pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_PERMISSION_DENIED.Enum()}),
		delimited(f, &pbv2.StopMessage{Type: pbv2.StopMessage_CONNECT.Enum(), Status: pbv2.Status_OK.Enum()}),
		delimited(f, &pbv2.StopMessage{Status: pbv2.Status_OK.Enum()}),
		bytes.Repeat(yes, 1000),
	} {
		f.Add(seed, []byte("from the source"))
	}
	f.Fuzz(func(t *testing.T, data, up []byte) {
		var got []byte
		answer, rest, _ := exchange(t, append(delimited(t, connectTo(fuzzDst)), up...), func(_ peer.ID, s *side) {
			defer s.CloseRead() // no reset: that may overtake what was written
			asked := protodelim.UnmarshalFrom(bytewise{s}, new(pbv2.StopMessage))
			s.Write(data)
			s.CloseWrite()
			if asked == nil {
				got, _ = io.ReadAll(s)
			}
		})
		if answer == nil {
			t.Fatal("reset, want an answer: the source did nothing wrong")
		}
		var said pbv2.StopMessage
		in := bytes.NewReader(data)
		err := (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(in, &said)
		if agreed := err == nil && said.GetType() == pbv2.StopMessage_STATUS && said.GetStatus() == pbv2.Status_OK; !agreed {
			if answer.GetStatus() != pbv2.Status_CONNECTION_FAILED || len(rest) > 0 || len(got) > 0 {
				t.Errorf("the destination said %.200x: answered %v with %.200x behind it, and the destination got %.200x", data, answer, rest, got)
			}
			return
		}
		if want := data[len(data)-in.Len():]; answer.GetStatus() != pbv2.Status_OK || !bytes.Equal(rest, want) || !bytes.Equal(got, up) {
			t.Errorf("answered %v; down came %.200x, want %.200x; up came %.200x, want %.200x", answer, rest, want, got, up)
		}
	})
}

// FuzzConnectPeer: whom a circuit is asked to.
func FuzzConnectPeer(f *testing.F) {
	f.Add([]byte(fuzzDst), []byte("/not/an/address"))
	f.Add([]byte(fuzzSrc), []byte{4, 8, 8, 8, 8})
	f.Add([]byte("\x00\x00"), []byte{})
	f.Add([]byte("\x12\x20too short"), []byte{0xff, 0xff})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, id, addr []byte) {
		msg := delimited(t, connectTo(peer.ID(id), addr, addr))
		answer, _, read := exchange(t, msg, agrees)
		if answer == nil {
			t.Fatal("reset, want an answer")
		}
		parsed, err := peer.IDFromBytes(id)
		want := pbv2.Status_NO_RESERVATION
		switch {
		case err != nil || len(msg) > maxMessage+2:
			want = pbv2.Status_MALFORMED_MESSAGE
		case parsed == fuzzSrc:
			want = pbv2.Status_PERMISSION_DENIED
		case parsed == fuzzDst:
			want = pbv2.Status_OK
		}
		if answer.GetStatus() != want || read > mostRead {
			t.Errorf("a circuit to %x: answered %v after %d bytes, want %v", id, answer.GetStatus(), read, want)
		}
	})
}
