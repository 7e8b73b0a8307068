package discovery

import (
	"context"
	"testing"
)

func TestSignal(t *testing.T) {
	closed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	s := newSignal()
	for _, step := range []struct {
		name    string
		do      func()
		changed bool
		on      bool
	}{
		{"off while off", func() { s.set(false) }, false, false},
		{"poke while off", s.poke, false, false},
		{"on", func() { s.set(true) }, true, true},
		{"on while on", func() { s.set(true) }, true, true},
		{"poke", s.poke, true, true},
		{"off", func() { s.set(false) }, true, false},
	} {
		ch := s.changes()
		step.do()
		if got := closed(ch); got != step.changed || s.isOn() != step.on {
			t.Errorf("%s: changed %v and on %v, want %v and %v", step.name, got, s.isOn(), step.changed, step.on)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s.wait(ctx) {
		t.Error("off and the context ended: wait says on")
	}
	s.set(true)
	if s.wait(ctx) {
		t.Error("on but the context ended: wait says go on")
	}
	if !s.wait(t.Context()) {
		t.Error("on: wait says end")
	}
}
