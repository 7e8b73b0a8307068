package main

import (
	"testing"

	"github.com/causeway-p2p/causeway/internal/cli/clitest"
)

// In a file, class is the name of tables.
func TestSettings(t *testing.T) { clitest.Settings(t, "RELAYD", newRoot, "class") }
