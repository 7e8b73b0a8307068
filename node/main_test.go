package node

import (
	"os"
	"testing"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		golog.SetAllLoggers(golog.LevelFatal) // relays break here
	}
	// Stock hosts want four witnesses before they know their own address.
	observedaddrs.ActivationThresh = 1
	goleak.VerifyTestMain(m)
}
