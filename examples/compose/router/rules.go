//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// kind is how a NAT maps and filters, in the words of RFC 3489 section 5.
type kind string

const (
	fullCone          kind = "full-cone"
	addressRestricted kind = "address-restricted"
	portRestricted    kind = "port-restricted"
	symmetric         kind = "symmetric"
)

// kinds are what they do, for people.
var kinds = map[kind]string{
	fullCone:          "one external port for all, and everybody may send to it",
	addressRestricted: "one external port for all, and whom something was sent to may answer from any port",
	portRestricted:    "one external port for all, and whom something was sent to may answer",
	symmetric:         "another external port for each destination, and only that may answer",
}

// The tables are ours alone; those of others (Docker has one for its DNS) stay
// as they are.
var (
	table4 = nftables.Table{Name: "router", Family: nftables.TableFamilyIPv4}
	table6 = nftables.Table{Name: "router", Family: nftables.TableFamilyIPv6}
)

const (
	// forgotten is when a cone's port leads nowhere any more, counted from the
	// last packet that left through it: RFC 4787 section 4.3 recommends five
	// minutes or more.
	forgotten = 5 * time.Minute
	// notes bounds what a cone remembers; when it is full, new ports are those
	// of a port-restricted NAT.
	notes = 65535
	// beforeNAT is the last moment at which a packet that leaves shows who sent
	// it.
	beforeNAT = nftables.ChainPriority(90)
)

// install puts the rules into the kernel in place of those of an earlier run:
// all of them or none, with no moment between.
//
// What nobody asked for must be dropped on input: if the router answered, or
// merely let it in, conntrack would confirm an entry that takes the very tuple
// a hole punch is about to use, and masquerade would pick another port for it.
func install(o options, lan, wan string) error {
	conn, err := nftables.New()
	if err != nil {
		return refused(err)
	}
	replace(conn, table6).chain("forward", nftables.ChainHookForward, nftables.ChainPolicyDrop)
	t := replace(conn, table4)

	input := t.chain("input", nftables.ChainHookInput, nftables.ChainPolicyDrop)
	t.rule(input, from("lo"), accept)
	t.rule(input, answers, accept)
	t.rule(input, from(lan), icmp(echoRequest), accept)

	forward := t.chain("forward", nftables.ChainHookForward, nftables.ChainPolicyDrop)
	if o.blockUDP {
		t.rule(forward, protocol(unix.IPPROTO_UDP), drop)
	}
	t.rule(forward, invalid, drop) // NAT passes it over: it would leave with its private source
	t.rule(forward, from(lan), to(wan), accept)
	t.rule(forward, from(wan), answers, accept)

	// By itself this is port-restricted: masquerade keeps the source port while
	// it is free, and conntrack lets only answers in. Fully random, it picks a
	// port for each destination.
	postrouting := t.nat("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	t.rule(postrouting, to(wan), exprs{&expr.Masq{FullyRandom: o.nat == symmetric}})

	if o.nat == fullCone || o.nat == addressRestricted {
		if err := t.cone(forward, wan, o.nat == addressRestricted); err != nil {
			return err
		}
	}
	return refused(conn.Flush())
}

// refused says what to try if the kernel did not take the rules.
func refused(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return denied(err)
	}
	return fail(fmt.Errorf("the kernel does not take the rules: %w", err),
		"a kernel with nf_tables and NAT: modprobe nf_tables nft_chain_nat nft_masq nft_ct, on the machine itself")
}

// cone lets more in than answers. Whatever leaves makes a note where its port
// leads; whatever comes in for a port goes where the note says. Masquerade has
// kept the port, unless two machines of the LAN use the same. A note can hold
// the address that was sent to as well; then only that one gets in.
func (t table) cone(forward *nftables.Chain, wan string, restricted bool) error {
	leaving, coming := []field{l4proto, sourcePort}, []field{l4proto, destinationPort}
	key := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	if restricted {
		leaving, coming, key = append(leaving, destination), append(coming, source), append(key, nftables.TypeIPAddr)
	}
	cone := &nftables.Set{
		Table: t.Table, Name: "cone", IsMap: true, Concatenation: true, Dynamic: true,
		KeyType:    nftables.MustConcatSetType(key...),
		DataType:   nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
		HasTimeout: true, Timeout: forgotten, Size: notes,
	}
	if err := t.conn.AddSet(cone, nil); err != nil {
		return err
	}
	learn := t.chainAt("learn", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, beforeNAT, nftables.ChainPolicyAccept)
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		t.rule(learn, to(wan), protocol(p), load(keyRegister, leaving...), load(valueRegister, source, sourcePort), update(cone))
	}
	prerouting := t.nat("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	t.rule(prerouting, from(wan), load(keyRegister, coming...), lookup(cone), dnat)
	t.rule(forward, from(wan), wasDNAT, accept)
	return nil
}
