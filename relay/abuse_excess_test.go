package relay

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

// TestExcess: of what is sent beyond the limit nothing arrives, and all before
// it does, whichever end sends it and in whatever pieces.
func TestExcess(t *testing.T) {
	const most = 10_000
	for _, size := range []int{most - 1, most, most + 1, 5 * most} {
		for _, piece := range []int{1, 1000, 4096, 5 * most} {
			for _, down := range []bool{false, true} {
				excess(t, most, size, piece, down)
			}
		}
	}
}

func excess(t *testing.T, most, size, piece int, down bool) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		sent := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		var got []byte
		send := func(s *side) {
			for b := sent; len(b) > 0; {
				n := min(piece, len(b))
				if _, err := s.Write(b[:n]); err != nil {
					return
				}
				b = b[n:]
			}
			s.CloseWrite()
		}
		receive := func(s *side) {
			got, _ = io.ReadAll(s)
			s.Close()
		}
		at := map[bool]func(*side){true: send, false: receive}
		w := newWire(t, 4<<10, func(_ peer.ID, s *side) {
			if err := protodelim.UnmarshalFrom(bytewise{s}, new(pbv2.StopMessage)); err != nil {
				t.Error(err)
			}
			protodelim.MarshalTo(s, consent)
			at[down](s)
		})
		c := &crowd{wire: w, running: run(t, w, Config{Mode: On, Limits: Limits{CircuitBytes: int64(most)}})}
		c.reserve(t, named("dst"))
		at[!down](c.open(t, named("src"), named("dst")))
		w.runs.Wait()
		if want := sent[:min(size, most)]; !bytes.Equal(got, want) {
			t.Errorf("of %d bytes in pieces of %d, down %v, %d came, want %d", size, piece, down, len(got), len(want))
		}
		// Whoever sent them may hold on to the circuit no longer than it takes
		// to read the last words.
		time.Sleep(lastWords + time.Second)
		if n := c.Status().Circuits; size > most && n != 0 {
			t.Errorf("%d circuits %v after the limit", n, lastWords)
		}
	})
}
