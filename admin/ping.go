package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/node"
)

const (
	// defaultCount and defaultInterval are those of ping(8), except that a
	// count keeps scripts from hanging.
	defaultCount    = 4
	defaultInterval = time.Second
	defaultTimeout  = 30 * time.Second
)

// PingLine is one line of a ping: a ping or, if Upgrade is there, the moment
// between two of them in which the path became direct.
type PingLine struct {
	Seq int `json:"seq"`
	node.Ping
	Error   *Error   `json:"error,omitempty"`
	Upgrade *Upgrade `json:"upgrade,omitempty"`
}

// Upgrade: packets no longer go through a relay.
type Upgrade struct {
	Time time.Time `json:"time"`
	From node.Path `json:"from"`
	To   node.Path `json:"to"`
	// After is how long the relayed path was in use.
	After time.Duration `json:"after_ns"`
}

// UpgradeLine is what stands on the wire for an upgrade, and in --json.
type UpgradeLine struct {
	Upgrade Upgrade `json:"upgrade"`
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	p, err := peer.Decode(r.FormValue("peer"))
	if err != nil {
		fail(w, &Error{BadRequest, fmt.Sprintf("%q is not a peer ID", r.FormValue("peer"))})
		return
	}
	count, err1 := intValue(r, "count", defaultCount)
	interval, err2 := durationValue(r, "interval", defaultInterval)
	timeout, err3 := durationValue(r, "timeout", defaultTimeout)
	if err := errors.Join(err1, err2, err3); err != nil {
		fail(w, &Error{BadRequest, err.Error()})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	pinged := pinging{lines: newLineWriter(w), peer: p, events: s.node.Events(ctx)}
	for seq := 1; count == 0 || seq <= count; seq++ {
		start := time.Now()
		line := PingLine{Seq: seq}
		pctx, cancel := context.WithTimeout(ctx, timeout)
		line.Ping, err = s.node.Ping(pctx, p)
		cancel()
		if err != nil {
			line.Error = &Error{kindOf(err), err.Error()}
		}
		if pinged.write(line) != nil || ctx.Err() != nil || kindOf(err) == BadRequest && err != nil {
			return
		}
		if seq == count {
			return
		}
		if pinged.wait(ctx, time.After(interval-time.Since(start))) != nil {
			return
		}
	}
}

// pinging writes pings, and upgrades where they belong between them.
type pinging struct {
	lines   *lineWriter
	peer    peer.ID
	events  <-chan node.Event // nil once it has closed
	begun   bool              // there was a ping; before, nothing is between two of them
	relayed node.Path         // of the last ping, if it was
}

// upgradeWait is how long a ping that was the first to take a direct path waits
// for word of the upgrade, which another goroutine of the node gives.
const upgradeWait = 100 * time.Millisecond

// write puts an upgrade before the first ping that came over the direct path.
func (p *pinging) write(l PingLine) error {
	if l.Error == nil && l.Path.Direct() {
		// Only if the last ping was relayed is it certain that word will come.
		var limit <-chan time.Time
		if p.relayed.Relayed() {
			limit = time.After(upgradeWait)
		}
		if err := p.upgradeBefore(limit); err != nil {
			return err
		}
		p.relayed = node.Path{}
	}
	if l.Error == nil && l.Path.Relayed() {
		p.relayed = l.Path
	}
	p.begun = true
	return p.lines.write(l)
}

// upgradeBefore writes the upgrades that there was word of, or will be before
// the time limit.
func (p *pinging) upgradeBefore(limit <-chan time.Time) error {
	for {
		if limit == nil {
			select {
			case e, ok := <-p.events:
				if _, err := p.take(e, ok); err != nil {
					return err
				}
				continue
			default:
				return nil
			}
		}
		select {
		case e, ok := <-p.events:
			if told, err := p.take(e, ok); told || err != nil {
				return err
			}
		case <-limit:
			return nil
		}
	}
}

// wait waits for the next ping's time, and writes upgrades as they happen.
func (p *pinging) wait(ctx context.Context, next <-chan time.Time) error {
	for {
		select {
		case e, ok := <-p.events:
			if _, err := p.take(e, ok); err != nil {
				return err
			}
		case <-next:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take writes an event if it is an upgrade of the path to the peer.
func (p *pinging) take(e node.Event, ok bool) (told bool, err error) {
	if !ok {
		p.events = nil
		return false, nil
	}
	c, is := e.(node.PathChanged)
	if !is || !p.begun || c.Peer != p.peer || !c.From.Relayed() || !c.To.Direct() {
		return false, nil
	}
	p.relayed = node.Path{}
	return true, p.lines.write(UpgradeLine{Upgrade{Time: c.Time, From: c.From, To: c.To, After: c.Held}})
}

// Ping pings a peer count times (0: until ctx ends) and calls f with each
// outcome, and each upgrade of the path, until it returns false.
func (c *Client) Ping(ctx context.Context, p peer.ID, count int, interval, timeout time.Duration, f func(PingLine) bool) error {
	return lines(ctx, c, "/v1/ping", url.Values{
		"peer": {p.String()}, "count": {strconv.Itoa(count)},
		"interval": {interval.String()}, "timeout": {timeout.String()},
	}, f)
}
