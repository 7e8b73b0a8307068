package main

import (
	"testing"

	"github.com/causeway-p2p/causeway/internal/cli/clitest"
)

func TestSettings(t *testing.T) { clitest.Settings(t, "PEER", newRoot) }
