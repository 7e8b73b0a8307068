package acl

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unique"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxFile bounds a file, in bytes: room for 250 000 rules about peers.
	maxFile = 16 << 20
	// maxLine bounds a line, in bytes: a rule has 100 or less, and there is
	// room for a comment.
	maxLine = 1 << 10
	// maxFaults bounds those that are told one by one. Who named the wrong file
	// has as many as it has lines.
	maxFaults = 50
)

var validClass = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// ParseError is everything that is wrong with a file.
type ParseError struct {
	// Faults are the first 50, each with the file's name and its line.
	Faults []string
	// More counts those that are left out.
	More int
}

// Error has one line for each fault.
func (e *ParseError) Error() string {
	s := strings.Join(e.Faults, "\n")
	if e.More > 0 {
		s += fmt.Sprintf("\nand %d more", e.More)
	}
	return s
}

// short is one line for all.
func (e *ParseError) short() string {
	s := e.Faults[0]
	if n := len(e.Faults) - 1 + e.More; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// Parse reads rules: at most 16 MiB, in lines of at most 1 KiB. The name is the
// file's, for the faults. If there are any, all of them are returned at once as
// a [ParseError]; any other error is that of the reader.
func Parse(r io.Reader, name string) (*List, error) {
	p := parser{name: name, list: &List{peers: make(map[peer.ID]int), asns: make(map[uint32]int)}}
	if err := p.read(r); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(p.faults.Faults) > 0 {
		return nil, &p.faults
	}
	p.list.v4, p.list.v6 = newRanges(p.v4), newRanges(p.v6)
	return p.list, nil
}

type parser struct {
	name   string
	line   int
	list   *List
	v4, v6 []network
	faults ParseError
}

func (p *parser) fault(format string, args ...any) {
	if len(p.faults.Faults) == maxFaults {
		p.faults.More++
		return
	}
	p.faults.Faults = append(p.faults.Faults, fmt.Sprintf("%s:%d: %s", p.name, p.line, fmt.Sprintf(format, args...)))
}

func (p *parser) read(r io.Reader) error {
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	in := bufio.NewReaderSize(limited, maxLine+1) // with its end
	for {
		p.line++
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			p.fault("the line is longer than %d bytes: break its comment into lines of their own", maxLine)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			line = nil
		}
		if limited.N == 0 {
			p.fault("the file is larger than %d MiB: join addresses into networks, or drop rules", maxFile>>20)
			return nil
		}
		if p.line == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff")) // as some editors write
		}
		p.rule(string(line))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) rule(line string) {
	line, _, _ = strings.Cut(line, "#")
	f := strings.Fields(line)
	if len(f) == 0 {
		return
	}
	r := Rule{Line: p.line}
	switch f[0] {
	case "allow":
		r.Allow = true
	case "deny":
	default:
		p.fault("%s is not a rule: start the line with allow or deny", quote(f[0]))
		return
	}
	if len(f) == 1 {
		p.fault("%s whom? Name a peer ID, an address, a network such as 192.0.2.0/24, an AS such as AS64500, or all", f[0])
		return
	}
	if len(f) > 3 {
		p.fault("%s is one word too many: a rule is allow or deny, who, and after allow a class; comments start with #", quote(f[3]))
		return
	}
	if len(f) == 3 {
		switch {
		case !r.Allow:
			p.fault("deny takes no class: leave out %s", quote(f[2]))
			return
		case !validClass.MatchString(f[2]):
			p.fault("class %s: use at most 32 of a-z, 0-9 and -", quote(f[2]))
			return
		}
		r.Class = unique.Make(f[2]).Value() // a few, in many rules
	}
	r.Who = strings.Clone(f[1])
	if p.who(r.Who) {
		p.list.rules = append(p.list.rules, r)
	}
}

// who notes whom the next rule is about.
func (p *parser) who(who string) bool {
	rule, l := len(p.list.rules), p.list
	if who == "all" {
		if l.all == 0 {
			l.all = rule + 1
		}
		return true
	}
	if number, ok := cutAS(who); ok {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n == 0 {
			p.fault("%s is no autonomous system: they go from AS1 to AS4294967295", quote(who))
			return false
		}
		first(l.asns, uint32(n), rule)
		return true
	}
	if strings.ContainsAny(who, ".:/") {
		prefix, hint := parseNetwork(who)
		if hint != "" {
			p.fault("%s %s", quote(who), hint)
			return false
		}
		if prefix.Addr().Is4() {
			p.v4 = append(p.v4, network{prefix, rule})
		} else {
			p.v6 = append(p.v6, network{prefix, rule})
		}
		return true
	}
	id, err := peer.Decode(who)
	if err != nil {
		p.fault("%s is no peer ID: name one such as 12D3KooW…, an address, a network, an AS, or all", quote(who))
		return false
	}
	first(l.peers, id, rule)
	return true
}

// cutAS returns the number of an AS. A peer ID may start with the same letters,
// but not go on with digits alone.
func cutAS(who string) (string, bool) {
	if len(who) < 3 || !strings.EqualFold(who[:2], "AS") || strings.Trim(who[2:], "0123456789") != "" {
		return "", false
	}
	return who[2:], true
}

func first[K comparable](m map[K]int, k K, rule int) {
	if _, ok := m[k]; !ok {
		m[k] = rule
	}
}

// parseNetwork reads an address or a network, or returns what is wrong with it.
func parseNetwork(s string) (p netip.Prefix, hint string) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return p, "is no IP address: names are not looked up"
		}
		if a.Zone() != "" {
			return p, "has a zone: leave out the % and what follows"
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, "is no network: write one as 192.0.2.0/24 or 2001:db8::/32"
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, "is part IPv4 and part IPv6: write two rules"
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return p, fmt.Sprintf("has bits beyond its length: write %v, or %v for the one address", m, p.Addr())
	}
	return p, ""
}

// quote shows what somebody wrote, and not all of it if it is much.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.Quote(s)
}
