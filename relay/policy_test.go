package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/relay/acl"
	"github.com/causeway-p2p/causeway/testnet"
)

// classes are those of most tests here.
var classes = []Class{
	{Name: "member", CircuitTime: time.Hour, CircuitBytes: 1 << 30, CircuitsPerPeer: 2},
	{Name: "owner"},
}

func list(t *testing.T, lines ...string) *acl.List {
	t.Helper()
	l, err := acl.Parse(strings.NewReader(strings.Join(lines, "\n")), "test")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func isLimited(from, to host.Host) bool {
	return slices.ContainsFunc(from.Network().ConnsToPeer(to.ID()), func(c network.Conn) bool { return c.Stat().Limited })
}

// TestClasses: the limits that a peer gets are those that it is told, and a
// circuit has those of whichever end is trusted more.
func TestClasses(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{
			CircuitTime: time.Minute, CircuitBytes: 100_000, Classes: classes,
		}})
		stranger, caller := r.peers(t, n, "stranger")
		member, other := r.peers(t, n, "member")
		owner, third := r.peers(t, n, "owner")
		r.SetACL(list(t, "allow "+member.ID().String()+" member", "allow "+owner.ID().String()+" owner"))
		for _, c := range []struct {
			name  string
			h     host.Host
			time  time.Duration
			bytes uint64
		}{
			{"stranger", stranger, time.Minute, 100_000},
			{"member", member, time.Hour, 1 << 30},
			{"owner", owner, 0, 0},
		} {
			rsvp, status := r.reserve(t, c.h)
			if status != pbv2.Status_OK || rsvp.LimitDuration != c.time || rsvp.LimitData != c.bytes {
				t.Errorf("%s: told %v, %v and %d bytes, want %v and %d", c.name, status, rsvp.LimitDuration, rsvp.LimitData, c.time, c.bytes)
			}
		}
		for _, c := range []struct {
			name     string
			from, to host.Host
			carries  int
			limited  bool
		}{
			{"a stranger and a stranger", caller, stranger, 50_000, true},
			{"a stranger and a member", other, member, 500_000, true},
			{"a stranger and an owner", third, owner, 500_000, false},
			{"an owner and a stranger", owner, stranger, 500_000, false},
		} {
			if err := r.dial(t, c.from, c.to); err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if err := echoes(t, c.from, c.to, c.carries); err != nil || isLimited(c.from, c.to) != c.limited {
				t.Errorf("%s: %v, limited %v, want %d bytes echoed and %v", c.name, err, isLimited(c.from, c.to), c.carries, c.limited)
			}
		}
		if err := echoes(t, caller, stranger, 200_000); err == nil {
			t.Error("a stranger had 200 kB carried to a stranger, want 100 kB at most")
		}
		var got []string
		for _, i := range r.Reservations() {
			got = append(got, i.Class)
		}
		if slices.Sort(got); !slices.Equal(got, []string{Anonymous, "member", "owner"}) {
			t.Errorf("classes of the reservations: %q", got)
		}
	})
}

func TestClassBounds(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Classes: []Class{{Name: "few", Reservations: 1, CircuitsPerPeer: 1}}}})
		one, two := start(t, n.Host("one")), start(t, n.Host("two"))
		r.SetACL(list(t, "allow "+one.ID().String()+" few", "allow "+two.ID().String()+" few"))
		if _, status := r.reserve(t, one); status != pbv2.Status_OK {
			t.Errorf("the first of one: %v", status)
		}
		if _, status := r.reserve(t, one); status != pbv2.Status_OK {
			t.Errorf("its refresh: %v", status)
		}
		if _, status := r.reserve(t, two); status != pbv2.Status_RESERVATION_REFUSED {
			t.Errorf("the second of one: %v, want it refused", status)
		}
		if err := r.dial(t, start(t, n.Host("a")), one); err != nil {
			t.Error(err)
		}
		if err := r.dial(t, start(t, n.Host("b")), one); err == nil {
			t.Error("two circuits for one that may have one")
		}
	})
}

// TestHolePunchOnly: enough for a connection and a few words, and no more.
func TestHolePunchOnly(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{HolePunchOnly: true}})
		reserved, caller := r.peers(t, n, "")
		if rsvp, _ := r.reserve(t, reserved); rsvp.LimitDuration != punchTime || rsvp.LimitData != punchBytes {
			t.Errorf("told %v and %d bytes, want %v and %d", rsvp.LimitDuration, rsvp.LimitData, punchTime, punchBytes)
		}
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if err := echoes(t, caller, reserved, 10_000); err != nil {
			t.Errorf("10 kB: %v", err)
		}
		if err := echoes(t, caller, reserved, punchBytes); err == nil {
			t.Error("carried 64 KiB more")
		}
	})
}

func TestMonthlyBytes(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{MonthlyBytes: 300_000}})
		reserved, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if err := echoes(t, caller, reserved, 100_000); err != nil {
			t.Errorf("100 kB there and back of 300: %v", err)
		}
		if err := echoes(t, caller, reserved, 200_000); err == nil {
			t.Error("another 200 kB there and back of 300")
		}
		time.Sleep(time.Minute)
		if err := r.dial(t, caller, reserved); err == nil {
			t.Error("a circuit for one whose month is used up")
		}
		// Package usage's tests turn the month; here the operator is generous.
		r.SetLimits(Limits{MonthlyBytes: 3_000_000})
		if err := r.dial(t, start(t, n.Host("another")), reserved); err != nil {
			t.Errorf("with a larger quota: %v", err)
		}
	})
}

// TestRate: all circuits of a peer share its rate, a change holds at once, and
// nobody is dropped for it.
func TestRate(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		limits := Limits{Rate: 100_000, Burst: 50_000}
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: limits})
		reserved, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		takes := func() time.Duration {
			t.Helper()
			began := time.Now()
			if err := echoes(t, caller, reserved, 500_000); err != nil { // 1 MB there and back
				t.Error(err)
			}
			return time.Since(began)
		}
		if d := takes(); d < 9*time.Second || d > 12*time.Second {
			t.Errorf("1 MB at 100 kB/s took %v", d)
		}
		limits.Rate, limits.Burst = 1_000_000, 0
		if err := r.SetLimits(limits); err != nil {
			t.Fatal(err)
		}
		if d := takes(); d > 2*time.Second {
			t.Errorf("1 MB at 1 MB/s took %v", d)
		}
		if s := r.Status(); s.Circuits != 1 || s.Reservations != 1 {
			t.Errorf("after the change: %d circuits, %d reservations, want 1 each", s.Circuits, s.Reservations)
		}
		limits.Reservations = -1
		if err := r.SetLimits(limits); err == nil || !strings.Contains(err.Error(), "reservations") {
			t.Errorf("a bad limit: got %v", err)
		}
	})
}

// TestACLCuts: who may not any more is cut at once, others are not.
func TestACLCuts(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		bad, caller := r.peers(t, n, "bad")
		good, friend := r.peers(t, n, "good")
		for from, to := range map[host.Host]host.Host{caller: bad, friend: good} {
			if err := r.dial(t, from, to); err != nil {
				t.Fatal(err)
			}
		}
		r.SetACL(list(t, "deny "+bad.ID().String()))
		time.Sleep(time.Second)
		if s := r.Status(); s.Reservations != 1 || s.Circuits != 1 || caller.Network().Connectedness(bad.ID()) == network.Connected {
			t.Errorf("%d reservations and %d circuits, want the good peer's", s.Reservations, s.Circuits)
		}
		if err := echoes(t, friend, good, 1000); err != nil {
			t.Errorf("the good peer: %v", err)
		}
		if _, status := r.reserve(t, bad); status != pbv2.Status_PERMISSION_DENIED {
			t.Errorf("reserves again: %v, want it denied", status)
		}
		// A network, and then nobody.
		ip := r.Reservations()[0].IP
		r.SetACL(list(t, "deny "+ip))
		time.Sleep(time.Second)
		if s := r.Status(); s.Reservations != 0 || s.Circuits != 0 {
			t.Errorf("%d reservations and %d circuits after %s was denied", s.Reservations, s.Circuits, ip)
		}
		r.SetACL(list(t, "allow "+good.ID().String(), "deny all"))
		if _, status := r.reserve(t, good); status != pbv2.Status_OK {
			t.Errorf("the one who is allowed: %v", status)
		}
		if err := r.dial(t, friend, good); err == nil {
			t.Error("one who is not on the list opened a circuit")
		}
	})
}

func TestBan(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On})
		p, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, p); err != nil {
			t.Fatal(err)
		}
		if circuits, held := r.Kick(p.ID()); circuits != 1 || held != 1 {
			t.Errorf("kicked %d circuits and %d reservations, want 1 each", circuits, held)
		}
		if _, status := r.reserve(t, p); status != pbv2.Status_OK {
			t.Errorf("back after a kick: %v", status)
		}
		if err := r.Ban(p.ID(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, status := r.reserve(t, p); status != pbv2.Status_PERMISSION_DENIED || len(r.Dump().Bans) != 1 {
			t.Errorf("banned: %v, %v", status, r.Dump().Bans)
		}
		time.Sleep(time.Hour)
		if _, status := r.reserve(t, p); status != pbv2.Status_OK || len(r.Dump().Bans) != 0 {
			t.Errorf("an hour later: %v, %v", status, r.Dump().Bans)
		}
		r.Ban(p.ID(), 0)
		time.Sleep(3 * time.Hour)
		if _, status := r.reserve(t, p); status != pbv2.Status_PERMISSION_DENIED {
			t.Errorf("banned for good: %v", status)
		}
		r.Unban(p.ID())
		if _, status := r.reserve(t, p); status != pbv2.Status_OK {
			t.Errorf("ban lifted: %v", status)
		}
	})
}

func TestValidator(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		var asked []Question
		answer := Answer{Allow: true, Class: "owner"}
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Classes: classes}, Access: Access{
			Validator: func(_ context.Context, q Question) Answer { asked = append(asked, q); return answer },
		}})
		p, caller := r.peers(t, n, "")
		if got := r.Reservations(); len(got) != 1 || got[0].Class != "owner" {
			t.Errorf("got %+v, want one of class owner", got)
		}
		answer = Answer{}
		if err := r.dial(t, caller, p); err == nil {
			t.Error("a circuit that the validator refuses")
		}
		if _, status := r.reserve(t, caller); status != pbv2.Status_PERMISSION_DENIED {
			t.Errorf("got %v, want it denied", status)
		}
		if len(asked) != 3 || asked[0].Peer != p.ID() || asked[0].Connect != "" || asked[1].Peer != caller.ID() || asked[1].Connect != p.ID() || asked[1].Addr == nil {
			t.Errorf("asked %+v", asked)
		}
	})
}

// TestTokens: a token puts its peer into a class for as long as it is good, and
// what it gave ends when it is revoked.
func TestTokens(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		issuer, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{CircuitBytes: 50_000, Classes: classes}, Access: Access{
			Trust: auth.Trust{Issuers: []peer.ID{issuer}},
		}})
		p, caller := r.peers(t, n, "")
		token := func(class string, l auth.Limits) string {
			t.Helper()
			s, err := auth.Sign(key, auth.Token{Peer: p.ID(), Class: class, Limits: l, Expires: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		present := func(text string) (auth.Grant, error) {
			return auth.Present(timeout(t), p, r.host.ID(), text)
		}
		time.Sleep(time.Second) // identify
		g, err := present(token("member", auth.Limits{CircuitBytes: auth.Unlimited}))
		if err != nil || g.Class != "member" || g.Limits.CircuitBytes != auth.Unlimited || g.Limits.CircuitTime != time.Hour {
			t.Errorf("got %+v, %v", g, err)
		}
		if rsvp, _ := r.reserve(t, p); rsvp.LimitDuration != time.Hour || rsvp.LimitData != 0 {
			t.Errorf("told %v and %d bytes, want an hour and no bound", rsvp.LimitDuration, rsvp.LimitData)
		}
		if err := r.dial(t, caller, p); err != nil {
			t.Fatal(err)
		}
		if err := echoes(t, caller, p, 500_000); err != nil {
			t.Errorf("with the token: %v", err)
		}
		if _, err := present(token("prince", auth.Limits{})); !errors.Is(err, auth.NotTaken) {
			t.Errorf("a class that there is not: got %v", err)
		}
		// It is revoked: its circuit goes, its reservation is a stranger's.
		revoked, err := auth.ParseRevocations(strings.NewReader(p.ID().String()), "test")
		if err != nil {
			t.Fatal(err)
		}
		r.SetTrust(auth.Trust{Issuers: []peer.ID{issuer}, Revoked: revoked})
		time.Sleep(time.Second)
		if s := r.Status(); s.Circuits != 0 || s.Reservations != 1 || r.Reservations()[0].Class != Anonymous {
			t.Errorf("revoked: %d circuits, reservations %+v", s.Circuits, r.Reservations())
		}
		if _, err := present(token("member", auth.Limits{})); !errors.Is(err, auth.Revoked) {
			t.Errorf("a token of one whose tokens are revoked: got %v", err)
		}
		// Tokens end by themselves, and can be given back.
		r.SetTrust(auth.Trust{Issuers: []peer.ID{issuer}})
		if _, err := present(token("owner", auth.Limits{})); err != nil || r.Reservations()[0].Class != "owner" {
			t.Errorf("got %v, %+v", err, r.Reservations())
		}
		if _, err := present(""); err != nil || r.Reservations()[0].Class != Anonymous {
			t.Errorf("given back: got %v, %+v", err, r.Reservations())
		}
		present(token("owner", auth.Limits{}))
		time.Sleep(2 * time.Hour)
		if rsvp, status := r.reserve(t, p); status != pbv2.Status_OK || rsvp.LimitData != 50_000 {
			t.Errorf("after the token's end: %v, %+v", status, rsvp)
		}
	})
}

// TestGuard: new work is refused while the process is short of something, and
// what there is goes on.
func TestGuard(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{Memory: 1 << 40}})
		p, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, p); err != nil {
			t.Fatal(err)
		}
		ballast := make([]byte, 32<<20)
		defer runtime.KeepAlive(ballast)
		if err := r.SetLimits(Limits{Memory: 16 << 20}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * guardInterval)
		if s := r.Status(); !strings.Contains(s.Overloaded, "memory") {
			t.Errorf("overloaded: got %q", s.Overloaded)
		}
		newcomer := start(t, n.Host("newcomer"))
		if _, status := r.reserve(t, newcomer); status != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
			t.Errorf("a newcomer: %v", status)
		}
		if _, status := r.reserve(t, p); status != pbv2.Status_OK {
			t.Errorf("a refresh: %v", status)
		}
		if err := r.dial(t, newcomer, p); err == nil {
			t.Error("a new circuit")
		}
		if err := echoes(t, caller, p, 1000); err != nil {
			t.Errorf("the circuit that stands: %v", err)
		}
		r.SetLimits(Limits{})
		time.Sleep(2 * guardInterval)
		if _, status := r.reserve(t, newcomer); status != pbv2.Status_OK {
			t.Errorf("afterwards: %v", status)
		}
	})
	g := guard{memory: func() (int64, int64) { return 1, 100 }, files: func() (int, int) { return 91, 100 }}
	for _, c := range []struct {
		l    Limits
		want string
	}{
		{Limits{}, "file descriptors: 91 of 100 in use"},
		{Limits{Files: 95}, ""},
		{Limits{Files: Unlimited}, ""},
	} {
		if g.look(newPolicy(c.l)); g.why() != c.want {
			t.Errorf("%+v: got %q, want %q", c.l, g.why(), c.want)
		}
	}
	if used, most := filesInUse(); used < 3 || most < used {
		t.Errorf("%d of %d file descriptors in use", used, most)
	}
}
