package fastconn

import (
	"io"
	"net"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// muxedPair makes both ends of a connection.
func muxedPair(t *testing.T) (a, b network.MuxedConn) {
	t.Helper()
	near, far := net.Pipe()
	ends := make(chan network.MuxedConn, 1)
	go func() {
		m, err := Muxer.NewConn(far, true, nil)
		if err != nil {
			t.Error(err)
		}
		ends <- m
	}()
	a, err := Muxer.NewConn(near, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	b = <-ends
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestMoved: bytes count in both directions, at both ends, and what the muxer says
// by itself does not.
func TestMoved(t *testing.T) {
	a, b := muxedPair(t)
	moved := func(m network.MuxedConn) int64 {
		var c *Conn
		if !m.As(&c) {
			t.Fatal("no Conn beneath the muxer")
		}
		return c.Moved()
	}
	out, err := a.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	in, err := b.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if moved(a) != 1010 || moved(b) != 1010 {
		t.Errorf("moved: got %d and %d, want 1010 at both ends", moved(a), moved(b))
	}
}

// TestTail: what has come whole is read whole, although the connection is closed
// meanwhile and the reader slow; and what has not is not said to be whole.
func TestTail(t *testing.T) {
	for _, c := range []struct {
		name         string
		whole, waits bool // it is closed; who reads waits first until there is something
	}{
		{"whole", true, false},
		{"whole, to a relay", true, true},
		{"cut", false, false},
		{"cut, to a relay", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := muxedPair(t)
			const size = 250 << 10 // nearly a window, in which yamux opens another for half of it
			out, in := streamOn(t, a, b)
			if _, err := out.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if c.whole {
				if err := out.Close(); err != nil {
					t.Fatal(err)
				}
			}
			streamOn(t, a, b) // when it is there, so is all of the other
			a.Close()
			if _, err := b.AcceptStream(); err == nil {
				t.Fatal("another stream, want the end of the connection")
			}
			got, err := io.Copy(io.Discard, reader{in, c.waits})
			if c.whole && (err != nil || got != size) {
				t.Errorf("got %d bytes and %v, want %d and the end", got, err, size)
			}
			if !c.whole && err == nil {
				t.Errorf("got %d bytes and the end, want an error", got)
			}
		})
	}
}

// streamOn opens a stream from a to b, with one byte on it that both ends have
// seen.
func streamOn(t *testing.T, a, b network.MuxedConn) (out, in network.MuxedStream) {
	t.Helper()
	out, err := a.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if in, err = b.AcceptStream(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return out, in
}

// reader reads as a relay does, which has no buffer while it waits.
type reader struct {
	from  io.Reader
	waits bool
}

func (r reader) Read(p []byte) (int, error) {
	if r.waits {
		if _, err := r.from.Read(nil); err != nil {
			return 0, err
		}
	}
	return r.from.Read(p)
}
