package node

import (
	"cmp"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// Path is how packets get to a peer. The zero value is "no path".
type Path struct {
	// Relay is the relay in between; empty if the path is direct.
	Relay peer.ID `json:"relay,omitempty"`
	// Transport is what the first hop runs over: quic, tcp, ws, wss, …
	Transport string `json:"transport,omitempty"`
	// Addr is the peer's address on this path.
	Addr string `json:"addr,omitempty"`
}

// Direct reports whether there is a path and no relay on it.
func (p Path) Direct() bool { return p.Transport != "" && p.Relay == "" }

// Relayed reports whether the path goes through a relay.
func (p Path) Relayed() bool { return p.Relay != "" }

func (p Path) String() string {
	switch {
	case p.Relayed():
		return "via relay " + ShortID(p.Relay)
	case p.Direct():
		return "direct " + p.Transport
	}
	return "no path"
}

// ShortID is a peer ID short enough for a line of text: its first 4 and last
// 6 characters. Ed25519 IDs all begin alike.
func ShortID(id peer.ID) string {
	s := id.String()
	if len(s) <= 16 {
		return s
	}
	return fmt.Sprintf("%s…%s", s[:4], s[len(s)-6:])
}

// PathOf tells how the connection of a stream, say, reaches its peer.
func PathOf(c network.Conn) Path {
	a := c.RemoteMultiaddr()
	p := Path{Addr: a.String(), Transport: transportOf(a)}
	if maddr.IsCircuit(a) {
		if s, err := a.ValueForProtocol(ma.P_P2P); err == nil {
			p.Relay, _ = peer.Decode(s) // a multiaddr's P2P part is always valid
		}
	}
	return p
}

// transportOf is what the first hop to an address runs over.
func transportOf(a ma.Multiaddr) string {
	if maddr.IsSecureWS(a) {
		return "wss"
	}
	return cmp.Or(maddr.Transport(a), "unknown")
}

// pathTo is the path that a new stream to p would take: a direct one if there
// is any.
func pathTo(n network.Network, p peer.ID) Path {
	var best Path
	for _, c := range n.ConnsToPeer(p) {
		if c.IsClosed() {
			continue
		}
		path := PathOf(c)
		if path.Direct() {
			return path
		}
		best = path
	}
	return best
}
