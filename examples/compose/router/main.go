//go:build linux

// Command router is the NAT router between a LAN of the demo and its internet, in a
// container of its own with two networks and the capability NET_ADMIN. It gives
// the LAN's interface the address that the machines there have as their
// gateway, puts its rules into the kernel, and then has nothing to do: the
// kernel routes. It needs no nft command, nor any other file.
//
//	router --lan 192.168.81.1/24 --nat symmetric
//
// It does not do IPv6, hairpin, DNS or DHCP.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err == nil {
		return
	}
	var f *fault
	if !errors.As(err, &f) {
		f = &fault{err, "", 1}
	}
	fmt.Fprintf(os.Stderr, "Error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if f.try != "" {
		fmt.Fprintf(os.Stderr, "Try: %s\n", f.try)
	}
	os.Exit(f.code)
}

func run(ctx context.Context, args []string) error {
	switch {
	case slices.Contains(args, "-h"), slices.Contains(args, "--help"):
		_, err := io.WriteString(os.Stdout, help())
		return err
	case slices.Equal(args, []string{"healthcheck"}):
		return healthcheck(ctx)
	}
	o, err := parse(args, os.Getenv)
	if err != nil {
		return err
	}
	return route(ctx, o)
}

// route sets up the router and waits for the end of ctx, which is no error.
func route(ctx context.Context, o options) error {
	one, err := claim()
	if err != nil {
		return err
	}
	defer one.Close()
	if err := forwarding(); err != nil {
		return err
	}
	inside, outside, err := await(ctx, o.lan.Addr())
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	// The rules first: who has us as a gateway must not get through without.
	if err := install(o, inside.name, outside.name); err != nil {
		return err
	}
	if err := inside.take(o.lan); err != nil {
		return err
	}
	say("the LAN is %s, where this router is %s", inside.name, o.lan)
	say("the internet is %s, where all of the LAN is %s", outside.name, outside.addrs[0].Addr())
	say("the NAT is %s: %s", o.nat, kinds[o.nat])
	if o.blockUDP {
		say("no UDP gets through, in or out")
	}
	say("routing")
	<-ctx.Done()
	say("stopped; the rules stay until this network namespace goes")
	return nil
}

func say(format string, args ...any) {
	fmt.Printf("%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}
