package testnet

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// IPv6 returns the machine's IPv6 address. It is a public one also behind a NAT
// box: boxes translate IPv4 only, and are not on the way of IPv6.
func (h *Host) IPv6() netip.Addr { return h.ip6 }

// ListenAddr6 is ListenAddr with the machine's IPv6 address.
func (h *Host) ListenAddr6(port int) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/ip6/%s/udp/%d/quic-v1", h.ip6, port))
}

// ListenPacket6 is ListenPacket with the machine's IPv6 address.
func (h *Host) ListenPacket6(port int) (net.PacketConn, error) { return h.listenOn(h.ip6, port) }

// Firewall6 puts a stateful firewall in front of the machine's IPv6 address, as
// home routers have it (RFC 6092, simple security): it lets in what answers a
// packet out, for 5 minutes after the last one, and nothing else. Or it takes
// that away.
func (h *Host) Firewall6(on bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.firewall = nil
	if on {
		h.firewall = &firewall{flows: make(map[flow]time.Time), sweepAt: minSweep}
	}
}

// firewall is in front of one machine, guarded by Net.mu. A nil one lets
// everything through.
type firewall struct {
	flows   map[flow]time.Time // when something was sent last
	sweepAt int                // size of flows at which to look for old ones
}

type flow struct{ local, remote netip.AddrPort }

func (f *firewall) sent(now time.Time, p packet) {
	if f == nil {
		return
	}
	f.flows[flow{p.src, p.dst}] = now
	if len(f.flows) > f.sweepAt {
		maps.DeleteFunc(f.flows, func(_ flow, at time.Time) bool { return now.Sub(at) >= defaultMappingTimeout })
		f.sweepAt = max(minSweep, 2*len(f.flows))
	}
}

func (f *firewall) admits(now time.Time, p packet) bool {
	if f == nil || !p.dst.Addr().Is6() {
		return true
	}
	at, ok := f.flows[flow{p.dst, p.src}]
	return ok && now.Sub(at) < defaultMappingTimeout
}

// udpOf names the network of an address as package net does.
func udpOf(ip netip.Addr) string {
	if ip.Is6() {
		return "udp6"
	}
	return "udp4"
}
