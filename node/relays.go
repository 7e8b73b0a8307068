package node

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/autorelay"
)

// ErrNoRelays is returned by what controls relays on a node that seeks none.
var ErrNoRelays = errors.New("this node seeks no relays")

// AddRelay offers a relay besides those that are discovered.
func (n *Node) AddRelay(info peer.AddrInfo) error {
	if err := n.seeksRelays(); err != nil {
		return err
	}
	if len(info.Addrs) == 0 {
		return fmt.Errorf("relay %s has no address", info.ID)
	}
	n.autorelay.Add(autorelay.Candidate{AddrInfo: info, Source: "user"})
	return nil
}

// WishRelay tells what is wanted of a relay from now on: prefer it, pin it,
// ban it, or (autorelay.NoWish) none of these.
func (n *Node) WishRelay(id peer.ID, w autorelay.Wish) error {
	if err := n.seeksRelays(); err != nil {
		return err
	}
	if !n.autorelay.SetWish(id, w) {
		return fmt.Errorf("relay %s is not known", id)
	}
	return nil
}

// RemoveRelay lets go of a relay and forgets it.
func (n *Node) RemoveRelay(id peer.ID) error {
	if err := n.seeksRelays(); err != nil {
		return err
	}
	if !n.autorelay.Remove(id) {
		return fmt.Errorf("relay %s is not known", id)
	}
	return nil
}

func (n *Node) seeksRelays() error {
	n.mu.Lock()
	run := n.run
	n.mu.Unlock()
	switch {
	case run == nil || run.Err() != nil:
		return ErrNotRunning
	case n.autorelay == nil:
		return ErrNoRelays
	}
	return nil
}
