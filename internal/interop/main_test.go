//go:build linux

// Package interop_test lets stock peers use our relay, and our peers use stock
// relays: go-libp2p in several versions (versions), and js-libp2p (js). Every
// peer is a process of its own and made of nothing but the library; whatever
// one of them notices that it would not with a stock relay is a bug of ours.
//
// It builds a lot, and so only runs where it is asked to: make interop.
package interop_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	golog "github.com/ipfs/go-log/v2"
	"go.uber.org/goleak"
)

// required says whether to run at all.
var required = os.Getenv("INTEROP") == "require"

// buildPatience bounds building everything with cold caches, on a machine that
// has other things to do.
const buildPatience = 15 * time.Minute

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if !required {
		return m.Run()
	}
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		golog.SetAllLoggers(golog.LevelFatal) // circuits break here
	}
	dir, err := os.MkdirTemp("", "causeway-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), buildPatience)
	defer cancel()
	if err := build(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "interop:", err)
		return 1
	}
	return code
}

// needPrograms skips the test where nothing was built.
func needPrograms(t *testing.T) {
	t.Helper()
	if !required {
		t.Skip("builds go-libp2p in three versions, which takes minutes: make interop, or INTEROP=require")
	}
}
