package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// TestPauses: a circuit that has carried much, and then nothing for longer than
// a large buffer is kept, goes on as if nothing had been, and holds none
// meanwhile. Over real sockets, since TCP's multiplexer has errors and ways of
// its own.
func TestPauses(t *testing.T) {
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			start := func(addrs ...string) host.Host {
				h, err := libp2p.New(libp2p.ListenAddrStrings(addrs...), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { h.Close() })
				return h
			}
			h := start(listen)
			r, err := New(Config{Host: h, Mode: On, AllowPrivate: true})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			src, dst := start(), start()
			relay := peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
			within(t, "a reservation", func() bool {
				_, err := client.Reserve(timeout(t), dst, relay)
				return err == nil
			})
			dst.SetStreamHandler(echo, func(s network.Stream) {
				io.Copy(s, s)
				s.Close()
			})
			circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", h.Addrs()[0], h.ID()))
			if err := src.Connect(timeout(t), peer.AddrInfo{ID: dst.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
				t.Fatal(err)
			}
			s, err := src.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), dst.ID(), echo)
			if err != nil {
				t.Fatal(err)
			}
			for round := range 3 {
				data := make([]byte, 300<<10)
				rand.Read(data)
				go s.Write(data)
				got := make([]byte, len(data))
				s.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("round %d: %v, equal %v", round, err, bytes.Equal(got, data))
				}
				// The pause is over when the buffers are back, and a while after.
				within(t, "the large buffers to be given back", func() bool { return r.larges.lent.Load() == 0 })
				<-time.After(largeIdle + largeIdle/2)
			}
		})
	}
}

// within waits for something on real time.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	over := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
