package node

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// A peer that dials us after a hole punch over TCP must know where our TCP
// packets come from, and nobody does if all our connections are QUIC. So we see
// to it that some connection stands over each transport that we listen on: if
// need be a second one to a peer that we are connected to anyway.

const (
	// witnessEvery is how often we look whether one is missing; it costs next to
	// nothing.
	witnessEvery = 300 * time.Millisecond
	// witnessTimeout bounds one dial.
	witnessTimeout = 5 * time.Second
	// maxWitnessTries bounds the peers that are asked in one go, and
	// witnessPause is what follows when none of them was to be had: a network
	// without UDP stays one for a while.
	maxWitnessTries = 3
	witnessPause    = time.Minute
	// witnessTrust is how long a witness has to say what it sees, before another
	// one is looked for.
	witnessTrust = 10 * time.Second
	// witnessTag keeps the connection manager from closing the connection.
	witnessTag = "causeway/witness"
)

// keepWitnesses runs until ctx ends.
func (n *Node) keepWitnesses(ctx context.Context) error {
	tick := time.NewTicker(witnessEvery)
	defer tick.Stop()
	notBefore := make(map[string]time.Time)
	witness := make(map[string]peer.ID)
	tag := func(transport string) string { return witnessTag + "/" + transport }
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if !n.reachability.Verdict().NeedsRelay() {
				continue // whoever wants to can dial us
			}
			for _, transport := range n.reachability.Unobserved() {
				if now.Before(notBefore[transport]) {
					continue
				}
				if old, ok := witness[transport]; ok {
					n.host.ConnManager().Unprotect(old, tag(transport))
					delete(witness, transport)
				}
				p, ok := n.findWitness(ctx, transport)
				switch {
				case p != "":
					witness[transport] = p
					n.host.ConnManager().Protect(p, tag(transport))
					notBefore[transport] = time.Now().Add(witnessTrust)
				case !ok:
					notBefore[transport] = time.Now().Add(witnessPause)
				}
			}
		}
	}
}

// findWitness makes a connection over a transport, to the peer that it returns.
// It reports false if there are peers that have it, and none of them was to be
// reached.
func (n *Node) findWitness(ctx context.Context, transport string) (peer.ID, bool) {
	tried := 0
	for _, p := range n.witnesses() {
		for _, a := range n.host.Peerstore().Addrs(p) {
			if maddr.IsCircuit(a) || !manet.IsPublicAddr(a) || maddr.Transport(a) != transport {
				continue
			}
			if tried++; tried > maxWitnessTries {
				return "", false
			}
			if n.seenBy(ctx, p, a) {
				return p, true
			}
		}
	}
	return "", tried == 0
}

func (n *Node) seenBy(ctx context.Context, p peer.ID, a ma.Multiaddr) bool {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	if err := n.upgrader.Dial(ctx, a, p); err != nil {
		log.Debug("no witness over a transport", "peer", p, "addr", a, "reason", err)
		return false
	}
	return true
}

// witnesses are connected peers that may see us, those last that relay for us:
// their circuits should not end up on a connection that is there to be seen.
func (n *Node) witnesses() []peer.ID {
	var first, last []peer.ID
	for _, p := range n.host.Network().Peers() {
		if n.host.Network().Connectedness(p) != network.Connected {
			continue
		}
		if n.relaysForUs(p) {
			last = append(last, p)
		} else {
			first = append(first, p)
		}
	}
	return slices.Concat(first, last)
}
