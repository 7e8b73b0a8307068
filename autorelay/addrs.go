package autorelay

import (
	"bytes"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

const (
	// maxRelayAddrs bounds the addresses that are kept of a relay.
	maxRelayAddrs = 32
	// maxPerRelay bounds the circuit addresses that one relay gives us: they
	// all travel in one signed peer record of at most 8 KiB.
	maxPerRelay = 8
	// maxAddrLen bounds one address of a relay, in bytes, for the same reason.
	// Ordinary ones have 8 to 40, WebTransport's with two hashes 90.
	maxAddrLen = 300
)

// updateAddrs recomputes the circuit addresses and publishes them when they
// changed, after a moment in which further changes may join.
func (a *AutoRelay) updateAddrs(now time.Time) {
	var addrs []ma.Multiaddr
	for _, r := range a.showing() {
		addrs = append(addrs, a.circuitAddrs(r)...)
	}
	if slices.EqualFunc(addrs, a.advertised, ma.Multiaddr.Equal) {
		a.publishAt = time.Time{}
		return
	}
	if a.publishAt.IsZero() {
		a.publishAt = now.Add(coalesce)
	}
	if now.Before(a.publishAt) {
		return
	}
	a.publishAt = time.Time{}
	a.advertised = addrs
	a.cfg.OnAddrs(slices.Clone(addrs))
}

// noteWithout keeps the time since when there is no circuit address.
func (a *AutoRelay) noteWithout(now time.Time) {
	if !a.active || len(a.advertised) > 0 {
		a.withoutFrom = time.Time{}
	} else if a.withoutFrom.IsZero() {
		a.withoutFrom = now
	}
}

// showing lists the relays that are advertised, in a stable order.
func (a *AutoRelay) showing() []*relay {
	var list []*relay
	for _, r := range a.relays {
		if r.shown {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(x, y *relay) int {
		if c := x.held.Compare(y.held); c != 0 {
			return c
		}
		return bytes.Compare([]byte(x.id), []byte(y.id))
	})
	return list
}

// circuitAddrs are our addresses through r.
func (a *AutoRelay) circuitAddrs(r *relay) []ma.Multiaddr {
	var live []ma.Multiaddr
	for _, c := range a.cfg.Host.Network().ConnsToPeer(r.id) {
		// The address that we dialled works; the one it came from may not.
		if c.Stat().Direction == network.DirOutbound && !nameless(c.RemoteMultiaddr()) {
			live = append(live, c.RemoteMultiaddr())
		}
	}
	p := addrPolicy{private: a.cfg.AllowPrivate, vouchedPrivate: a.cfg.PrivateNetwork}
	return p.circuitAddrs(r.id, r.told, r.vouched, live)
}

// hasAddress reports whether others could use r. For a relay that dialled us
// identify may not have been heard of yet, though it has filled the peerstore.
func (a *AutoRelay) hasAddress(r *relay) bool {
	if len(r.told) == 0 {
		r.told = a.usable(a.cfg.Host.Peerstore().Addrs(r.id))
	}
	return len(a.circuitAddrs(r)) > 0
}

// usable are the addresses of a relay that are worth keeping.
func (a *AutoRelay) usable(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, m := range addrs {
		if len(out) >= maxRelayAddrs {
			break
		}
		if len(m) > 0 && !maddr.IsCircuit(m) && (a.cfg.PrivateNetwork || a.cfg.AllowPrivate || isPublic(m)) {
			out = append(out, m)
		}
	}
	return out
}

// addrPolicy says which addresses of a relay may be shown to others.
type addrPolicy struct {
	private        bool // private addresses, whoever names them
	vouchedPrivate bool // private addresses that the relay's reservation names
}

// circuitAddrs turns a relay's addresses into ours. What the relay told most
// recently counts; its reservation fills in when it told nothing; the address
// of the live connection is known to work in any case.
func (p addrPolicy) circuitAddrs(id peer.ID, told, vouched, live []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	suffix := ma.StringCast("/p2p/" + id.String() + "/p2p-circuit")
	add := func(addrs []ma.Multiaddr, private bool) {
		for _, m := range addrs {
			m, ok := bare(m, id)
			if !ok || len(out) >= maxPerRelay || !(isPublic(m) || private && isRoutable(m)) {
				continue
			}
			c := m.Encapsulate(suffix)
			if !slices.ContainsFunc(out, c.Equal) {
				out = append(out, c)
			}
		}
	}
	add(live, p.private)
	// There are strict networks from which a relay is reached at its address for
	// WebSocket over TLS and no other: it is not to fall to the bound.
	add(ma.FilterAddrs(told, hasName), p.private)
	if len(told) > 0 {
		add(told, p.private)
	} else {
		add(vouched, p.private || p.vouchedPrivate)
	}
	if p.vouchedPrivate {
		add(vouched, true)
	}
	slices.SortStableFunc(out, func(x, y ma.Multiaddr) int { return x.Compare(y) })
	return out
}

// bare strips the relay's own ID from an address. It refuses circuit addresses
// and those that name somebody else.
func bare(m ma.Multiaddr, id peer.ID) (ma.Multiaddr, bool) {
	if len(m) == 0 || len(m.Bytes()) > maxAddrLen || maddr.IsCircuit(m) {
		return nil, false
	}
	transport, named := peer.SplitAddr(m)
	if named != "" && named != id {
		return nil, false
	}
	return transport, len(transport) > 0
}

// secureWS reports whether an address is one of WebSocket over TLS, and whether
// it has the name that the relay's certificate is for.
func secureWS(m ma.Multiaddr) (is, named bool) {
	var tls, ws bool
	for _, c := range m {
		switch c.Protocol().Code {
		case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_SNI:
			named = true
		case ma.P_TLS:
			tls = true
		case ma.P_WS:
			ws = true
		case ma.P_WSS:
			tls, ws = true, true
		}
	}
	return tls && ws, named
}

// nameless: the address of a connection over TLS has lost the name (go-libp2p
// v0.51, p2p/transport/websocket/conn.go, newConn), so that nobody could verify
// the certificate.
func nameless(m ma.Multiaddr) bool {
	is, named := secureWS(m)
	return is && !named
}

// hasName: an address over TLS that others can verify.
func hasName(m ma.Multiaddr) bool {
	is, named := secureWS(m)
	return is && named
}

// isRoutable reports whether others on the same network could use the address.
func isRoutable(m ma.Multiaddr) bool { return !manet.IsIPUnspecified(m) }

func isPublic(m ma.Multiaddr) bool { return manet.IsPublicAddr(m) }
