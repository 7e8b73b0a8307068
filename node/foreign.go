package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuitv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"

	"github.com/causeway-p2p/causeway/autorelay"
)

const (
	// foreignSweep is the default of Config.ForeignRelaySweep: conversations
	// come in bursts, and a connection costs the relay some kilobytes.
	foreignSweep = time.Minute
	// foreignGrace is the default of Config.ForeignRelayGrace: who calls
	// again, after a lost circuit say, does so within seconds.
	foreignGrace = 5 * time.Second
)

// ForeignRelay is a relay that we are connected to only because somebody else
// is reachable there.
type ForeignRelay struct {
	ID string `json:"id"`
	// Circuits is how many circuits we have over it.
	Circuits int `json:"circuits"`
	// Since is when we connected to it.
	Since time.Time `json:"since"`
}

// foreign knows the connections that were opened to get a circuit, and closes
// them when it is over. Those to relays that the DHT has taken into the first
// buckets of its routing table stay, at most 40, since it protects them.
type foreign struct {
	host host.Host

	mu     sync.Mutex // guards the fields below
	using  map[peer.ID]int
	relays map[peer.ID]*foreignRelay
}

type foreignRelay struct {
	since time.Time
	used  time.Time // when a dial or a circuit over it ended
}

func newForeign(h host.Host) *foreign {
	return &foreign{host: h, using: make(map[peer.ID]int), relays: make(map[peer.ID]*foreignRelay)}
}

// use keeps a relay from being closed until release is called.
func (f *foreign) use(relay peer.ID) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.using[relay]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.using[relay]--; f.using[relay] == 0 {
			delete(f.using, relay)
		}
		f.touchLocked(relay)
	}
}

// opened tells that the connection to a relay is there for a circuit only.
func (f *foreign) opened(relay peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays[relay] = &foreignRelay{since: time.Now(), used: time.Now()}
}

func (f *foreign) touchLocked(relay peer.ID) {
	if r := f.relays[relay]; r != nil {
		r.used = time.Now()
	}
}

// run closes what is not needed any more, except for those that keep wants.
func (f *foreign) run(ctx context.Context, every, grace time.Duration, idle protocol.ID, keep func(peer.ID) bool) error {
	bundle := &network.NotifyBundle{ConnectedF: f.connected, DisconnectedF: f.disconnected}
	f.host.Network().Notify(bundle)
	defer f.host.Network().StopNotify(bundle)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.sweep(grace, idle, keep)
		}
	}
}

// circuitTag keeps the connection manager from preferring, among those to
// close, a connection that carries circuits. go-libp2p's client tags them too,
// but each attempt has a client of its own and takes the tag off with its own
// circuit.
const circuitTag = "causeway/circuit"

func (f *foreign) connected(_ network.Network, c network.Conn) {
	if relay := PathOf(c).Relay; relay != "" {
		f.host.ConnManager().TagPeer(relay, circuitTag, circuitv2.HopTagWeight)
	}
}

func (f *foreign) disconnected(_ network.Network, c network.Conn) {
	relay, peer := PathOf(c).Relay, c.RemotePeer()
	if relay != "" && f.circuits()[relay] == 0 {
		f.host.ConnManager().UntagPeer(relay, circuitTag)
	}
	gone := relay == "" && f.host.Network().Connectedness(peer) != network.Connected
	f.mu.Lock()
	defer f.mu.Unlock()
	if gone {
		delete(f.relays, peer)
	} else {
		f.touchLocked(relay)
	}
}

func (f *foreign) sweep(grace time.Duration, idle protocol.ID, keep func(peer.ID) bool) {
	circuits := f.circuits()
	f.mu.Lock()
	var over []peer.ID
	for id, r := range f.relays {
		if circuits[id] == 0 && f.using[id] == 0 && time.Since(r.used) >= grace {
			over = append(over, id)
		}
	}
	f.mu.Unlock()
	for _, id := range over {
		if keep(id) || f.host.ConnManager().IsProtected(id, "") || f.busy(id, idle) {
			continue
		}
		log.Debug("closing connection to foreign relay", "relay", id)
		f.host.Network().ClosePeer(id)
	}
}

// busy reports whether somebody has a stream to the relay. Those that the DHT
// keeps for its next query and what identify says do not count.
func (f *foreign) busy(relay peer.ID, idle protocol.ID) bool {
	for _, c := range f.host.Network().ConnsToPeer(relay) {
		for _, s := range c.GetStreams() {
			switch s.Protocol() {
			case idle, identify.ID, identify.IDPush:
			default:
				return true
			}
		}
	}
	return false
}

// circuits counts the circuits over each relay.
func (f *foreign) circuits() map[peer.ID]int {
	count := make(map[peer.ID]int)
	for _, c := range f.host.Network().Conns() {
		if relay := PathOf(c).Relay; relay != "" && !c.IsClosed() {
			count[relay]++
		}
	}
	return count
}

// status lists the relays, less those that keep wants: a foreign relay may
// have become a home since.
func (f *foreign) status(keep func(peer.ID) bool) []ForeignRelay {
	circuits := f.circuits()
	f.mu.Lock()
	since := make(map[peer.ID]time.Time, len(f.relays))
	for id, r := range f.relays {
		since[id] = r.since
	}
	f.mu.Unlock()
	list := make([]ForeignRelay, 0, len(since))
	for id, at := range since {
		if !keep(id) {
			list = append(list, ForeignRelay{ID: id.String(), Circuits: circuits[id], Since: at})
		}
	}
	slices.SortFunc(list, func(x, y ForeignRelay) int { return cmp.Compare(x.ID, y.ID) })
	return list
}

func (n *Node) sweepForeign(ctx context.Context) error {
	return n.circuits.foreign.run(ctx, n.cfg.ForeignRelaySweep, n.cfg.ForeignRelayGrace, n.cfg.dhtProtocol(), n.keepsRelay)
}

// keepsRelay reports whether we want the connection to a relay in any case.
func (n *Node) keepsRelay(id peer.ID) bool {
	if slices.ContainsFunc(bootstrapPeers(n.cfg), func(b peer.AddrInfo) bool { return b.ID == id }) {
		return true
	}
	return n.relaysForUs(id)
}

// relaysForUs reports whether we hold a reservation at a peer.
func (n *Node) relaysForUs(id peer.ID) bool {
	if n.autorelay == nil {
		return false
	}
	text := id.String()
	return slices.ContainsFunc(n.autorelay.Status().Relays, func(r autorelay.RelayStatus) bool {
		return r.ID == text && (r.State == autorelay.Reserved || r.State == autorelay.Draining)
	})
}
