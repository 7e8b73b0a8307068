package discovery

import (
	"context"
	"sync"
)

// signal is a switch that goroutines can wait on: for "on", and for any change
// or poke since they last looked.
type signal struct {
	mu      sync.Mutex // guards the fields below
	on      bool
	changed chan struct{} // closed and replaced at every change
}

func newSignal() *signal { return &signal{changed: make(chan struct{})} }

// set turns the switch; setting "on" while it is on is a poke.
func (s *signal) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on && !s.on {
		return
	}
	s.on = on
	close(s.changed)
	s.changed = make(chan struct{})
}

// poke wakes the waiters if the switch is on.
func (s *signal) poke() {
	s.mu.Lock()
	on := s.on
	s.mu.Unlock()
	if on {
		s.set(true)
	}
}

func (s *signal) isOn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// changes returns a channel that closes at the next change.
func (s *signal) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// wait blocks until the switch is on; it returns false when ctx ended first.
func (s *signal) wait(ctx context.Context) bool {
	for {
		s.mu.Lock()
		on, changed := s.on, s.changed
		s.mu.Unlock()
		if on {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}
