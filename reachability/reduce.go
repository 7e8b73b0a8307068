package reachability

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// why is the evidence in a sentence. Sentences with one gist, if it is not
// empty, differ in what they count alone: by and by another server is heard, or
// another transport.
type why struct{ text, gist string }

// reduce makes one verdict of all candidates: public if any address is,
// private if servers tried and nothing got through, unknown otherwise.
func reduce(cands []*candidate, servers int, now time.Time) (v Verdict, gist string) {
	v = Verdict{
		Reachability: Unknown, IPv4: Unknown, IPv6: Unknown, Confidence: NoEvidence,
		Addrs: []AddrVerdict{}, Transports: []TransportVerdict{}, Since: now,
	}
	var publics, privates []*candidate
	var proven4, proven6 bool
	for _, c := range cands {
		v.Addrs = append(v.Addrs, c.verdict())
		switch c.reachable {
		case Public:
			publics = append(publics, c)
		case Private:
			privates = append(privates, c)
		}
		v4, v6 := families(c.addr)
		if v4 {
			v.IPv4 = stronger(v.IPv4, c.reachable)
			proven4 = proven4 || c.proven()
		}
		if v6 {
			v.IPv6 = stronger(v.IPv6, c.reachable)
			proven6 = proven6 || c.proven()
		}
	}
	v.Transports = perTransport(cands)
	v.Reachability = stronger(v.IPv4, v.IPv6)
	v.Proven = proven4 || proven6
	v.Insured = v.IPv4 == Public && !proven4 || v.IPv6 == Public && !proven6
	var because why
	switch v.Reachability {
	case Public:
		best := slices.MaxFunc(publics, func(a, b *candidate) int { return a.rank() - b.rank() })
		v.Confidence = best.confidence()
		because = whyPublic(best, v.Insured && !best.proven())
	case Private:
		v.Confidence, because = whyPrivate(privates)
	default:
		because.text = whyUnknown(cands, servers)
	}
	v.Because = because.text
	v.Weak = v.Confidence == Weak || v.Confidence == Hint
	return v, because.gist
}

// place is the IP address of a candidate, as part of a gist.
func place(kind string, c *candidate) string {
	ip := maddr.IP(c.addr)
	return kind + " " + ip.String()
}

func whyPublic(c *candidate, insured bool) why {
	_, against := c.tally()
	switch {
	case c.onWord() && against > 0:
		return why{text: fmt.Sprintf("the operator announced %s; %s could not dial it, and the others do not judge names", describe(c.addr), plural(against, "server"))}
	case c.onWord() && c.probeable():
		return why{text: fmt.Sprintf("the operator announced %s; no server has judged the name", describe(c.addr))}
	case c.onWord():
		return why{text: fmt.Sprintf("the operator announced %s; AutoNAT does not judge private addresses", describe(c.addr))}
	}
	d, f := c.tally()
	servers := fmt.Sprintf("%d of %s dialled %s", d, plural(d+f, "server"), describe(c.addr))
	switch {
	case !c.proof.IsZero() && d == 0:
		return why{"a stranger dialled " + describe(c.addr), place("stranger", c)}
	case !c.proof.IsZero() && c.source == fromObserved:
		return why{servers + ", and so did a stranger", place("proven", c)}
	case insured && d+f == 1:
		return why{servers + ", but it is one that we talk to: a relay is kept until a stranger gets through", place("insured", c)}
	case insured:
		return why{servers + ", but every server is one that we talk to: a relay is kept until a stranger gets through", place("insured", c)}
	}
	return why{servers, place("public", c)}
}

// whyPrivate counts the servers of one transport over one family: behind a NAT
// that shows everybody another port, two that could not dial one address each
// are two witnesses. That somebody could not dial TCP says nothing of QUIC.
func whyPrivate(privates []*candidate) (Confidence, why) {
	if i := slices.IndexFunc(privates, func(c *candidate) bool { return c.filtered }); i >= 0 {
		d, f := privates[i].tally()
		return privates[i].confidence(), why{fmt.Sprintf("%d of %s dialled %s, but no stranger could: only hosts that we talk to get through",
			d, plural(d+f, "server"), describe(privates[i].addr)), place("filtered", privates[i])}
	}
	var group []*candidate
	var failed, judged int
	for _, first := range privates {
		g := slices.DeleteFunc(slices.Clone(privates), func(c *candidate) bool { return c.way() != first.way() })
		if f, j := witnesses(g); f > failed {
			group, failed, judged = g, f, j
		}
	}
	if len(group) == 0 { // outcomes that are forgotten by now
		return Weak, why{"no server could dial " + describe(privates[0].addr), place("private", privates[0])}
	}
	confidence := Weak
	if failed >= 2 {
		confidence = Strong
	}
	named := 1
	because := fmt.Sprintf("%d of %s could not dial ", failed, plural(judged, "server"))
	i := slices.IndexFunc(group, func(c *candidate) bool {
		f, j := witnesses([]*candidate{c})
		return f == failed && j == judged
	})
	if i >= 0 {
		because += describe(group[i].addr)
	} else {
		named = len(group)
		because += fmt.Sprintf("any of %s like %s", plural(named, "address"), describe(group[0].addr))
	}
	if more := len(privates) - named; more > 0 {
		because += fmt.Sprintf(", nor %s more", plural(more, "address"))
	}
	return confidence, why{because, place("private", group[0])}
}

// witnesses counts the servers that could not dial one of these addresses, and
// those that tried.
func witnesses(cands []*candidate) (failed, judged int) {
	failedBy, judgedBy := make(map[peer.ID]struct{}), make(map[peer.ID]struct{})
	for _, c := range cands {
		for id, o := range c.fresh() {
			if o.outcome.against() {
				failedBy[id] = struct{}{}
			}
			if o.outcome.against() || o.outcome == dialled {
				judgedBy[id] = struct{}{}
			}
		}
	}
	return len(failedBy), len(judgedBy)
}

func whyUnknown(cands []*candidate, servers int) string {
	switch {
	case servers == 0:
		return "no connected peer offers AutoNAT v2 yet"
	case len(cands) == 0:
		return "no public address of ours is known yet"
	case slices.ContainsFunc(cands, func(c *candidate) bool { return len(c.asking) > 0 }):
		return "the first dial-back is on its way"
	case slices.ContainsFunc(cands, func(c *candidate) bool { return c.declines > 0 }):
		return "servers declined to dial us back so far"
	}
	return "no dial-back was asked for yet"
}

// perTransport is the verdict of every family and transport that has an
// address: that of its best one. If none works, all who found that out count.
func perTransport(cands []*candidate) []TransportVerdict {
	best := make(map[[2]string]*candidate)
	order := map[Reachability]int{Unknown: 0, Private: 1, Public: 2}
	for _, c := range cands {
		v4, v6 := families(c.addr)
		for family, has := range map[string]bool{"ip4": v4, "ip6": v6} {
			key := [2]string{family, maddr.Transport(c.addr)}
			b := best[key]
			if has && (b == nil || order[c.reachable] > order[b.reachable] ||
				c.reachable == b.reachable && c.rank() > b.rank()) {
				best[key] = c
			}
		}
	}
	out := make([]TransportVerdict, 0, len(best))
	for key, c := range best {
		t := TransportVerdict{
			Family: key[0], Transport: key[1],
			Reachability: c.reachable, Confidence: c.confidence(), Proven: c.proven(),
		}
		if t.Reachability == Private && t.Confidence == Weak {
			t.Confidence, _ = whyPrivate(slices.DeleteFunc(slices.Clone(cands), func(d *candidate) bool {
				return d.reachable != Private || d.way() != c.way()
			}))
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b TransportVerdict) int {
		return strings.Compare(a.Family+a.Transport, b.Family+b.Transport)
	})
	return out
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
