package cli

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/portmap"
	"github.com/causeway-p2p/causeway/reachability"
)

func aNetcheck() node.Netcheck {
	return node.Netcheck{
		Headline: "Others reach this node through a relay. Its NAT is easy: most peers get a direct path within a second.",
		Reachability: reachability.Verdict{
			Reachability: reachability.Private, IPv4: reachability.Private, IPv6: reachability.Unknown,
			Confidence: reachability.Proven,
			Because:    "2 of 2 servers could not dial 11.0.0.2:4001 over QUIC",
			NAT: reachability.NAT{
				UDP: reachability.Translation{
					Mapping: reachability.EndpointIndependent, Filtering: reachability.AddressAndPortDependent,
					External: []string{"11.0.0.2:4001"},
				},
				TCP:     reachability.Translation{Mapping: reachability.NotKnown, Filtering: reachability.NotKnown},
				Hairpin: reachability.No,
			},
			Transports: []reachability.TransportVerdict{
				{Family: "ip4", Transport: "quic", Reachability: reachability.Private, Confidence: reachability.Weak},
			},
			Addrs: []reachability.AddrVerdict{
				{Addr: "/ip4/11.0.0.2/udp/4001/quic-v1", Reachability: reachability.Private, Confidence: reachability.Weak, Source: "observed", FailedBy: 2},
			},
		},
		Kind: node.KindPortRestricted, Ease: "easy", Online: reachability.Yes,
		PortMapping: &portmap.Status{Text: "the router 192.168.1.1 maps UDP 4001 at 11.0.0.2 (PCP)"},
		UDP:         reachability.Yes, IPv6: reachability.No, CaptivePortal: reachability.No, Only443: reachability.No,
		Relays: []node.RelayRTT{
			{ID: "12D3KooWA", Role: "reserved", RTT: 40 * time.Millisecond, How: "echo", Path: "quic"},
			{ID: "12D3KooWB", Role: "bootstrap"},
		},
		Peers: []node.Outlook{
			{Peers: node.KindPublic, Direct: node.ChanceYes},
			{Peers: node.KindSymmetric, Direct: node.ChanceSometimes},
		},
	}
}

func TestWriteNetcheck(t *testing.T) {
	const want = `Others reach this node through a relay. Its NAT is easy: most peers get a direct path within a second.

can others reach me
  verdict                         private: 2 of 2 servers could not dial 11.0.0.2:4001 over QUIC
  IPv4                            private
  IPv6                            unknown
  QUIC over IPv4                  private, by one server's word
  /ip4/11.0.0.2/udp/4001/quic-v1  private, by one server's word (observed; 0 dialled it, 2 could not)

what is in the way
  online          yes
  NAT             easy (port-restricted)
  UDP             works
  over UDP        mapping endpoint-independent, filtering address-and-port-dependent; seen as 11.0.0.2:4001
  port mapping    the router 192.168.1.1 maps UDP 4001 at 11.0.0.2 (PCP)
  hairpin         no
  IPv6            no public address
  captive portal  no
  TCP 443 only    no, other ports get out too

relays
  12D3KooWA  reserved, 40 ms away (echo, quic)
  12D3KooWB  bootstrap, no answer

direct paths to peers that are
  public                             yes
  behind a symmetric NAT, some CGNs  sometimes (ports must be guessed)
`
	var b strings.Builder
	if err := WriteNetcheck(&b, aNetcheck()); err != nil {
		t.Fatal(err)
	}
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestOnly443Text(t *testing.T) {
	for tls, want := range map[reachability.Fact]string{
		reachability.Yes:     "yes, and TLS alone: what else is sent there gets no answer",
		reachability.No:      "yes, also without TLS",
		reachability.NotTold: "yes",
		"":                   "yes", // of an older node
	} {
		r := aNetcheck()
		r.Only443, r.Only443TLS = reachability.Yes, tls
		if lines := NetworkLines(r); lines[len(lines)-1] != (Line{"TCP 443 only", want}) {
			t.Errorf("with TLS only %q: got %v, want %q", tls, lines[len(lines)-1], want)
		}
	}
}

func TestNetcheckChanges(t *testing.T) {
	old, now := aNetcheck(), aNetcheck()
	now.Relays[0].RTT, now.Took = time.Second, time.Second
	if c := NetcheckChanges(old, now); len(c) != 0 {
		t.Errorf("nothing but measurements changed: got %v", c)
	}
	now.Reachability.NAT.Hairpin, now.Headline = reachability.Yes, "Others can dial this node."
	c := NetcheckChanges(old, now)
	if len(c) != 2 || c[0] != (Line{"", now.Headline}) || c[1] != (Line{"hairpin", "yes"}) {
		t.Errorf("got %v, want the answer and the hairpin", c)
	}
}

// TestRelayChanges: a line for each relay that begins or ceases to serve or to
// answer.
func TestRelayChanges(t *testing.T) {
	rel := func(id, role string, rtt time.Duration) node.RelayRTT {
		return node.RelayRTT{ID: id, Role: role, RTT: rtt}
	}
	for _, tt := range []struct {
		name     string
		old, now []node.RelayRTT
		want     []string
	}{
		{"another takes over", []node.RelayRTT{rel("A", "reserved", 1)}, []node.RelayRTT{rel("B", "reserved", 1)}, []string{"A serves this node no more", "B serves this node"}},
		{"all went", []node.RelayRTT{rel("A", "reserved", 1), rel("B", "reserved", 1)}, nil, []string{"A serves this node no more", "B serves this node no more"}},
		{"a bootstrap peer serves", []node.RelayRTT{rel("A", "bootstrap", 1)}, []node.RelayRTT{rel("A", "reserved", 1)}, []string{"A serves this node"}},
		{"no answer", []node.RelayRTT{rel("A", "bootstrap", 1)}, []node.RelayRTT{rel("A", "bootstrap", 0)}, []string{"A gives no answer"}},
		{"an answer again", []node.RelayRTT{rel("A", "bootstrap", 0)}, []node.RelayRTT{rel("A", "bootstrap", 1)}, []string{"A answers"}},
		{"one that is not looked at any more", []node.RelayRTT{rel("A", "bootstrap", 1)}, nil, nil},
	} {
		var got []string
		for _, l := range NetcheckChanges(node.Netcheck{Relays: tt.old}, node.Netcheck{Relays: tt.now}) {
			if l.Name != "relay" {
				t.Errorf("%s: a line %+v, want them to be about relays", tt.name, l)
			}
			got = append(got, l.Text)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestUntriedByStrangers: that a NAT keeps strangers out is no fact while none
// has tried.
func TestUntriedByStrangers(t *testing.T) {
	r := aNetcheck()
	r.Kind, r.Reachability.NAT.UDP.Filtering = node.KindAddressRestricted, reachability.AddressDependent
	say := func() (text string) {
		for _, l := range NetworkLines(r)[1:4] {
			text += l.Text + "\n"
		}
		return text
	}
	if got := say(); strings.Contains(got, "or less") {
		t.Errorf("strangers have tried: got %q", got)
	}
	r.Reachability.Transports[0].Reachability = reachability.Public
	if got := say(); !strings.Contains(got, "easy (address-restricted or less: no stranger has tried)") || !strings.Contains(got, "filtering address-dependent or less") {
		t.Errorf("no stranger has tried: got %q", got)
	}
}

// TestFirewall: what lets no UDP out may be a NAT as well, as TCP shows.
func TestFirewall(t *testing.T) {
	const ei, apd, none = reachability.EndpointIndependent, reachability.AddressAndPortDependent, reachability.NoNAT
	for _, c := range []struct {
		kind, overTCP node.Kind
		mapping       reachability.Behavior
		want          string
	}{
		{node.KindUDPBlocked, node.KindSymmetric, apd, "a firewall, and over TCP a NAT that is hard (symmetric)"},
		{node.KindUDPBlocked, node.KindPortRestricted, ei, "a firewall, and over TCP a NAT that is easy (port-restricted)"},
		{node.KindUDPBlocked, node.KindCone, ei, "a firewall, and over TCP a NAT that is easy (what it lets in is not known)"},
		{node.KindUDPBlocked, node.KindUnknown, reachability.NotKnown, "a firewall"},
		{node.KindUDPBlocked, node.KindPortRestricted, none, "a firewall"},
		{node.KindOnly443, node.KindSymmetric, apd, "a firewall, and over TCP a NAT that is hard (symmetric)"},
		{node.KindSymmetric, node.KindSymmetric, apd, "hard (symmetric)"},
	} {
		r := aNetcheck()
		r.Kind, r.Ease, r.OverTCP = c.kind, c.kind.Ease(), c.overTCP
		r.Reachability.NAT.TCP.Mapping = c.mapping
		if got := NetworkLines(r)[1]; got != (Line{"NAT", c.want}) {
			t.Errorf("%s, %s over TCP (%s): got %+v, want %q", c.kind, c.overTCP, c.mapping, got, c.want)
		}
	}
}

// TestOfflineVerdict: what is not true now is not said as if it were.
func TestOfflineVerdict(t *testing.T) {
	r := aNetcheck()
	r.Online = reachability.No
	if got := ReachLines(r)[0].Text; !strings.HasPrefix(got, "when somebody answered last, private: ") {
		t.Errorf("got %q", got)
	}
}
