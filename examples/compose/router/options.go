//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// fault is an error with something to try, and the exit code: 1 for a failure,
// 2 for a wrong call.
type fault struct {
	error
	try  string
	code int
}

func (f *fault) Unwrap() error { return f.error }

func fail(err error, try string) error { return &fault{err, try, 1} }

// options are what one can choose.
type options struct {
	nat      kind
	lan      netip.Prefix // our address there, and the length of its network's prefix
	blockUDP bool
}

// flags returns the flags, which write to o.
func flags(o *options) *pflag.FlagSet {
	fs := pflag.NewFlagSet("router", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Func("lan", "the `ADDRESS` to take on the LAN, like 192.168.81.1/24: the LAN's interface is the one in that network", func(s string) (err error) {
		o.lan, err = parseLAN(s)
		return err
	})
	fs.Func("nat", "the `KIND` of NAT: port-restricted (the default), address-restricted, full-cone or symmetric", func(s string) error {
		o.nat = kind(s)
		if kinds[o.nat] == "" {
			return errors.New("want port-restricted, address-restricted, full-cone or symmetric")
		}
		return nil
	})
	fs.BoolFunc("block-udp", "let no UDP through, in or out, like the firewall of a company", func(s string) (err error) {
		if o.blockUDP, err = strconv.ParseBool(s); err != nil {
			return errors.New("want true or false")
		}
		return nil
	})
	return fs
}

func help() string {
	return `The NAT router of a LAN, on a machine or container with two networks.

  router --lan ADDRESS/BITS [--nat KIND] [--block-udp]
  router healthcheck              exit code 0 if one routes here

` + flags(new(options)).FlagUsages() + `
Each can also be set in the environment: ROUTER_LAN, ROUTER_NAT, ROUTER_BLOCK_UDP.
It needs the capability NET_ADMIN and the sysctl net.ipv4.ip_forward=1.
`
}

// parse reads the flags and, for those that are not given, the environment.
func parse(args []string, env func(string) string) (options, error) {
	o := options{nat: portRestricted}
	fs := flags(&o)
	err := fs.Parse(args)
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	fs.VisitAll(func(f *pflag.Flag) {
		name := "ROUTER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		// Set to nothing is not set: compose files do that.
		if v := env(name); v != "" && !f.Changed && err == nil {
			if bad := fs.Set(f.Name, v); bad != nil {
				err = fmt.Errorf("environment variable %s: %w", name, bad)
			}
		}
	})
	if err == nil && !o.lan.IsValid() {
		err = errors.New("the address on the LAN is missing (--lan)")
	}
	if err != nil {
		return options{}, &fault{err, "router --help", 2}
	}
	return o, nil
}

// parseLAN reads an address with the length of its network's prefix. A machine
// must be able to have it, and there must be room for another.
func parseLAN(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 30 ||
		p.Addr() == p.Masked().Addr() || !p.Contains(p.Addr().Next()) {
		return netip.Prefix{}, errors.New("want an IPv4 address of a machine, with its network's prefix length, like 192.168.81.1/24")
	}
	return p, nil
}
