package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/netwatch"
	"github.com/causeway-p2p/causeway/reachability"
)

// Event is something that happened to the node. The concrete types are listed
// below; String tells it in a sentence.
type Event interface {
	fmt.Stringer
	// When tells the time at which it happened.
	When() time.Time
}

// At is the time of an event, embedded in each.
type At struct {
	Time time.Time `json:"time"`
}

// When implements Event.
func (a At) When() time.Time { return a.Time }

func now() At { return At{time.Now()} }

type (
	// Joined: the network was joined through a bootstrap peer.
	Joined struct {
		At
		Peer peer.ID `json:"peer"`
	}
	// JoinFailed: no bootstrap peer could be reached; it is tried again.
	JoinFailed struct {
		At
		Err   string        `json:"err"`
		Again time.Duration `json:"again_ns"`
	}
	// ReachabilityChanged: there is a new verdict.
	ReachabilityChanged struct {
		At
		From    reachability.Reachability `json:"from"`
		Verdict reachability.Verdict      `json:"verdict"`
	}
	// NetworkChanged: this machine's addresses, its default route or its link
	// changed, or it has slept. Connections from addresses that are gone were
	// closed.
	NetworkChanged struct {
		At
		Change netwatch.Change `json:"change"`
		Closed int             `json:"closed"`
	}
	// PortsMapped: the router in front of this machine lets the internet in at
	// other ports than before, as it says; at none, if Addrs is empty.
	PortsMapped struct {
		At
		Addrs   []string `json:"addrs"`
		Because string   `json:"because"`
	}
	// RelayFound: a source named a candidate for the first time.
	RelayFound struct {
		At
		Relay  peer.ID `json:"relay"`
		Source string  `json:"source"`
	}
	// RelayReserved: a relay gave us a reservation.
	RelayReserved struct {
		At
		Relay  peer.ID       `json:"relay"`
		Source string        `json:"source"`
		Took   time.Duration `json:"took_ns"`
	}
	// RelayFailed: a relay did not give or refresh a reservation.
	RelayFailed struct {
		At
		Relay  peer.ID          `json:"relay"`
		Reason autorelay.Reason `json:"reason"`
		Detail string           `json:"detail,omitempty"`
	}
	// TokenTaken: a relay took our token, and serves us as it says.
	TokenTaken struct {
		At
		Relay peer.ID    `json:"relay"`
		Grant auth.Grant `json:"grant"`
	}
	// TokenRefused: a relay did not take our token. It is asked all the same,
	// as by a stranger.
	TokenRefused struct {
		At
		Relay  peer.ID     `json:"relay"`
		Reason auth.Reason `json:"reason,omitempty"`
		Detail string      `json:"detail,omitempty"` // without a reason
	}
	// RelayDraining: a relay told us that it will leave; another takes over.
	RelayDraining struct {
		At
		Relay peer.ID `json:"relay"`
	}
	// RelayLost: a reservation ended.
	RelayLost struct {
		At
		Relay  peer.ID          `json:"relay"`
		Reason autorelay.Reason `json:"reason"`
	}
	// RelayReplaced: another relay took over from a lost one.
	RelayReplaced struct {
		At
		Old    peer.ID          `json:"old"`
		New    peer.ID          `json:"new"`
		Reason autorelay.Reason `json:"reason"`
		// Took is the time from noticing the loss to the new reservation.
		Took time.Duration `json:"took_ns"`
	}
	// AddrsChanged: we tell others a new set of addresses, through identify
	// push and the signed peer record.
	AddrsChanged struct {
		At
		Addrs    []string `json:"addrs"`
		Circuits int      `json:"circuits"` // how many of them are circuit addresses
	}
	// PathChanged: packets to a peer take another way. Reported for peers with
	// a relayed path before or after.
	PathChanged struct {
		At
		Peer peer.ID       `json:"peer"`
		From Path          `json:"from"`
		To   Path          `json:"to"`
		Held time.Duration `json:"held_ns"` // how long the old path was in use
	}
	// DirectAttempt: an attempt at a direct connection to a peer with a relayed
	// one has ended.
	DirectAttempt struct {
		At
		Peer    peer.ID        `json:"peer"`
		Outcome direct.Outcome `json:"outcome"`
		// Why is what stood in the way; empty if there is a direct connection.
		Why     string        `json:"why,omitempty"`
		Took    time.Duration `json:"took_ns"`
		Attempt int           `json:"attempt"`
		// Guesses is how many packets we sent to guess ports, or to have ours
		// guessed.
		Guesses int `json:"guesses,omitempty"`
		// Ours and Theirs are the kinds of the two NATs, as far as known.
		Ours   string `json:"ours"`
		Theirs string `json:"theirs"`
	}
	// CircuitEnded: a relay tells why a circuit of ours has ended, and how many
	// bytes it has passed on. Reason is one of package relay's, or one that a
	// later version added. Relays that know no notices do not tell: then Reason is
	// empty and no bytes are counted, and it is an event only if no other path to
	// the peer is left.
	CircuitEnded struct {
		At
		Relay    peer.ID       `json:"relay"`
		Peer     peer.ID       `json:"peer"`
		Reason   string        `json:"reason"`
		Sent     int64         `json:"bytes_sent"`
		Received int64         `json:"bytes_received"`
		Lasted   time.Duration `json:"lasted_ns"`
		// Upgraded: it was let go because a direct path had taken its place, or
		// one over another relay as its own was leaving.
		Upgraded bool `json:"upgraded,omitempty"`
	}
	// RelayService: this node began or ceased to serve as a relay.
	RelayService struct {
		At
		Serving bool   `json:"serving"`
		Because string `json:"because"`
	}
	// Announced: we are listed at the rendezvous as a relay.
	Announced struct {
		At
		Namespace string `json:"namespace"`
	}
)

func (e Joined) String() string { return "joined the network through " + ShortID(e.Peer) }

func (e JoinFailed) String() string {
	return fmt.Sprintf("no bootstrap peer can be reached (%s), trying again in %v", e.Err, e.Again.Round(100*time.Millisecond))
}

func (e ReachabilityChanged) String() string {
	weak := ""
	if e.Verdict.Weak && e.Verdict.Reachability != reachability.Unknown && e.Verdict.Confidence != reachability.Hint {
		weak = " (one server's word so far)"
	}
	return fmt.Sprintf("reachability %s: %s%s", e.Verdict.Reachability, e.Verdict.Because, weak)
}

func (e NetworkChanged) String() string {
	if e.Closed == 0 {
		return "network changed: " + e.Change.String()
	}
	return fmt.Sprintf("network changed: %s; %d dead connections closed", e.Change, e.Closed)
}

func (e PortsMapped) String() string { return e.Because }

func (e RelayFound) String() string {
	return fmt.Sprintf("relay %s found (%s)", ShortID(e.Relay), e.Source)
}

func (e RelayReserved) String() string {
	return fmt.Sprintf("reserved on relay %s in %s", ShortID(e.Relay), ms(e.Took))
}

func (e RelayFailed) String() string {
	s := fmt.Sprintf("relay %s gave no reservation: %s", ShortID(e.Relay), e.Reason)
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func (e TokenTaken) String() string {
	return fmt.Sprintf("relay %s took the token: class %s", ShortID(e.Relay), e.Grant.Class)
}

func (e TokenRefused) String() string {
	why := e.Detail
	if e.Reason != "" {
		why = e.Reason.Error()
	}
	return fmt.Sprintf("relay %s did not take the token: %s", ShortID(e.Relay), why)
}

func (e RelayDraining) String() string {
	return fmt.Sprintf("relay %s says that it will leave", ShortID(e.Relay))
}

func (e RelayLost) String() string {
	return fmt.Sprintf("relay %s lost: %s", ShortID(e.Relay), e.Reason)
}

func (e RelayReplaced) String() string {
	return fmt.Sprintf("relay %s took over from %s after %s", ShortID(e.New), ShortID(e.Old), ms(e.Took))
}

func (e AddrsChanged) String() string {
	count, circuits := fmt.Sprintf("%d addresses", len(e.Addrs)), "none"
	if len(e.Addrs) == 1 {
		count = "1 address"
	}
	if e.Circuits > 0 {
		circuits = strconv.Itoa(e.Circuits)
	}
	return fmt.Sprintf("advertising %s, %s through a relay", count, circuits)
}

func (e PathChanged) String() string {
	switch {
	case e.From.Relayed() && e.To.Direct():
		return fmt.Sprintf("path to %s upgraded to %s after %s", ShortID(e.Peer), e.To, ms(e.Held))
	case e.To == Path{}:
		return fmt.Sprintf("path to %s lost (was %s)", ShortID(e.Peer), e.From)
	}
	return fmt.Sprintf("path to %s is %s", ShortID(e.Peer), e.To)
}

func (e DirectAttempt) String() string {
	if e.Outcome.Direct() {
		return fmt.Sprintf("direct path to %s found in %s (%s)", ShortID(e.Peer), ms(e.Took), e.Outcome)
	}
	return fmt.Sprintf("no direct path to %s: %s", ShortID(e.Peer), e.Why)
}

func (e RelayService) String() string {
	if e.Serving {
		return "serving as a relay: " + e.Because
	}
	return "not serving as a relay: " + e.Because
}

func (e Announced) String() string { return "announced as a relay at " + e.Namespace }

func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// EventName is the type of an event in snake case, as the JSON stream has it.
func EventName(e Event) string {
	name := fmt.Sprintf("%T", e)
	name = name[strings.LastIndexByte(name, '.')+1:]
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// EventRecord is an event as the control socket and --json show it.
type EventRecord struct {
	Time  time.Time       `json:"time"`
	Event string          `json:"event"`
	Text  string          `json:"text"`
	Data  json.RawMessage `json:"data"`
}

// Record turns an event into its JSON shape.
func Record(e Event) (EventRecord, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return EventRecord{}, fmt.Errorf("event %T: %w", e, err)
	}
	return EventRecord{Time: e.When(), Event: EventName(e), Text: e.String(), Data: data}, nil
}

const (
	// eventQueue is how many events wait for one slow reader; further ones
	// are dropped for that reader.
	eventQueue = 256
	// eventHistory is how many past events a new reader may ask for.
	eventHistory = 256
)

// broadcaster hands every event to every reader.
type broadcaster struct {
	mu      sync.Mutex // guards the fields below
	readers map[chan Event]struct{}
	history []Event
	closed  bool
}

func newBroadcaster() *broadcaster { return &broadcaster{readers: make(map[chan Event]struct{})} }

func (b *broadcaster) emit(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if len(b.history) == eventHistory {
		b.history = b.history[1:]
	}
	b.history = append(b.history, e)
	for ch := range b.readers {
		select {
		case ch <- e:
		default:
		}
	}
}

// subscribe returns a channel that closes when ctx ends or the node does.
func (b *broadcaster) subscribe(ctx context.Context, history bool) <-chan Event {
	ch := make(chan Event, eventQueue+eventHistory)
	b.mu.Lock()
	defer b.mu.Unlock()
	if history {
		for _, e := range b.history {
			ch <- e
		}
	}
	if b.closed {
		close(ch)
		return ch
	}
	b.readers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.readers[ch]; ok {
			delete(b.readers, ch)
			close(ch)
		}
	})
	return ch
}

func (b *broadcaster) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for ch := range b.readers {
		close(ch)
	}
	clear(b.readers)
}
