package node

import (
	"context"
	"sync"
	"time"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/reachability"
)

const (
	// strictEvery is how often a node looks by itself whether only TCP port 443 gets
	// out. Peers who call it can make it look, at its own relays.
	strictEvery = 5 * time.Minute
	strictPause = 5 * time.Second // until it looks again if it could not tell
)

// strict is whether only TCP port 443 gets out of this network, as far as that has
// been looked at. Status says so of peers that cannot be reached directly.
type strict struct {
	mu      sync.Mutex // guards the fields below
	network int        // counts the networks that the machine was on
	looked  time.Time  // by itself, on this network
	only443 bool
}

// moved forgets what was found: the network is another.
func (s *strict) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.network, s.looked, s.only443 = s.network+1, time.Time{}, false
}

// here tells the networks apart.
func (s *strict) here() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.network
}

// found takes in what was found on a network, unless the machine has left it.
func (s *strict) found(network int, only443 bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if network == s.network {
		s.only443 = only443
	}
}

func (s *strict) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.only443
}

// due reports whether it is time to look, and if so takes it that somebody does.
func (s *strict) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.looked.IsZero() && now.Sub(s.looked) < strictEvery {
		return false
	}
	s.looked = now
	return true
}

// lookWhyRelayed finds out whether a direct path was tried in vain because only
// TCP port 443 gets out. It does not look where other connections stand.
func (n *Node) lookWhyRelayed(e direct.Event) {
	if e.Outcome.Direct() || !n.uses443Only() || !n.strict.due(time.Now()) {
		return
	}
	n.beside(func(ctx context.Context) {
		for range 3 { // what does not answer within 2 s is not known
			if n.netcheck(ctx, NoPortalURL).Only443 != reachability.NotTold {
				return
			}
			pause(ctx, strictPause)
		}
	})
}

// uses443Only reports whether all connections to peers out there are ours, and go
// to TCP port 443.
func (n *Node) uses443Only() bool {
	any443 := false
	for _, c := range n.host.Network().Conns() {
		if maddr.IsCircuit(c.RemoteMultiaddr()) || !n.outside(c.RemoteMultiaddr()) {
			continue
		}
		if port, _ := directTCPPort(c); port != 443 {
			return false
		}
		any443 = true
	}
	return any443
}
