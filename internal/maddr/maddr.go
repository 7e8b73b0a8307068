// Package maddr reads out of multiaddrs what several rooms want to know of them.
package maddr

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// IsCircuit reports whether an address leads through a relay.
func IsCircuit(a ma.Multiaddr) bool {
	for _, c := range a {
		if c.Protocol().Code == ma.P_CIRCUIT {
			return true
		}
	}
	return false
}

// IsSecureWS reports whether an address, or that of the relay that it leads through,
// is one for WebSocket over TLS.
func IsSecureWS(a ma.Multiaddr) bool {
	tls := false
	for _, c := range a {
		switch c.Protocol().Code {
		case ma.P_TLS:
			tls = true
		case ma.P_WS:
			return tls
		case ma.P_WSS:
			return true
		case ma.P_CIRCUIT:
			return false
		}
	}
	return false
}

// Transport names what is spoken at an address, or to the relay that it leads
// through: tcp, quic, ws (with TLS or without), webtransport, webrtc. It is empty if
// it knows no name.
func Transport(a ma.Multiaddr) string {
	transport := ""
	for _, c := range a {
		switch c.Protocol().Code {
		case ma.P_TCP:
			transport = "tcp"
		case ma.P_QUIC_V1:
			transport = "quic"
		case ma.P_WS, ma.P_WSS:
			transport = "ws"
		case ma.P_WEBTRANSPORT:
			transport = "webtransport"
		case ma.P_WEBRTC_DIRECT, ma.P_WEBRTC:
			transport = "webrtc"
		case ma.P_CIRCUIT:
			return transport
		}
	}
	return transport
}

// IP is the IP address at the beginning of an address, or the zero Addr.
func IP(a ma.Multiaddr) netip.Addr {
	if len(a) == 0 {
		return netip.Addr{}
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
