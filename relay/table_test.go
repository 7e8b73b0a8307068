package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay/fair"
)

func newShare() *fair.Share { return fair.New(0, 0).Share(0, 0) }

// TestNobodyTakesAll: of a destination's circuits one source gets a part, and so
// does one address of the relay's.
func TestNobodyTakesAll(t *testing.T) {
	tab, now := newTable(), time.Now()
	pol := newPolicy(Limits{CircuitsPerPeer: 64, CircuitsPerIP: 20})
	if _, _, why := tab.reserve("dst", origin{}, pol.anonymous, pol, now); why != "" {
		t.Fatal(why)
	}
	ip := netip.MustParseAddr("8.8.8.8")
	var all []*circuit
	open := func(src peer.ID, from netip.Addr) Reason {
		c := newCircuit(src, "dst", from, pol.anonymous)
		why := tab.open(c, false, pol, now, newShare)
		if why == "" {
			all = append(all, c)
		}
		return why
	}
	for i := range 16 {
		if why := open("greedy", ip); why != "" {
			t.Fatalf("circuit %d of one source: %s", i, why)
		}
	}
	if why := open("greedy", ip); why != PeerCircuits {
		t.Errorf("a 17th circuit from one source: %q, want %q", why, PeerCircuits)
	}
	for i := range 4 {
		if why := open(peer.ID(fmt.Sprint("other", i)), ip); why != "" {
			t.Errorf("another peer at that address: %s", why)
		}
	}
	if why := open("one more", ip); why != AddrCircuits {
		t.Errorf("a 21st circuit from one address: %q, want %q", why, AddrCircuits)
	}
	if why := open("elsewhere", netip.MustParseAddr("9.9.9.9")); why != "" {
		t.Errorf("from another address: %s", why)
	}
	if err := tab.check(); err != nil {
		t.Error(err)
	}
	for _, c := range all {
		tab.close(c)
		tab.close(c) // once is enough
	}
	if err := tab.check(); err != nil || len(tab.pairs)+len(tab.sources)+len(tab.ends) != 0 {
		t.Errorf("all closed: %v, %d pairs, %d sources, %d ends", err, len(tab.pairs), len(tab.sources), len(tab.ends))
	}
	for most, want := range map[int]int{1: 1, 3: 3, 4: 4, 8: 4, 64: 16} {
		if got := perPair(most); got != want {
			t.Errorf("of %d one source may have %d, want %d", most, got, want)
		}
	}
}

// TestExpiryAtConnect: a reservation that is over counts for nothing, before
// any sweep.
func TestExpiryAtConnect(t *testing.T) {
	tab, now := newTable(), time.Now()
	pol := newPolicy(Limits{ReservationTTL: time.Minute, Reservations: 1})
	if _, fresh, why := tab.reserve("dst", origin{}, pol.anonymous, pol, now); !fresh || why != "" {
		t.Fatal(fresh, why)
	}
	if _, fresh, why := tab.reserve("dst", origin{}, pol.anonymous, pol, now.Add(30*time.Second)); fresh || why != "" {
		t.Errorf("a refresh: fresh %v, %q", fresh, why)
	}
	if _, _, why := tab.reserve("late", origin{}, pol.anonymous, pol, now.Add(89*time.Second)); why != Full {
		t.Errorf("a second of one: %q, want %q", why, Full)
	}
	c := newCircuit("src", "dst", netip.Addr{}, pol.anonymous)
	if why := tab.open(c, false, pol, now.Add(90*time.Second), newShare); why != NoReservation {
		t.Errorf("a circuit after the end: %q, want %q", why, NoReservation)
	}
	if _, fresh, why := tab.reserve("late", origin{}, pol.anonymous, pol, now.Add(91*time.Second)); !fresh || why != "" {
		t.Errorf("the slot of one that is over: fresh %v, %q", fresh, why)
	}
	// The sweep tells of each once, also of what was found before it.
	if gone := tab.sweep(now.Add(10 * time.Minute)); len(gone) != 2 || gone[0] != "dst" || gone[1] != "late" {
		t.Errorf("swept %v, want dst and late", gone)
	}
	if gone := tab.sweep(now.Add(20 * time.Minute)); len(gone) != 0 {
		t.Errorf("swept %v again", gone)
	}
	if err := tab.check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkReserve is a refresh with as many held: the step under the lock.
func BenchmarkReserve(b *testing.B) {
	for _, held := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			tab, now := newTable(), time.Now()
			pol := newPolicy(Limits{Reservations: 1 << 20, ReservationsPerIP: 1 << 20, ReservationsPerSubnet: 1 << 20})
			from := func(i int) (peer.ID, origin) {
				return peer.ID(fmt.Sprint("peer ", i)), origin{ip: netip.AddrFrom4([4]byte{8, byte(i >> 16), byte(i >> 8), byte(i)})}
			}
			for i := range held + 1 {
				p, o := from(i)
				tab.reserve(p, o, pol.anonymous, pol, now)
			}
			p, o := from(held)
			b.ReportAllocs()
			for b.Loop() {
				tab.reserve(p, o, pol.anonymous, pol, now)
			}
		})
	}
}
