package relay

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/notice"
)

const (
	// maxEndings bounds the peers that wait to be told why their circuits have
	// ended, and maxTellers those who are being told at once. Whoever does not
	// fit loses the reason and nothing else.
	maxEndings = 4096
	maxTellers = 64
)

// endings are what is still to be told. At most maxTellers goroutines tell it;
// there are none while there is nothing to tell.
type endings struct {
	tell  func(context.Context, peer.ID, notice.Notice)
	run   func(func())       // runs it beside, and waits for it at the end
	ctx   context.Context    // of telling
	hurry context.CancelFunc // ends ctx: what is not told by then is not told

	mu      sync.Mutex // guards the fields below
	waiting map[peer.ID][]notice.Circuit
	tellers int
}

// add notes that a circuit has ended, for both its ends.
func (e *endings) add(c *circuit, why Reason) {
	up, down, lasted := c.up.bytes.Load(), c.down.bytes.Load(), time.Since(c.opened)
	e.mu.Lock()
	e.addLocked(c.src, notice.Circuit{Peer: c.dst, Reason: string(why), Sent: up, Received: down, Lasted: lasted})
	e.addLocked(c.dst, notice.Circuit{Peer: c.src, Reason: string(why), Sent: down, Received: up, Lasted: lasted})
	start := 0
	for e.tellers < maxTellers && e.tellers < len(e.waiting) {
		e.tellers++
		start++
	}
	e.mu.Unlock()
	for range start {
		e.run(e.work)
	}
}

func (e *endings) addLocked(p peer.ID, n notice.Circuit) {
	list := e.waiting[p]
	if list == nil && len(e.waiting) >= maxEndings {
		return
	}
	if len(list) == notice.MaxEnded {
		list = append(list[:0:0], list[1:]...)
	}
	e.waiting[p] = append(list, n)
}

// work tells until there is nothing to tell.
func (e *endings) work() {
	for {
		p, list := e.next()
		if list == nil {
			return
		}
		ctx, cancel := context.WithTimeout(e.ctx, tellEach)
		e.tell(ctx, p, notice.Notice{Ended: &notice.Ended{Circuits: list}})
		cancel()
	}
}

func (e *endings) next() (peer.ID, []notice.Circuit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, list := range e.waiting {
		delete(e.waiting, p)
		return p, list
	}
	e.tellers--
	return "", nil
}
