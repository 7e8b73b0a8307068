package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/netwatch"
	"github.com/causeway-p2p/causeway/reachability"
)

// advertiser decides which addresses others are told. It is the host's
// AddrsFactory; when what it knows changes, it makes go-libp2p's address
// manager ask again, by the event that autorelays send, and that publishes
// the new set through identify push and the signed peer record.
type advertiser struct {
	announce []ma.Multiaddr
	naming   naming
	changed  func([]ma.Multiaddr)

	mu       sync.Mutex // guards the fields below
	verdict  reachability.Verdict
	previous reachability.Reachability
	circuits []ma.Multiaddr
	mapped   []ma.Multiaddr // where a router lets in
	moves    moves
	emitter  event.Emitter
	host     host.Host
}

func newAdvertiser(cfg Config, changed func([]ma.Multiaddr)) *advertiser {
	return &advertiser{
		announce: cfg.Announce, naming: newNaming(cfg), changed: changed,
		verdict:  reachability.Verdict{Reachability: reachability.Unknown, IPv4: reachability.Unknown, IPv6: reachability.Unknown},
		previous: reachability.Unknown,
	}
}

func (a *advertiser) attach(h host.Host) error {
	em, err := h.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("event emitter: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.emitter, a.host = em, h
	return nil
}

func (a *advertiser) detach() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.emitter != nil {
		a.emitter.Close()
		a.emitter = nil
	}
}

// run reports changes of the whole set.
func (a *advertiser) run(ctx context.Context) error {
	sub, err := a.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.Name("causeway/advertiser"))
	if err != nil {
		return fmt.Errorf("subscribe to address changes: %w", err)
	}
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-sub.Out():
			if !ok {
				return nil
			}
			if ev, ok := ev.(event.EvtLocalAddressesUpdated); ok {
				addrs := make([]ma.Multiaddr, 0, len(ev.Current))
				for _, u := range ev.Current {
					addrs = append(addrs, u.Address)
				}
				a.changed(addrs)
			}
		}
	}
}

// addrs is the AddrsFactory.
func (a *advertiser) addrs(direct []ma.Multiaddr) []ma.Multiaddr {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.host != nil {
		direct = a.moves.apply(direct, a.host.Network().ListenAddresses(), time.Now())
	}
	for _, m := range a.mapped {
		if dialled(a.verdict, m) && !ma.Contains(direct, m) {
			direct = append(slices.Clone(direct), m)
		}
	}
	list := shown(direct, a.announce, a.circuits, a.verdict)
	if len(a.announce) > 0 {
		return list
	}
	return a.naming.apply(list)
}

// shown composes the set: the direct addresses, or those announced in their
// place, less those that servers could not dial; and the circuit addresses
// while somebody may need them. What only servers have reached that we talk to
// is shown while there is no circuit.
func shown(direct, announce, circuits []ma.Multiaddr, v reachability.Verdict) []ma.Multiaddr {
	if len(announce) > 0 {
		direct = announce
	}
	circuits = ma.FilterAddrs(circuits, v.NeedsCircuit)
	unproven := v.Insured && len(circuits) > 0 && len(announce) == 0
	unreachable := v.Unreachable()
	out := make([]ma.Multiaddr, 0, len(direct)+len(circuits))
	for _, m := range direct {
		// go-libp2p's manager may have put circuit addresses in already, and
		// knows nothing of what was announced.
		if maddr.IsCircuit(m) || (len(announce) == 0 && unreachable[m.String()]) {
			continue
		}
		// Behind a NAT an observed address is good for hole punching only,
		// which learns it elsewhere (HolePunchAddrs).
		if v.Reachability == reachability.Private && len(announce) == 0 && manet.IsPublicAddr(m) && !dialled(v, m) {
			continue
		}
		// An address that only those reach whom we talk to is better left
		// unsaid where there are others: who tries it waits, go-libp2p's hole
		// puncher for 5 s.
		if unproven && manet.IsPublicAddr(m) && !proven(v, m) {
			continue
		}
		out = append(out, m)
	}
	// What go-libp2p's manager does not put in: an address that is none of our
	// interfaces' and that somebody reached us at, while the host is not to
	// serve others (v0.51, addrs_manager.go, getDialableAddrs) or fewer than
	// four peers have seen us there (observed_addrs.go, ActivationThresh).
	for _, av := range v.Addrs {
		m, err := ma.NewMultiaddr(av.Addr)
		if err == nil && av.Reachability == reachability.Public && !av.Interface() && len(announce) == 0 && (av.Proven || !unproven) && !ma.Contains(out, m) {
			out = append(out, m)
		}
	}
	return append(out, circuits...)
}

// proven reports whether strangers reach this very address.
func proven(v reachability.Verdict, m ma.Multiaddr) bool {
	return slices.ContainsFunc(v.Addrs, func(av reachability.AddrVerdict) bool {
		return av.Addr == m.String() && av.Proven
	})
}

// dialled reports whether the verdict found this very address reachable.
func dialled(v reachability.Verdict, m ma.Multiaddr) bool {
	return slices.ContainsFunc(v.Addrs, func(av reachability.AddrVerdict) bool {
		return av.Addr == m.String() && av.Reachability == reachability.Public
	})
}

func (a *advertiser) setCircuits(circuits []ma.Multiaddr) {
	a.mu.Lock()
	a.circuits = circuits
	a.mu.Unlock()
	a.refresh()
}

func (a *advertiser) setMapped(mapped []ma.Multiaddr) {
	a.mu.Lock()
	a.mapped = mapped
	a.mu.Unlock()
	a.refresh()
}

// moved takes in what became of the interfaces' addresses.
func (a *advertiser) moved(c netwatch.Change) {
	a.mu.Lock()
	a.moves.note(c, time.Now())
	a.mu.Unlock()
	a.refresh()
}

func (a *advertiser) setVerdict(v reachability.Verdict) {
	a.mu.Lock()
	a.previous, a.verdict = a.verdict.Reachability, v
	a.mu.Unlock()
	a.refresh()
}

// lastVerdict is the reachability before v.
func (a *advertiser) lastVerdict(reachability.Verdict) reachability.Reachability {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.previous
}

func (a *advertiser) circuitsShown() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, c := range a.circuits {
		if a.verdict.NeedsCircuit(c) {
			n++
		}
	}
	return n
}

// refresh makes the address manager recompute.
func (a *advertiser) refresh() {
	a.mu.Lock()
	em, circuits := a.emitter, slices.Clone(a.circuits)
	a.mu.Unlock()
	if em == nil {
		return
	}
	if err := em.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: circuits}); err != nil {
		log.Warn("address change not delivered", "err", err)
	}
}
