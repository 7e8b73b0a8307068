//go:build unix

package main

import (
	"os"
	"testing"
)

// TestClaim: one demo of a name at a time, and nothing is left of it.
func TestClaim(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	letGo, err := claim("demo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim("demo"); err == nil || err.Error() != "a demo named demo is running already" {
		t.Errorf("a second demo: got %v, want it refused", err)
	}
	other, err := claim("demo2")
	if err != nil {
		t.Fatalf("a demo of another name: %v", err)
	}
	other()
	letGo()
	if letGo, err = claim("demo"); err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	letGo()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}
