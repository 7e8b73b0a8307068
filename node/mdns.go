package node

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/discovery"
)

// mdns is the service by which peers of this network are found on the LAN; empty
// if none are looked for. Simulated nodes have no LAN, and nobody on it could
// dial a node that listens on loopback.
func (c Config) mdns() string {
	loopback := !slices.ContainsFunc(c.Listen, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
	if !c.MDNS || len(c.Transports) > 0 || loopback {
		return ""
	}
	if !c.private() {
		return discovery.StandardMDNS
	}
	// Networks must not meet. A service's name has 15 characters at most (RFC
	// 6763, section 7.2), which a network's name may not fit in. It is the
	// form that libp2p's specs have for private networks.
	sum := sha256.Sum256([]byte(c.dhtPrefix()))
	return "_p2p-" + hex.EncodeToString(sum[:5]) + "._udp"
}

// recallNeighbour puts the addresses of a peer on the LAN back into the
// peerstore, where they may have been forgotten together with others that did
// not work.
func (n *Node) recallNeighbour(p peer.ID) bool {
	addrs := n.discovery.Neighbour(p)
	n.host.Peerstore().AddAddrs(p, addrs, peerstore.TempAddrTTL)
	return len(addrs) > 0
}
