package direct

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestAgain: the pauses grow to a quarter of an hour, and stay there.
func TestAgain(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		0: time.Minute, 1: time.Minute, 2: 5 * time.Minute, 3: 15 * time.Minute, 4: 15 * time.Minute, 1000: 15 * time.Minute,
	} {
		for range 100 {
			if got := again(attempts); got < want-want/10 || got > want+want/10 {
				t.Errorf("after %d attempts: got %v, want %v within a tenth", attempts, got, want)
			}
		}
	}
}

// TestSoon: a change brings the next attempt forward, for whoever may begin.
func TestSoon(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name string
		rec  record
		want bool
	}{
		{"we begin", record{ours: true}, true},
		{"either may", record{either: true}, true},
		{"they begin", record{}, false},
		{"under way", record{ours: true, running: true}, false},
		{"direct already", record{ours: true, direct: now}, false},
	} {
		rec := test.rec
		rec.soon(now)
		planned := !rec.next.IsZero()
		if planned != test.want {
			t.Errorf("%s: planned %t, want %t", test.name, planned, test.want)
		}
		if planned && (rec.next.Before(now.Add(soonest/2)) || rec.next.After(now.Add(soonest))) {
			t.Errorf("%s: planned in %v, want within %v", test.name, rec.next.Sub(now), soonest)
		}
	}
}

// TestBuckets: so many at once, then one in so long; what is given back counts;
// and a crowd of keys takes no more room than is there.
func TestBuckets(t *testing.T) {
	now := time.Now()
	b := newBuckets[netip.Addr](time.Second, 3)
	ip := netip.MustParseAddr("11.0.0.2")
	take := func(at time.Duration, want bool) {
		t.Helper()
		if got := b.take(ip, now.Add(at)); got != want {
			t.Errorf("after %v: got %t, want %t", at, got, want)
		}
	}
	for range 3 {
		take(0, true)
	}
	take(0, false)
	take(900*time.Millisecond, false)
	take(1100*time.Millisecond, true)
	take(1100*time.Millisecond, false)
	b.give(ip, 2, now.Add(1100*time.Millisecond))
	take(1100*time.Millisecond, true)
	take(1100*time.Millisecond, true)
	take(1100*time.Millisecond, false)
	b.give(ip, 1000, now.Add(1100*time.Millisecond))
	for range 3 {
		take(1100*time.Millisecond, true)
	}
	take(1100*time.Millisecond, false)

	taken := 0
	for i := range 5000 {
		if b.take(netip.AddrFrom4([4]byte{22, 0, byte(i >> 8), byte(i)}), now.Add(2*time.Second)) {
			taken++
		}
	}
	if len(b.held) > maxRemembered+1 {
		t.Errorf("%d keys are remembered, want at most %d", len(b.held), maxRemembered+1)
	}
	if taken > maxRemembered+3 {
		t.Errorf("%d of 5000 strangers got one, want at most %d", taken, maxRemembered+3)
	}
}

// TestExplain: every way to fail has a sentence.
func TestExplain(t *testing.T) {
	hard := NAT{UDPMapping: AddressAndPortDependent, UDPFiltering: AddressAndPortDependent}
	easy := NAT{UDPMapping: EndpointIndependent, UDPFiltering: AddressAndPortDependent}
	for _, o := range outcomes {
		for _, ours := range []NAT{{}, hard, easy, {UDPBlocked: true}} {
			for _, theirs := range []NAT{{}, hard, easy, {UDPBlocked: true}} {
				why := explain(o, ours, theirs)
				if o.Direct() != (why == "") {
					t.Errorf("%s, ours %s, theirs %s: got %q", o, ours.kind(), theirs.kind(), why)
				}
			}
		}
	}
	for _, test := range []struct {
		o            Outcome
		ours, theirs NAT
		want         string
	}{
		{TimedOut, hard, hard, "both NATs"},
		{MissedPorts, hard, easy, "our NAT uses another port"},
		{MissedPorts, easy, hard, "the peer's NAT uses another port"},
		{TimedOut, NAT{UDPBlocked: true}, easy, "UDP is blocked here, and TCP did not"},
		{TimedOut, NAT{UDPBlocked: true, TCPMapping: AddressAndPortDependent}, easy, "UDP is blocked here, and over TCP our NAT"},
		{TimedOut, easy, NAT{UDPBlocked: true, TCPMapping: AddressAndPortDependent}, "over TCP the peer's NAT"},
		{TimedOut, easy, easy, "nothing came back"},
		{Unsupported, easy, easy, "does not speak DCUtR"},
	} {
		if got := explain(test.o, test.ours, test.theirs); !strings.Contains(got, test.want) {
			t.Errorf("%s, ours %s, theirs %s: got %q, want %q in it", test.o, test.ours.kind(), test.theirs.kind(), got, test.want)
		}
	}
}

// TestGuessable: ports are guessed where nothing else helps and guessing does.
func TestGuessable(t *testing.T) {
	symmetric := NAT{UDPMapping: AddressAndPortDependent, UDPFiltering: AddressAndPortDependent}
	for _, test := range []struct {
		easy NAT
		want bool
	}{
		{NAT{UDPMapping: EndpointIndependent, UDPFiltering: AddressAndPortDependent}, true},
		{NAT{UDPMapping: EndpointIndependent, UDPFiltering: Unknown}, true},
		{NAT{UDPMapping: EndpointIndependent, UDPFiltering: AddressDependent}, false}, // lets any port in
		{NAT{UDPMapping: EndpointIndependent, UDPFiltering: EndpointIndependent}, false},
		{symmetric, false}, // hopeless
		{NAT{}, false},
	} {
		if got := guessable(symmetric, test.easy); got != test.want {
			t.Errorf("symmetric opposite %s: got %t, want %t", test.easy.kind(), got, test.want)
		}
	}
}

// TestWasAsked: the rounds of one attempt count once.
func TestWasAsked(t *testing.T) {
	var r record
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {5 * time.Second, 1}, {5 * time.Second, 1}, {time.Minute, 2}, {time.Second, 2}} {
		now = now.Add(c.after)
		if r.wasAsked(now); r.attempts != c.want {
			t.Errorf("%v after the last: got %d attempts, want %d", c.after, r.attempts, c.want)
		}
	}
}
