package direct

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// rounds is how often the other side is told to dial. With a peer that is
	// not ours, roles change in the last, as DCUtR says.
	rounds, stockRounds = 3, 2
	// roundWait is how long packets may take in one round, besides four round
	// trips over the relay, with a peer of ours: it gives up as early.
	roundWait = time.Second
	// stockRoundWait is what go-libp2p's side spends on one (HolePunchTimeout,
	// 5 s): as long as it is at it, telling it to dial again changes nothing.
	stockRoundWait = 5500 * time.Millisecond
	// hedge is when a QUIC address is dialled again: a handshake that was lost
	// at a NAT repeats its first packet after 0.3 s only.
	hedge = 100 * time.Millisecond
	// tcpLead is how much sooner than the other side we dial over TCP, although
	// both mean the same moment: half of the round trip that we measured is more
	// than a message takes if the machines are busy. A SYN that comes too soon is
	// dropped (RFC 5382, REQ-4) and does no harm. But if theirs is the first, it
	// meets a dial that did not wait, so that both are clients; or our listener,
	// whose answer a NAT of Linux takes for no part of what it has seen.
	tcpLead = 10 * time.Millisecond
)

// attempt is one try at a direct connection to a peer.
type attempt struct {
	u     *Upgrader
	peer  peer.ID
	ours  bool // we began
	begun time.Time
	nat   NAT
	their their
	rtt   time.Duration // over the relay

	direct <-chan struct{}
	run    context.Context // of the upgrader
	ctx    context.Context // of the dials
	dials  sync.WaitGroup

	guesses atomic.Int64 // packets sent for guessing ports

	mu     sync.Mutex         // guards the fields below
	synced bool               // the moment to dial has come
	spent  map[netip.Addr]int // dials, by where they went
}

// result is how an attempt ended.
type result struct {
	peer    peer.ID
	ours    bool
	outcome Outcome
	attempt int
	took    time.Duration
	nat     NAT
	their   NAT
	known   bool // they are one of ours
	guesses int  // packets
}

func (r result) event() Event {
	return Event{
		Time: time.Now(), Peer: r.peer, Outcome: r.outcome, Why: explain(r.outcome, r.nat, r.their),
		Took: r.took, Guesses: r.guesses, Attempt: r.attempt, Ours: r.nat.kind(), Theirs: r.their.kind(),
	}
}

func (u *Upgrader) attempt(p peer.ID, ours bool) *attempt {
	return &attempt{u: u, peer: p, ours: ours, begun: time.Now(), nat: u.cfg.NAT()}
}

func (a *attempt) result(o Outcome) result {
	return result{
		peer: a.peer, ours: a.ours, outcome: o, took: time.Since(a.begun),
		nat: a.nat, their: a.their.nat, known: a.their.ours, guesses: int(a.guesses.Load()),
	}
}

// initiate is an attempt that we begin, over a relayed connection.
func (u *Upgrader) initiate(ctx context.Context, conn network.Conn) result {
	a := u.attempt(conn.RemotePeer(), true)
	ctx, cancel := a.during(ctx)
	defer cancel()
	last := TimedOut
	for round := range rounds {
		if round == stockRounds && !a.their.ours || round > 0 && !u.rates.total.Allow() {
			break
		}
		o := a.round(ctx, conn, round == stockRounds-1)
		switch {
		case a.there(): // it may have come over all that went wrong
			return a.result(a.way())
		case ctx.Err() != nil || conn.IsClosed():
			return a.result(Interrupted)
		case o != TimedOut && o != MissedPorts:
			return a.result(o)
		}
		last = o
	}
	return a.result(last)
}

// during makes the context of the dials. They end with it, and with the first
// direct connection.
func (a *attempt) during(ctx context.Context) (context.Context, func()) {
	direct, stop := a.u.awaitDirect(a.peer)
	a.run = ctx
	ctx, cancel := context.WithCancel(ctx)
	a.direct, a.ctx = direct, ctx
	return ctx, func() {
		cancel()
		stop()
		a.dials.Wait()
		if a.there() {
			a.repay()
		}
	}
}

// round talks to the other side once, and dials when both agreed to.
func (a *attempt) round(ctx context.Context, conn network.Conn, last bool) Outcome {
	u := a.u
	c, err := open(ctx, conn)
	if err != nil {
		return Interrupted
	}
	stop := context.AfterFunc(ctx, func() { c.s.Reset() })
	defer stop()
	own := u.cfg.Addrs()
	t, rtt, err := u.agree(c, own, a.nat)
	if err != nil {
		c.s.Reset()
		return whyNot(err)
	}
	a.their, a.rtt = t, min(rtt, maxRTT)
	where := targets(t.addrs)
	if len(where) == 0 && len(own) == 0 && len(t.lan) == 0 {
		c.s.Reset()
		return NoAddrs
	}
	var lan []ma.Multiaddr
	if t.ours && shareIP(own, t.addrs) {
		lan = u.privateAddrs()
	}
	early := a.early(where)
	defer early.stop()
	if shareIP(own, t.addrs) {
		a.neighbours(t.lan)
	}
	delay := a.tcpDelay()
	if err := u.sync(c, a.nat, lan, delay); err != nil {
		c.s.Reset()
		return Interrupted
	}
	c.s.Close()

	// Half a round trip from now the other side reads SYNC.
	if a.wait(ctx, a.rtt/2) {
		return a.way()
	}
	a.mu.Lock()
	a.synced = true
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, delay+a.patience())
	defer cancel()
	var tcp []ma.Multiaddr
	for _, to := range where {
		if _, udp, _ := plainAddr(to); udp {
			a.punchQUIC(ctx, to)
		} else {
			tcp = append(tcp, to)
		}
	}
	a.dials.Go(func() {
		if a.wait(ctx, delay-tcpLead) || ctx.Err() != nil {
			return
		}
		early.settle()
		for _, to := range tcp {
			a.punchTCP(ctx, to, last)
		}
	})
	guessed := a.guess(ctx, where)
	if a.wait(ctx, delay+a.patience()) {
		return a.way()
	}
	if guessed {
		return MissedPorts
	}
	return TimedOut
}

// answer is an attempt that the other side began: it has told us to dial now.
func (a *attempt) answer(ctx context.Context, t their) result {
	a.their = t
	ctx, cancel := a.during(ctx)
	defer cancel()
	a.synced = !a.there() // or else the other could dial us as it was
	where := targets(t.addrs)
	if shareIP(a.u.cfg.Addrs(), t.addrs) {
		a.neighbours(t.lan)
	}
	ctx, cancelRound := context.WithTimeout(ctx, t.delay+a.patience())
	defer cancelRound()
	for _, to := range where {
		if _, udp, _ := plainAddr(to); udp {
			a.dial(ctx, to, client, Punched)
			a.redial(ctx, to)
			continue
		}
		a.dials.Go(func() {
			if !a.wait(ctx, t.delay) && ctx.Err() == nil {
				a.dial(ctx, to, client, Punched)
			}
		})
	}
	guessed := a.guess(ctx, where)
	switch {
	case a.wait(ctx, t.delay+a.patience()):
		return a.result(a.way())
	case guessed:
		return a.result(MissedPorts)
	case len(where) == 0 && len(t.lan) == 0:
		return a.result(NoAddrs)
	}
	return a.result(TimedOut)
}

// punchQUIC dials as the side that began: packets that mean nothing let the
// other's handshake in. Where nobody can know the port that we come from, nobody
// can dial us, and so we are the client.
func (a *attempt) punchQUIC(ctx context.Context, to ma.Multiaddr) {
	as := server
	if a.nat.UDPMapping.unpredictable() {
		as = client
	}
	a.dial(ctx, to, as, Punched)
	a.redial(ctx, to)
}

// punchTCP dials as the side that began: both connect at once, and we are the
// server above that.
func (a *attempt) punchTCP(ctx context.Context, to ma.Multiaddr, last bool) {
	as := server
	if a.nat.TCPMapping.unpredictable() || last && !a.their.ours {
		as = client
	}
	a.dial(ctx, to, as, Punched)
}

// tcpDelay is how much later than QUIC we both dial over TCP. The dials that do
// not wait must have an answer by then, if they get any: one that is given up
// in the very moment at which it gets through leaves both sides in the same role.
func (a *attempt) tcpDelay() time.Duration {
	if !a.their.ours {
		return 0 // it dials at once
	}
	return min(a.rtt/2+tcpLead, maxDelay).Truncate(time.Millisecond) // as it is told
}

// redial dials a QUIC address once more if nothing has come by then.
func (a *attempt) redial(ctx context.Context, to ma.Multiaddr) {
	if _, udp, _ := plainAddr(to); !udp {
		return
	}
	a.dials.Go(func() {
		if !a.wait(ctx, max(hedge, a.rtt)) && ctx.Err() == nil {
			a.dial(ctx, to, client, Punched)
		}
	})
}

// patience is how long a round waits for a connection.
func (a *attempt) patience() time.Duration {
	if !a.their.ours {
		return stockRoundWait
	}
	d := roundWait + 4*a.rtt
	if a.guessing() {
		d = max(d, guessWait+2*a.rtt)
	}
	return d
}

// wait waits for so long, and reports whether a direct connection stands.
func (a *attempt) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-a.direct:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return a.there()
}

func (a *attempt) there() bool {
	select {
	case <-a.direct:
		return true
	default:
		return false
	}
}

// way tells what led to the direct connection that stands. One that we made says
// it itself, one that the other side made is judged by where it comes from and
// when it came.
func (a *attempt) way() Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn := directConn(a.u.host.Network(), a.peer)
	var ours *dialled
	switch {
	case conn != nil && conn.As(&ours):
		return ours.how
	case conn != nil && a.guessing() && !slices.ContainsFunc(a.their.addrs, conn.RemoteMultiaddr().Equal):
		return Guessed
	case conn != nil && manet.IsPrivateAddr(conn.RemoteMultiaddr()):
		return LAN
	case !a.synced:
		return Dialled
	}
	return Punched
}

// whyNot reads the reason out of a conversation's error.
func whyNot(err error) Outcome {
	switch text := err.Error(); {
	case errors.Is(err, errBroken):
		return BadMessage
	case strings.Contains(text, "protocols not supported") || strings.Contains(text, "protocol not supported"):
		return Unsupported
	case errors.Is(err, network.ErrReset):
		return Refused
	}
	return Interrupted
}

func (a *attempt) note(ip netip.Addr) { a.u.cfg.OnDial(ip) }
