package fastconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// tcpPair returns both ends of a connection on loopback.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	b = <-accepted
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestWireRead(t *testing.T) {
	a, b := tcpPair(t)
	w := newWire(b, noiseFraming)
	var sent []byte
	for _, n := range []int{3, 0, 40_000, 65_535, 1} {
		m := message(noiseFraming, n)
		for i := 2; i < len(m); i++ {
			m[i] = byte(i)
		}
		sent = append(sent, m...)
	}
	go func() {
		a.Write(sent)
		a.(*net.TCPConn).CloseWrite()
	}()
	got := make([]byte, 2)
	if _, err := io.ReadFull(w, got); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(w)
	if err != nil {
		t.Fatal(err)
	}
	if got = append(got, rest...); !bytes.Equal(got, sent) {
		t.Errorf("read %d bytes that differ from the %d sent", len(got), len(sent))
	}
	if w.ahead != nil {
		t.Error("a block is held at the end")
	}
	// The other direction still works after the half close.
	w.cork()
	w.Write([]byte("half"))
	w.Write([]byte("closed"))
	if err := w.uncork(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if back, err := io.ReadAll(a); err != nil || string(back) != "halfclosed" {
		t.Errorf("read back %q, %v", back, err)
	}
	if _, err := w.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestWireDeadline(t *testing.T) {
	a, b := tcpPair(t)
	w := newWire(b, tlsFraming)
	w.SetReadDeadline(time.Now().Add(-time.Second))
	_, err := w.Read(make([]byte, 5))
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read past the deadline: %v", err)
	}
	w.SetReadDeadline(time.Time{})
	a.Write(message(tlsFraming, 0))
	if n, err := w.Read(make([]byte, 9)); n != 5 || err != nil {
		t.Fatalf("read after the deadline: %d, %v", n, err)
	}
	if w.ahead != nil {
		t.Error("a block is held by an idle wire")
	}
}

func TestWireReset(t *testing.T) {
	a, b := tcpPair(t)
	w := newWire(b, tlsFraming)
	a.(*net.TCPConn).SetLinger(0)
	a.Close()
	_, err := w.Read(make([]byte, 5))
	if oe := (*net.OpError)(nil); !errors.As(err, &oe) {
		t.Errorf("read from a reset connection: %v, want a net.OpError", err)
	}
}

// TestWireNoWait holds that a message is only begun if it is all there.
func TestWireNoWait(t *testing.T) {
	a, b := tcpPair(t)
	w := newWire(b, noiseFraming)
	m := message(noiseFraming, 100)
	a.Write(append(append(m, m...), m[:50]...))
	buf := make([]byte, 500)
	if n, err := w.Read(buf[:10]); n != 10 || err != nil {
		t.Fatalf("first read: %d, %v", n, err)
	}
	w.setNoWait(true)
	for _, want := range []int{92, 102} { // the rest of one, and one
		if n, err := w.Read(buf); n != want || err != nil {
			t.Fatalf("read %d, %v, want %d", n, err, want)
		}
	}
	if n, err := w.Read(buf); n != 0 || !errors.Is(err, errWouldWait) {
		t.Fatalf("read of a part: %d, %v", n, err)
	}
	w.setNoWait(false)
	if n, err := w.Read(buf); n != 50 || err != nil {
		t.Fatalf("read of a part, with waiting: %d, %v", n, err)
	}
}

// TestWirePlain: a connection without a socket is read as it is.
func TestWirePlain(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	w := newWire(b, tlsFraming)
	defer w.Close()
	if w.raw != nil {
		t.Fatal("a pipe has no socket")
	}
	go a.Write([]byte("no framing"))
	buf := make([]byte, 100)
	if n, err := w.Read(buf); err != nil || string(buf[:n]) != "no framing" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

func TestWireCork(t *testing.T) {
	pieces := &pieces{}
	w := newWire(pieces, tlsFraming)
	w.Write([]byte("plain"))
	w.cork()
	w.Write(make([]byte, 1000))
	w.Write(make([]byte, writeSize-1000)) // full
	w.Write(make([]byte, 1))
	w.Write(make([]byte, writeSize+1)) // larger than anything that is held
	w.Write(make([]byte, 2))
	if err := w.uncork(); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("plain"))
	want := []int{5, writeSize, 1, writeSize + 1, 2, 5}
	if len(pieces.sizes) != len(want) {
		t.Fatalf("writes of %v, want %v", pieces.sizes, want)
	}
	for i := range want {
		if pieces.sizes[i] != want[i] {
			t.Fatalf("writes of %v, want %v", pieces.sizes, want)
		}
	}
	if w.held != nil {
		t.Error("a block is held by an uncorked wire")
	}

	pieces.err = errors.New("gone")
	w.cork()
	w.Write([]byte("lost"))
	if err := w.uncork(); !errors.Is(err, pieces.err) {
		t.Errorf("uncork: %v, want the write's error", err)
	}
}

// pieces is a connection that notes the sizes of writes.
type pieces struct {
	net.Conn
	sizes []int
	err   error
}

func (p *pieces) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	return len(b), p.err
}
