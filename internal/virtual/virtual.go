// Package virtual runs tests in virtual time: testing/synctest, on one processor
// under the race detector.
//
// The detector of Go 1.26 crashes (a SIGSEGV, or "ThreadSanitizer: CHECK failed")
// when two threads run timers of the same bubble at once, because they share the
// bubble's one race context: https://go.dev/issue/78156. On one processor that cannot
// be. Races are found all the same: the detector goes by what orders two accesses,
// not by whether they met.
package virtual

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test runs f in a bubble of its own, as [synctest.Test] does.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if raceDetector {
		one.enter()
		defer one.leave()
	}
	synctest.Test(t, f)
}

// one holds the program to one processor while any bubble is open: parallel tests
// may have several.
var one processor

type processor struct {
	mu      sync.Mutex
	bubbles int
	before  int // GOMAXPROCS outside
}

func (p *processor) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bubbles++; p.bubbles == 1 {
		p.before = runtime.GOMAXPROCS(1)
	}
}

func (p *processor) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bubbles--; p.bubbles == 0 {
		runtime.GOMAXPROCS(p.before)
	}
}
