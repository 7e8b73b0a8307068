package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// WebSocket over TLS on port 443 is what gets out of networks that let out
// nothing else. Its clients verify the name in the server's certificate, so that
// an address of it is of use to others only with that name in it.
//
// Plain TCP listens on the same port beside it: AutoNAT servers, which know
// nothing of the name, dial that, and where it gets through, so does the other
// (reachability, candidate.go, leads). Others are not told of it: of two addresses
// with one IP and port, go-libp2p tries only the one without WebSocket (v0.51,
// p2p/net/swarm/swarm_dial.go, filterLowPriorityAddresses), and a firewall that
// wants TLS drops just that.

// isSecureWS reports whether an address is one of WebSocket over TLS: /tls/ws,
// /tls/sni/NAME/ws or /wss. A circuit's is the relay's.
func isSecureWS(a ma.Multiaddr) bool { return !maddr.IsCircuit(a) && maddr.IsSecureWS(a) }

// spelledOut writes /wss as /tls/ws, as go-libp2p does with what it listens on.
func spelledOut(listen []ma.Multiaddr) []ma.Multiaddr {
	out := slices.Clone(listen)
	for i, a := range out {
		if rest, last := ma.SplitLast(a); last != nil && last.Protocol().Code == ma.P_WSS {
			out[i] = rest.Encapsulate(ma.StringCast("/tls/ws"))
		}
	}
	return out
}

// withPlainTCP adds to the listen addresses plain TCP wherever there is
// WebSocket over TLS.
func withPlainTCP(listen []ma.Multiaddr) []ma.Multiaddr {
	out := slices.Clone(listen)
	for _, a := range listen {
		if isSecureWS(a) && !ma.Contains(out, a[:2]) {
			out = append(out, a[:2])
		}
	}
	return out
}

// checkTLS reports what a node could not listen with.
func (c Config) checkTLS() error {
	var errs []error
	for _, a := range c.Listen {
		switch {
		case !isSecureWS(a):
		case c.TLS == nil:
			errs = append(errs, fmt.Errorf("listen on %s: there is no certificate for it", a))
		case len(a) < 2 || a[1].Protocol().Code != ma.P_TCP:
			errs = append(errs, fmt.Errorf("listen on %s: want an IP address and a TCP port before /tls/ws", a))
		}
	}
	if c.TLS != nil {
		if _, err := ma.NewComponent("dns4", c.TLSName); err != nil || c.TLSName == "" {
			errs = append(errs, fmt.Errorf("TLS name %q: want a DNS name that the certificate is for", c.TLSName))
		}
	}
	return errors.Join(errs...)
}

// httpsPort is where nothing but TLS may get through.
const httpsPort = "443"

// naming puts the certificate's name into addresses. The zero value changes
// nothing.
type naming struct {
	name    string
	ports   map[string]bool // of WebSocket over TLS, 0 for any; true where plain TCP is not told to others
	private bool            // the name may stand for private addresses
}

func newNaming(cfg Config) naming {
	s := naming{name: cfg.TLSName, private: cfg.AllowPrivate, ports: make(map[string]bool)}
	for _, a := range cfg.Listen {
		if isSecureWS(a) {
			port := a[1].Value()
			// On another port, whoever asks for plain TCP as well gets both.
			s.ports[port] = port == httpsPort || !ma.Contains(cfg.Listen, a[:2])
		}
	}
	return s
}

// apply replaces the addresses of WebSocket over TLS by one with the name for
// each family and port, and plain TCP that is there only beside them. Where no
// public address is left, there is nothing that the name could stand for, unless
// private ones count.
func (s naming) apply(addrs []ma.Multiaddr) []ma.Multiaddr {
	if len(s.ports) == 0 {
		return addrs
	}
	alone := s.alone(addrs)
	ours := func(a ma.Multiaddr) bool {
		return isIP(a) && (isSecureWS(a) || len(a) == 2 && a[1].Protocol().Code == ma.P_TCP && alone[a[1].Value()])
	}
	// The name does not stand for loopback where others see more of us.
	beyond := slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return ours(a) && !manet.IsIPLoopback(a) })
	var out []ma.Multiaddr
	for _, a := range addrs {
		if !ours(a) {
			out = append(out, a)
			continue
		}
		if !manet.IsPublicAddr(a) && !(s.private && (!beyond || !manet.IsIPLoopback(a))) {
			continue
		}
		kind := "dns4"
		if a[0].Protocol().Code != ma.P_IP4 {
			kind = "dns6"
		}
		named := ma.StringCast(fmt.Sprintf("/%s/%s/tcp/%s/tls/ws", kind, s.name, a[1].Value()))
		if !ma.Contains(out, named) {
			out = append(out, named)
		}
	}
	return out
}

// alone are the ports at which others are told of nothing but WebSocket over TLS,
// also those that the kernel chose.
func (s naming) alone(addrs []ma.Multiaddr) map[string]bool {
	ports := maps.Clone(s.ports)
	for _, a := range addrs {
		if !isIP(a) || !isSecureWS(a) {
			continue
		}
		if _, known := ports[a[1].Value()]; !known {
			ports[a[1].Value()] = s.ports["0"]
		}
	}
	return ports
}

func isIP(a ma.Multiaddr) bool {
	v4, v6 := familyOf(a)
	return v4 || v6
}
