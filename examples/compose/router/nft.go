//go:build linux

package main

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// This file has the words that rules.go is written in: what nft(8) would make
// of a line there.

// exprs are a part of a rule; the kernel goes through a rule until one of them
// does not match.
type exprs = []expr.Any

// Registers: one for comparisons, and two rows of four bytes each for what is
// looked up and what is found.
const (
	register      = unix.NFT_REG_1
	keyRegister   = unix.NFT_REG32_00
	valueRegister = unix.NFT_REG32_04
)

const (
	// echoRequest is the type of an ICMP message, RFC 792.
	echoRequest = 8
	// dstNAT is a bit of conntrack's status: the destination was changed
	// (IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h).
	dstNAT = 1 << 5
)

var (
	accept  = exprs{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop    = exprs{&expr.Verdict{Kind: expr.VerdictDrop}}
	answers = conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	invalid = conntrack(expr.CtKeySTATE, expr.CtStateBitINVALID)
	wasDNAT = conntrack(expr.CtKeySTATUS, dstNAT)
	// dnat sends a packet where the value that was found says.
	dnat = exprs{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
		RegAddrMin: valueRegister, RegProtoMin: valueRegister + 1,
	}}
)

func from(dev string) exprs { return equal(meta(expr.MetaKeyIIFNAME), name(dev)) }
func to(dev string) exprs   { return equal(meta(expr.MetaKeyOIFNAME), name(dev)) }

func protocol(p byte) exprs { return equal(l4proto, []byte{p}) }

func icmp(kind byte) exprs {
	return append(protocol(unix.IPPROTO_ICMP), equal(payload(expr.PayloadBaseTransportHeader, 0, 1), []byte{kind})...)
}

// conntrack matches if one of the bits is set.
func conntrack(key expr.CtKey, bits uint32) exprs {
	zero := make([]byte, 4)
	return exprs{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: zero},
	}
}

func equal(f field, want []byte) exprs {
	return exprs{f(register), &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: want}}
}

// name is how the kernel compares names of interfaces: all of the 16 bytes.
func name(dev string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, dev)
	return b
}

// field loads something of a packet into a register.
type field func(register uint32) expr.Any

// The fields of IPv4 (RFC 791), and of UDP and TCP, which begin alike.
var (
	l4proto         = meta(expr.MetaKeyL4PROTO)
	source          = payload(expr.PayloadBaseNetworkHeader, 12, 4)
	destination     = payload(expr.PayloadBaseNetworkHeader, 16, 4)
	sourcePort      = payload(expr.PayloadBaseTransportHeader, 0, 2)
	destinationPort = payload(expr.PayloadBaseTransportHeader, 2, 2)
)

func meta(key expr.MetaKey) field {
	return func(r uint32) expr.Any { return &expr.Meta{Key: key, Register: r} }
}

func payload(base expr.PayloadBase, offset, length uint32) field {
	return func(r uint32) expr.Any {
		return &expr.Payload{Base: base, Offset: offset, Len: length, DestRegister: r}
	}
}

// load loads fields into registers side by side, which makes them one value.
func load(first uint32, fields ...field) (e exprs) {
	for i, f := range fields {
		e = append(e, f(first+uint32(i)))
	}
	return e
}

// update writes what was loaded to a map, and makes an old entry last again.
func update(m *nftables.Set) exprs {
	return exprs{&expr.Dynset{
		SrcRegKey: keyRegister, SrcRegData: valueRegister, Operation: unix.NFT_DYNSET_OP_UPDATE, SetID: m.ID, SetName: m.Name,
	}}
}

// lookup reads from a map; the rule ends if there is no such entry.
func lookup(m *nftables.Set) exprs {
	return exprs{&expr.Lookup{
		SourceRegister: keyRegister, DestRegister: valueRegister, IsDestRegSet: true, SetID: m.ID, SetName: m.Name,
	}}
}

// table is one that is being written.
type table struct {
	*nftables.Table
	conn *nftables.Conn
}

// replace begins a table anew. Deleting one that is not there is an error,
// hence the first of the two.
func replace(conn *nftables.Conn, t nftables.Table) table {
	conn.AddTable(&t)
	conn.DelTable(&t)
	return table{conn.AddTable(&t), conn}
}

func (t table) chain(name string, hook *nftables.ChainHook, policy nftables.ChainPolicy) *nftables.Chain {
	return t.chainAt(name, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityFilter, policy)
}

func (t table) nat(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return t.chainAt(name, nftables.ChainTypeNAT, hook, *priority, nftables.ChainPolicyAccept)
}

func (t table) chainAt(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority, policy nftables.ChainPolicy) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{
		Table: t.Table, Name: name, Type: kind, Hooknum: hook, Priority: &priority, Policy: &policy,
	})
}

func (t table) rule(c *nftables.Chain, parts ...exprs) {
	t.conn.AddRule(&nftables.Rule{Table: t.Table, Chain: c, Exprs: slices.Concat(parts...)})
}
