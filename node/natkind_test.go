package node

import (
	"testing"

	"github.com/causeway-p2p/causeway/reachability"
)

func TestKindOf(t *testing.T) {
	const (
		unknown = reachability.NotKnown
		ei      = reachability.EndpointIndependent
		ad      = reachability.AddressDependent
		apd     = reachability.AddressAndPortDependent
		none    = reachability.NoNAT
	)
	for _, tt := range []struct {
		mapping, filtering reachability.Behavior
		want               Kind
	}{
		{"", "", KindUnknown},
		{unknown, unknown, KindUnknown},
		{unknown, apd, KindUnknown},
		{ei, ei, KindFullCone},
		{ei, ad, KindAddressRestricted},
		{ei, apd, KindPortRestricted},
		{ei, unknown, KindCone},
		{ad, ei, KindSymmetric},
		{apd, unknown, KindSymmetric},
		{none, none, KindPublic},
		{none, ei, KindPublic},
		{none, apd, KindPortRestricted}, // a firewall
		{none, unknown, KindUnknown},
	} {
		if got := kindOf(reachability.Translation{Mapping: tt.mapping, Filtering: tt.filtering}); got != tt.want {
			t.Errorf("mapping %q, filtering %q: got %q, want %q", tt.mapping, tt.filtering, got, tt.want)
		}
	}
}

// TestOutlook is the matrix of NAT pairs that were measured, and what firewalls
// add to it.
func TestOutlook(t *testing.T) {
	const (
		y, p, s, r, u = ChanceYes, ChancePunch, ChanceSometimes, ChanceRelay, ChanceUnknown
		no            = KindUnknown
	)
	for _, tt := range []struct {
		own, tcp Kind
		want     [7]Chance // public, full cone, address-, port-restricted, symmetric, UDP blocked, 443
	}{
		{KindPublic, no, [7]Chance{y, p, p, p, p, p, r}},
		{KindFullCone, no, [7]Chance{y, p, p, p, p, p, r}},
		{KindAddressRestricted, no, [7]Chance{y, p, p, p, p, p, r}},
		{KindPortRestricted, no, [7]Chance{y, p, p, p, s, p, r}},
		{KindCone, no, [7]Chance{y, p, p, p, s, p, r}},
		{KindSymmetric, no, [7]Chance{y, p, p, s, r, r, r}},
		{KindSymmetric, KindPortRestricted, [7]Chance{y, p, p, s, r, p, r}},
		{KindUDPBlocked, no, [7]Chance{y, u, u, u, u, u, r}},
		{KindUDPBlocked, KindPortRestricted, [7]Chance{y, p, p, p, r, p, r}},
		{KindUDPBlocked, KindSymmetric, [7]Chance{y, p, p, r, r, r, r}},
		{KindOnly443, no, [7]Chance{r, r, r, r, r, r, r}},
		{KindUnknown, no, [7]Chance{y, u, u, u, u, u, r}},
	} {
		for i, o := range outlook(tt.own, tt.tcp) {
			if o.Direct != tt.want[i] {
				t.Errorf("own %q (TCP %q), peer %q: got %q, want %q", tt.own, tt.tcp, o.Peers, o.Direct, tt.want[i])
			}
		}
	}
}

// TestOutlookIsMutual: whoever may be reached may reach, if only by being told
// through a relay.
func TestOutlookIsMutual(t *testing.T) {
	for _, a := range outlookKinds[:5] {
		for _, b := range outlookKinds[:5] {
			there, back := natPair(a, b), natPair(b, a)
			if (there == ChanceRelay) != (back == ChanceRelay) || (there == ChanceSometimes) != (back == ChanceSometimes) {
				t.Errorf("%s to %s: %q, back: %q", a, b, there, back)
			}
		}
	}
}
