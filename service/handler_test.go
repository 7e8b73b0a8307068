package service

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/service/pb"
)

// encoded is a request as it stands on the wire.
func encoded(name string) []byte {
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, &pb.Open{Service: name}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// fakeStream is a peer that has said all it will say.
type fakeStream struct {
	network.Stream
	in      *bytes.Reader
	out     bytes.Buffer
	onWrite func() error
	end     string
}

func (s *fakeStream) Read(b []byte) (int, error) { return s.in.Read(b) }
func (s *fakeStream) Write(b []byte) (int, error) {
	if s.onWrite != nil {
		if err := s.onWrite(); err != nil {
			return 0, err
		}
	}
	return s.out.Write(b)
}
func (s *fakeStream) Close() error                { s.end += "closed "; return nil }
func (s *fakeStream) Reset() error                { s.end += "reset "; return nil }
func (s *fakeStream) SetDeadline(time.Time) error { return nil }
func (s *fakeStream) Conn() network.Conn          { return fakeConn{} }

type fakeConn struct{ network.Conn }

func (fakeConn) RemotePeer() peer.ID { return "peer" }

// registry is one without a host, as the handler needs none.
func registry() *Registry { return &Registry{listeners: make(map[string]*Listener)} }

// FuzzHandle holds that whatever comes in, there is one well-formed answer, a
// stream is accepted only for a name that is listened on, and what follows the
// request is left for the application.
func FuzzHandle(f *testing.F) {
	f.Add(encoded("s"))
	f.Add(append(encoded("s"), "hello"...))
	f.Add(encoded("missing"))
	f.Add(encoded(""))
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(append([]byte{0x81, 0x02}, make([]byte, 257)...))
	f.Add([]byte("\x05\x0a\x01s\x10\x01rest")) // a field that we do not know
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := registry()
		l, err := r.Listen("s")
		if err != nil {
			t.Fatal(err)
		}
		s := &fakeStream{in: bytes.NewReader(data)}
		r.handle(s)

		var ans pb.Answer
		out := bytes.NewReader(s.out.Bytes())
		if err := protodelim.UnmarshalFrom(out, &ans); err != nil || out.Len() > 0 {
			t.Fatalf("%x: answered %x, %v; want one message", data, s.out.Bytes(), err)
		}
		in := bytes.NewReader(data)
		var req pb.Open
		want := pb.Answer_BAD_REQUEST
		if (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(in, &req) == nil {
			want = pb.Answer_NO_SUCH_SERVICE
			if req.GetService() == "s" {
				want = pb.Answer_ACCEPTED
			}
		}
		if ans.GetStatus() != want {
			t.Errorf("%x: got %v, want %v", data, ans.GetStatus(), want)
		}
		if want != pb.Answer_ACCEPTED {
			if s.end != "closed " || len(l.conns) > 0 {
				t.Errorf("%x: refused, then %q with %d queued; want it closed", data, s.end, len(l.conns))
			}
			return
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(in)
		if got, _ := io.ReadAll(c); !bytes.Equal(got, rest) || s.end != "" {
			t.Errorf("%x: %q is left to read and the stream is %q, want %q", data, got, s.end, rest)
		}
	})
}

// FuzzAnswer is the opening side's decoder.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x02\x08\x01hello"))
	f.Add([]byte("\x02\x08\x02"))
	f.Add([]byte{})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &fakeStream{in: bytes.NewReader(data)}
		status, err := handshake(s, "s")
		if !bytes.Equal(s.out.Bytes(), encoded("s")) {
			t.Errorf("sent %x, want the request %x and no more", s.out.Bytes(), encoded("s"))
		}
		in := bytes.NewReader(data)
		var ans pb.Answer
		wantErr := (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(in, &ans)
		if (err == nil) != (wantErr == nil) || status != ans.GetStatus() && err == nil || err == nil && s.in.Len() != in.Len() {
			t.Errorf("%x: got %v, %v with %d bytes left; want %v, %v with %d left", data, status, err, s.in.Len(), ans.GetStatus(), wantErr, in.Len())
		}
		if reasonOf(status) == "" {
			t.Errorf("%x: no reason for %v", data, status)
		}
	})
}

// TestSlowReaderHoldsUpNobody: a peer that does not take its answer must not
// stand before those who do.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	r := registry()
	l, err := r.Listen("s")
	if err != nil {
		t.Fatal(err)
	}
	writing, taken := make(chan struct{}), make(chan struct{})
	slow := &fakeStream{in: bytes.NewReader(encoded("s")), onWrite: func() error {
		close(writing)
		<-taken
		return nil
	}}
	done := make(chan struct{})
	go func() {
		r.handle(slow)
		close(done)
	}()
	<-writing
	quick := &fakeStream{in: bytes.NewReader(encoded("s"))}
	r.handle(quick)
	if c, err := l.Accept(); err != nil || c.(*Conn).Stream != network.Stream(quick) {
		t.Errorf("accepted %v, %v, want the one that took its answer", c, err)
	}
	close(taken)
	<-done
	if c, err := l.Accept(); err != nil || c.(*Conn).Stream != network.Stream(slow) {
		t.Errorf("accepted %v, %v, want the slow one", c, err)
	}
}

// TestAnswerThatCannotBeSent leaves no trace.
func TestAnswerThatCannotBeSent(t *testing.T) {
	r := registry()
	l, err := r.Listen("s")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * backlog {
		s := &fakeStream{in: bytes.NewReader(encoded("s")), onWrite: func() error { return io.ErrClosedPipe }}
		r.handle(s)
		if s.end == "" || len(l.conns) > 0 || len(l.room) > 0 {
			t.Fatalf("the stream is %q, %d queued, %d places taken; want it gone", s.end, len(l.conns), len(l.room))
		}
	}
}

// TestCloseWhileStreamsCome: an accepted stream is either handed out or reset,
// however Close falls between.
func TestCloseWhileStreamsCome(t *testing.T) {
	for when := range 3 {
		r := registry()
		l, err := r.Listen("s")
		if err != nil {
			t.Fatal(err)
		}
		streams := make([]*fakeStream, 4)
		for i := range streams {
			streams[i] = &fakeStream{in: bytes.NewReader(encoded("s"))}
			if i == when {
				streams[i].onWrite = func() error { return l.Close() }
			}
			r.handle(streams[i])
		}
		for i, s := range streams {
			want := "reset " // accepted before Close, or while it went on
			if i > when {
				want = "closed "
			}
			if s.end != want {
				t.Errorf("Close during stream %d: stream %d is %q, want %q", when, i, s.end, want)
			}
		}
		if len(l.conns) > 0 || len(l.room) > 0 {
			t.Errorf("Close during stream %d: %d queued, %d places taken", when, len(l.conns), len(l.room))
		}
	}
}

func TestReasons(t *testing.T) {
	var all []Reason
	for status := range pb.Answer_Status_name {
		if r := reasonOf(pb.Answer_Status(status)); !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	slices.Sort(all)
	want := []Reason{NoSuchService, Busy, BadRequest}
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("got reasons %q, want %q", all, want)
	}
}
