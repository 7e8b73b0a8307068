package portmap

import (
	"sync"
	"time"
)

// epoch follows a gateway's count of seconds since it lost its state, to notice
// that it did: RFC 6887 section 8.5 and, a little more strictly there, RFC 6886
// section 3.6.
type epoch struct {
	mu     sync.Mutex // guards the fields below
	known  bool
	value  uint32
	at     time.Time
	forgot bool
}

// heard takes in what came with an answer. The gateway's clock may go slower
// than ours by an eighth.
func (e *epoch) heard(value uint32, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	passed := int64(now.Sub(e.at) / time.Second)
	if e.known && int64(value)+2 < int64(e.value)+passed*7/8 {
		e.forgot = true
	}
	e.known, e.value, e.at = true, value, now
}

// lost reports whether the gateway has forgotten what it knew when this was
// last asked.
func (e *epoch) lost() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	forgot := e.forgot
	e.forgot = false
	return forgot
}
