//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/google/nftables"
)

// claimed is a socket that nobody sends to: that it exists means that a router
// runs. It is no file, but belongs to the network namespace as the rules do, and
// it goes with the process.
const claimed = "@causeway-router"

// claim makes this process the one router of its network namespace.
func claim() (net.PacketConn, error) {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: claimed, Net: "unixgram"})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fail(errors.New("another router runs here"), "stop it first")
	}
	return c, err
}

// healthcheck finds nothing wrong if a router runs here and its rules are in
// the kernel.
func healthcheck(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "unixgram", claimed)
	if err != nil {
		return fail(errors.New("no router runs here"), "router --lan ADDRESS/BITS")
	}
	c.Close()
	conn, err := nftables.New()
	if err != nil {
		return denied(err)
	}
	there, err := conn.ListTables()
	if err != nil {
		return denied(fmt.Errorf("look for the rules: %w", err))
	}
	for _, want := range []nftables.Table{table4, table6} {
		if !slices.ContainsFunc(there, func(t *nftables.Table) bool { return t.Name == want.Name && t.Family == want.Family }) {
			return fail(errors.New("the rules are not in the kernel"), "start the router again, unless it has only begun")
		}
	}
	return nil
}
