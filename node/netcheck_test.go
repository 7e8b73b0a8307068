package node

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestNetcheckBeforeStart(t *testing.T) {
	n, err := New(Config{Network: "story"})
	if err != nil {
		t.Fatal(err)
	}
	r := n.Netcheck(t.Context())
	if r.Settled || r.Reachable || r.Kind != KindUnknown || r.UDP != reachability.NotTold || !strings.Contains(r.Headline, "not running") {
		t.Errorf("before Start: got %+v, want nothing known", r)
	}
}

// TestNetcheckBehindNAT: a public node and one behind a NAT say so, and how far
// their relays are.
func TestNetcheckBehindNAT(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		relays := w.relays(2)
		a := w.behind("a", testnet.PortRestricted(), Config{})
		await(t, a, "circuit addresses", func(e AddrsChanged) bool { return e.Circuits > 0 })
		await(t, a, "a verdict", func(e ReachabilityChanged) bool {
			return Settled(e.Verdict) && e.Verdict.Reachability == reachability.Private
		})
		r := a.Netcheck(t.Context())
		if !r.Settled || !r.Reachable || !strings.HasPrefix(r.Headline, "Others reach this node through a relay.") {
			t.Errorf("behind a NAT: got settled %t, reachable %t, %q", r.Settled, r.Reachable, r.Headline)
		}
		if r.CaptivePortal != reachability.NotTold {
			t.Errorf("captive portal: got %q, want unknown: a simulated node must not ask the real internet", r.CaptivePortal)
		}
		// An echo takes two times 20 ms.
		roles := make(map[string]int)
		for _, rel := range r.Relays {
			roles[rel.Role]++
			if rel.How != "echo" || rel.RTT.Round(time.Millisecond) != 40*time.Millisecond {
				t.Errorf("relay %s: %v by %q, want an echo of 40 ms", rel.ID, rel.RTT, rel.How)
			}
		}
		if roles["reserved"] != 2 || roles["bootstrap"] != 1 {
			t.Errorf("relays: %v, want 2 that are reserved and 1 bootstrap peer", roles)
		}
		pub := relays[0].Netcheck(t.Context())
		if pub.Kind != KindPublic || !strings.HasPrefix(pub.Headline, "Others can dial this node") {
			t.Errorf("public: got %s, %q", pub.Kind, pub.Headline)
		}
	})
}

func TestHeadline(t *testing.T) {
	const yes, private, public = reachability.Yes, reachability.Private, reachability.Public
	easy := reachability.Translation{Mapping: reachability.EndpointIndependent}
	hard := reachability.Translation{Mapping: reachability.AddressAndPortDependent}
	for _, tt := range []struct {
		name string
		r    Netcheck
		kind Kind
		want string
	}{
		{"nothing known", Netcheck{}, KindUnknown, "It is not known yet"},
		{"portal", Netcheck{CaptivePortal: yes}, KindUnknown, "A captive portal"},
		{"public", Netcheck{Reachability: reachability.Verdict{Reachability: public, IPv4: public}}, KindPublic, "Others can dial this node."},
		{"weak", Netcheck{Reachability: reachability.Verdict{Reachability: public, IPv4: public, Weak: true}}, KindPublic, "Others can dial this node, by one"},
		{"no stranger yet", Netcheck{Reachability: reachability.Verdict{
			Reachability: public, IPv4: public, Insured: true,
			NAT: reachability.NAT{UDP: reachability.Translation{Mapping: reachability.EndpointIndependent, Filtering: reachability.AddressDependent}},
		}}, KindAddressRestricted, "Others that this node has talked to can dial it."},
		{"IPv6", Netcheck{
			Reachability: reachability.Verdict{Reachability: public, IPv4: private, IPv6: public, NAT: reachability.NAT{UDP: easy}},
		}, KindCone, "Others can dial this node over IPv6."},
		{"easy", Netcheck{Reachable: true, Reachability: reachability.Verdict{NAT: reachability.NAT{UDP: easy}}}, KindCone, "Others reach this node through a relay. Its NAT is easy"},
		{"hard", Netcheck{Reachable: true, Reachability: reachability.Verdict{NAT: reachability.NAT{UDP: hard}}}, KindSymmetric, "Others reach this node through a relay. Its NAT is hard"},
		{"blocked", Netcheck{Reachable: true, Reachability: reachability.Verdict{NAT: reachability.NAT{UDPBlocked: yes}}}, KindUDPBlocked, "Others reach this node through a relay. UDP is blocked"},
		{"blocked, and hard", Netcheck{Reachable: true, Reachability: reachability.Verdict{NAT: reachability.NAT{UDPBlocked: yes, TCP: hard}}}, KindUDPBlocked, "Others reach this node through a relay. UDP is blocked here, and over TCP its NAT is hard"},
		{"blocked, and easy", Netcheck{Reachable: true, Reachability: reachability.Verdict{NAT: reachability.NAT{UDPBlocked: yes, TCP: easy}}}, KindUDPBlocked, "Others reach this node through a relay. UDP is blocked here: direct paths run over TCP."},
		{"443", Netcheck{Reachable: true, Only443: yes}, KindOnly443, "Others reach this node through a relay. Only TCP port 443"},
		{"443, where UDP worked a moment ago", Netcheck{Reachable: true, Only443: yes, Reachability: reachability.Verdict{NAT: reachability.NAT{UDPBlocked: reachability.No}}}, KindOnly443, "Others reach this node through a relay. Only TCP port 443"},
		{"443 over TLS", Netcheck{Reachable: true, Only443: yes, Only443TLS: yes}, KindOnly443, "Others reach this node through a relay. Only TLS on TCP port 443"},
		{"offline", Netcheck{Online: reachability.No, Reachable: true, Reachability: reachability.Verdict{Reachability: private, Confidence: reachability.Strong, NAT: reachability.NAT{UDP: easy, UDPBlocked: reachability.No}}}, KindUnknown, "Nobody answers: this machine seems to be offline"},
		{"bootstrap peers are gone", Netcheck{Online: reachability.No, CaptivePortal: reachability.No}, KindUnknown, "The internet answers, and none of the peers"},
		{"offline behind a portal", Netcheck{Online: reachability.No, CaptivePortal: yes}, KindUnknown, "A captive portal"},
		{"no relay", Netcheck{Reachability: reachability.Verdict{Reachability: private}}, KindUnknown, "Others cannot dial this node, and it has no relay."},
	} {
		tt.r.UDP = cmp.Or(tt.r.UDP, reachability.NotTold)
		tt.r.conclude()
		if tt.r.Kind != tt.kind || !strings.HasPrefix(tt.r.Headline, tt.want) {
			t.Errorf("%s: got %s, %q, want %s, %q", tt.name, tt.r.Kind, tt.r.Headline, tt.kind, tt.want)
		}
	}
}

// TestNetcheckOffline: what was known of a network that is gone is not said of
// it any more, and is known again when it is back.
func TestNetcheckOffline(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.bootstrap()
		w.relays(2)
		a := w.behind("a", testnet.PortRestricted(), Config{})
		await(t, a, "a verdict", func(e ReachabilityChanged) bool { return Settled(e.Verdict) })
		if r := a.Netcheck(t.Context()); r.Online != reachability.Yes || r.UDP != reachability.Yes || r.Kind == KindUnknown {
			t.Fatalf("before: online %q, UDP %q, %s; want yes, yes, an easy NAT", r.Online, r.UDP, r.Kind)
		}
		w.boxes[a.ID()].Kill()
		time.Sleep(2 * time.Minute)
		r := a.Netcheck(t.Context())
		if r.Online != reachability.No || r.Settled || r.Reachable || r.UDP != reachability.NotTold || r.Kind != KindUnknown ||
			len(r.Reachability.NAT.UDP.External) > 0 || !strings.Contains(r.Headline, "offline") {
			t.Errorf("offline: got %+v, want nothing but that", r)
		}
		for _, o := range r.Peers {
			if o.Direct != ChanceUnknown {
				t.Errorf("offline: a direct path to %s: %q", o.Peers, o.Direct)
			}
		}
		w.boxes[a.ID()].Revive()
		time.Sleep(2 * time.Minute)
		if r := a.Netcheck(t.Context()); r.Online != reachability.Yes || !r.Reachable || r.UDP != reachability.Yes {
			t.Errorf("back again: online %q, reachable %t, UDP %q; want yes", r.Online, r.Reachable, r.UDP)
		}
	})
}

// TestNeverOnline: a node that never met anybody says why nothing is known.
func TestNeverOnline(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		boot := w.bootstrap()
		w.boxes[boot.ID()].Kill()
		a := w.behind("a", testnet.PortRestricted(), Config{})
		if r := a.Netcheck(t.Context()); r.Online != reachability.NotTold {
			t.Errorf("at once: online %q, want unknown", r.Online)
		}
		time.Sleep(10 * time.Second)
		if r := a.Netcheck(t.Context()); r.Online != reachability.No || !strings.Contains(r.Headline, "offline") || r.Peers[0].Direct != ChanceUnknown {
			t.Errorf("after 10 s: online %q, %q, public peers %q", r.Online, r.Headline, r.Peers[0].Direct)
		}
	})
}

// TestPortalIsRemembered: the host that is asked is spared.
func TestPortalIsRemembered(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	var p portal
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := p.ask(gone, srv.URL); got != reachability.NotTold {
		t.Errorf("in a hurry: got %q, want unknown", got)
	}
	for range 3 {
		if got := p.ask(t.Context(), srv.URL); got != reachability.No {
			t.Errorf("got %q, want no", got)
		}
	}
	if asked != 1 {
		t.Errorf("%d requests, want 1", asked)
	}
	p.at = p.at.Add(-portalAge)
	if p.ask(t.Context(), srv.URL); asked != 2 {
		t.Errorf("%d requests when the first is old, want 2", asked)
	}
}

func TestAskPortal(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/redirect":
			http.Redirect(w, r, "/204", http.StatusFound)
		case "/page":
			w.Write([]byte("please sign in"))
		}
	}))
	gone := httptest.NewServer(nil)
	gone.Close()
	defer srv.Close()
	for target, want := range map[string]reachability.Fact{
		srv.URL + "/204": reachability.No, srv.URL + "/redirect": reachability.Yes,
		srv.URL + "/page": reachability.Yes, gone.URL: reachability.NotTold,
	} {
		if got := askPortal(t.Context(), target); got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
}

func TestCheckPortalURL(t *testing.T) {
	for _, s := range []string{DefaultPortalURL, NoPortalURL, "http://10.0.0.1:8080/x"} {
		if err := checkPortalURL(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"https://example.com/", "example.com", "http://", "file:///etc/passwd", "http://a b/"} {
		if err := checkPortalURL(s); err == nil {
			t.Errorf("%s is taken", s)
		}
	}
}

func TestOnly443(t *testing.T) {
	for _, tt := range []struct {
		tried []tcpResult
		want  reachability.Fact
	}{
		{nil, reachability.NotTold},
		{[]tcpResult{{port: 443, ok: true}}, reachability.NotTold}, // no other was tried
		{[]tcpResult{{port: 443}, {port: 4001}}, reachability.NotTold},
		{[]tcpResult{{port: 443, ok: true}, {port: 4001}}, reachability.Yes},
		{[]tcpResult{{port: 443, ok: true}, {port: 4001}, {port: 4002, ok: true}}, reachability.No},
		{[]tcpResult{{port: 4001, ok: true}}, reachability.No},
	} {
		if got := only443(tt.tried); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.tried, got, tt.want)
		}
	}
}

func TestOnly443TLS(t *testing.T) {
	const yes, no, unknown = reachability.Yes, reachability.No, reachability.NotTold
	for _, tt := range []struct {
		only443 reachability.Fact
		plain   []reachability.Fact
		want    reachability.Fact
	}{
		{unknown, []reachability.Fact{no}, unknown},
		{no, []reachability.Fact{no}, no},
		{yes, nil, unknown},
		{yes, []reachability.Fact{unknown}, unknown},
		{yes, []reachability.Fact{unknown, no}, yes},
		{yes, []reachability.Fact{no, yes}, no},
	} {
		if got := only443TLS(tt.only443, tt.plain); got != tt.want {
			t.Errorf("only 443 %q, plain %q: got %q, want %q", tt.only443, tt.plain, got, tt.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		within time.Duration
		server func(net.Conn)
		want   reachability.Fact
	}{
		{"speaks", probeTimeout, func(c net.Conn) { c.Read(make([]byte, 99)); c.Write([]byte(hello)) }, reachability.Yes},
		{"complains", probeTimeout, func(c net.Conn) { c.Read(make([]byte, 99)); c.Write([]byte{21}) }, reachability.Yes},
		{"says nothing", probeTimeout, func(c net.Conn) { c.Read(make([]byte, 99)) }, reachability.No},
		{"says nothing for a moment", minSilence / 2, func(c net.Conn) { c.Read(make([]byte, 99)) }, reachability.NotTold},
		{"hangs up", probeTimeout, func(c net.Conn) { c.Read(make([]byte, 99)); c.Close() }, reachability.NotTold},
		{"hangs up at once", probeTimeout, func(c net.Conn) { c.Close() }, reachability.NotTold},
	} {
		t.Run(tt.name, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				defer here.Close()
				defer there.Close()
				go tt.server(there)
				here.SetDeadline(time.Now().Add(tt.within))
				if got := answers(here); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestWhatIsProbed: nothing but the addresses that the user gave, and public
// ones of those same peers.
func TestWhatIsProbed(t *testing.T) {
	id, other := testPeer(t), testPeer(t)
	cfg := Config{
		Network: "story", Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}, PortalURL: NoPortalURL,
		Bootstrap: []peer.AddrInfo{{ID: id, Addrs: []ma.Multiaddr{
			ma.StringCast("/ip4/127.0.0.1/tcp/1"), ma.StringCast("/ip4/127.0.0.1/udp/1/quic-v1"), ma.StringCast("/dns4/relay.invalid/tcp/443/wss"),
		}}},
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, a := range []string{"/ip4/192.168.7.7/tcp/22", "/ip4/127.0.0.1/tcp/22", "/ip4/11.0.0.1/tcp/443/ws", "/ip6/::1/tcp/22"} {
		n.Host().Peerstore().AddAddr(id, ma.StringCast(a), time.Hour)
		n.Host().Peerstore().AddAddr(other, ma.StringCast(a), time.Hour)
	}
	got := strings.Join(n.tcpAddrs(id), " ")
	if want := "127.0.0.1:1 relay.invalid:443 11.0.0.1:443"; got != want {
		t.Errorf("addresses to probe: got %s, want %s", got, want)
	}
	if list := n.acquaintances(); len(list) != 1 || list[0].id != id {
		t.Errorf("peers to probe: got %v, want the bootstrap peer alone", list)
	}
}

func TestConnectAll(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().String()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	defer l.Close()
	got := connectAll(t.Context(), []string{open, closed.Addr().String()})
	if !got[0].ok || got[0].took <= 0 || got[1].ok || got[0].port != l.Addr().(*net.TCPAddr).Port {
		t.Errorf("an open and a closed port: got %+v", got)
	}
}

func testPeer(t *testing.T) peer.ID {
	t.Helper()
	key, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
