package notice

import (
	"bytes"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/notice/pb"
)

// fakeStream is a peer that has said all it will say.
type fakeStream struct {
	network.Stream
	in  *bytes.Reader
	end string
}

func (s *fakeStream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *fakeStream) Close() error                { s.end += "closed "; return nil }
func (s *fakeStream) Reset() error                { s.end += "reset "; return nil }
func (s *fakeStream) SetDeadline(time.Time) error { return nil }
func (s *fakeStream) Protocol() protocol.ID       { return Protocol }
func (s *fakeStream) Conn() network.Conn          { return fakeConn{} }

type fakeConn struct{ network.Conn }

func (fakeConn) RemotePeer() peer.ID { return "sender" }

func newReceiver(f func(peer.ID, Notice)) *oneshot.Server {
	return oneshot.NewServer(bounds, receiver{self: "us", f: f}.take)
}

// FuzzHandle holds that whatever comes in, the stream ends once, in a reset
// unless it was a message, and that one message is one call at most.
func FuzzHandle(f *testing.F) {
	for _, n := range []Notice{{Draining: &Draining{Within: time.Minute}}, {Load: &Load{Full: true}}} {
		data, err := encode(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))
		f.Add(data[:len(data)-1])
	}
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0x02, 0x22, 0x00})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(append([]byte{0x81, 0x20}, make([]byte, maxMessage+1)...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		calls := 0
		r := newReceiver(func(from peer.ID, _ Notice) {
			if calls++; from != "sender" {
				t.Errorf("from %q", from)
			}
		})
		s := &fakeStream{in: bytes.NewReader(data)}
		r.Handle(s)
		var m pb.Notice
		valid := protodelim.UnmarshalOptions{MaxSize: maxMessage}.UnmarshalFrom(bytes.NewReader(data), &m) == nil
		end, want := "reset ", 0
		if valid {
			end = "closed "
			if m.GetKind() != nil {
				want = 1
			}
		}
		if s.end != end || calls != want {
			t.Errorf("%x: stream %q and %d calls, want %q and %d", data, s.end, calls, end, want)
		}
	})
}
