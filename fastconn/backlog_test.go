package fastconn

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestBacklog(t *testing.T) {
	b := &backlog{}
	const piece = 64 << 10
	for range budget / piece {
		if b.enter(piece, 0) != nil {
			t.Fatal("no room in an empty backlog")
		}
		b.enqueued(piece)
	}
	first, second := b.enter(piece, b.position()), b.enter(piece, b.position())
	if first == nil || second == nil {
		t.Fatal("room in a full backlog")
	}
	if b.enter(100, 0) != nil {
		t.Error("a stream that has nothing queued has to wait")
	}
	if b.enter(100, b.position()) == nil {
		t.Error("a stream that has something queued need not wait")
	}
	b.turns = b.turns[:2]

	b.sent(piece)
	if !came(first) || came(second) {
		t.Errorf("after one piece was sent: first %v, second %v, want the first alone", came(first), came(second))
	}
	third := b.enter(piece, b.position())
	b.leave(second)
	b.sent(piece)
	if came(second) || !came(third) {
		t.Error("a turn that was given up is not passed on")
	}
	fourth := &turn{1, make(chan struct{})}
	b.turns = append(b.turns, fourth)
	b.close()
	if !came(fourth) || b.enter(1<<30, 0) != nil {
		t.Error("somebody waits for a closed connection")
	}
}

func came(t *turn) bool {
	select {
	case <-t.come:
		return true
	default:
		return false
	}
}

// TestBacklogExact: nothing is left over when everything has been sent, also
// if it was sent before its writer had counted it.
func TestBacklogExact(t *testing.T) {
	b := &backlog{}
	b.sent(300)
	b.enqueued(300)
	b.enqueued(700)
	b.sent(700)
	if b.in != b.out {
		t.Errorf("in %d, out %d", b.in, b.out)
	}
}

func TestPacer(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		b := &backlog{}
		to := writerFunc(func(p []byte) (int, error) { // as a stream does
			b.enqueued(len(p))
			return len(p), nil
		})
		done := make(chan struct{})
		p := &pacer{to: to, backlog: b, done: done}
		wrote := 0
		failed := make(chan error, 1)
		go func() {
			for {
				if _, err := p.Write(make([]byte, 60<<10)); err != nil {
					failed <- err
					return
				}
				wrote++
			}
		}()
		synctest.Wait()
		const fit = budget/(60<<10) + 1 // the last begins while there is room
		if wrote != fit {
			t.Errorf("%d pieces of 60 KiB in a budget of %d, want %d", wrote, budget, fit)
		}
		quick := &pacer{to: to, backlog: b}
		quick.Write([]byte("now")) // does not wait
		b.sent(60 << 10)
		synctest.Wait()
		if wrote != fit+1 {
			t.Errorf("%d pieces after one was sent, want %d", wrote, fit+1)
		}
		close(done)
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a wait that is called off: %v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
