package relay

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// holders are the peers that hold a reservation, as many as go-libp2p's relay
// service lets in.
type holders struct {
	mu   sync.Mutex            // guards the field below
	told map[peer.ID]time.Time // when each was last asked to make room
}

func (h *holders) add(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.told[p]; !known { // it may be a refresh
		h.told[p] = time.Time{}
	}
}

func (h *holders) remove(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.told, p)
}

func (h *holders) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.told)
}

// has tells whether p holds a reservation.
func (h *holders) has(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.told[p]
	return ok
}

// all lists the holders in random order.
func (h *holders) all() []peer.ID { return h.notToldAfter(time.Now()) }

// notToldAfter lists those who were last asked at t or before, or never, in
// random order.
func (h *holders) notToldAfter(t time.Time) []peer.ID {
	h.mu.Lock()
	list := make([]peer.ID, 0, len(h.told))
	for p, at := range h.told {
		if !at.After(t) {
			list = append(list, p)
		}
	}
	h.mu.Unlock()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// tell notes that somebody is asked now, unless it has left meanwhile.
func (h *holders) tell(p peer.ID, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, still := h.told[p]; still {
		h.told[p] = now
	}
}

// disconnected forgets a peer under the same condition as the relay service,
// which does not untag it.
func (h *holders) disconnected(n network.Network, c network.Conn) {
	if p := c.RemotePeer(); n.Connectedness(p) != network.Connected {
		h.remove(p)
	}
}

// watchedHost is the host as go-libp2p's relay service sees it. The service has
// no list of reservations and reports them without the peer; its ACL is asked
// before it has decided. But it tags a peer in the connection manager when it
// gives a reservation and untags it when that ends (go-libp2p v0.51.0,
// p2p/protocol/circuitv2/relay/relay.go, handleReserve and gc), and so we see
// exactly who holds one.
type watchedHost struct {
	host.Host
	holders *holders
	// handled is called after each hop stream, with its peer.
	handled func(peer.ID)
}

// SetStreamHandler lets us see the end of each hop stream.
func (h watchedHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	if id != proto.ProtoIDv2Hop {
		h.Host.SetStreamHandler(id, f)
		return
	}
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		f(s)
		h.handled(s.Conn().RemotePeer())
	})
}

func (h watchedHost) ConnManager() connmgr.ConnManager {
	return watchedTags{h.Host.ConnManager(), h.holders}
}

const reservationTag = "relay-reservation"

type watchedTags struct {
	connmgr.ConnManager
	holders *holders
}

func (t watchedTags) TagPeer(p peer.ID, tag string, value int) {
	if tag == reservationTag {
		t.holders.add(p)
	}
	t.ConnManager.TagPeer(p, tag, value)
}

func (t watchedTags) UntagPeer(p peer.ID, tag string) {
	if tag == reservationTag {
		t.holders.remove(p)
	}
	t.ConnManager.UntagPeer(p, tag)
}
