package reachability

import (
	"net"
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// families tells which address families an address serves. DNS names may
// resolve to both.
func families(a ma.Multiaddr) (v4, v6 bool) {
	first, _ := ma.SplitFirst(a)
	if first == nil {
		return false, false
	}
	switch first.Protocol().Code {
	case ma.P_IP4, ma.P_DNS4:
		return true, false
	case ma.P_IP6, ma.P_IP6ZONE, ma.P_DNS6:
		return false, true
	}
	return true, true
}

// describe says an address the way people do: "11.0.0.2:4001 over QUIC".
func describe(a ma.Multiaddr) string {
	transport := map[string]string{
		"tcp": "TCP", "quic": "QUIC", "ws": "WebSocket", "webtransport": "WebTransport", "webrtc": "WebRTC",
	}[maddr.Transport(a)]
	a2, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_P2P })
	if !isName(a2) { // which ToNetAddr would look up
		if na, err := manet.ToNetAddr(thinWaist(a2)); err == nil {
			return na.String() + " over " + transport
		}
	}
	if len(a2) >= 2 {
		return net.JoinHostPort(a2[0].Value(), a2[1].Value()) + " over " + transport
	}
	return a.String()
}

// thinWaist cuts an address after its IP and port.
func thinWaist(a ma.Multiaddr) ma.Multiaddr {
	n := 2
	if len(a) > 0 && a[0].Protocol().Code == ma.P_IP6ZONE {
		n = 3
	}
	return a[:min(n, len(a))]
}

// carrier is an address of WebSocket over TLS without what is above TCP: where that
// comes in, so does plain TCP, which is what servers can dial without the name in
// the certificate. All others stay. Connections say /wss where sockets say /tls/ws
// (go-libp2p v0.51, p2p/transport/websocket/conn.go).
func carrier(a ma.Multiaddr) ma.Multiaddr {
	if maddr.IsCircuit(a) || !maddr.IsSecureWS(a) {
		return a
	}
	return thinWaist(a)
}

// portOf is the UDP or TCP port of an address, "" if it has none.
func portOf(a ma.Multiaddr) string {
	for _, c := range a {
		if code := c.Protocol().Code; code == ma.P_UDP || code == ma.P_TCP {
			return c.Value()
		}
	}
	return ""
}

// endpoint is the IP and port of an address, and which of the two kinds of
// port it is.
func endpoint(a ma.Multiaddr) (ap netip.AddrPort, network string, ok bool) {
	if isName(a) { // which ToNetAddr would look up, and it may be that of another machine
		return netip.AddrPort{}, "", false
	}
	na, err := manet.ToNetAddr(thinWaist(a))
	if err != nil {
		return netip.AddrPort{}, "", false
	}
	switch na := na.(type) {
	case *net.UDPAddr:
		ap, network = na.AddrPort(), "udp"
	case *net.TCPAddr:
		ap, network = na.AddrPort(), "tcp"
	default:
		return netip.AddrPort{}, "", false
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), network, ap.IsValid()
}

// shape is the protocols of an address, without their values.
func shape(a ma.Multiaddr) []int {
	codes := make([]int, len(a))
	for i := range a {
		codes[i] = a[i].Protocol().Code
	}
	return codes
}

// isName reports whether an address has a DNS name in place of an IP.
func isName(a ma.Multiaddr) bool {
	first, _ := ma.SplitFirst(a)
	if first == nil {
		return false
	}
	switch first.Protocol().Code {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR:
		return true
	}
	return false
}
