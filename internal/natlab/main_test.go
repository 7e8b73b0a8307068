//go:build linux

package natlab

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if crash := os.Getenv("NATLAB_TEST_CRASH"); crash != "" {
		os.Exit(m.Run()) // crash_test.go: this run is one of its programs
	}
	goleak.VerifyTestMain(m)
}
