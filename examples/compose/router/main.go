//go:build linux

// Router is the NAT router between a LAN of the demo and its internet, in a
// container of its own with two networks and the capability NET_ADMIN. It gives
// the LAN's interface the address that the machines there have as their
// gateway, puts its rules into the kernel, and then has nothing to do: the
// kernel routes. It needs no nft command and no other file.
//
//	router --nat symmetric --lan 192.168.81.1/24
//
// What each kind of NAT is, and that it is that, is in rules.go and its test.
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
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	var err error
	switch {
	case slices.Contains(args, "-h") || slices.Contains(args, "--help"):
		_, err = io.WriteString(stdout, help())
	case slices.Equal(args, []string{"healthcheck"}):
		err = healthcheck(ctx, stdout)
	default:
		var o options
		if o, err = parse(args, env); err == nil {
			err = route(ctx, o, func(format string, args ...any) {
				fmt.Fprintf(stdout, "%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
			})
		}
	}
	if err == nil {
		return 0
	}
	var f *fault
	if !errors.As(err, &f) {
		f = &fault{err: err, code: exitFailure}
	}
	fmt.Fprintf(stderr, "Error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if f.try != "" {
		fmt.Fprintf(stderr, "Try: %s\n", f.try)
	}
	return f.code
}

// route sets up the router and waits for the end of ctx, which is no error.
func route(ctx context.Context, o options, say func(format string, args ...any)) error {
	health, err := claim(ctx)
	if err != nil {
		return err
	}
	defer health.Close()
	if err := forwarding(); err != nil {
		return err
	}
	inside, outside, err := await(ctx, o.lan)
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
	answer(ctx, health)
	say("stopped; what is in the kernel stays until this network namespace goes")
	return nil
}
