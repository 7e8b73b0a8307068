//go:build linux

package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	lan := netip.MustParsePrefix("192.168.81.1/24")
	for _, tc := range []struct {
		name string
		args string
		env  map[string]string
		want options
		err  string // a part of it
	}{
		{name: "defaults", args: "--lan 192.168.81.1/24", want: options{portRestricted, lan, false}},
		{name: "all flags", args: "--lan=192.168.81.1/24 --nat=symmetric --block-udp", want: options{symmetric, lan, true}},
		{
			name: "environment",
			env:  map[string]string{"ROUTER_LAN": "192.168.81.1/24", "ROUTER_NAT": "full-cone", "ROUTER_BLOCK_UDP": "true"},
			want: options{fullCone, lan, true},
		},
		{
			name: "a flag goes before the environment, even a bad one", args: "--lan 192.168.81.1/24 --block-udp=false",
			env:  map[string]string{"ROUTER_LAN": "x", "ROUTER_NAT": "", "ROUTER_BLOCK_UDP": "true"},
			want: options{portRestricted, lan, false},
		},
		{name: "no address", err: "the address on the LAN is missing"},
		{name: "no prefix", args: "--lan 192.168.81.1", err: "want an IPv4 address of a machine"},
		{name: "no address at all", args: "--lan home", err: "want an IPv4 address of a machine"},
		{name: "the network", args: "--lan 192.168.81.0/24", err: "want an IPv4 address of a machine"},
		{name: "broadcast", args: "--lan 192.168.81.255/24", err: "want an IPv4 address of a machine"},
		{name: "room for nobody else", args: "--lan 192.168.81.1/32", err: "want an IPv4 address of a machine"},
		{name: "the last address there is", args: "--lan 255.255.255.255/24", err: "want an IPv4 address of a machine"},
		{name: "IPv6", args: "--lan fd81::1/64", err: "want an IPv4 address of a machine"},
		{name: "kind", args: "--lan 192.168.81.1/24 --nat cone", err: "want port-restricted, address-restricted"},
		{
			name: "kind in the environment", args: "--lan 192.168.81.1/24",
			env: map[string]string{"ROUTER_NAT": "cone"}, err: "environment variable ROUTER_NAT: ",
		},
		{
			name: "boolean in the environment", args: "--lan 192.168.81.1/24",
			env: map[string]string{"ROUTER_BLOCK_UDP": "maybe"}, err: "want true or false",
		},
		{name: "argument", args: "--lan 192.168.81.1/24 start", err: `unexpected argument "start"`},
		{name: "flag", args: "--wan eth0", err: "unknown flag: --wan"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(strings.Fields(tc.args), func(name string) string { return tc.env[name] })
			if got != tc.want {
				t.Errorf("%s %v: got %+v, want %+v", tc.args, tc.env, got, tc.want)
			}
			if tc.err == "" {
				if err != nil {
					t.Errorf("%s %v: got error %v", tc.args, tc.env, err)
				}
				return
			}
			var f *fault
			if !errors.As(err, &f) || f.code != 2 || f.try == "" || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s %v: got %v, want a wrong call, what to try, and %q", tc.args, tc.env, err, tc.err)
			}
		})
	}
}

func FuzzLAN(f *testing.F) {
	for _, s := range []string{"192.168.81.1/24", "10.0.0.1/8", "0.0.0.0/0", "192.168.81.255/24", "::ffff:10.0.0.1/104", "x/1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseLAN(s)
		if err != nil {
			return
		}
		if a := p.Addr(); !a.Is4() || !p.Contains(a.Next()) || !p.Contains(a.Prev()) {
			t.Errorf("%q was taken as %s, which no machine can have", s, p)
		}
	})
}
