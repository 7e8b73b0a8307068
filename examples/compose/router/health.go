//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/google/nftables"
)

const (
	// socket is where a router says whether it routes. The name is no file: it
	// belongs to the network namespace, as the rules do, and goes with the
	// process.
	socket = "@causeway-router"
	// question is how long an answer may take: it is one question to the kernel.
	question = 2 * time.Second
	healthy  = "routing"
	longest  = 500 // bytes of an answer
)

// claim makes us the one router of this network namespace.
func claim(ctx context.Context) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fail(errors.New("another router runs here"), "stop it first")
	}
	return ln, err
}

// answer answers, one after the other, until ctx ends.
func answer(ctx context.Context, ln net.Listener) {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		conn, err := ln.Accept()
		if err != nil {
			// Only when ctx ends: there is one connection at a time, and nothing
			// else that Accept could run out of.
			<-ctx.Done()
			return
		}
		conn.SetDeadline(time.Now().Add(question))
		text := healthy
		if err := installed(); err != nil {
			text = err.Error()
		}
		_, _ = io.WriteString(conn, text) // who asked may be gone
		conn.Close()
	}
}

// installed asks the kernel whether what drops by default is still there.
func installed() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, t := range []nftables.Table{table4, table6} {
		if _, err := conn.ListChain(&t, "forward"); err != nil {
			return fmt.Errorf("the rules are gone: %w", err)
		}
	}
	return nil
}

// healthcheck asks the router that runs here.
func healthcheck(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return fail(errors.New("no router runs here"), "router --lan ADDRESS/BITS")
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(question))
	said, err := io.ReadAll(io.LimitReader(conn, longest))
	if err != nil {
		return fmt.Errorf("the router does not answer: %w", err)
	}
	if string(said) != healthy {
		return fail(fmt.Errorf("the router says: %s", said), "start it again")
	}
	fmt.Fprintln(w, healthy)
	return nil
}
