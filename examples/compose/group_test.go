//go:build unix

package main

import (
	"path/filepath"
	"testing"
)

// TestStruck: a command that Ctrl-C strikes before it has begun is run again, by
// whoever takes the stage down after Ctrl-C, and what it said before does not count;
// one that is struck each time has ended.
func TestStruck(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	for _, signal := range []string{"INT", "TERM"} {
		got, err := output(t.Context(), nil, "sh", "-c", `[ -e "$0.$1" ] || { >"$0.$1"; echo up; kill -$1 $$; }; echo down`, begun, signal)
		if err != nil || got != "down" {
			t.Errorf("struck by SIG%s once: got %q, %v, want it run again", signal, got, err)
		}
	}
	if _, err := output(t.Context(), nil, "sh", "-c", "kill -TERM $$"); err == nil {
		t.Error("struck each time: got no error")
	}
	if _, err := output(t.Context(), nil, "sh", "-c", `[ -e "$0.KILL" ] || { >"$0.KILL"; kill -KILL $$; }`, begun); err == nil {
		t.Error("killed: got no error, want it not run again")
	}
}
