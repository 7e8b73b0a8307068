package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/causeway-p2p/causeway/bench/child"
)

// Each relay and each group of clients is a process of its own, so that the
// CPU time and the memory of a relay are nobody else's.
const (
	relayStock = "relay-stock"
	relayOurs  = "relay-ours"
	clientRole = "clients"
	proxyRole  = "proxy"
)

var roles = map[string]func() child.Actions{
	relayStock: newRelayChild(startStock).actions,
	relayOurs:  newRelayChild(startOurs).actions,
	clientRole: new(clients).actions,
	proxyRole:  new(proxy).actions,
}

// startChild starts a child, which is killed when ctx ends.
func startChild(ctx context.Context, role string) (*child.Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	return child.Start(exec.CommandContext(ctx, exe), role, role)
}

// family is the processes of one probe.
type family []*child.Process

func (f *family) start(ctx context.Context, role string) (*child.Process, error) {
	c, err := startChild(ctx, role)
	if err == nil {
		*f = append(*f, c)
	}
	return c, err
}

func (f family) close() {
	for _, c := range f {
		c.Close()
	}
}
