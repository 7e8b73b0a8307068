package node

import (
	"os"
	"testing"

	golog "github.com/ipfs/go-log/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		golog.SetAllLoggers(golog.LevelFatal) // relays break here
	}
	goleak.VerifyTestMain(m)
}
