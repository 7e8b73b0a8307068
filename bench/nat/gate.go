//go:build linux

package main

import (
	"slices"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/control"
	corenet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gate keeps a node from meeting one other before the call, and from dialling
// some at all: in a DHT as small as this, everybody of ours meets everybody.
type gate struct {
	other     peer.ID
	open      atomic.Bool // to the other
	strangers []peer.ID
}

func (g *gate) admits(p peer.ID) bool { return p != g.other || g.open.Load() }

func (g *gate) InterceptPeerDial(p peer.ID) bool {
	return g.admits(p) && !slices.Contains(g.strangers, p)
}

func (g *gate) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return g.InterceptPeerDial(p) }

func (*gate) InterceptAccept(corenet.ConnMultiaddrs) bool { return true } // who it is follows

func (g *gate) InterceptSecured(_ corenet.Direction, p peer.ID, _ corenet.ConnMultiaddrs) bool {
	return g.admits(p)
}

func (*gate) InterceptUpgraded(corenet.Conn) (bool, control.DisconnectReason) { return true, 0 }
