package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/net/dns/dnsmessage"
)

// What is said on a LAN: github.com/libp2p/specs/blob/master/discovery/mdns.md,
// in DNS messages (RFC 1035, RFC 6762, RFC 6763). A question asks for PTR
// records of the service; an answer has one, and for the name in it the texts
// "dnsaddr=ADDRESS/p2p/ID". Stock go-libp2p wants SRV and A or AAAA beside
// them, of which nobody makes use. A node of ours that serves as a relay says
// "relay=1" too, which others skip.

const (
	// mdnsTTL is how long an answer holds: RFC 6762, section 10, for records
	// with a host's address in them.
	mdnsTTL = 120
	// mdnsPort is in the SRV record, where nobody looks.
	mdnsPort = 4001
	// maxLANAddrs bounds the addresses that are told and taken of a peer, and
	// maxMDNSRecords and maxMDNSTexts what is read of a message.
	maxLANAddrs, maxMDNSRecords, maxMDNSTexts = 8, 64, 64
	// maxMDNSSend keeps a message in one packet of an Ethernet (RFC 6762,
	// section 17), IPv6 and UDP headers included.
	maxMDNSSend = 1400

	addrText  = "dnsaddr="
	relayText = "relay=1"
)

// mdnsMessage is what we understand of a message.
type mdnsMessage struct {
	asks  bool     // whoever sent it wants to know who is there
	texts []string // of peers that are there
}

// domainOf is the DNS name of a service like "_p2p._udp".
func domainOf(service string) string { return service + ".local." }

// parseMDNS reads a message. What is not about the service is skipped.
func parseMDNS(data []byte, domain string) (m mdnsMessage, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(data)
	if err != nil {
		return m, fmt.Errorf("mdns: %w", err)
	}
	if h.OpCode != 0 || h.RCode != 0 {
		return m, errors.New("mdns: neither a question nor an answer") // RFC 6762, section 18.3 and 18.11
	}
	for range maxMDNSRecords {
		q, err := p.Question()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return m, fmt.Errorf("mdns: question: %w", err)
		}
		if !h.Response && (q.Type == dnsmessage.TypePTR || q.Type == dnsmessage.TypeALL) && strings.EqualFold(q.Name.String(), domain) {
			m.asks = true
		}
	}
	if !h.Response {
		return m, nil // what a question brings along are answers known to it
	}
	if err := p.SkipAllQuestions(); err != nil {
		return m, fmt.Errorf("mdns: questions: %w", err)
	}
	for _, section := range []struct {
		header func() (dnsmessage.ResourceHeader, error)
		skip   func() error
	}{
		{p.AnswerHeader, p.SkipAnswer}, {p.AuthorityHeader, p.SkipAuthority}, {p.AdditionalHeader, p.SkipAdditional},
	} {
		for n := 0; ; n++ {
			rh, err := section.header()
			if errors.Is(err, dnsmessage.ErrSectionDone) {
				break
			}
			if err != nil || n == maxMDNSRecords {
				return m, fmt.Errorf("mdns: record %d: %w", n, err)
			}
			if rh.Type != dnsmessage.TypeTXT || rh.TTL == 0 || !within(rh.Name.String(), domain) {
				if err := section.skip(); err != nil {
					return m, fmt.Errorf("mdns: record %d: %w", n, err)
				}
				continue
			}
			txt, err := p.TXTResource()
			if err != nil {
				return m, fmt.Errorf("mdns: texts: %w", err)
			}
			room := maxMDNSTexts - len(m.texts)
			m.texts = append(m.texts, txt.TXT[:min(len(txt.TXT), room)]...)
		}
	}
	return m, nil
}

func within(name, domain string) bool {
	cut := len(name) - len(domain)
	return cut > 1 && name[cut-1] == '.' && strings.EqualFold(name[cut:], domain)
}

// question asks who is there.
func question(domain string) ([]byte, error) {
	name, err := dnsmessage.NewName(domain)
	if err != nil {
		return nil, fmt.Errorf("mdns: %w", err)
	}
	msg := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
	return msg.Pack()
}

// answer tells that a peer is there, under a name that means nothing.
func answer(domain, instance string, texts []string, ips []netip.Addr) ([]byte, error) {
	var names [3]dnsmessage.Name
	for i, s := range []string{domain, instance + "." + domain, instance + ".local."} {
		var err error
		if names[i], err = dnsmessage.NewName(s); err != nil {
			return nil, fmt.Errorf("mdns: %s: %w", s, err)
		}
	}
	service, self, host := names[0], names[1], names[2]
	record := func(name dnsmessage.Name, body dnsmessage.ResourceBody) dnsmessage.Resource {
		return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: mdnsTTL}, Body: body}
	}
	msg := dnsmessage.Message{
		Header:  dnsmessage.Header{Response: true, Authoritative: true},
		Answers: []dnsmessage.Resource{record(service, &dnsmessage.PTRResource{PTR: self})},
		Additionals: []dnsmessage.Resource{
			record(self, &dnsmessage.SRVResource{Port: mdnsPort, Target: host}),
			record(self, &dnsmessage.TXTResource{TXT: texts}),
		},
	}
	for _, ip := range ips {
		if ip.Is4() {
			msg.Additionals = append(msg.Additionals, record(host, &dnsmessage.AResource{A: ip.As4()}))
		} else {
			msg.Additionals = append(msg.Additionals, record(host, &dnsmessage.AAAAResource{AAAA: ip.As16()}))
		}
	}
	return msg.Pack()
}

// textsOf says where a peer is; ips are the same for those who want them in
// records.
func textsOf(id peer.ID, addrs []ma.Multiaddr, relay bool) (texts []string, ips []netip.Addr) {
	seen := make(map[netip.Addr]bool)
	for _, a := range onLAN(addrs) {
		text := addrText + a.String() + "/p2p/" + id.String()
		if len(text) > 255 { // RFC 1035, section 3.3
			continue
		}
		texts = append(texts, text)
		if ip, err := manet.ToIP(a); err == nil {
			if ip, ok := netip.AddrFromSlice(ip); ok && !seen[ip.Unmap()] {
				seen[ip.Unmap()] = true
				ips = append(ips, ip.Unmap())
			}
		}
	}
	if relay && len(texts) > 0 {
		texts = append([]string{relayText}, texts...)
	}
	return texts, ips
}

// lanPeer is a peer that somebody says is on the LAN.
type lanPeer struct {
	peer.AddrInfo
	relay bool // it serves as one
}

// peersOf reads the texts. Whatever is no address on a LAN is left out.
func peersOf(texts []string) (list []lanPeer) {
	byID := make(map[peer.ID][]ma.Multiaddr)
	var order []peer.ID
	relay := false
	for _, text := range texts {
		relay = relay || text == relayText
		s, ok := strings.CutPrefix(text, addrText)
		if !ok {
			continue
		}
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		addr, id := peer.SplitAddr(a)
		if id == "" || addr == nil {
			continue
		}
		if byID[id] == nil {
			order = append(order, id)
		}
		byID[id] = append(byID[id], addr)
	}
	for _, id := range order {
		if addrs := onLAN(byID[id]); len(addrs) > 0 {
			list = append(list, lanPeer{AddrInfo: peer.AddrInfo{ID: id, Addrs: addrs}, relay: relay})
		}
	}
	return list
}

// onLAN keeps the addresses that a neighbour can have and be dialled at: a
// private IP, TCP or QUIC, and nothing behind it.
func onLAN(addrs []ma.Multiaddr) (out []ma.Multiaddr) {
	for _, a := range addrs {
		if len(out) < maxLANAddrs && isLANAddr(a) && !ma.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func isLANAddr(a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	if err != nil || !ip.IsPrivate() { // also not loopback, link-local, CGNAT
		return false
	}
	switch len(a) {
	case 2:
		return a[1].Protocol().Code == ma.P_TCP
	case 3:
		return a[1].Protocol().Code == ma.P_UDP && a[2].Protocol().Code == ma.P_QUIC_V1
	}
	return false
}
