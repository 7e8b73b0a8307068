package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// peerCommand is the line that joins a peer to this relay's network; empty while
// the relay has no address that a peer elsewhere could use. A private one may be
// a container's, which nobody else can reach: it counts only where private
// addresses are allowed.
func (o *options) peerCommand(s node.Status) string {
	if o.dev && o.defaultDir {
		return "peer up --dev"
	}
	var b strings.Builder
	b.WriteString("peer up")
	if o.AllowPrivate {
		b.WriteString(" --allow-private")
	}
	if s.Network == node.PublicNetwork {
		return b.String()
	}
	a := bestAddr(s.Addrs)
	if a == "" || !o.AllowPrivate && !isPublic(a) {
		return ""
	}
	fmt.Fprintf(&b, " --network %s --bootstrap %s/p2p/%s", s.Network, a, s.ID)
	return b.String()
}

// forPeer is what the panel says of it.
func (o *options) forPeer(s node.Status) string {
	if c := o.peerCommand(s); c != "" {
		return c
	}
	return "no public address is known yet; relayd invite prints what there is, and --announce names one"
}

// tellPeerCommand tells it as soon as there is an address, if there was none when
// the panel was printed.
func (r *running) tellPeerCommand(s node.Status, at time.Time) {
	if r.forPeerTold {
		return
	}
	if c := r.opts.peerCommand(s); c != "" {
		r.forPeerTold = true
		cli.PrintLine(r.out, at, "for a peer: "+c)
	}
}

// bestAddr picks the address that most peers can use: announced or public
// before private, QUIC before the rest.
func bestAddr(addrs []string) string {
	best, bestRank := "", -1
	for _, s := range addrs {
		if r := rank(s); r > bestRank {
			best, bestRank = s, r
		}
	}
	return best
}
