package autorelay

import (
	"math"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestCost(t *testing.T) {
	const ms = time.Millisecond
	now := time.Now()
	bad, good := randomID(t), randomID(t)
	h := &History{past: map[peer.ID]deeds{
		bad:  {Bad: 1e5, Updated: now},
		good: {Good: 1e5, Updated: now},
	}}
	at := func(s ...string) []ma.Multiaddr { return addrs(s) }
	held := &relay{id: randomID(t), state: Reserved, addrs: at("/ip4/11.0.0.1/tcp/1", "/ip6/2a00:1:2:3::1/tcp/1")}
	leaving := &relay{id: randomID(t), state: Draining, addrs: at("/ip4/11.0.9.1/tcp/1")}
	lost := &relay{id: randomID(t), state: BackingOff, addrs: at("/ip4/11.0.8.1/tcp/1")}
	for _, c := range []struct {
		name string
		r    relay
		want float64
	}{
		{"100 ms away", relay{rtt: 100 * ms}, 100},
		{"not measured", relay{}, 100},
		{"next door", relay{rtt: ms}, 5},
		{"half full", relay{rtt: 100 * ms, load: 0.5}, 150},
		{"full", relay{rtt: 100 * ms, load: 1}, 200},
		{"failed once", relay{rtt: 100 * ms, failures: 1}, 200},
		{"failed thrice", relay{rtt: 100 * ms, failures: 3}, 800},
		{"failed for ever", relay{rtt: 100 * ms, failures: 1 << 40}, 25600},
		{"preferred", relay{rtt: 100 * ms, wish: Preferred}, 25},
		{"pinned", relay{rtt: 100 * ms, wish: Pinned}, 100},
		{"perfect past", relay{id: good, rtt: 100 * ms}, 100},
		{"worst past", relay{id: bad, rtt: 100 * ms}, 200},
		{"same /24", relay{rtt: 100 * ms, addrs: at("/ip4/11.0.0.200/udp/9/quic-v1")}, 400},
		{"next /24", relay{rtt: 100 * ms, addrs: at("/ip4/11.0.1.1/tcp/1")}, 100},
		{"same /48", relay{rtt: 100 * ms, addrs: at("/ip6/2a00:1:2:ffff::9/tcp/1")}, 400},
		{"next /48, same autonomous system", relay{rtt: 100 * ms, addrs: at("/ip6/2a00:1:3::9/tcp/1")}, 150},
		{"another autonomous system", relay{rtt: 100 * ms, addrs: at("/ip6/2001:4860:4860::8888/tcp/1")}, 100},
		{"no autonomous system known", relay{rtt: 100 * ms, addrs: at("/ip6/3fff:1::9/tcp/1")}, 100},
		{"both is not worse", relay{rtt: 100 * ms, addrs: at("/ip4/11.0.0.9/tcp/1", "/ip6/2a00:1:2:4::/tcp/1")}, 400},
		{"beside one that leaves", relay{rtt: 100 * ms, addrs: at("/ip4/11.0.9.9/tcp/1")}, 400},
		{"beside one that is lost", relay{rtt: 100 * ms, addrs: at("/ip4/11.0.8.9/tcp/1")}, 100},
		{"by name", relay{rtt: 100 * ms, addrs: at("/dns4/relay.example.org/tcp/1")}, 100},
		{"private", relay{rtt: 100 * ms, addrs: at("/ip4/192.168.0.1/tcp/1")}, 100},
	} {
		r := c.r
		if r.id == "" {
			r.id = randomID(t)
		}
		a := &AutoRelay{cfg: Config{History: h}, relays: map[peer.ID]*relay{held.id: held, leaving.id: leaving, lost.id: lost, r.id: &r}}
		want := c.want
		if r.id != good && r.id != bad {
			want *= 1.25 // nobody knows its past
		}
		r.roomy = true
		if got := a.cost(&r, now); math.Abs(got-want) > want/100 {
			t.Errorf("cost of a relay %s: got %.1f, want %.1f", c.name, got, want)
		}
		r.roomy = false
		if got := a.cost(&r, now); math.Abs(got-want*limitedPenalty) > want/100 {
			t.Errorf("cost of a limited relay %s: got %.1f, want %.1f", c.name, got, want*limitedPenalty)
		}
	}
}

func TestFuzz(t *testing.T) {
	least, most := math.Inf(1), 0.0
	for range 10000 {
		c := fuzzed(100)
		least, most = min(least, c), max(most, c)
	}
	if least < 80 || least > 82 || most > 120 || most < 118 {
		t.Errorf("fuzzed(100): got %.1f to %.1f, want about 80 to 120", least, most)
	}
}

// pickFrom counts what pick chooses in many rounds.
func pickFrom(rounds int, relays ...*relay) map[*relay]int {
	a := &AutoRelay{relays: relaysOf(relays...)}
	got := make(map[*relay]int)
	for range rounds {
		got[a.pick(time.Now(), anyRelay)]++
	}
	return got
}

func relaysOf(list ...*relay) map[peer.ID]*relay {
	m := make(map[peer.ID]*relay)
	for _, r := range list {
		m[r.id] = r
	}
	return m
}

func equals(t *testing.T, n int) []*relay {
	list := make([]*relay, n)
	for i := range list {
		list[i] = &relay{id: randomID(t), rtt: 50 * time.Millisecond, roomy: true}
	}
	return list
}

// TestPickIsEven: relays that are alike are chosen alike.
func TestPickIsEven(t *testing.T) {
	const rounds = 16000
	relays := equals(t, 8)
	got := pickFrom(rounds, relays...)
	var chi2 float64
	for _, r := range relays {
		d := float64(got[r]) - rounds/8
		chi2 += d * d / (rounds / 8)
	}
	if chi2 > 45 { // with 7 degrees of freedom, once in ten million
		t.Errorf("%d choices among 8 alike: got %v (chi² %.1f), want them even", rounds, got, chi2)
	}
}

func TestPick(t *testing.T) {
	const rounds = 4000
	t.Run("the nearer of two", func(t *testing.T) {
		relays := equals(t, 2)
		relays[0].rtt = 20 * time.Millisecond
		if got := pickFrom(rounds, relays...); got[relays[0]] != rounds {
			t.Errorf("of %d: got the nearer %d times, want always", rounds, got[relays[0]])
		}
	})
	t.Run("not always the nearest of many", func(t *testing.T) {
		relays := equals(t, 8)
		relays[0].rtt = 20 * time.Millisecond
		// It is one of the two drawn in a quarter of all cases.
		if got := pickFrom(rounds, relays...)[relays[0]]; got < rounds/4*8/10 || got > rounds/4*12/10 {
			t.Errorf("of %d: got the nearest %d times, want about %d", rounds, got, rounds/4)
		}
	})
	t.Run("never the worst", func(t *testing.T) {
		relays := equals(t, 8)
		relays[0].rtt = 200 * time.Millisecond
		if got := pickFrom(rounds, relays...)[relays[0]]; got != 0 {
			t.Errorf("of %d: got the farthest %d times, want never", rounds, got)
		}
	})
	t.Run("failed ones last", func(t *testing.T) {
		relays := equals(t, 8)
		for _, r := range relays[2:] {
			r.failures = 1
		}
		relays[0].rtt = 500 * time.Millisecond
		if got := pickFrom(rounds, relays...); got[relays[1]] != rounds {
			t.Errorf("of %d: got the nearer of the two that did not fail %d times, want always", rounds, got[relays[1]])
		}
	})
	t.Run("pinned first", func(t *testing.T) {
		relays := equals(t, 8)
		relays[0].rtt, relays[0].failures, relays[0].wish = time.Second, 5, Pinned
		if got := pickFrom(rounds, relays...); got[relays[0]] != rounds {
			t.Errorf("of %d: got the pinned one %d times, want always", rounds, got[relays[0]])
		}
	})
	t.Run("nobody", func(t *testing.T) {
		relays := equals(t, 6)
		relays[0].wish = Banned
		relays[1].busy = true
		relays[2].state = Reserved
		relays[3].state = Draining
		relays[4].retryAt = time.Now().Add(time.Hour)
		relays[5].retryAt, relays[5].wish = time.Now().Add(time.Hour), Pinned
		if got := pickFrom(100, relays...); got[nil] != 100 {
			t.Errorf("banned, busy, held and pausing ones: got %v, want none chosen", got)
		}
	})
}

// TestPickElsewhere: one in another network rather than a neighbour of what we
// hold, though it is farther away.
func TestPickElsewhere(t *testing.T) {
	relays := equals(t, 3)
	relays[0].state, relays[0].addrs = Reserved, addrs([]string{"/ip4/11.0.0.1/tcp/1"})
	relays[1].rtt, relays[1].addrs = 40*time.Millisecond, addrs([]string{"/ip4/11.0.0.2/tcp/1"})
	relays[2].addrs = addrs([]string{"/ip4/22.0.0.2/tcp/1"})
	if got := pickFrom(1000, relays...); got[relays[2]] != 1000 {
		t.Errorf("of 1000: got the one in another network %d times, want always", got[relays[2]])
	}
}
