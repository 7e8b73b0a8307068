//go:build linux

package main

import (
	"os"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// One trial of each impl, on real namespaces: that a hole is punched, and that
// the path is what it says.
func TestTrial(t *testing.T) {
	if testing.Short() {
		t.Skip("real processes take some seconds")
	}
	natlab.New(t) // skips
	for _, p := range pairs() {
		if p.id != "port-restricted/full-cone" {
			continue
		}
		for _, i := range []impl{stock, ours} {
			got := try(t.Context(), p, quic, i, 1)
			t.Logf("%s: %s, %d packets, settled in %.1f s %q", i, got.outcome, got.Packets, got.Settle, got.Attempts)
			if got.Broken || !got.Direct {
				t.Errorf("%s: %s", i, got.outcome)
			}
			// One round trip from node to node is 40 ms: what is faster was direct
			// before the clock began.
			if got.Direct && got.Seconds < 2*oneWay.Seconds() {
				t.Errorf("%s: direct after %s", i, time.Duration(got.Seconds*float64(time.Second)))
			}
			if got.Packets == 0 {
				t.Errorf("%s: no packets were counted", i)
			}
		}
	}
}

// Who is public is told so by everybody, early.
func TestJudge(t *testing.T) {
	if testing.Short() {
		t.Skip("real processes take some seconds")
	}
	natlab.New(t) // skips
	for _, i := range []impl{stock, ours} {
		j := judge(t.Context(), public, i, 1)
		t.Logf("%s: %s", i, j)
		if len(j.Verdicts) == 0 || j.Verdicts[0].Says != "public" {
			t.Errorf("%s: %s", i, j)
		}
	}
}

func TestProbe(t *testing.T) {
	if os.Geteuid() == 0 {
		natlab.New(t)
	}
	err := probe()
	if (err == nil) != (os.Geteuid() == 0) {
		t.Errorf("as user %d: %v", os.Geteuid(), err)
	}
}
