package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// watchPaths reports how packets to peers travel, for those that are or were
// reached through a relay: with everybody else a path is just a connection.
func (n *Node) watchPaths(ctx context.Context) error {
	// A notifiee must not block, and connections come in bursts.
	touched := make(chan peer.ID, pathQueue)
	touch := func(_ network.Network, c network.Conn) {
		select {
		case touched <- c.RemotePeer():
		default:
		}
	}
	bundle := &network.NotifyBundle{ConnectedF: touch, DisconnectedF: touch}
	n.host.Network().Notify(bundle)
	defer n.host.Network().StopNotify(bundle)

	type held struct {
		path  Path
		since time.Time
	}
	paths := make(map[peer.ID]held) // relayed ones only
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-touched:
			old, known := paths[p]
			path := pathTo(n.host.Network(), p)
			if path == old.path || (!known && !path.Relayed()) {
				continue
			}
			e := PathChanged{At: now(), Peer: p, From: old.path, To: path}
			if known {
				e.Held = time.Since(old.since)
			}
			if path.Relayed() {
				paths[p] = held{path, time.Now()}
			} else {
				delete(paths, p)
			}
			n.events.emit(e)
		}
	}
}

// pathQueue bounds the connection changes that wait to be looked at. When it
// is full, a change of path goes unreported until the next one.
const pathQueue = 1024
