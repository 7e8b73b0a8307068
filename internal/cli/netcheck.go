package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// Line is one thing that a report says: a name and what is so.
type Line struct{ Name, Text string }

// WriteNetcheck says a report in words: the answer first, then what it rests
// on.
func WriteNetcheck(w io.Writer, r node.Netcheck) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Headline)
	section(&b, "can others reach me", ReachLines(r))
	section(&b, "what is in the way", NetworkLines(r))
	section(&b, "relays", relayLines(r))
	section(&b, "direct paths to peers that are", outlookLines(r))
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, title string, lines []Line) {
	if len(lines) == 0 {
		return
	}
	width := 0
	for _, l := range lines {
		width = max(width, len(l.Name))
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  %-*s  %s\n", width, l.Name, l.Text)
	}
}

// ReachLines are the verdict in all, per family and transport, and the evidence
// per address.
func ReachLines(r node.Netcheck) []Line {
	v := r.Reachability
	lines := []Line{
		{"verdict", fmt.Sprintf("%s: %s", sure(v.Reachability, v.Confidence, v.Proven), v.Because)},
		{"IPv4", string(v.IPv4)},
		{"IPv6", string(v.IPv6)},
	}
	for _, t := range v.Transports {
		lines = append(lines, Line{transportNames[t.Transport] + familyNames[t.Family], sure(t.Reachability, t.Confidence, t.Proven)})
	}
	for _, a := range v.Addrs {
		lines = append(lines, Line{a.Addr, fmt.Sprintf("%s (%s; %d dialled it, %d could not)", sure(a.Reachability, a.Confidence, a.Proven), a.Source, a.DialledBy, a.FailedBy)})
	}
	return lines
}

var (
	transportNames = map[string]string{"quic": "QUIC", "tcp": "TCP", "ws": "WebSocket", "webtransport": "WebTransport", "webrtc": "WebRTC"}
	familyNames    = map[string]string{"ip4": " over IPv4", "ip6": " over IPv6"}
)

// sure says what is so, and how sure that is.
func sure(r reachability.Reachability, c reachability.Confidence, proven bool) string {
	switch {
	case r == reachability.Unknown:
		return string(r)
	case r == reachability.Public && proven:
		return "public, also for strangers"
	case c == reachability.Hint:
		return string(r) + ", by a hint"
	case c == reachability.Weak:
		return string(r) + ", by one server's word"
	}
	return string(r)
}

// NetworkLines are the network's own ways.
func NetworkLines(r node.Netcheck) []Line {
	nat := r.Reachability.NAT
	lines := []Line{
		{"NAT", natText(r)},
		{"UDP", said(r.UDP, "works", "blocked")},
	}
	for _, t := range []struct {
		name string
		is   reachability.Translation
	}{{"over UDP", nat.UDP}, {"over TCP", nat.TCP}} {
		if t.is.Mapping == reachability.NotKnown && t.is.Filtering == reachability.NotKnown {
			continue
		}
		text := fmt.Sprintf("mapping %s, filtering %s", t.is.Mapping, t.is.Filtering)
		if len(t.is.External) > 0 {
			text += "; seen as " + strings.Join(t.is.External, ", ")
		}
		lines = append(lines, Line{t.name, text})
	}
	if r.PortMapping != nil {
		lines = append(lines, Line{"port mapping", r.PortMapping.Text})
	}
	return append(
		lines,
		Line{"hairpin", said(nat.Hairpin, "yes", "no")},
		Line{"IPv6", said(r.IPv6, "yes", "no public address")},
		Line{"captive portal", said(r.CaptivePortal, "yes: open a web page and sign in", "no")},
		Line{"TCP 443 only", said(r.Only443, "yes", "no")},
	)
}

func natText(r node.Netcheck) string {
	switch r.Kind {
	case node.KindUnknown:
		return "not known yet"
	case node.KindPublic, node.KindUDPBlocked, node.KindOnly443:
		return r.Ease
	}
	return fmt.Sprintf("%s (%s)", r.Ease, r.Kind)
}

func said(f reachability.Fact, yes, no string) string {
	switch f {
	case reachability.Yes:
		return yes
	case reachability.No:
		return no
	}
	return "not known"
}

func relayLines(r node.Netcheck) (lines []Line) {
	for _, rel := range r.Relays {
		text := rel.Role + ", no answer"
		if rel.RTT > 0 {
			text = fmt.Sprintf("%s, %s away (%s, %s)", rel.Role, Duration(rel.RTT), rel.How, rel.Path)
		}
		lines = append(lines, Line{rel.ID, text})
	}
	return lines
}

// kindTexts tell somebody with that NAT apart.
var kindTexts = map[node.Kind]string{
	node.KindPublic:            "public",
	node.KindFullCone:          "behind a full cone NAT",
	node.KindAddressRestricted: "behind an address-restricted NAT",
	node.KindPortRestricted:    "behind a port-restricted NAT, most CGNs",
	node.KindSymmetric:         "behind a symmetric NAT, some CGNs",
	node.KindUDPBlocked:        "where UDP is blocked",
	node.KindOnly443:           "where only TCP 443 gets out",
}

func outlookLines(r node.Netcheck) (lines []Line) {
	for _, o := range r.Peers {
		lines = append(lines, Line{kindTexts[o.Peers], o.Direct.String()})
	}
	return lines
}

// NetcheckChanges are the lines that say something else than before, without
// what is measured anew each time.
func NetcheckChanges(old, now node.Netcheck) (changed []Line) {
	before := make(map[Line]bool)
	for _, l := range watched(old) {
		before[l] = true
	}
	for _, l := range watched(now) {
		if !before[l] {
			changed = append(changed, l)
		}
	}
	return changed
}

func watched(r node.Netcheck) []Line {
	return append(append([]Line{{"answer", r.Headline}}, verdictLines(r)...), NetworkLines(r)...)
}

// verdictLines are ReachLines without the evidence, which grows with every
// probe.
func verdictLines(r node.Netcheck) []Line {
	return ReachLines(r)[:3+len(r.Reachability.Transports)]
}

// Duration prints a round trip time with as many digits as it deserves.
func Duration(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}
