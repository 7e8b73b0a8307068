package fastconn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

const (
	echoProtocol  protocol.ID = "/test/echo"
	resetProtocol protocol.ID = "/test/reset"
	holdProtocol  protocol.ID = "/test/hold"
)

// kind is a way to connect two hosts.
type kind struct {
	name      string
	listen    string
	transport libp2p.Option
	// stock and fast choose the security.
	stock, fast libp2p.Option
}

func kinds() []kind {
	none := libp2p.ChainOptions()
	muxer := libp2p.Muxer(yamux.ID, Muxer)
	stockTLS, fastTLS := libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.ChainOptions(libp2p.Security(libp2ptls.ID, TLS), muxer)
	stockNoise, fastNoise := libp2p.Security(noise.ID, noise.New), libp2p.ChainOptions(libp2p.Security(noise.ID, Noise), muxer)
	overTCP := libp2p.ChainOptions(libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(websocket.New), libp2p.ShareTCPListener())
	return []kind{
		{"TCP TLS", "/ip4/127.0.0.1/tcp/0", libp2p.Transport(tcp.NewTCPTransport), stockTLS, fastTLS},
		{"TCP Noise", "/ip4/127.0.0.1/tcp/0", libp2p.Transport(tcp.NewTCPTransport), stockNoise, fastNoise},
		{"shared TCP", "/ip4/127.0.0.1/tcp/0", overTCP, stockNoise, fastNoise},
		{"WebSocket TLS", "/ip4/127.0.0.1/tcp/0/ws", libp2p.Transport(websocket.New), stockTLS, fastTLS},
		{"WebSocket Noise", "/ip4/127.0.0.1/tcp/0/ws", libp2p.Transport(websocket.New), stockNoise, fastNoise},
		{"QUIC", "/ip4/127.0.0.1/udp/0/quic-v1", libp2p.Transport(libp2pquic.NewTransport), none, libp2p.QUICReuse(newQUIC)},
		{"QUIC any address", "/ip4/0.0.0.0/udp/0/quic-v1", libp2p.Transport(libp2pquic.NewTransport), none, libp2p.QUICReuse(newQUIC)},
		{"QUIC IPv6", "/ip6/::1/udp/0/quic-v1", libp2p.Transport(libp2pquic.NewTransport), none, libp2p.QUICReuse(newQUIC)},
	}
}

func newHost(t testing.TB, k kind, fast bool) host.Host {
	t.Helper()
	security := k.stock
	if fast {
		security = k.fast
	}
	h, err := libp2p.New(
		libp2p.ListenAddrStrings(k.listen), k.transport, security,
		libp2p.DisableRelay(), libp2p.DisableMetrics(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	h.SetStreamHandler(echoProtocol, func(s network.Stream) {
		if _, err := io.Copy(s, s); err != nil {
			s.Reset()
			return
		}
		s.Close()
	})
	h.SetStreamHandler(resetProtocol, func(s network.Stream) {
		io.CopyN(io.Discard, s, 100_000)
		s.ResetWithError(7)
	})
	return h
}

func connect(t testing.TB, from, to host.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, from, to host.Host, p protocol.ID) network.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := from.NewStream(ctx, to.ID(), p)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(60 * time.Second))
	return s
}

// echo sends size bytes in pieces of all sizes and compares what comes back
// after the half close.
func echo(s network.Stream, size int, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	sent, received := sha256.New(), sha256.New()
	wrote := make(chan error, 1)
	go func() {
		buf := make([]byte, 100<<10)
		for left := size; left > 0; {
			n := min(left, 1+r.IntN(len(buf)))
			if r.IntN(2) == 0 {
				n = min(n, 1+r.IntN(2000))
			}
			for i := range n {
				buf[i] = byte(r.Uint32())
			}
			sent.Write(buf[:n])
			if _, err := s.Write(buf[:n]); err != nil {
				wrote <- err
				return
			}
			left -= n
		}
		wrote <- s.CloseWrite()
	}()
	n, err := io.Copy(received, s)
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	if n != int64(size) || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

// TestInterop holds that nothing changes on the wire: stock and fast hosts talk
// to each other, whoever dials.
func TestInterop(t *testing.T) {
	for _, k := range kinds() {
		for _, side := range []struct {
			name       string
			dial, hear bool
		}{{"fast dials stock", true, false}, {"stock dials fast", false, true}, {"fast dials fast", true, true}} {
			t.Run(k.name+"/"+side.name, func(t *testing.T) {
				a, b := newHost(t, k, side.dial), newHost(t, k, side.hear)
				connect(t, a, b)

				// One direction after the other: echoes both ways at once can
				// fill QUIC's connection windows with what neither side reads
				// before it may write.
				for _, ends := range [][2]host.Host{{a, b}, {b, a}} {
					var wg sync.WaitGroup
					for i := range 4 {
						s := open(t, ends[0], ends[1], echoProtocol)
						wg.Go(func() {
							if err := echo(s, 3<<20, uint64(i)); err != nil {
								t.Errorf("stream %d: %v", i, err)
							}
						})
					}
					wg.Wait()
				}

				s := open(t, a, b, resetProtocol)
				var reset *network.StreamError
				var err error
				for err == nil {
					_, err = s.Write(make([]byte, 50_000))
				}
				if !errors.As(err, &reset) || reset.ErrorCode != 7 || !reset.Remote {
					t.Errorf("write to a reset stream: %v, want the remote's code 7", err)
				}
			})
		}
	}
}
