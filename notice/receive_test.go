package notice

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/notice/pb"
)

// fakeStream is a peer that has said all it will say.
type fakeStream struct {
	network.Stream
	in  *bytes.Reader
	end string
}

func (s *fakeStream) Read(b []byte) (int, error)      { return s.in.Read(b) }
func (s *fakeStream) Close() error                    { s.end += "closed "; return nil }
func (s *fakeStream) Reset() error                    { s.end += "reset "; return nil }
func (s *fakeStream) SetReadDeadline(time.Time) error { return nil }
func (s *fakeStream) Conn() network.Conn              { return fakeConn{} }

type fakeConn struct{ network.Conn }

func (fakeConn) RemotePeer() peer.ID { return "sender" }

func newReceiver(f func(peer.ID, Notice)) *receiver {
	return &receiver{self: "us", f: f, allowance: allowance{spent: make(map[peer.ID]time.Time)}}
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
	f.Add([]byte{0x02, 0x1a, 0x00})
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
		r.handle(s)
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

func TestAllowance(t *testing.T) {
	a := allowance{spent: make(map[peer.ID]time.Time)}
	start := time.Unix(0, 0)
	took := func(p peer.ID, tries int, at time.Duration) (n int) {
		for range tries {
			if a.take(p, start.Add(at)) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{0, 10}, {5 * time.Second, 0}, {6 * time.Second, 1}, {30 * time.Second, 4}, {time.Hour, 10}, {time.Hour + time.Minute, 10}} {
		if got := took("p", 1000, c.at); got != c.want {
			t.Errorf("after %v: %d of 1000 taken, want %d", c.at, got, c.want)
		}
		if got := took(peer.ID("at "+c.at.String()), 1, c.at); got != 1 {
			t.Errorf("after %v: another sender is refused", c.at)
		}
	}
	// A crowd takes no memory, and shuts nobody out.
	for i := range 10 * maxSenders {
		if got := took(peer.ID(fmt.Sprint(i)), 1, 2*time.Hour); got != 1 || len(a.spent) > maxSenders {
			t.Fatalf("sender %d: %d taken and %d kept, want 1 and at most %d", i, got, len(a.spent), maxSenders)
		}
	}
	// Those whose allowance is whole are forgotten first.
	took("late", 1, 3*time.Hour)
	if len(a.spent) != 1 {
		t.Errorf("%d kept after all have their allowance again, want 1", len(a.spent))
	}
}

// TestStopWaits: after stop the callback's owner may go.
func TestStopWaits(t *testing.T) {
	data, err := encode(Notice{Load: &Load{}})
	if err != nil {
		t.Fatal(err)
	}
	in, out := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	calls := 0
	r := newReceiver(func(peer.ID, Notice) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		close(in)
		<-out
	})
	handled := make(chan struct{})
	go func() {
		r.handle(&fakeStream{in: bytes.NewReader(data)})
		close(handled)
	}()
	<-in
	stopped := make(chan struct{})
	go func() {
		r.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("stop did not wait for the callback")
	default:
	}
	close(out)
	<-stopped
	<-handled
	r.handle(&fakeStream{in: bytes.NewReader(data)})
	r.stop()
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}
