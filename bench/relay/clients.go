package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/bench/child"
)

// clients is a process full of go-libp2p hosts, each with a connection to the
// relay. They are sources or destinations; which relay it is they do not know.
type clients struct {
	relay    peer.ID
	hosts    []host.Host
	circuits []network.Stream // opened by open, until bulk or drop
	flooding *flood
	proxied  plain
}

func (c *clients) actions() child.Actions {
	return child.Actions{
		"join":     child.Action(c.join),
		"open":     child.Action(c.open),
		"bulk":     child.Action(c.bulk),
		"drop":     child.Action(c.drop),
		"ping":     child.Action(c.ping),
		"flood":    child.Action(c.flood),
		"calm":     child.Action(c.calm),
		"connects": child.Action(c.connects),
		"listen":   child.Action(c.proxied.listen),
		"send":     child.Action(c.proxied.send),
	}
}

// A wire is how clients are connected to the relay.
type wire string

const (
	overTLS   wire = "tls"   // TCP, TLS 1.3, yamux
	overNoise wire = "noise" // TCP, Noise, yamux
	overQUIC  wire = "quic"
	overWS    wire = "ws" // WebSocket, and what is negotiated in it
)

// options are those of a client host that can do this wire and no other.
func (w wire) options() (transport, security libp2p.Option) {
	security = libp2p.DefaultSecurity
	switch w {
	case overTLS:
		return libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(libp2ptls.ID, libp2ptls.New)
	case overNoise:
		return libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New)
	case overWS:
		return libp2p.Transport(websocket.New), security
	}
	return libp2p.Transport(libp2pquic.NewTransport), security
}

// fits reports whether an address of the relay's is for this wire.
func (w wire) fits(a ma.Multiaddr) bool {
	has := func(code int) bool { _, err := a.ValueForProtocol(code); return err == nil }
	switch w {
	case overQUIC:
		return has(ma.P_QUIC_V1) && !has(ma.P_WEBTRANSPORT)
	case overWS:
		return has(ma.P_WS)
	}
	return has(ma.P_TCP) && !has(ma.P_WS)
}

// joinArgs ask for a number of hosts connected to a relay.
type joinArgs struct {
	Relay   relayInfo `json:"relay"`
	Wire    wire      `json:"wire"`
	Hosts   int       `json:"hosts"`
	Reserve bool      `json:"reserve"` // as destinations
}

// joined tells who they are, and what the relay and they agreed on.
type joined struct {
	IDs      []string `json:"ids"`
	Security string   `json:"security"`
	Muxer    string   `json:"muxer"`
}

func (c *clients) join(ctx context.Context, a joinArgs) (j joined, err error) {
	info, err := a.Relay.addrInfo(a.Wire)
	if err != nil {
		return j, err
	}
	c.relay = info.ID
	for range a.Hosts {
		h, err := newClient(a.Wire)
		if err != nil {
			return j, err
		}
		c.hosts = append(c.hosts, h)
		if err := h.Connect(ctx, info); err != nil {
			return j, fmt.Errorf("connect to the relay: %w", err)
		}
		state := h.Network().ConnsToPeer(info.ID)[0].ConnState()
		j.IDs, j.Security, j.Muxer = append(j.IDs, h.ID().String()), string(state.Security), string(state.StreamMultiplexer)
		if !a.Reserve {
			continue
		}
		h.SetStreamHandler(proto.ProtoIDv2Stop, stop)
		if _, err := client.Reserve(ctx, h, info); err != nil {
			return j, err
		}
	}
	return j, nil
}

func newClient(w wire) (host.Host, error) {
	resources, err := unlimitedResources()
	if err != nil {
		return nil, err
	}
	transport, security := w.options()
	return libp2p.New(libp2p.NoListenAddrs, libp2p.ResourceManager(resources), libp2p.DisableMetrics(), transport, security)
}

func stop(s network.Stream) {
	if err := accept(s); err != nil {
		s.Reset()
		return
	}
	if err := receive(s); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

// addrInfo is the relay at its address for this wire.
func (r relayInfo) addrInfo(w wire) (info peer.AddrInfo, err error) {
	if info.ID, err = peer.Decode(r.ID); err != nil {
		return info, err
	}
	for _, text := range r.Addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return info, err
		}
		if w.fits(a) {
			info.Addrs = []ma.Multiaddr{a}
			return info, nil
		}
	}
	return info, fmt.Errorf("the relay has no address for %s among %v", w, r.Addrs)
}

// openArgs ask for circuits, the i-th from host i to destination i, both
// starting over when they run out.
type openArgs struct {
	Dests    []string `json:"dests"`
	Circuits int      `json:"circuits"`
}

// inFlight bounds the circuits that are set up at a time where it does not
// matter how fast.
const inFlight = 32

func (c *clients) open(ctx context.Context, a openArgs) (child.None, error) {
	dests, err := decodeAll(a.Dests)
	if err != nil {
		return child.None{}, err
	}
	list := make([]network.Stream, a.Circuits)
	err = inParallel(inFlight, a.Circuits, func(i int) (err error) {
		list[i], err = openCircuit(ctx, c.hosts[i%len(c.hosts)], c.relay, dests[i%len(dests)])
		return err
	})
	for _, s := range list {
		if s != nil {
			c.circuits = append(c.circuits, s)
		}
	}
	return child.None{}, err
}

// drop resets what is open.
func (c *clients) drop(context.Context, child.None) (child.None, error) {
	for _, s := range c.circuits {
		s.Reset()
	}
	c.circuits = nil
	return child.None{}, nil
}

// connectsArgs ask for circuits as fast as they come, InFlight at a time.
type connectsArgs struct {
	Dests    []string `json:"dests"`
	InFlight int      `json:"in_flight"`
	Seconds  float64  `json:"seconds"`
}

type connectsResult struct {
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
}

// connects opens circuits and lets go of each as soon as it stands.
func (c *clients) connects(ctx context.Context, a connectsArgs) (r connectsResult, err error) {
	dests, err := decodeAll(a.Dests)
	if err != nil {
		return r, err
	}
	counts := make([]int, a.InFlight)
	begun := time.Now()
	end := begun.Add(time.Duration(a.Seconds * float64(time.Second)))
	err = inParallel(a.InFlight, a.InFlight, func(i int) error {
		for n := i; counts[i] == 0 || time.Now().Before(end); n++ {
			s, err := openCircuit(ctx, c.hosts[n%len(c.hosts)], c.relay, dests[n%len(dests)])
			if err != nil {
				return err
			}
			s.Reset()
			counts[i]++
		}
		return nil
	})
	r.Seconds = time.Since(begun).Seconds()
	for _, n := range counts {
		r.Count += n
	}
	return r, err
}

func decodeAll(ids []string) (list []peer.ID, err error) {
	for _, text := range ids {
		id, err := peer.Decode(text)
		if err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	if len(list) == 0 {
		return nil, errors.New("no destination")
	}
	return list, nil
}

// inParallel calls f for 0 to n-1, at most k at a time, and returns the errors.
func inParallel(k, n int, f func(int) error) error {
	var workers sync.WaitGroup
	errs := make([]error, n)
	next := make(chan int)
	for range k {
		workers.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the others are most likely the same
		}
	}
	return nil
}
