package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestLimited: who does not want a limited connection is told at once that
// there is no other, and a search of the DHT does not wait for one.
func TestLimited(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(2)
		a, b := w.pair(
			w.net.NAT("nat a", testnet.Symmetric()).Host("a"),
			w.net.NAT("nat b", testnet.Symmetric()).Host("b"))
		if path := w.connectRelayed(a, b.ID()); !path.Relayed() {
			t.Fatalf("a to b: %s, want relayed", path)
		}
		begun := time.Now()
		_, err := a.Host().NewStream(t.Context(), b.ID(), ping.ID)
		var limited *LimitedError
		if !errors.As(err, &limited) || !errors.Is(err, network.ErrLimitedConn) || limited.Peer != b.ID() {
			t.Errorf("a stream without leave: got %v, want a LimitedError", err)
		}
		if took := time.Since(begun); took > time.Millisecond {
			t.Errorf("it took %v to say so", took)
		}
		s, err := a.Host().NewStream(network.WithAllowLimitedConn(t.Context(), "test"), b.ID(), ping.ID)
		if err != nil {
			t.Fatalf("a stream with leave: %v", err)
		}
		s.Reset()

		// Nobody is connected to b here.
		c := w.withSockets(w.net.NAT("nat c", testnet.Symmetric()).Host("c"))
		await(t, c, "c to join", func(Joined) bool { return true })
		time.Sleep(time.Second)
		begun = time.Now()
		info, err := c.dht.FindPeer(t.Context(), b.ID())
		if err != nil || len(info.Addrs) == 0 {
			t.Errorf("FindPeer: got %v, %v", info, err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("FindPeer of a peer behind a relay took %v, want at most 2 s", took)
		} else {
			t.Logf("FindPeer took %v", took)
		}
		begun = time.Now()
		if _, err := c.Host().NewStream(t.Context(), b.ID(), ping.ID); !errors.As(err, &limited) {
			t.Errorf("a stream to a peer that is not connected yet: got %v, want a LimitedError", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %v to say so", took)
		}
	})
}

// TestHostMovesAway: an application's own streams are not opened over a relay that
// leaves once there is another way, although the swarm would: many run there.
func TestHostMovesAway(t *testing.T) {
	simulateAt(t, oneWay, func(t *testing.T, w *world) {
		a, c, r := w.between(0)
		const old, chat protocol.ID = "/test/old", "/test/chat"
		a.Host().SetStreamHandler(chat, func(s network.Stream) {
			defer s.Close()
			io.Copy(s, s)
		})
		time.Sleep(time.Second) // identify says so
		ctx := network.WithAllowLimitedConn(t.Context(), "test")
		open := func(protos ...protocol.ID) network.Stream {
			t.Helper()
			s, err := c.Host().NewStream(ctx, a.ID(), protos...)
			if err != nil {
				t.Fatal(err)
			}
			if s.Protocol() != chat {
				t.Fatalf("the protocol is %s, want %s", s.Protocol(), chat)
			}
			want, got := []byte("hello"), make([]byte, 5)
			if _, err := s.Write(want); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: got %q and %v", PathOf(s.Conn()), got, err)
			}
			return s
		}
		for range 5 {
			if path := PathOf(open(chat).Conn()); path.Relay != r.ID() {
				t.Fatalf("%s, want it over the relay that is to leave", path)
			}
		}
		r.Drain(time.Minute)
		time.Sleep(5 * time.Second)
		for _, known := range []bool{true, false} {
			if !known {
				if err := c.Host().Peerstore().RemoveProtocols(a.ID(), chat); err != nil {
					t.Fatal(err)
				}
			}
			s := open(old, chat)
			if path := PathOf(s.Conn()); path.Relay == r.ID() || !path.Relayed() {
				t.Errorf("%s, want it over the other relay", path)
			}
			s.Close()
		}
		begun := time.Now()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if s, err := c.Host().NewStream(short, a.ID(), old); err == nil || time.Since(begun) > time.Second {
			t.Errorf("a protocol that A does not speak: got %v and %v after %v", s, err, time.Since(begun))
		}
	})
}
