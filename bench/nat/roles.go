//go:build linux

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/causeway-p2p/causeway/bench/child"
	"github.com/causeway-p2p/causeway/internal/natlab"
)

// Every node is a process of its own on a machine of the lab.
const (
	serverRole = "server"
	peerRole   = "peer"
)

var roles = map[string]func() child.Actions{
	serverRole: new(server).actions,
	peerRole:   new(member).actions,
}

// startChild starts a child on a machine, which is killed when ctx ends.
func startChild(ctx context.Context, m *natlab.Machine, role string) (*child.Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	cmd := m.Command(ctx, exe)
	// A lab has five to eight of them, and several labs are there at once.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	return child.Start(cmd, m.Name(), role)
}
