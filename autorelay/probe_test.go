package autorelay

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"

	"github.com/causeway-p2p/causeway/testnet"
)

// pings counts the probes that a relay answers.
func (s *stock) pings() *atomic.Int64 {
	var n atomic.Int64
	s.SetStreamHandler(ping.ID, func(st network.Stream) {
		defer st.Reset()
		buf := make([]byte, ping.PingSize)
		for {
			if _, err := io.ReadFull(st, buf); err != nil {
				return
			}
			n.Add(1)
			if _, err := st.Write(buf); err != nil {
				return
			}
		}
	})
	return &n
}

func TestProbeInterval(t *testing.T) {
	for name, c := range map[string]struct {
		cfg         Config
		least, most int64 // in 10 minutes
	}{
		"default":                     {Config{}, 550, 601},
		"every 5 s":                   {Config{ProbeInterval: 5 * time.Second}, 115, 121},
		"idle":                        {Config{IdleProbeInterval: 30 * time.Second}, 19, 21},
		"idle shorter than the other": {Config{ProbeInterval: 5 * time.Second, IdleProbeInterval: time.Second}, 115, 121},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				r := w.relay()
				pings := r.pings()
				n := w.node(c.cfg)
				n.add(r)
				n.settled(r)
				time.Sleep(time.Minute)
				before := pings.Load()
				time.Sleep(10 * time.Minute)
				if got := pings.Load() - before; got < c.least || got > c.most {
					t.Errorf("probes in 10 minutes: got %d, want %d to %d", got, c.least, c.most)
				}
			})
		})
	}
}

// TestProbesWhileACircuitRuns: then a vanished relay matters at once.
func TestProbesWhileACircuitRuns(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		pings := r.pings()
		cfg := only()
		cfg.IdleProbeInterval = 20 * time.Second
		n := w.node(cfg)
		n.add(r)
		n.settled(r)
		other := w.host(w.net.Host("other"), nil)
		count := func(d time.Duration) int64 {
			before := pings.Load()
			time.Sleep(d)
			return pings.Load() - before
		}
		if got := count(time.Minute); got > 4 {
			t.Errorf("probes in a minute without a circuit: got %d, want 3", got)
		}
		if err := other.Connect(t.Context(), peer.AddrInfo{ID: n.host.ID(), Addrs: n.current()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(cfg.IdleProbeInterval)
		if got := count(time.Minute); got < 50 {
			t.Errorf("probes in a minute with a circuit: got %d, want about 57", got)
		}
		other.Network().ClosePeer(n.host.ID())
		time.Sleep(5 * time.Second)
		if got := count(time.Minute); got > 4 {
			t.Errorf("probes in a minute after the circuit: got %d, want 3", got)
		}
	})
}

// TestOwnNetworkChanges: the relays are probed at once, and those that could
// not be reached are asked again.
func TestOwnNetworkChanges(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		pings := r.pings()
		cfg := only()
		cfg.IdleProbeInterval = 10 * time.Minute
		n := w.node(cfg)
		n.add(r)
		n.settled(r)
		time.Sleep(time.Minute)
		em, err := n.host.EventBus().Emitter(new(event.EvtLocalAddressesUpdated))
		if err != nil {
			t.Fatal(err)
		}
		defer em.Close()
		direct := ma.StringCast("/ip4/11.3.3.3/udp/4001/quic-v1")
		update := func(u event.UpdatedAddress) int64 {
			before := pings.Load()
			em.Emit(event.EvtLocalAddressesUpdated{Diffs: true, Current: []event.UpdatedAddress{u}})
			time.Sleep(time.Second)
			return pings.Load() - before
		}
		if got := update(event.UpdatedAddress{Address: direct, Action: event.Added}); got != 1 {
			t.Errorf("probes after a direct address was added: got %d, want 1", got)
		}
		if got := update(event.UpdatedAddress{Address: direct, Action: event.Maintained}); got != 0 {
			t.Errorf("probes after nothing changed: got %d, want none", got)
		}
		if got := update(event.UpdatedAddress{Address: n.current()[0], Action: event.Added}); got != 0 {
			t.Errorf("probes after a circuit address was added: got %d, want none", got)
		}
		before := pings.Load()
		em.Emit(event.EvtLocalAddressesUpdated{Diffs: true, Removed: []event.UpdatedAddress{{Address: direct, Action: event.Removed}}})
		time.Sleep(time.Second)
		if got := pings.Load() - before; got != 1 {
			t.Errorf("probes after a direct address was removed: got %d, want 1", got)
		}
		// We were cut off for long, and are back.
		r.box.Kill()
		em.Emit(event.EvtLocalAddressesUpdated{Diffs: true, Removed: []event.UpdatedAddress{{Address: direct, Action: event.Removed}}})
		n.within(3*time.Second, "nothing", func() bool { return !n.advertised() })
		time.Sleep(20 * time.Minute)
		n.within(time.Minute, "between two attempts", func() bool {
			s := n.state(r.ID())
			return s.State == BackingOff && time.Until(s.Retry) > 5*time.Second
		})
		time.Sleep(settle)
		r.box.Revive()
		em.Emit(event.EvtLocalAddressesUpdated{Diffs: true, Current: []event.UpdatedAddress{{Address: direct, Action: event.Added}}})
		n.within(time.Second, "back at once", n.advertised)
	})
}

// TestPingStreamsEnd: go-libp2p's do every 30 s, and it means nothing.
func TestPingStreamsEnd(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		relays := w.relays(2)
		n := w.node(only())
		n.add(relays[0])
		n.settled(relays[0])
		n.add(relays[1])
		n.throughout(time.Hour, "one relay", func() bool { return n.held() == 1 && n.through(relays[0].ID()) })
		if got := relays[1].asked.Load(); got != 0 {
			t.Errorf("RESERVE messages to the other relay: got %d, want none: nothing was in doubt", got)
		}
	})
}

// TestProbeCost counts what the probes of an idle relay cost: all UDP payloads
// that cross the node's socket in an hour, each with 28 bytes of IPv4 and UDP
// header, less those of an hour without probes (keep-alives, refreshes). The
// bounds are what the documentation of Config says.
func TestProbeCost(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		hour := func(name string, cfg Config) int64 {
			wire := new(atomic.Int64)
			box := w.net.NAT("box of "+name, testnet.PortRestricted()).Host(name)
			n := w.nodeOn(box, counting(box, wire), cfg)
			n.add(r)
			n.settled(r)
			time.Sleep(time.Minute)
			before := wire.Load()
			time.Sleep(time.Hour)
			defer n.stop()
			t.Logf("%s: %d bytes", name, wire.Load()-before)
			return wire.Load() - before
		}
		none := hour("without probes", Config{ProbeInterval: 24 * time.Hour})
		for _, c := range []struct {
			name string
			cfg  Config
			want int64 // within a tenth
		}{
			{"every second", Config{}, 830_000},
			{"every 30 s", Config{IdleProbeInterval: 30 * time.Second}, 54_000},
		} {
			if got := hour(c.name, c.cfg) - none; got < c.want*9/10 || got > c.want*11/10 {
				t.Errorf("probes %s for an hour: got %d bytes, want about %d", c.name, got, c.want)
			}
		}
	})
}

// counting is box.Transport with a count of the bytes on the wire.
func counting(box *testnet.Host, wire *atomic.Int64) libp2p.Option {
	return libp2p.Transport(func(key crypto.PrivKey, psk pnet.PSK, gater connmgr.ConnectionGater, rcmgr network.ResourceManager,
		resetKey quic.StatelessResetKey, tokenKey quic.TokenGeneratorKey,
	) (transport.Transport, error) {
		cm, err := quicreuse.NewConnManager(resetKey, tokenKey,
			quicreuse.OverrideListenUDP(func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
				c, err := box.ListenPacket(laddr.Port)
				return counted{c, wire}, err
			}),
			quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return ownIP{box}, nil }),
		)
		if err != nil {
			return nil, err
		}
		t, err := libp2pquic.NewTransport(key, cm, psk, gater, rcmgr)
		return closing{t, cm}, err
	})
}

type ownIP struct{ *testnet.Host }

func (s ownIP) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return s.IP().AsSlice(), nil
}

type closing struct {
	transport.Transport
	cm *quicreuse.ConnManager
}

func (t closing) Close() error { return t.cm.Close() }

// headers are those of IPv4 and UDP.
const headers = 20 + 8

type counted struct {
	net.PacketConn
	wire *atomic.Int64
}

func (c counted) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(p)
	if err == nil {
		c.wire.Add(int64(n) + headers)
	}
	return n, from, err
}

func (c counted) WriteTo(p []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(p, to)
	if err == nil {
		c.wire.Add(int64(n) + headers)
	}
	return n, err
}
