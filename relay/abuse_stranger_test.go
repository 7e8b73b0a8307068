package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/x/rate"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/causeway-p2p/causeway/testnet"
)

// siege is a relay under attack, and an honest pair that uses it meanwhile.
type siege struct {
	*running
	net  *testnet.Net
	rm   rcmgr.ResourceManagerState
	play network.Stream // of the honest pair, which echoes
	own  network.ScopeStat
}

// besiege starts both, attacks, and tells whether anybody but the attackers
// felt it, and whether anything is left of them after a while.
func besiege(t *testing.T, l Limits, attack func(t *testing.T, s *siege)) {
	t.Helper()
	simulate(t, func(t *testing.T, n *testnet.Net) {
		// It counts and does not limit: what bounds the attack is to be the
		// relay.
		rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits), rcmgr.WithConnRateLimiters(&rate.Limiter{}),
			rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: 1 << 20}}, nil))
		if err != nil {
			t.Fatal(err)
		}
		m := n.Host("relay")
		m.SetBandwidth(0, 0) // nor is it the line
		// Not start: that has no resource manager.
		h, err := libp2p.New(m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.DisableMetrics(),
			libp2p.ResourceManager(rm), libp2p.ForceReachabilityPublic())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		s := &siege{running: run(t, h, Config{Mode: On, Limits: l}), net: n, rm: rm.(rcmgr.ResourceManagerState)}
		reserved, caller := s.peers(t, n, "honest")
		if err := s.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if s.play, err = caller.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), reserved.ID(), echo); err != nil {
			t.Fatal(err)
		}
		quiet := s.p99(t, 100, nil)
		s.own = s.scope()
		goroutines := runtime.NumGoroutine()

		besieged := s.meanwhile(t, attack)
		t.Logf("p99 of the honest pair: %v before, %v under attack", quiet, besieged)
		if besieged > 2*quiet {
			t.Error("that is more than twice as long")
		}
		s.settles(t, goroutines)
	})
}

// meanwhile attacks, and returns the p99 of the honest pair.
func (s *siege) meanwhile(t *testing.T, attack func(t *testing.T, s *siege)) (p99 time.Duration) {
	over := make(chan struct{})
	var pair sync.WaitGroup
	pair.Go(func() { p99 = s.p99(t, 1, over) })
	defer pair.Wait()
	defer close(over)
	attack(t, s)
	return // what the pair will have set
}

// p99 is that of at least n round trips of the honest pair, and of as many as
// fit until over: one every 20 ms for 10 seconds, and then every half second.
func (s *siege) p99(t *testing.T, n int, over <-chan struct{}) time.Duration {
	t.Helper()
	var took []time.Duration
	b := make([]byte, 100)
	pause := 20 * time.Millisecond
	for running := over != nil; len(took) < n || running; time.Sleep(pause) {
		select {
		case <-over:
			running, over = false, nil
		default:
		}
		began := time.Now()
		s.play.SetDeadline(began.Add(patience))
		if _, err := s.play.Write(b); err != nil {
			t.Errorf("honest pair: %v", err)
			return 0
		}
		if _, err := io.ReadFull(s.play, b); err != nil {
			t.Errorf("honest pair: %v", err)
			return 0
		}
		if took = append(took, time.Since(began)); len(took) == 500 {
			pause = 500 * time.Millisecond
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func (s *siege) scope() network.ScopeStat { return s.rm.Stat().Services[serviceName] }

// settles waits until only the honest pair is left, and what it had.
func (s *siege) settles(t *testing.T, goroutines int) {
	t.Helper()
	var left string
	for range 10 {
		time.Sleep(time.Minute)
		s.p99(t, 1, nil) // the pair still plays
		synctest.Wait()
		st := s.Status()
		left = ""
		if st.Reservations != 1 || st.Circuits != 1 {
			left += fmt.Sprintf("%d reservations and %d circuits; ", st.Reservations, st.Circuits)
		}
		if n := s.larges.lent.Load(); n != 0 {
			left += fmt.Sprintf("%d large buffers; ", n)
		}
		if got := s.scope(); got != s.own {
			left += fmt.Sprintf("in the resource manager %+v, and %+v before; ", got, s.own)
		}
		// Those of idle connections of quic-go come and go.
		if n := runtime.NumGoroutine(); n > goroutines+20 {
			left += fmt.Sprintf("%d goroutines, and %d before; ", n, goroutines)
		}
		if err := s.Check(); err != nil {
			t.Fatalf("the books: %v", err)
		}
		if left == "" {
			return
		}
	}
	t.Errorf("ten minutes after the attack there are still %s", left)
}

// scaled is how many there are of something; fewer with -short, as when the race
// detector makes each dear.
func scaled(n int) int {
	if testing.Short() {
		return max(n/5, 1)
	}
	return n
}

// stranger is a host that will speak as it likes.
func (s *siege) stranger(t *testing.T, m *testnet.Host) host.Host {
	t.Helper()
	h := start(t, m)
	connect(t, h, s.host)
	return h
}

// strangers are many, each at an address of its own.
func (s *siege) strangers(t *testing.T, n int) []host.Host {
	t.Helper()
	list := make([]host.Host, n)
	for i := range list {
		list[i] = s.stranger(t, s.net.Host(fmt.Sprint("stranger ", i)))
	}
	return list
}

func leave(hosts ...host.Host) {
	for _, h := range hosts {
		h.Close()
	}
}

// hop opens a hop stream.
func (s *siege) hop(t *testing.T, h host.Host) network.Stream {
	t.Helper()
	st, err := h.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), s.host.ID(), proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatalf("hop stream: %v", err)
	}
	return st
}

// says sends bytes on a hop stream and returns the relay's answer, or nil if it
// reset or closed the stream.
func (s *siege) says(t *testing.T, h host.Host, data []byte) (network.Stream, *pbv2.HopMessage) {
	t.Helper()
	st := s.hop(t, h)
	st.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := st.Write(data); err != nil && !errors.Is(err, network.ErrReset) {
		t.Errorf("write: %v", err)
	}
	var answer pbv2.HopMessage
	if err := protodelim.UnmarshalFrom(bytewise{st}, &answer); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
		return st, nil
	}
	return st, &answer
}

// status is what the relay answers to a message.
func (s *siege) status(t *testing.T, h host.Host, data []byte) pbv2.Status {
	t.Helper()
	st, answer := s.says(t, h, data)
	st.Reset()
	return answer.GetStatus()
}

// takes makes h a destination which does with stop streams what f says, and
// gives it a reservation.
func (s *siege) takes(t *testing.T, h host.Host, f func(network.Stream)) peer.ID {
	t.Helper()
	h.SetStreamHandler(proto.ProtoIDv2Stop, f)
	if got := s.status(t, h, delimited(t, askReservation)); got != pbv2.Status_OK {
		t.Fatalf("reserve: %v", got)
	}
	return h.ID()
}

// agreesTo is a stop handler that takes every circuit, and then does f.
func agreesTo(f func(network.Stream)) func(network.Stream) {
	return func(st network.Stream) {
		if protodelim.UnmarshalFrom(bytewise{st}, new(pbv2.StopMessage)) != nil {
			st.Reset()
			return
		}
		protodelim.MarshalTo(st, consent)
		f(st)
	}
}
