package fastconn

import (
	"io"
	"net"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// TestMoved: bytes count in both directions, at both ends, and what the muxer says
// by itself does not.
func TestMoved(t *testing.T) {
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
	b := <-ends
	defer a.Close()
	defer b.Close()
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
