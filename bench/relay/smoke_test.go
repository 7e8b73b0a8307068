package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-p2p/causeway/bench/child"
)

// TestSmoke runs one round of every kind of row with next to no volume, with
// the real processes: what it measures means nothing, that it measures does.
func TestSmoke(t *testing.T) {
	tiny := func(r *row, change func(probe)) *row {
		open := r.open
		r.open = func(ctx context.Context, b *bench, s side) (probe, error) {
			p, err := open(ctx, b, s)
			if err == nil && change != nil {
				change(p)
			}
			return p, err
		}
		return r
	}
	var list []*row
	for _, w := range []wire{overTLS, overNoise, overQUIC, overWS} {
		r := bulkRow(w, 2)
		r.open = openBulk(r.id, w, 2, bulkWrite, 1<<20, 1<<20)
		list = append(list, r)
	}
	list = append(list,
		tiny(pingRow(overTLS, nil), func(p probe) { p.(*pingProbe).seconds = 0.01 }),
		tiny(fairnessRow(), func(p probe) { p.(*fairProbe).seconds = 0.05 }),
		tiny(connectRow(2), func(p probe) { p.(*connectProbe).args.Seconds = 0.05 }),
		tiny(reserveRow("64", 64, nil), func(p probe) { p.(*reserveProbe).args.Seconds, p.(*reserveProbe).args.Samples = 0.05, 0 }),
		reservationMemoryRow(2*warmReservations),
		circuitMemoryRow(20),
		tiny(proxiedRow("copy", "copy", proxySpec{}), func(p probe) { p.(*proxyProbe).args.Bytes = 1 << 20 }),
		tiny(proxiedRow("tls", "tls", proxySpec{TLS: true}), func(p probe) { p.(*proxyProbe).args.Bytes = 1 << 20 }),
	)
	if testing.Short() {
		list = list[:1] // under the race detector each of them takes seconds
	}
	dir := t.TempDir()
	for _, r := range list {
		t.Run(strings.ReplaceAll(r.id, "/", "-"), func(t *testing.T) {
			var said strings.Builder
			b := &bench{quick: true, progress: &said, pprof: dir}
			for _, l := range b.measure(t.Context(), r, 1) {
				if len(l.Errors) > 0 || (l.Alone == nil && (l.Stock == nil || l.Ours == nil)) {
					t.Errorf("%s, %s: got %v, said %s", l.Row, l.What, l.Errors, said.String())
				}
			}
		})
	}
	profiles, err := filepath.Glob(filepath.Join(dir, "a-tls-2-*-1.pprof"))
	if err != nil || len(profiles) != 2 {
		t.Errorf("profiles of a/tls/2: got %v, %v, want one for each side", profiles, err)
	}
	for _, p := range profiles {
		if info, err := os.Stat(p); err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, %v, want something in it", p, info, err)
		}
	}
}

// TestChildFails: what a child says, and that it died, reaches the parent.
func TestChildFails(t *testing.T) {
	c, err := startChild(t.Context(), clientRole)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := child.Tell(t.Context(), c, "dance", child.None{}); err == nil || !strings.Contains(err.Error(), `no action "dance"`) {
		t.Errorf("unknown action: got %v", err)
	}
	if err := child.Tell(t.Context(), c, "calm", child.None{}); err == nil || !strings.Contains(err.Error(), "no flood") {
		t.Errorf("calm without a flood: got %v", err)
	}
	if err := child.Tell(t.Context(), c, "open", openArgs{}); err == nil {
		t.Error("open to nobody: got no error")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTooSlow)
	if err := child.Tell(ctx, c, "calm", child.None{}); err == nil || !strings.Contains(err.Error(), errTooSlow.Error()) {
		t.Errorf("too slow: got %v, want %v", err, errTooSlow)
	}
	bad, err := startChild(t.Context(), "nobody")
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if err := child.Tell(t.Context(), bad, "calm", child.None{}); err == nil || !strings.Contains(err.Error(), `no role "nobody"`) {
		t.Errorf("unknown role: got %v", err)
	}
}
