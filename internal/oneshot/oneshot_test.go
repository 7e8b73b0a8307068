package oneshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// silent is a stream whose peer says nothing until it is reset.
type silent struct {
	network.Stream
	from  peer.ID
	reset chan struct{}
	once  sync.Once
}

func newSilent(from peer.ID) *silent { return &silent{from: from, reset: make(chan struct{})} }

func (s *silent) Reset() error                { s.once.Do(func() { close(s.reset) }); return nil }
func (s *silent) SetDeadline(time.Time) error { return nil }
func (s *silent) Protocol() protocol.ID       { return "/silent" }
func (s *silent) Conn() network.Conn          { return conn{from: s.from} }
func (s *silent) wasReset() bool {
	select {
	case <-s.reset:
		return true
	default:
		return false
	}
}

type conn struct {
	network.Conn
	from peer.ID
}

func (c conn) RemotePeer() peer.ID { return c.from }

// untilReset is an exchange that ends with its stream.
func untilReset(s network.Stream) error {
	<-s.(*silent).reset
	return network.ErrReset
}

func bounds(burst, streams int) Bounds {
	return Bounds{Timeout: time.Second, Burst: burst, Interval: time.Second, Peers: 100, Streams: streams}
}

// TestCrowd: silent streams do not keep others out.
func TestCrowd(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		v := NewServer(bounds(1, 3), untilReset)
		var all []*silent
		for i := range 10 {
			s := newSilent(peer.ID(fmt.Sprint(i)))
			all = append(all, s)
			go v.Handle(s)
			synctest.Wait()
		}
		for i, s := range all {
			if got, want := s.wasReset(), i < 7; got != want {
				t.Errorf("stream %d of 10, of which 3 may run: reset %v, want %v", i, got, want)
			}
		}
		v.Stop()
		v.Stop()
		synctest.Wait()
		late := newSilent("late")
		v.Handle(late)
		for i, s := range append(all, late) {
			if !s.wasReset() {
				t.Errorf("stream %d is open after Stop", i)
			}
		}
	})
}

// TestStopWaits: after Stop, what the exchanges use may go.
func TestStopWaits(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		v := NewServer(bounds(1, 3), func(network.Stream) error { <-done; return nil })
		go v.Handle(newSilent("p"))
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { v.Stop(); close(stopped) }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("Stop did not wait for the exchange")
		default:
		}
		close(done)
		<-stopped
	})
}

func TestTooMany(t *testing.T) {
	calls := 0
	v := NewServer(bounds(3, 10), func(network.Stream) error { calls++; return nil })
	for i := range 10 {
		s := newSilent("p")
		v.Handle(s)
		if got, want := s.wasReset(), i >= 3; got != want {
			t.Errorf("stream %d: reset %v, want %v", i, got, want)
		}
	}
	if calls != 3 {
		t.Errorf("%d exchanges, want 3", calls)
	}
}

func TestMessages(t *testing.T) {
	for size, ok := range map[int]bool{0: true, 1: true, 60: true, 64: false, 1 << 16: false} {
		var b bytes.Buffer
		if err := Write(&b, wrapperspb.String(strings.Repeat("x", size))); err != nil {
			t.Fatal(err)
		}
		var got wrapperspb.StringValue
		err := Read(&b, 64, &got)
		if (err == nil) != ok || ok && len(got.Value) != size {
			t.Errorf("%d bytes: got %d, %v, want ok %v", size, len(got.Value), err, ok)
		}
	}
	var m wrapperspb.StringValue
	for _, in := range []string{"", "\x05\x0a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		if err := Read(strings.NewReader(in), 64, &m); err == nil || in == "" && !errors.Is(err, io.EOF) {
			t.Errorf("%x: got %v, want an error", in, err)
		}
	}
}
