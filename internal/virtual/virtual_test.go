package virtual_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

// TestTimers sets off many timers of a bubble at the same instants, some of which
// look at a timer's channel that is due as well. With [synctest.Test] in place of
// [virtual.Test] it crashes under the race detector within a second.
func TestTimers(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	virtual.Test(t, func(*testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				timer := time.NewTimer(time.Hour)
				poll := func() {
					select {
					case <-timer.C:
					default:
					}
				}
				for range 300 {
					timer.Reset(time.Millisecond)
					time.AfterFunc(time.Millisecond, poll)
					time.AfterFunc(time.Millisecond, func() {})
					time.AfterFunc(time.Millisecond, func() {})
					time.Sleep(time.Millisecond)
					poll()
				}
			})
		}
		wg.Wait()
	})
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("%d processors after the bubble, %d before", after, before)
	}
}
