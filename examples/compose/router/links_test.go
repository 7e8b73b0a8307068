//go:build linux

package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	at := netip.MustParseAddr("192.168.81.1")
	iface := func(name string, addrs ...string) link {
		l := link{name: name}
		for _, a := range addrs {
			l.addrs = append(l.addrs, netip.MustParsePrefix(a))
		}
		return l
	}
	home, internet := iface("eth1", "192.168.81.3/24"), iface("eth0", "11.0.0.5/16")
	for _, tc := range []struct {
		name            string
		links           []link
		inside, outside string
		err             string
	}{
		{name: "two", links: []link{internet, home}, inside: "eth1", outside: "eth0"},
		{name: "the other way round", links: []link{home, internet}, inside: "eth1", outside: "eth0"},
		{name: "started again", links: []link{internet, iface("eth1", "192.168.81.3/24", "192.168.81.1/24")}, inside: "eth1", outside: "eth0"},
		{name: "second network of an interface", links: []link{internet, iface("eth1", "10.0.0.1/8", "192.168.81.3/24")}, inside: "eth1", outside: "eth0"},
		{name: "a carrier's NAT in front", links: []link{iface("eth0", "100.64.0.7/10"), home}, inside: "eth1", outside: "eth0"},
		{name: "none", err: "no interface has an IPv4 address"},
		{name: "not that network", links: []link{internet, iface("eth1", "192.168.82.3/24")}, err: "no interface is in a network with 192.168.81.1; there is eth0 [11.0.0.5/16] and eth1 [192.168.82.3/24]"},
		{name: "only the LAN", links: []link{home}, err: "eth1 [192.168.81.3/24] is the only interface"},
		{name: "two LANs", links: []link{home, iface("eth2", "192.168.0.3/16")}, err: "which is the LAN?"},
		{name: "two internets", links: []link{home, internet, iface("eth2", "21.0.0.1/16")}, err: "which is the internet?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inside, outside, err := choose(tc.links, at)
			if inside.name != tc.inside || outside.name != tc.outside {
				t.Errorf("LAN and internet: got %q and %q, want %q and %q", inside.name, outside.name, tc.inside, tc.outside)
			}
			if tc.err == "" {
				if err != nil {
					t.Errorf("got error %v", err)
				}
				return
			}
			var f *fault
			if !errors.As(err, &f) || f.try == "" || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got error %v, want what to try, and %q", err, tc.err)
			}
		})
	}
}
