package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/admin"
)

// pings are pings from one actor to another, one after the other.
type pings struct {
	from, to *actor
	lines    *feed[pingAt]
	cancel   context.CancelFunc
	done     chan struct{}
}

// pingAt is a line of a ping, and when it came.
type pingAt struct {
	admin.PingLine
	at time.Time
}

const (
	pingInterval = 20 * time.Millisecond
	// pingCount ends the pings by themselves, and not before the story's time is
	// over. Those that are left behind with a stage that is kept go on until then.
	pingCount = int(storyTime / pingInterval)
)

// ping begins to ping, connecting first if need be.
func ping(ctx context.Context, from, to *actor) *pings {
	ctx, cancel := context.WithCancel(ctx)
	p := &pings{from: from, to: to, lines: newFeed[pingAt](), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		err := lines(ctx, from, func(l admin.PingLine) { p.lines.add(pingAt{l, time.Now()}) },
			"ping", to.id.String(), "--json", "--count", strconv.Itoa(pingCount),
			"--interval", pingInterval.String(), "--timeout", patience.String())
		if err == nil {
			err = errors.New("the pings have ended")
		}
		p.lines.end(err)
	}()
	return p
}

func (p *pings) stop() {
	p.cancel()
	<-p.done
}

// await waits for a line that came after since.
func (p *pings) await(ctx context.Context, since time.Time, what string, ok func(pingAt) bool) (pingAt, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("in vain, for %v", patience))
	defer cancel()
	l, err := p.lines.find(ctx, func(l pingAt) bool { return l.at.After(since) && ok(l) })
	if err != nil {
		return l, fmt.Errorf("%s pings %s: waited for %s: %w", p.from.name, p.to.name, what, err)
	}
	return l, nil
}

// answered and notOver say which line is wanted.
func answered(l pingAt) bool { return l.Seq > 0 && l.Error == nil }

func notOver(relay peer.ID) func(pingAt) bool {
	return func(l pingAt) bool { return answered(l) && l.Path.Relay != relay }
}

// answers is how a while went.
type answers struct {
	silence          time.Duration // the longest without an answer
	answered, failed int
}

// during tells how the pings went between two moments.
func (p *pings) during(from, to time.Time) (a answers) {
	last := from
	for _, l := range p.lines.all() {
		switch {
		case l.Seq == 0 || l.at.Before(from) || l.at.After(to):
		case l.Error != nil:
			a.failed++
		default:
			a.answered++
			a.silence = max(a.silence, l.at.Sub(last))
			last = l.at
		}
	}
	a.silence = max(a.silence, to.Sub(last))
	return a
}
