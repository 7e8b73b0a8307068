//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// Exit codes, as those of relayd and peer.
const (
	exitFailure = 1
	exitUsage   = 2
)

// fault is an error with something to try.
type fault struct {
	err  error
	try  string
	code int
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// fail is a failure with something to try.
func fail(err error, try string) error { return &fault{err, try, exitFailure} }

// options are what one can choose.
type options struct {
	nat      kind
	lan      netip.Prefix // our address there, and the length of its network's prefix
	blockUDP bool
}

// flags are the flags, and where their values go.
func flags() (fs *pflag.FlagSet, nat, lan *string, blockUDP *bool) {
	fs = pflag.NewFlagSet("router", pflag.ContinueOnError)
	fs.SortFlags = false
	nat = fs.String("nat", string(portRestricted), "the `KIND` of NAT: port-restricted, address-restricted, full-cone or symmetric")
	lan = fs.String("lan", "", "the `ADDRESS` to take on the LAN, like 192.168.81.1/24; the LAN's interface is the one in that network")
	blockUDP = fs.Bool("block-udp", false, "let no UDP through, in or out, like the firewall of a company")
	return fs, nat, lan, blockUDP
}

func help() string {
	fs, _, _, _ := flags()
	return `The NAT router of a LAN, on a machine or container with two networks.

  router --lan ADDRESS/BITS [--nat KIND] [--block-udp]
  router healthcheck              exit code 0 if one is routing here

` + fs.FlagUsages() + `
Each can also be set in the environment: ROUTER_NAT, ROUTER_LAN, ROUTER_BLOCK_UDP.
It needs the capability NET_ADMIN and the sysctl net.ipv4.ip_forward=1.
`
}

// parse reads the flags and, for those that are not given, the environment. It
// names all faults at once.
func parse(args []string, env func(string) (string, bool)) (options, error) {
	const try = "router --help"
	fs, nat, lan, blockUDP := flags()
	if err := fs.Parse(args); err != nil {
		return options{}, &fault{plainly(err), try, exitUsage}
	}
	var errs []error
	if fs.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", fs.Arg(0)))
	}
	fs.VisitAll(func(f *pflag.Flag) {
		name := "ROUTER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		// Compose sets what has no value to nothing.
		v, ok := env(name)
		if !ok || v == "" || f.Changed {
			return
		}
		if err := f.Value.Set(v); err != nil { // only a boolean's can fail
			errs = append(errs, fmt.Errorf("%s is %q, want true or false", name, v))
		}
	})
	o := options{nat: kind(*nat), blockUDP: *blockUDP}
	if kinds[o.nat] == "" {
		errs = append(errs, fmt.Errorf("%q is no kind of NAT", *nat))
	}
	var err error
	if o.lan, err = parseLAN(*lan); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return options{}, &fault{errors.Join(errs...), try, exitUsage}
	}
	return o, nil
}

// plainly takes the names of Go's functions out of what pflag says.
func plainly(err error) error {
	text, _, cut := strings.Cut(err.Error(), ": strconv.")
	if !cut {
		return err
	}
	return errors.New(text + ": want true or false")
}

// parseLAN reads an address with its network's prefix length. It must be one
// that a machine can have, with room for another machine.
func parseLAN(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, errors.New("the address on the LAN (--lan) is missing")
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("--lan %q is no address with a prefix length, like 192.168.81.1/24", s)
	case !p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("--lan %s is not IPv4, and there is no NAT for IPv6 here", s)
	case p.Bits() < 8 || p.Bits() > 30:
		return netip.Prefix{}, fmt.Errorf("--lan %s: a LAN's prefix has 8 to 30 bits", s)
	case p.Addr() == p.Masked().Addr():
		return netip.Prefix{}, fmt.Errorf("--lan %s is the network itself; want an address in it, like %s/%d", s, p.Addr().Next(), p.Bits())
	case !p.Contains(p.Addr().Next()):
		return netip.Prefix{}, fmt.Errorf("--lan %s is the network's broadcast address", s)
	}
	return p, nil
}
