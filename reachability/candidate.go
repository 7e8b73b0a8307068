package reachability

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// source says how we came to know an address of ours. A higher one wins.
type source int

const (
	fromObserved  source = iota // a peer saw us there (identify)
	fromMapped                  // a router forwards it to us
	fromInterface               // one of our interfaces has it
	fromAnnounced               // the operator says so
)

func (s source) String() string {
	return [...]string{"observed", "mapping", "interface", "announced"}[s]
}

// maxWitnesses bounds observers and outcomes kept per address.
const maxWitnesses = 8

// candidate is one address at which the node might be reachable.
type candidate struct {
	addr      ma.Multiaddr
	source    source
	word      bool   // the operator's word stands until servers have judged it
	local     string // the port of ours that observers saw there, if known
	observers map[peer.ID]time.Time
	lastSeen  time.Time
	asking    map[peer.ID]struct{} // servers that have said nothing yet
	next      time.Time            // when to probe again
	queued    time.Time            // since when it waits for a server's room; zero: it does not

	outcomes  map[peer.ID]outcomeAt // the latest per server
	reachable Reachability
	settled   bool // public by more than one server's word: see publicPatience
	failures  int  // in a row
	outvoted  int  // words in a row with the majority against it
	cameBack  bool // it went away lately, and is left alone for a while
	declines  int  // in a row
	// renewed is when the network changed: what was found before counts only
	// until something is found again.
	renewed time.Time

	proof    time.Time // when a stranger got through last; zero: none did
	filtered bool      // servers get through and strangers do not
	denied   int       // strangers that have tried in vain, if filtered
	stranger strangers
}

type outcomeAt struct {
	outcome outcome
	at      time.Time
	asked   time.Time // later than at if the server declined since
}

func newCandidate(addr ma.Multiaddr, src source, now time.Time) *candidate {
	c := &candidate{
		addr: addr, source: src, lastSeen: now, next: now, reachable: Unknown,
		observers: make(map[peer.ID]time.Time),
		asking:    make(map[peer.ID]struct{}),
		outcomes:  make(map[peer.ID]outcomeAt),
	}
	if src == fromAnnounced && !c.probeable() {
		c.takeWord()
	}
	return c
}

// takeWord makes the operator's word count.
func (c *candidate) takeWord() { c.word, c.reachable = true, Public }

// onWord reports whether the operator's word stands: nobody got through, and of
// those who were asked not most say so. Most servers judge no names, so that a liar
// would be the only one heard; and nobody is believed alone.
func (c *candidate) onWord() bool {
	if !c.word {
		return false
	}
	d, f := c.tally()
	abstained := 0
	for _, o := range c.outcomes {
		if o.outcome == declined {
			abstained++
		}
	}
	return d == 0 && f <= max(1, abstained)
}

func (c *candidate) key() string { return string(c.addr.Bytes()) }

// probeable reports whether AutoNAT servers judge such an address at all.
func (c *candidate) probeable() bool { return manet.IsPublicAddr(c.addr) }

// trusted reports whether we are sure enough that the address is ours to pay
// for its dial data (30 to 100 kB, autonat v2 spec, "amplification attack
// prevention"). A single peer's word is not enough.
func (c *candidate) trusted() bool { return c.source != fromObserved || len(c.observers) >= 2 }

// door is what a connection to the address comes in by, as far as we can tell
// from its local end. Dial-backs at the same door cannot be told apart, so a
// server is asked about one of them at a time: go-libp2p's dials all addresses
// that a peer asked about at once, and uses whichever connection comes first
// (v0.51, p2p/protocol/autonatv2/server.go, dialBack).
func (c *candidate) door() string {
	if c.source == fromInterface {
		return c.addr.String()
	}
	v4, _ := families(c.addr)
	if v4 {
		return "ip4/" + maddr.Transport(c.addr) + "/" + c.local
	}
	return "ip6/" + maddr.Transport(c.addr) + "/" + c.local
}

// way is the transport and family by which one gets to the address.
func (c *candidate) way() string {
	v4, v6 := families(c.addr)
	return fmt.Sprint(maddr.Transport(c.addr), v4, v6)
}

// comesIn returns how to tell by its local end whether a connection came in at
// the address; as far as one can tell, it may be trusted with any goroutine.
func (c *candidate) comesIn() func(local ma.Multiaddr) bool {
	addr, port, own := c.addr, c.local, c.source == fromInterface
	v4, v6 := families(addr)
	return func(local ma.Multiaddr) bool {
		l4, l6 := families(local)
		if !(v4 && l4 || v6 && l6) || maddr.Transport(addr) != maddr.Transport(local) {
			return false
		}
		if own {
			return portOf(addr) == portOf(local) && (manet.IsIPUnspecified(local) || thinWaist(addr).Equal(thinWaist(local)))
		}
		return port == "" || port == portOf(local)
	}
}

// leads reports whether c and other are one socket of ours, c the transport
// that other is carried by: where TCP gets through or not, WebSocket on the
// same port does or does not, and likewise WebTransport with QUIC. Only c has
// to be dialled then.
func (c *candidate) leads(other *candidate) bool {
	t := [2]string{maddr.Transport(c.addr), maddr.Transport(other.addr)}
	return (t == [2]string{"tcp", "ws"} || t == [2]string{"quic", "webtransport"}) &&
		thinWaist(c.addr).Equal(thinWaist(other.addr)) && c.trusted()
}

const (
	// publicPatience is the number of failures in a row, or of words with the
	// majority against it, that turn a settled reachable address unreachable:
	// one lost packet must not stop a relay.
	publicPatience = 3
	// quorum is how many servers are to agree, if there are as many: two
	// liars of five are heard out before the others.
	quorum = 3

	recheckDoubt    = 5 * time.Second  // a reachable address failed: ask again at once
	confirmOther    = time.Second      // ask a second server
	confirmSame     = time.Minute      // only one server known: ask it again
	recheckPublic   = 15 * time.Minute // confirmed by two servers
	recheckInsecure = 5 * time.Minute  // public behind a box, and nobody came in since
	recheckPrivate  = 10 * time.Minute // a NAT seldom opens by itself
	afterDecline    = 10 * time.Second // busy, or cannot dial this transport
	afterDeclines   = 5 * time.Minute  // declined three times in a row
)

// record takes in what one server found, and says when to ask next. others:
// there is a server that may be asked and has not judged the address yet.
func (c *candidate) record(r result, others bool, now time.Time) {
	// No NAT is in between: who dials an interface's public address from a private one
	// is a neighbour, or a container on this machine, and comes in past the firewall.
	// Elsewhere it may be a proxy's or a balancer's, and somebody on the internet behind it.
	if r.near && c.source == fromInterface {
		if r.late {
			return
		}
		r.outcome = declined
	}
	switch {
	case r.outcome == crossed:
		c.noteAsked(r.server, now)
		c.next = now // no evidence, and nobody's fault
		return
	case r.outcome == declined:
		c.noteAsked(r.server, now)
		c.declines++
		c.next = now.Add(afterDecline)
		if c.declines >= 3 {
			c.next = now.Add(afterDeclines)
		}
		return
	case r.late && r.outcome != dialled:
		// A second word on a dial-back that has counted already.
		if o, ok := c.outcomes[r.server]; ok && o.outcome == silent {
			o.outcome = r.outcome
			c.outcomes[r.server] = o
			c.decide(others)
		}
		return
	}
	c.declines, c.cameBack = 0, false
	c.remember(r, now)
	if r.outcome == dialled {
		c.failures = 0
		if r.stranger {
			c.prove(now)
		}
	} else {
		c.failures++
	}
	c.decide(others)
	c.next = now.Add(c.pause(others))
}

// noteAsked remembers that a server was asked and found nothing out, so that
// another one is asked first; it does not take back what it found before.
func (c *candidate) noteAsked(server peer.ID, now time.Time) {
	if o, judged := c.outcomes[server]; judged {
		o.asked = now
		c.outcomes[server] = o
	} else {
		c.remember(result{server: server, outcome: declined}, now)
	}
}

// prove notes that a stranger got through.
func (c *candidate) prove(now time.Time) {
	c.proof, c.filtered, c.denied, c.failures = now, false, 0, 0
	c.stranger = c.stranger.again()
}

// decide weighs the servers' latest words: the majority of those who tried has
// it, so that a minority of liars turns nothing. A dial-back that arrived is a
// fact, but one that comes from where the server is connected from may have
// been let in for that alone.
//
//	          for ≥ against                 against > for, and patience is over
//	unknown ────────────────▶ public ───────────────────────────────▶ private
//	                            ▲                                        │
//	                            └────────────────────────────────────────┘
//	                  for > against, or as many and nobody else to ask, or proof
func (c *candidate) decide(others bool) {
	if c.onWord() {
		c.reachable = Public
		return
	}
	d, f := c.tally()
	if c.outvoted++; f <= d {
		c.outvoted = 0
	}
	if d == 0 && f > 0 {
		c.filtered, c.denied = false, 0 // nobody gets through
	}
	heard := 0 // servers that said so: silence alone may be the server's fault
	for _, o := range c.fresh() {
		if o.outcome == failed {
			heard++
		}
	}
	proven := !c.proof.IsZero() && c.failures == 0 && (d > 0 || c.source != fromObserved)
	switch {
	case c.filtered && d+f > 0:
		c.reachable = Private
	case d+f == 0 && !proven:
		return
	case proven, d > f, d > 0 && d == f && c.reachable == Unknown, d > 0 && d == f && !others && c.failures == 0:
		c.reachable = Public
		c.settled = c.settled || d >= quorum || d >= 2 && !others || proven
	case f > d && c.reachable == Public:
		if f == 1 && heard == 0 || c.failures < publicPatience && c.outvoted < publicPatience && (c.settled || f < 2) {
			return
		}
		c.reachable, c.settled, c.proof = Private, false, time.Time{}
		c.stranger = c.stranger.again()
	case f > d:
		c.reachable = Private
	}
}

// pause is how long to wait until somebody is asked again.
func (c *candidate) pause(others bool) time.Duration {
	d, f := c.tally()
	switch {
	case c.onWord() && !others:
		return recheckInsecure // who doubts it is in no hurry to say something else
	case c.reachable == Public && c.failures > 0 && (c.settled || !others):
		return recheckDoubt
	case others && max(d, f) < quorum:
		return confirmOther
	case c.reachable == Public && d >= 2 && d > f:
		if c.source == fromObserved || c.source == fromMapped {
			return recheckInsecure
		}
		return recheckPublic
	case c.reachable == Private && f >= 2:
		return recheckPrivate
	case others:
		return confirmOther
	}
	return confirmSame
}

// patience is how long a dial-back of c may take until its absence counts. What
// had to wait for a server's room is to be judged soon, if it never was.
func (c *candidate) patience(now time.Time) time.Duration {
	if c.reachable == Unknown && !c.queued.IsZero() && now.Sub(c.queued) > dialBackWait {
		return dialBackSoon
	}
	return dialBackWait
}

// hasten brings the next probe forward if there are fewer than quorum servers
// that agree, and there is another one now.
func (c *candidate) hasten(now time.Time) {
	if d, f := c.tally(); max(d, f) < quorum && c.declines == 0 && c.next.After(now.Add(confirmOther)) && !c.cameBack {
		c.next = now.Add(confirmOther)
	}
}

func (c *candidate) remember(r result, now time.Time) {
	c.outcomes[r.server] = outcomeAt{outcome: r.outcome, at: now, asked: now}
	if len(c.outcomes) <= maxWitnesses {
		return
	}
	var oldest peer.ID
	for id, o := range c.outcomes {
		if oldest == "" || o.at.Before(c.outcomes[oldest].at) {
			oldest = id
		}
	}
	delete(c.outcomes, oldest)
}

// fresh are the outcomes that count: those since the network changed, or if
// nobody found anything since, those before.
func (c *candidate) fresh() map[peer.ID]outcomeAt {
	since := make(map[peer.ID]outcomeAt, len(c.outcomes))
	for id, o := range c.outcomes {
		if !o.at.Before(c.renewed) && o.outcome != declined {
			since[id] = o
		}
	}
	if len(since) == 0 {
		return c.outcomes
	}
	return since
}

// tally counts the servers whose latest word is for and against the address.
func (c *candidate) tally() (dialledBy, failedBy int) {
	for _, o := range c.fresh() {
		switch {
		case o.outcome == dialled:
			dialledBy++
		case o.outcome.against():
			failedBy++
		}
	}
	return dialledBy, failedBy
}

// renew makes what was found so far old news: the network has changed.
func (c *candidate) renew(now time.Time) {
	c.renewed, c.next, c.queued = now, now, time.Time{}
	c.settled, c.failures, c.outvoted, c.declines = false, 0, 0, 0
	c.stranger = c.stranger.again()
}

// fleeting reports whether all that is known was found before the network
// changed, or nothing is.
func (c *candidate) fleeting() bool {
	for _, o := range c.outcomes {
		if o.outcome != declined && !o.at.Before(c.renewed) {
			return false
		}
	}
	return true
}

// proven reports whether strangers get through as far as can be known: one
// did, or nothing stands before the address that could tell them from others.
func (c *candidate) proven() bool {
	return c.reachable == Public && (c.source != fromObserved || !c.proof.IsZero())
}

func (c *candidate) confidence() Confidence {
	d, f := c.tally()
	switch {
	case c.reachable == Unknown:
		return NoEvidence
	case c.reachable == Private && (c.denied >= 2 || f >= 2):
		return Strong
	case c.reachable == Private:
		return Weak
	case !c.proof.IsZero(), c.onWord():
		return Proven
	case d < 2:
		return Weak
	case c.proven():
		return Proven
	}
	return Strong
}

// rank orders candidates with the same verdict by how good their evidence is.
func (c *candidate) rank() int {
	n := map[Confidence]int{NoEvidence: 0, Hint: 1, Weak: 2, Strong: 4, Proven: 6}[c.confidence()]
	if c.proven() {
		n++
	}
	return n
}

func (c *candidate) verdict() AddrVerdict {
	d, f := c.tally()
	v := AddrVerdict{
		Addr: c.addr.String(), Reachability: c.reachable, Confidence: c.confidence(), Proven: c.proven(),
		Source: c.source.String(), DialledBy: d, FailedBy: f,
	}
	for _, o := range c.outcomes {
		if o.at.After(v.LastChecked) {
			v.LastChecked = o.at
		}
	}
	return v
}
