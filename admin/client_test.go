package admin

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestSilent: a node that takes questions and does not answer, as one that is
// stopped (SIGSTOP) does, is not waited for for ever.
func TestSilent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.patience = time.Millisecond
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrSilent) {
		t.Errorf("got %v, want %v", err, ErrSilent)
	}
}
