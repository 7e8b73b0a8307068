package main

import "time"

const (
	// horizon is how long a measurement may take, in virtual time.
	horizon = 6 * time.Hour
	// finest is the step of observation. It grows to a thousandth of the time
	// that has passed.
	finest = 2 * time.Millisecond
)

func step(elapsed time.Duration) time.Duration {
	return min(max(finest, elapsed/1000), 10*time.Second)
}

// until waits in virtual time until ok, and says how long that took, and
// whether it happened at all.
func until(limit time.Duration, ok func() bool) (time.Duration, bool) {
	begun := time.Now()
	for {
		elapsed := time.Since(begun)
		if ok() {
			return elapsed, true
		}
		if elapsed >= limit {
			return limit, false
		}
		time.Sleep(step(elapsed))
	}
}

// span is a condition that is timed.
type span struct {
	holds func() bool
	total time.Duration // how long it held
}

// watch times conditions from now until done holds, for at most limit. It
// reports how long it watched and whether done came.
func watch(limit time.Duration, done func() bool, spans ...*span) (time.Duration, bool) {
	begun := time.Now()
	for {
		elapsed := time.Since(begun)
		if done() {
			return elapsed, true
		}
		if elapsed >= limit {
			return limit, false
		}
		pause := min(step(elapsed), limit-elapsed)
		for _, s := range spans {
			if s.holds() {
				s.total += pause
			}
		}
		time.Sleep(pause)
	}
}
