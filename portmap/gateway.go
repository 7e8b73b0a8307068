package portmap

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// gateway is a router that answered. Calls end soon: see the deadlines of each.
type gateway interface {
	method() Method
	addr() netip.Addr
	// add makes or renews a mapping. The external port is wished for, and
	// another may be granted.
	add(ctx context.Context, p Port, external uint16, lifetime time.Duration) (grant, error)
	// remove ends one.
	remove(ctx context.Context, p Port, external uint16) error
	// check returns the external address, and an error if the gateway does not
	// answer. Where it lost the mapping given, or may have, lost is true.
	check(ctx context.Context, l *lease) (external netip.Addr, lost bool, err error)
	// tidy removes what earlier runs left behind, except for these ports.
	tidy(ctx context.Context, keep []Port)
}

// grant is what a gateway gave.
type grant struct {
	external netip.AddrPort
	lifetime time.Duration // 0: until it is removed
}

// lease is a mapping that we hold, or want to.
type lease struct {
	Mapping
	lifetime time.Duration
	wish     uint16    // the external port to ask for
	renew    time.Time // when to ask again
	refused  error     // why there is none; what else is known of it is void then
}

func (l *lease) held() bool { return l.refused == nil }

// preference is which of the gateways that answer is tried first: PCP says most
// about what it does, and UPnP is the one that routers get wrong.
var preference = []Method{PCP, NATPMP, UPnP}

const (
	// searchTime bounds the search: SSDP devices may take a second to answer
	// (UPnP Device Architecture 1.1, section 1.3.3), and are asked twice.
	searchTime = 3 * time.Second
	// grace is for how long, once one gateway has answered, others may.
	grace = 300 * time.Millisecond
	// maxGateways bounds how many are tried: a network has one, or a few.
	maxGateways = 4
)

// findGateways asks with all methods at once, and returns those that answered,
// the best first.
func findGateways(parent context.Context, r route, name namer) []gateway {
	ctx, stop := context.WithTimeout(parent, searchTime)
	defer stop()
	found := make(chan gateway)
	searches := []func(){
		func() { findUPnP(ctx, r, name, found) },
	}
	if r.gateway.IsValid() {
		searches = append(searches,
			func() { findPCP(ctx, r, name, found) },
			func() { findNATPMP(ctx, r, found) })
	}
	done := make(chan struct{})
	for _, f := range searches {
		go func() { f(); done <- struct{}{} }()
	}
	var list []gateway
	for running := len(searches); running > 0; {
		select {
		case <-done:
			running--
		case g := <-found:
			if len(list) == 0 {
				time.AfterFunc(grace, stop)
			}
			if len(list) < maxGateways {
				list = append(list, g)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b gateway) int {
		return slices.Index(preference, a.method()) - slices.Index(preference, b.method())
	})
	return list
}

// offer hands a gateway over, unless the search is over.
func offer(ctx context.Context, found chan<- gateway, g gateway) {
	select {
	case found <- g:
	case <-ctx.Done():
	}
}

// namer derives what marks our mappings as ours from a secret.
type namer struct{ key []byte }

func newNamer(secret []byte) namer {
	if len(secret) == 0 {
		secret = make([]byte, 32)
		rand.Read(secret)
	}
	return namer{key: secret}
}

func (n namer) derive(what string) []byte {
	h := hmac.New(sha256.New, n.key)
	h.Write([]byte("causeway port mapping: " + what))
	return h.Sum(nil)
}

// nonce is PCP's Mapping Nonce: whoever does not know it cannot change the
// mapping (RFC 6887 section 11.2).
func (n namer) nonce(p Port) (nonce [12]byte) {
	copy(nonce[:], n.derive(fmt.Sprintf("nonce %s %d", p.Protocol, p.Number)))
	return nonce
}

// description is how a mapping appears in the router's list, where everybody on
// the network can read it.
func (n namer) description() string { return "causeway " + hex.EncodeToString(n.derive("name")[:6]) }
