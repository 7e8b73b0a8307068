package fastconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

// slow is a security layer whose writes take until the test lets them go.
type slow struct {
	net.Conn
	gate chan struct{} // one write for each value; closed: all

	mu       sync.Mutex // guards the fields below
	got      bytes.Buffer
	writes   int
	err      error
	deadline time.Time
	closed   chan struct{}
}

// combineBusy returns a Conn that was written to a moment ago.
func combineBusy(s *slow) *Conn {
	c := combine(s)
	c.last = time.Now()
	return c
}

func newSlow() *slow { return &slow{gate: make(chan struct{}), closed: make(chan struct{})} }

func (s *slow) Write(p []byte) (int, error) {
	var late <-chan time.Time
	s.mu.Lock()
	if !s.deadline.IsZero() {
		late = time.After(time.Until(s.deadline))
	}
	s.mu.Unlock()
	select {
	case <-s.gate:
	case <-s.closed:
		return 0, net.ErrClosed
	case <-late:
		return 0, os.ErrDeadlineExceeded
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes++
	return s.got.Write(p)
}

func (s *slow) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return nil
}

func (s *slow) SetReadDeadline(time.Time) error { return nil }

func (s *slow) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func (s *slow) state() (writes, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes, s.got.Len()
}

func TestCombine(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		s := newSlow()
		c := combineBusy(s)
		for range 10 {
			if n, err := c.Write(make([]byte, 100)); n != 100 || err != nil {
				t.Fatalf("write: %d, %v", n, err)
			}
			synctest.Wait() // the first is under way now
		}
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		synctest.Wait()
		if writes, n := s.state(); writes != 2 || n != 1000 {
			t.Errorf("10 writes became %d of %d bytes, want 2 of 1000", writes, n)
		}
		c.mu.Lock()
		if c.busy || c.queue != nil {
			t.Error("an idle Conn holds a queue")
		}
		c.mu.Unlock()
		close(s.gate)
		c.Close()
	})
}

// TestCombineBound holds that a writer waits when the queue is full.
func TestCombineBound(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		s := newSlow()
		c := combineBusy(s)
		c.Write(make([]byte, 64<<10))
		synctest.Wait()
		accepted := 0
		go func() {
			for range 9 {
				c.Write(make([]byte, 64<<10))
				accepted++
			}
		}()
		synctest.Wait()
		if want := queueSize / (64 << 10); accepted != want {
			t.Errorf("%d frames accepted while one was under way, want %d", accepted, want)
		}
		close(s.gate)
		synctest.Wait()
		if _, n := s.state(); n != 10*64<<10 {
			t.Errorf("%d bytes sent", n)
		}
		if _, err := c.Write(make([]byte, queueSize+1)); !errors.Is(err, errTooLarge) {
			t.Errorf("a frame that never fits: %v", err)
		}
		c.Close()
	})
}

// TestCombineOrder: what several goroutines write arrives whole and in order.
func TestCombineOrder(t *testing.T) {
	s := newSlow()
	close(s.gate)
	c := combine(s)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				p := bytes.Repeat([]byte{byte(g)}, 1+i*37%3000)
				p[0] = 0xff
				if _, err := c.Write(append(p, byte(i), byte(i>>8), byte(g))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c.Close()
	all := s.got.Bytes()
	var next [4]int
	for len(all) > 0 {
		end := 1
		for all[end] == all[1] && end < len(all)-1 && all[end] < 4 {
			end++
		}
		// The body is constant, and its length known from the number.
		g := -1
		for try := range 4 {
			i := next[try]
			n := 1 + i*37%3000
			if len(all) >= n+3 && all[n] == byte(i) && all[n+1] == byte(i>>8) && int(all[n+2]) == try &&
				bytes.Count(all[1:n], []byte{byte(try)}) == n-1 {
				g, end = try, n+3
				break
			}
		}
		if g < 0 {
			t.Fatal("writes are torn or out of order")
		}
		next[g]++
		all = all[end:]
	}
	if next != [4]int{500, 500, 500, 500} {
		t.Errorf("arrived: %v", next)
	}
}

// TestCombineError: a send that fails later ends the connection.
func TestCombineError(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		s := newSlow()
		s.err = io.ErrClosedPipe
		c := combineBusy(s)
		if _, err := c.Write([]byte("accepted")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		waiting := make(chan error, 1)
		c.Write(make([]byte, queueSize-5))
		go func() {
			_, err := c.Write([]byte("no room"))
			waiting <- err
		}()
		synctest.Wait()
		close(s.gate)
		if err := <-waiting; !errors.Is(err, s.err) {
			t.Errorf("a writer that waits: %v, want the error of the send", err)
		}
		if _, err := c.Write([]byte("next")); !errors.Is(err, s.err) {
			t.Errorf("the next write: %v, want the error of the send", err)
		}
		select {
		case <-s.closed:
		default:
			t.Error("the reader is not told")
		}
		c.Close()
	})
}

func TestCombineClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		let  int // writes that the network takes
		want int // bytes of 50 that arrive
		took time.Duration
	}{
		{"a network that takes it", 2, 50, 0},
		{"a network that is stuck", 1, 20, closeWait},
	} {
		t.Run(tt.name, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				s := newSlow()
				c := combineBusy(s)
				// As yamux does with its last word.
				c.Write(make([]byte, 20))
				synctest.Wait()
				c.SetWriteDeadline(time.Now().Add(time.Minute))
				c.Write(make([]byte, 30))
				c.SetWriteDeadline(time.Time{})
				go func() {
					for range tt.let {
						s.gate <- struct{}{}
					}
				}()
				began := time.Now()
				c.Close()
				if took := time.Since(began); took != tt.took {
					t.Errorf("close took %v, want %v", took, tt.took)
				}
				if _, n := s.state(); n != tt.want {
					t.Errorf("%d bytes arrived, want %d", n, tt.want)
				}
				if _, err := c.Write([]byte("late")); err == nil {
					t.Error("write after close")
				}
				c.Close()
			})
		})
	}
}

func TestCombineDeadline(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		s := newSlow()
		c := combineBusy(s)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write([]byte("under way"))
		synctest.Wait()
		time.Sleep(8 * time.Second)
		c.Write([]byte("accepted in time"))
		s.gate <- struct{}{} // with 2 s left for the next: it is given 10
		time.Sleep(9 * time.Second)
		select {
		case <-s.closed:
			t.Fatal("failed after 9 of its 10 seconds")
		default:
		}
		if _, err := c.Write([]byte("late")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write after the deadline: %v", err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		time.Sleep(2 * time.Second)
		if _, err := c.Write([]byte("next")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write after a send ran out of time: %v", err)
		}
		c.Close()
	})
}

// TestCombinePause: a small write after a pause is sent when Write returns, and
// what another goroutine writes meanwhile after it.
func TestCombinePause(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		s := newSlow()
		c := combine(s)
		wrote := make(chan error)
		go func() {
			_, err := c.Write([]byte("first"))
			wrote <- err
		}()
		synctest.Wait()
		select {
		case <-wrote:
			t.Error("write returned before it was sent")
		default:
		}
		if _, err := c.Write([]byte("second")); err != nil {
			t.Fatal(err)
		}
		close(s.gate)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if writes, n := s.state(); writes != 2 || n != 11 {
			t.Errorf("%d writes of %d bytes, want 2 of 11", writes, n)
		}
		s.mu.Lock()
		s.err = io.ErrClosedPipe
		s.mu.Unlock()
		time.Sleep(time.Second)
		if _, err := c.Write([]byte("third")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a write that fails: %v", err)
		}
		c.Close()
	})
}
