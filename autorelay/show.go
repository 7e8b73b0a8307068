package autorelay

import "time"

// fillShown advertises the best of what we hold, up to Relays. What is
// advertised stays so as long as it is held, because addresses should be
// stable; only a pinned relay takes another's place.
func (a *AutoRelay) fillShown(now time.Time) {
	for {
		shown := 0
		var next, worst *relay
		for _, r := range a.relays {
			switch {
			case r.shown && r.state == Reserved:
				shown++
				if r.wish != Pinned && (worst == nil || a.betterToShow(worst, r, now)) {
					worst = r
				}
			case r.state == Reserved && (next == nil || r.wish == Pinned || (next.wish != Pinned && a.betterToShow(r, next, now))):
				next = r
			}
		}
		if next != nil && next.wish == Pinned && shown >= a.cfg.Relays && worst != nil {
			worst.shown = false
			shown--
		}
		if shown >= a.cfg.Relays || next == nil {
			break
		}
		next.shown = true
		if old := a.lastLost; old != nil {
			if old != next {
				a.emit(Event{Kind: Replaced, Relay: next.id, Old: old.id, Reason: old.reason, Took: now.Sub(a.lostAt), Time: now})
			}
			a.lastLost = nil
		}
	}
	// A relay that drains is shown as long as no other is.
	last := !a.showsReserved()
	for _, r := range a.relays {
		if r.state == Draining {
			r.shown = last
		}
	}
}

func (a *AutoRelay) showsReserved() bool {
	for _, r := range a.relays {
		if r.shown && r.state == Reserved {
			return true
		}
	}
	return false
}

func (a *AutoRelay) betterToShow(x, y *relay, now time.Time) bool {
	return a.cost(x, now) < a.cost(y, now)
}
