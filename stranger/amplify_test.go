package stranger

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"

	"github.com/causeway-p2p/causeway/testnet"
)

// traffic is that of a socket: packets out, and bytes with the headers of IPv4
// and UDP.
type traffic struct{ packets, out, in atomic.Int64 }

// counted is a socket that counts.
type counted struct {
	net.PacketConn
	*traffic
}

const headers = 20 + 8

func (c counted) WriteTo(b []byte, to net.Addr) (int, error) {
	c.packets.Add(1)
	c.out.Add(int64(len(b)) + headers)
	return c.PacketConn.WriteTo(b, to)
}

func (c counted) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if err == nil {
		c.in.Add(int64(n) + headers)
	}
	return n, from, err
}

// source has QUIC send from the machine's own address.
type source struct{ *testnet.Host }

func (s source) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return s.IP().AsSlice(), nil
}

// TestAmplification: the third node sends less to the address than was paid for
// it, whatever is there; only to the very peer that the dial is for it answers
// on top of that, no more than it gets.
func TestAmplification(t *testing.T) {
	for _, c := range []struct {
		name   string
		target func(t *testing.T, m *testnet.Host) (whom peer.ID)
		// authentic: the address is that of the peer, which goes on talking.
		authentic bool
	}{
		{"nobody there", func(t *testing.T, _ *testnet.Host) peer.ID { return newID(t) }, false},
		{"a socket that says nothing", func(t *testing.T, m *testnet.Host) peer.ID {
			listen(t, m, func(net.PacketConn, []byte, net.Addr) {})
			return newID(t)
		}, false},
		{"a socket that echoes", func(t *testing.T, m *testnet.Host) peer.ID {
			listen(t, m, func(s net.PacketConn, b []byte, from net.Addr) { s.WriteTo(b, from) })
			return newID(t)
		}, false},
		{"a socket that sends much", func(t *testing.T, m *testnet.Host) peer.ID {
			listen(t, m, func(s net.PacketConn, b []byte, from net.Addr) {
				for range 10 {
					b[len(b)-1]++
					s.WriteTo(b, from)
				}
			})
			return newID(t)
		}, false},
		{"another peer", func(t *testing.T, m *testnet.Host) peer.ID {
			join(t, m, false, Limits{})
			return newID(t)
		}, false},
		{"a client", func(t *testing.T, m *testnet.Host) peer.ID {
			return join(t, m, false, Limits{}).ID()
		}, false},
		{"a client that asks for much", func(t *testing.T, m *testnet.Host) peer.ID {
			p := join(t, m, false, Limits{})
			var asking sync.WaitGroup
			p.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
				if c.RemoteMultiaddr().String() == "/ip4/21.0.0.1/udp/4001/quic-v1" {
					return // the third node itself
				}
				for range 100 {
					asking.Go(func() {
						for range 10 {
							s, err := c.NewStream(t.Context())
							if err != nil {
								return
							}
							s.SetDeadline(time.Now().Add(time.Second))
							multistream.SelectProtoOrFail("/ipfs/id/1.0.0", s)
							io.Copy(io.Discard, s)
							s.Reset()
						}
					})
				}
			}})
			p.SetStreamHandler(autonatv2.DialBackProtocol, func(network.Stream) {}) // as long as it gets
			t.Cleanup(asking.Wait)
			return p.ID()
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				server, third, at := join(t, n.Host("server"), true, Limits{}), join(t, n.Host("third"), true, Limits{}), n.Host("target")
				var count traffic
				third.cfg.NewDialer = func() (host.Host, error) { return countedDialer(third.machine, &count) }
				whom := c.target(t, at)
				meet(t, server, third)
				began := time.Now()
				err := say(t.Context(), server, third.ID(), dialFor(whom, at.ListenAddr(4001)), dialData)
				took := time.Since(began)
				time.Sleep(time.Minute) // whatever comes later
				packets, out, in := count.packets.Load(), count.out.Load(), count.in.Load()
				t.Logf("%d packets, %d bytes, ratio %.2f to what was paid; %d bytes came back; %v after %v", packets, out, float64(out)/dialData, in, err, took)
				most := int64(dialData)
				if c.authentic {
					most += in // from where it says it is: no victim of its own
				}
				if out == 0 || out > most || took > dialDelay+dialTimeout+time.Second {
					t.Errorf("%d bytes sent in %v, want at most %d in 4s", out, took, most)
				}
			})
		})
	}
}

// listen answers packets.
func listen(t *testing.T, m *testnet.Host, answer func(s net.PacketConn, b []byte, from net.Addr)) {
	t.Helper()
	s, err := m.ListenPacket(4001)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 2048)
		for {
			k, from, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			answer(s, b[:k], from)
		}
	}()
	t.Cleanup(func() { s.Close(); <-ended })
}

// countedDialer is a dialer whose sockets count. Its QUIC brings a connection
// manager of its own and closes it, as that of package testnet does: go-libp2p
// v0.51 does not close those of libp2p.QUICReuse (config/config.go).
func countedDialer(m *testnet.Host, count *traffic) (host.Host, error) {
	return libp2p.New(
		libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.Ping(false), libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.Transport(func(key crypto.PrivKey, gater connmgr.ConnectionGater, rcmgr network.ResourceManager, reset quic.StatelessResetKey, token quic.TokenGeneratorKey) (transport.Transport, error) {
			cm, err := quicreuse.NewConnManager(reset, token,
				quicreuse.OverrideListenUDP(func(string, *net.UDPAddr) (net.PacketConn, error) {
					s, err := m.ListenPacket(0)
					return counted{s, count}, err
				}),
				quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return source{m}, nil }),
			)
			if err != nil {
				return nil, err
			}
			t, err := libp2pquic.NewTransport(key, cm, nil, gater, rcmgr)
			return closing{t, cm}, err
		}),
	)
}

type closing struct {
	transport.Transport
	cm *quicreuse.ConnManager
}

func (c closing) Close() error { return c.cm.Close() }
