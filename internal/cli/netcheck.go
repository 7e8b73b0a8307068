package cli

import (
	"fmt"
	"io"
	"slices"
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
	verdict := fmt.Sprintf("%s: %s", sure(v.Reachability, v.Confidence, v.Proven), v.Because)
	if r.Online == reachability.No && v.Reachability != reachability.Unknown {
		verdict = "when somebody answered last, " + verdict
	}
	lines := []Line{
		{"verdict", verdict},
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
		{"online", said(r.Online, "yes", "no")},
		{"NAT", natText(r)},
		{"UDP", said(r.UDP, "works", "blocked")},
	}
	for _, t := range []struct {
		name, transport string
		is              reachability.Translation
	}{{"over UDP", "quic", nat.UDP}, {"over TCP", "tcp", nat.TCP}} {
		if t.is.Mapping == reachability.NotKnown && t.is.Filtering == reachability.NotKnown {
			continue
		}
		text := fmt.Sprintf("mapping %s, filtering %s", t.is.Mapping, t.is.Filtering)
		if t.is.Filtering == reachability.AddressDependent && untried(r, t.transport) {
			text += " or less"
		}
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
		Line{"TCP 443 only", said(r.Only443, only443Text(r), "no, other ports get out too")},
	)
}

func only443Text(r node.Netcheck) string {
	return "yes" + map[reachability.Fact]string{
		reachability.Yes: ", and TLS alone: what else is sent there gets no answer",
		reachability.No:  ", also without TLS",
	}[r.Only443TLS]
}

// untried reports whether no stranger has tried to get in over a transport,
// though others got in: what keeps strangers out may not be there.
func untried(r node.Netcheck, transport string) bool {
	return slices.ContainsFunc(r.Reachability.Transports, func(t reachability.TransportVerdict) bool {
		return t.Family == "ip4" && t.Transport == transport && t.Reachability == reachability.Public && !t.Proven
	})
}

func natText(r node.Netcheck) string {
	switch r.Kind {
	case node.KindUnknown:
		return "not known yet"
	case node.KindUDPBlocked, node.KindOnly443:
		return r.Ease + natOverTCP(r)
	case node.KindPublic:
		return r.Ease
	case node.KindCone:
		return r.Ease + whatItLetsIn
	case node.KindAddressRestricted:
		if untried(r, "quic") {
			return fmt.Sprintf("%s (%s or less: no stranger has tried)", r.Ease, r.Kind)
		}
	}
	return fmt.Sprintf("%s (%s)", r.Ease, r.Kind)
}

const whatItLetsIn = " (what it lets in is not known)"

// natOverTCP is the NAT besides a firewall, as TCP shows it.
func natOverTCP(r node.Netcheck) string {
	switch {
	case r.Reachability.NAT.TCP.Mapping == reachability.NoNAT, r.OverTCP == node.KindUnknown:
		return ""
	case r.OverTCP == node.KindCone:
		return fmt.Sprintf(", and over TCP a NAT that is %s%s", r.OverTCP.Ease(), whatItLetsIn)
	}
	return fmt.Sprintf(", and over TCP a NAT that is %s (%s)", r.OverTCP.Ease(), r.OverTCP)
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
	return append(changed, relayChanges(old, now)...)
}

// watched begins with the answer, which has no name in the report either.
func watched(r node.Netcheck) []Line {
	return append(append([]Line{{"", r.Headline}}, verdictLines(r)...), NetworkLines(r)...)
}

// relayChanges tells which relays serve now, which do no more, and who has
// ceased to answer or answers again.
func relayChanges(old, now node.Netcheck) (changed []Line) {
	find := func(r node.Netcheck, id string) (node.RelayRTT, bool) {
		i := slices.IndexFunc(r.Relays, func(rel node.RelayRTT) bool { return rel.ID == id })
		if i < 0 {
			return node.RelayRTT{}, false
		}
		return r.Relays[i], true
	}
	tell := func(rel node.RelayRTT, text string) { changed = append(changed, Line{"relay", rel.ID + " " + text}) }
	for _, rel := range old.Relays {
		if is, _ := find(now, rel.ID); rel.Role == node.RoleReserved && is.Role != node.RoleReserved {
			tell(rel, "serves this node no more")
		}
	}
	for _, rel := range now.Relays {
		was, known := find(old, rel.ID)
		switch {
		case rel.Role == node.RoleReserved && was.Role != node.RoleReserved:
			tell(rel, "serves this node")
		case known && rel.RTT == 0 && was.RTT > 0:
			tell(rel, "gives no answer")
		case known && rel.RTT > 0 && was.RTT == 0:
			tell(rel, "answers")
		}
	}
	return changed
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
