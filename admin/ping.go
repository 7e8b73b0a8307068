package admin

import (
	"context"
	"encoding/json"
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

// PingLine is one line of a ping: a ping or, if Upgrade or Fallback is there, the
// moment between two of them in which the path became direct, or ceased to be.
type PingLine struct {
	Seq int `json:"seq"`
	node.Ping
	Error    *Error      `json:"error,omitempty"`
	Upgrade  *PathChange `json:"upgrade,omitempty"`
	Fallback *PathChange `json:"fallback,omitempty"`
}

// PathChange: packets take another way than those of the pings before.
type PathChange struct {
	Time time.Time `json:"time"`
	From node.Path `json:"from"`
	To   node.Path `json:"to"`
	// After is how long ago the first ping over the old path was sent.
	After time.Duration `json:"after_ns"`
}

// MarshalJSON leaves out what a line does not have: a change of path has no
// number, and neither it nor a ping without an answer a round trip.
func (l PingLine) MarshalJSON() ([]byte, error) {
	switch {
	case l.Upgrade != nil || l.Fallback != nil:
		return json.Marshal(struct {
			Upgrade  *PathChange `json:"upgrade,omitempty"`
			Fallback *PathChange `json:"fallback,omitempty"`
		}{l.Upgrade, l.Fallback})
	case l.Error != nil:
		return json.Marshal(struct {
			Seq   int    `json:"seq"`
			Error *Error `json:"error"`
		}{l.Seq, l.Error})
	}
	type plain PingLine // without this method
	return json.Marshal(plain(l))
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
		if pinged.write(line) != nil || ctx.Err() != nil || errors.Is(err, node.ErrSelf) {
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
	lines  *lineWriter
	peer   peer.ID
	events <-chan node.Event // nil once it has closed
	begun  bool              // there was a ping; before, nothing is between two of them
	path   node.Path         // of the last ping with an answer, or what it was upgraded to
	since  time.Time         // of the first ping over a path of that kind
}

// upgradeWait is how long a ping that was the first to take a direct path waits
// for word of the upgrade, which another goroutine of the node gives.
const upgradeWait = 100 * time.Millisecond

// write puts an upgrade before the first ping that came over the direct path,
// and a fallback before the first that came over a relay again.
func (p *pinging) write(l PingLine) error {
	sent := time.Now().Add(-l.RTT)
	if l.Error == nil && l.Path.Direct() {
		// Only if the last ping was relayed is it certain that word will come.
		var limit <-chan time.Time
		if p.path.Relayed() {
			limit = time.After(upgradeWait)
		}
		if err := p.upgradeBefore(limit); err != nil {
			return err
		}
	}
	if l.Error == nil && l.Path.Relayed() && p.path.Direct() {
		c := &PathChange{Time: sent, From: p.path, To: l.Path, After: sent.Sub(p.since)}
		if err := p.lines.write(PingLine{Fallback: c}); err != nil {
			return err
		}
	}
	if l.Error == nil {
		p.now(l.Path, sent)
	}
	p.begun = true
	return p.lines.write(l)
}

// now takes in which path pings take.
func (p *pinging) now(path node.Path, at time.Time) {
	if path.Direct() != p.path.Direct() || path.Relayed() != p.path.Relayed() {
		p.since = at
	}
	p.path = path
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
	after := c.Held
	if p.path.Relayed() { // which is what was seen; the path may have been lost and made anew
		after = max(c.Time.Sub(p.since), 0)
	}
	p.now(c.To, c.Time)
	return true, p.lines.write(PingLine{Upgrade: &PathChange{Time: c.Time, From: c.From, To: c.To, After: after}})
}

// Ping pings a peer count times (0: until ctx ends) and calls f with each
// outcome, and each change of the path, until it returns false.
func (c *Client) Ping(ctx context.Context, p peer.ID, count int, interval, timeout time.Duration, f func(PingLine) bool) error {
	return lines(ctx, c, "/v1/ping", url.Values{
		"peer": {p.String()}, "count": {strconv.Itoa(count)},
		"interval": {interval.String()}, "timeout": {timeout.String()},
	}, f)
}
