package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// newID returns the i-th peer ID.
func newID(t testing.TB, i int) peer.ID {
	t.Helper()
	h, err := multihash.Sum([]byte(fmt.Sprint("peer ", i)), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return peer.ID(h)
}

func parse(t testing.TB, lines ...string) *List {
	t.Helper()
	l, err := Parse(strings.NewReader(strings.Join(lines, "\n")), "acl")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestMatch(t *testing.T) {
	a, b, c := newID(t, 1), newID(t, 2), newID(t, 3)
	l := parse(t,
		"# comment",
		"",
		"allow "+a.String()+" members # trailing",
		"deny 10.0.0.0/8\r",
		"allow 10.1.0.0/16 too-late",
		"\tdeny\t192.0.2.7  ",
		"allow 192.0.2.0/24 net",
		"deny "+a.String(),
		"allow ::ffff:198.51.100.0/120 mapped",
		"allow 2001:db8:1::/48 slow",
		"deny 2001:db8::/32",
		"deny AS15169",
		"allow as32934 as",
		"allow "+peer.ToCid(b).String()+" cid",
		"deny 255.255.255.255",
		"deny ffff:ffff::/32",
	)
	for _, c := range []struct {
		p    peer.ID
		ip   string
		want string // the rule, or empty
	}{
		{a, "", "allow " + a.String() + " members"},
		{a, "10.0.0.1", "allow " + a.String() + " members"},
		{c, "10.0.0.1", "deny 10.0.0.0/8"},
		{"", "10.1.2.3", "deny 10.0.0.0/8"},
		{"", "::ffff:10.1.2.3", "deny 10.0.0.0/8"},
		{"", "9.255.255.255", ""},
		{"", "11.0.0.0", ""},
		{c, "192.0.2.7", "deny 192.0.2.7"},
		{c, "192.0.2.6", "allow 192.0.2.0/24 net"},
		{c, "192.0.2.8", "allow 192.0.2.0/24 net"},
		{c, "198.51.100.200", "allow ::ffff:198.51.100.0/120 mapped"},
		{"", "2001:db8:1::1", "allow 2001:db8:1::/48 slow"},
		{"", "2001:db8:1::1%eth0", "allow 2001:db8:1::/48 slow"},
		{"", "2001:db8:2::1", "deny 2001:db8::/32"},
		{"", "2001:db9::", ""},
		{"", "2001:4860:4860::8888", "deny AS15169"},
		{"", "8.8.8.8", ""}, // of the same AS
		{"", "2a03:2880:f003:c07:face:b00c::2", "allow as32934 as"},
		{b, "2001:4860:4860::8888", "deny AS15169"},
		{b, "", "allow " + peer.ToCid(b).String() + " cid"},
		{"", "255.255.255.255", "deny 255.255.255.255"},
		{"", "255.255.255.254", ""},
		{"", "ffff:ffff:ffff::1", "deny ffff:ffff::/32"},
		{"", "ffff:fffe::1", ""},
		{"", "", ""},
	} {
		var ip netip.Addr
		if c.ip != "" {
			ip = netip.MustParseAddr(c.ip)
		}
		r, ok := l.Match(c.p, ip)
		got := ""
		if ok {
			got = r.String()
		}
		if got != c.want {
			t.Errorf("%v from %q: got %q, want %q", c.p, c.ip, got, c.want)
		}
	}
	if got, want := l.Classes(), []string{"as", "cid", "mapped", "members", "net", "slow", "too-late"}; !slices.Equal(got, want) {
		t.Errorf("classes: got %q, want %q", got, want)
	}
	if r, _ := l.Match(a, netip.Addr{}); r.Line != 3 || !r.Allow || r.Class != "members" || l.Len() != 14 {
		t.Errorf("got %+v of %d rules", r, l.Len())
	}
}

func TestAll(t *testing.T) {
	a := newID(t, 1)
	l := parse(t, "allow "+a.String(), "deny all", "allow 10.0.0.0/8", "allow all")
	if r, ok := l.Match(a, netip.Addr{}); !ok || !r.Allow {
		t.Errorf("got %v, %v", r, ok)
	}
	for _, ip := range []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")} {
		if r, ok := l.Match("somebody", ip); !ok || r.Allow || r.Line != 2 {
			t.Errorf("%v: got %v, %v", ip, r, ok)
		}
	}
	for _, empty := range []*List{nil, {}, parse(t), parse(t, "# nothing")} {
		if r, ok := empty.Match(a, netip.MustParseAddr("::1")); ok || empty.Len() != 0 || empty.Classes() != nil {
			t.Errorf("empty: got %v", r)
		}
	}
}

// TestOrder compares with the obvious, over networks that lie in one another.
func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(v6 bool) netip.Addr {
		// Few bits are in use, so that much overlaps; both ends of the space.
		x := rng.Uint32()&0xf000000f | uint32(rng.IntN(4))<<22
		if rng.IntN(4) == 0 {
			x |= 0x0ffffff0
		}
		var b [16]byte
		binary.BigEndian.PutUint32(b[:], x)
		if v6 {
			binary.BigEndian.PutUint32(b[12:], rng.Uint32()&3)
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	for range 200 {
		var lines []string
		var nets []netip.Prefix
		for range 1 + rng.IntN(60) {
			a := random(rng.IntN(2) == 0)
			p, err := a.Prefix(rng.IntN(a.BitLen() + 1))
			if err != nil {
				t.Fatal(err)
			}
			if p.Addr().Is4In6() {
				continue
			}
			nets, lines = append(nets, p), append(lines, "deny "+p.String())
		}
		l := parse(t, lines...)
		for range 300 {
			ip := random(rng.IntN(2) == 0)
			if rng.IntN(2) == 0 && len(nets) > 0 {
				ip = last(nets[rng.IntN(len(nets))])
				if next := ip.Next(); next.IsValid() && rng.IntN(2) == 0 {
					ip = next
				}
			}
			want := slices.IndexFunc(nets, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
			r, ok := l.Match("", ip)
			if ok != (want >= 0) || ok && r.Line != want+1 {
				t.Fatalf("%v: got %v (%v), want rule %d of\n%s", ip, r, ok, want+1, strings.Join(lines, "\n"))
			}
		}
	}
}

func TestFaults(t *testing.T) {
	id := newID(t, 1).String()
	for _, c := range []struct{ line, want string }{
		{"permit all", `"permit" is not a rule: start the line with allow or deny`},
		{"Allow all", `"Allow" is not a rule`},
		{"allow", "allow whom?"},
		{"deny # all", "deny whom?"},
		{"deny all members", "deny takes no class"},
		{"allow all Members", `class "Members": use at most 32 of a-z, 0-9 and -`},
		{"allow all " + strings.Repeat("x", 33), "class"},
		{"allow all a b", `"b" is one word too many`},
		{"allow bob", `"bob" is no peer ID`},
		{"allow " + id[:20], "is no peer ID"},
		{"deny AS0", "is no autonomous system"},
		{"deny AS4294967296", "is no autonomous system"},
		{"deny AS", "is no peer ID"},
		{"deny 10.1.2.3/8", "has bits beyond its length: write 10.0.0.0/8, or 10.1.2.3 for the one address"},
		{"deny ::ffff:10.1.2.3/104", "has bits beyond its length: write 10.0.0.0/8, or 10.1.2.3 for"},
		{"deny ::ffff:0:0/90", "is part IPv4 and part IPv6"},
		{"deny 10.0.0.0/33", "is no network"},
		{"deny 10.0.0/8", "is no network"},
		{"deny 10.0.0", "is no IP address"},
		{"deny relay.example", "is no IP address: names are not looked up"},
		{"deny fe80::1%eth0", "has a zone"},
		{"deny " + strings.Repeat("x", 500), `x…" is no peer ID`},
		{"deny all # " + strings.Repeat("x", maxLine), "the line is longer than 1024 bytes"},
	} {
		_, err := Parse(strings.NewReader("# first\nallow all\n"+c.line+"\nallow all"), "acl.txt")
		var p *ParseError
		if !errors.As(err, &p) || len(p.Faults) != 1 || !strings.HasPrefix(err.Error(), "acl.txt:3: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.50q: got %v, want acl.txt:3: … %s", c.line, err, c.want)
		}
	}
	// All at once, but not without end.
	_, err := Parse(strings.NewReader(strings.Repeat("x\n", 1000)), "acl.txt")
	if n := strings.Count(fmt.Sprint(err), "\n"); n != maxFaults || !strings.HasSuffix(err.Error(), "\nand 950 more") {
		t.Errorf("%d lines, want %d: %v", n, maxFaults, err)
	}
}

func TestBounds(t *testing.T) {
	long := "deny all # " + strings.Repeat("x", maxLine)
	parse(t, long[:maxLine], long[:maxLine]+"\n", "\ufeff"[:0])
	if l := parse(t, "\ufeffdeny all"); l.Len() != 1 {
		t.Error("not read after a byte order mark")
	}
	full := strings.Repeat(strings.Repeat("#", 1023)+"\n", maxFile/1024)
	if l := parse(t, full); l.Len() != 0 {
		t.Errorf("%d rules", l.Len())
	}
	if _, err := Parse(strings.NewReader(full+"#"), "acl"); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("got %v, want that it is too large", err)
	}
	broken := errors.New("broken")
	if _, err := Parse(&reader{broken}, "acl"); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type reader struct{ err error }

func (r *reader) Read([]byte) (int, error) { return 0, r.err }

// FuzzParse holds that what is read can be written and read again, and that a
// match is always one of the rules.
func FuzzParse(f *testing.F) {
	id := newID(f, 1).String()
	for _, s := range []string{
		"", "allow all", "allow " + id + " members # x\n\ndeny all\n", "deny 10.0.0.0/8\nallow 10.0.0.0/8\ndeny 10.1.0.0/16",
		"deny AS64500\nallow 2001:db8::/32 slow", "deny ::/0\ndeny 0.0.0.0/0", "\ufeffdeny 255.255.255.255\r\n", "allow ::ffff:1.2.3.4",
		"deny 10.1.2.3/8\nx", strings.Repeat("a", 2000),
	} {
		f.Add(s, []byte{10, 1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, s string, b []byte) {
		l, err := Parse(strings.NewReader(s), "acl")
		if err != nil {
			if p := (*ParseError)(nil); !errors.As(err, &p) || len(p.Faults) == 0 {
				t.Fatalf("got %T %v", err, err)
			}
			return
		}
		var again strings.Builder
		for _, r := range l.rules {
			fmt.Fprintln(&again, r)
		}
		l2, err := Parse(strings.NewReader(again.String()), "again")
		if err != nil || l2.Len() != l.Len() {
			t.Fatalf("%d rules are %d: %v", l.Len(), l2.Len(), err)
		}
		ip, _ := netip.AddrFromSlice(b)
		for _, p := range []peer.ID{"", peer.ID(b)} {
			r, ok := l.Match(p, ip)
			r2, ok2 := l2.Match(p, ip)
			if ok != ok2 || r.String() != r2.String() {
				t.Fatalf("%v: %v and then %v", ip, r, r2)
			}
		}
	})
}

func manyRules(b *testing.B) string {
	rng := rand.New(rand.NewPCG(1, 2))
	var s strings.Builder
	for i := range 100_000 {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&s, "allow %v members\n", newID(b, i))
		case 1:
			fmt.Fprintf(&s, "deny AS%d\n", 1+rng.IntN(400_000))
		case 2:
			p, _ := netip.AddrFrom4([4]byte{byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))}).Prefix(8 + rng.IntN(25))
			fmt.Fprintf(&s, "deny %v\n", p)
		default:
			p, _ := netip.AddrFrom16([16]byte{0x20, byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))}).Prefix(16 + rng.IntN(48))
			fmt.Fprintf(&s, "deny %v\n", p)
		}
	}
	return s.String()
}

func BenchmarkMatch(b *testing.B) {
	l := parse(b, manyRules(b))
	for name, ip := range map[string]string{"v4": "198.51.100.7", "v6": "2001:4860:4860::8888"} {
		p, ip := newID(b, 1), netip.MustParseAddr(ip)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Match(p, ip)
			}
		})
	}
	// The alternative: look at one rule after the other.
	b.Run("v4 one by one", func(b *testing.B) {
		var nets []netip.Prefix
		for _, r := range l.rules {
			if n, hint := parseNetwork(r.Who); hint == "" {
				nets = append(nets, n)
			}
		}
		ip := netip.MustParseAddr("198.51.100.7")
		for b.Loop() {
			_ = slices.IndexFunc(nets, func(n netip.Prefix) bool { return n.Contains(ip) })
		}
	})
}

func BenchmarkParse(b *testing.B) {
	s := manyRules(b)
	b.ReportAllocs()
	for b.Loop() {
		parse(b, s)
	}
}
