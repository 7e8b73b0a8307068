//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// patience is how long the interfaces may take to appear: Docker attaches
	// networks before it starts a container, others a moment later.
	patience = 5 * time.Second
	// glance is the pause between two looks at them.
	glance = 100 * time.Millisecond
)

// link is an interface that is up, with its IPv4 addresses.
type link struct {
	name  string
	index int
	addrs []netip.Prefix
}

func (l link) String() string { return fmt.Sprintf("%s %v", l.name, l.addrs) }

// await waits until it is clear which interface is the LAN's and which the
// internet's.
func await(ctx context.Context, at netip.Addr) (inside, outside link, err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	look := time.NewTicker(glance)
	defer look.Stop()
	for {
		all, err := links()
		if err == nil {
			inside, outside, err = choose(all, at)
		}
		if err == nil {
			return inside, outside, nil
		}
		select {
		case <-look.C:
		case <-late.C:
			return link{}, link{}, err
		case <-ctx.Done():
			return link{}, link{}, ctx.Err()
		}
	}
}

// links lists the interfaces that are up and have an IPv4 address, without the
// loopback.
func links() ([]link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var all []link
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		l := link{name: i.Name, index: i.Index}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				l.addrs = append(l.addrs, p)
			}
		}
		if len(l.addrs) > 0 {
			all = append(all, l)
		}
	}
	return all, nil
}

// choose finds the LAN's interface, which is the one in whose network our
// address is to be, and the internet's, which is the other one.
func choose(all []link, at netip.Addr) (inside, outside link, err error) {
	var ins, outs []link
	for _, l := range all {
		if slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Contains(at) }) {
			ins = append(ins, l)
		} else {
			outs = append(outs, l)
		}
	}
	const two = "attach it to two networks, the LAN and the internet"
	switch {
	case len(all) == 0:
		err = fail(errors.New("no interface has an IPv4 address"), two)
	case len(ins) == 0:
		err = fail(fmt.Errorf("no interface is in a network with %s; there is %s", at, names(all)),
			"--lan with an address of the LAN's network, or attach it to that network")
	case len(ins) > 1:
		err = fail(fmt.Errorf("which is the LAN? %s is in the networks of %s", at, names(ins)), "networks that do not overlap")
	case len(outs) == 0:
		err = fail(fmt.Errorf("there is nothing to route to: %s is the only interface", ins[0]), two)
	case len(outs) > 1:
		err = fail(fmt.Errorf("which is the internet? there is %s", names(outs)), two)
	default:
		return ins[0], outs[0], nil
	}
	return link{}, link{}, err
}

func names(links []link) string {
	var s []string
	for _, l := range links {
		s = append(s, l.String())
	}
	return strings.Join(s, " and ")
}

// take gives the interface one more address; it may have it already.
func (l link) take(addr netip.Prefix) error {
	attrs := netlink.NewAttributeEncoder()
	attrs.Bytes(unix.IFA_LOCAL, addr.Addr().AsSlice())
	attrs.Bytes(unix.IFA_ADDRESS, addr.Addr().AsSlice())
	data, err := attrs.Encode()
	if err != nil {
		return err
	}
	// struct ifaddrmsg: family, prefix length, flags, scope, index.
	head := []byte{unix.AF_INET, byte(addr.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	head = binary.NativeEndian.AppendUint32(head, uint32(l.index))
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("ask the kernel for %s on %s: %w", addr, l.name, err)
	}
	defer conn.Close()
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.RTM_NEWADDR,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace,
		},
		Data: append(head, data...),
	})
	if err != nil {
		return denied(fmt.Errorf("take %s on %s: %w", addr, l.name, err))
	}
	return nil
}

// forwarding says whether the kernel routes at all. In a container we could not
// change that: /proc/sys is read-only.
func forwarding() error {
	const path = "/proc/sys/net/ipv4/ip_forward"
	set, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(set)) != "1" {
		return fail(errors.New("the kernel does not forward packets: net.ipv4.ip_forward is not 1"),
			`docker run --sysctl net.ipv4.ip_forward=1, or in compose sysctls: {net.ipv4.ip_forward: "1"}`)
	}
	return nil
}

// denied says what to try if the kernel did not do what it was asked because
// we may not ask.
func denied(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fail(errors.New("no permission to change this network"),
			"the capability NET_ADMIN: docker run --cap-add NET_ADMIN, or in compose cap_add: [NET_ADMIN]")
	}
	return err
}
