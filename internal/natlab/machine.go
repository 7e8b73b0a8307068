//go:build linux

package natlab

import (
	"context"
	"net"
	"net/netip"
)

// Machine is one network namespace: a public machine, a machine on a LAN, or
// the inside of a NAT box. Made by [Lab.Public], [Lab.NAT] and [Box.Host].
type Machine struct {
	lab     *Lab
	name    string
	netns   string
	ip, ip6 netip.Addr
	public  bool // the core routes to it
}

// Name is the name the test gave it.
func (m *Machine) Name() string { return m.name }

// Namespace is the name ip(8) knows it by.
func (m *Machine) Namespace() string { return m.netns }

// IP is its IPv4 address; of a NAT box, the one on the WAN side.
func (m *Machine) IP() netip.Addr { return m.ip }

// IP6 is its IPv6 address, or the zero Addr: only public machines have one.
func (m *Machine) IP6() netip.Addr { return m.ip6 }

// Do runs f on the calling goroutine with its thread inside the namespace:
// sockets that f opens itself belong to the machine, and stay so. Goroutines
// that f starts are not in the namespace. It may be called from any goroutine.
func (m *Machine) Do(f func() error) error { return inNamespace(m.netns, f) }

// DialContext dials from the machine; it fits http.Transport and grpc. The
// address must be an IP address, since the machine has no resolver.
func (m *Machine) DialContext(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = m.Do(func() error {
		// A single IP address is dialled on this goroutine: net.Dialer starts
		// others only to race several addresses.
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// NFT feeds a script to nft(8) on the machine, for what the lab has no method
// for: a LAN whose firewall drops UDP, say. The names natlab and natlab_nat
// are taken for tables.
func (m *Machine) NFT(script string) {
	m.lab.tb.Helper()
	m.lab.must(nft(m.netns, script))
}
