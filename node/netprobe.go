package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/reachability"
)

const (
	// DefaultPortalURL answers 204 to whoever has the internet. It is one of
	// those that operating systems ask for the same purpose.
	DefaultPortalURL = "http://cp.cloudflare.com/generate_204"
	// NoPortalURL asks nobody.
	NoPortalURL = "none"

	// probeTimeout bounds one connect, echo or request of a netcheck: what
	// takes longer is of no use to anybody.
	probeTimeout = 2 * time.Second
	// maxProbed bounds the relays that a netcheck looks at, and
	// maxProbedAddrs the addresses of each that are dialled.
	maxProbed, maxProbedAddrs = 6, 4
	// portalAge is how long the portal's word counts: whoever watches asks
	// every few seconds, and whoever has to sign in takes longer than that.
	portalAge = 30 * time.Second
)

// portal remembers what was found out about a captive portal.
type portal struct {
	mu   sync.Mutex // guards the fields below
	url  string
	fact reachability.Fact
	at   time.Time
}

// ask fetches the URL unless that was done a moment ago.
func (p *portal) ask(ctx context.Context, target string) reachability.Fact {
	p.mu.Lock()
	fact, fresh := p.fact, p.url == target && time.Since(p.at) < portalAge
	p.mu.Unlock()
	if fresh {
		return fact
	}
	if fact = askPortal(ctx, target); ctx.Err() != nil {
		return fact // the caller was in a hurry
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.url, p.fact, p.at = target, fact, time.Now()
	return fact
}

// askPortal fetches the URL. A captive portal answers in its place: with a
// page, or by sending us elsewhere.
func askPortal(ctx context.Context, target string) reachability.Fact {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return reachability.NotTold
	}
	req.Header.Set("Cache-Control", "no-cache")
	// A transport of its own: nothing is kept open, and no proxy answers for
	// the network that we ask about.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return reachability.NotTold
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return reachability.No
	}
	return reachability.Yes
}

func checkPortalURL(s string) error {
	if s == NoPortalURL {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return errors.New("portal URL " + strconv.Quote(s) + ": want http://HOST/PATH (a portal cannot answer for https), or none")
	}
	return nil
}

// RoleReserved is the role of a relay that serves us.
const RoleReserved = "reserved"

// RelayRTT is how far a relay or a peer that we join through is.
type RelayRTT struct {
	ID string `json:"id"`
	// Role is what it is to us: reserved, relay, or bootstrap.
	Role string `json:"role"`
	// RTT is that of an echo or, if How says "tcp connect", of the handshake
	// of a connection. 0 if there was no answer.
	RTT  time.Duration `json:"rtt_ns"`
	How  string        `json:"how,omitempty"`
	Path string        `json:"path,omitempty"` // transport of the connection
}

// acquaintance is a peer that may be probed: one that the user named, or that
// has given us a reservation. Nobody else can make a netcheck dial something.
type acquaintance struct {
	id   peer.ID
	role string
}

// acquaintances are the relays that we hold, then those that the user named,
// then the peers that we join through: at most maxProbed.
func (n *Node) acquaintances() (list []acquaintance) {
	add := func(id peer.ID, role string) {
		known := slices.ContainsFunc(list, func(a acquaintance) bool { return a.id == id })
		if len(list) < maxProbed && id != n.id && !known {
			list = append(list, acquaintance{id, role})
		}
	}
	if n.autorelay != nil {
		for _, r := range n.autorelay.Status().Relays {
			if id, err := peer.Decode(r.ID); err == nil && r.State == autorelay.Reserved {
				add(id, RoleReserved)
			}
		}
	}
	for _, info := range n.cfg.StaticRelays {
		add(info.ID, "relay")
	}
	for _, info := range bootstrapPeers(n.cfg) {
		add(info.ID, "bootstrap")
	}
	return list
}

// probeRelays measures all acquaintances at once.
func (n *Node) probeRelays(ctx context.Context) (_ []RelayRTT, only, onlyTLS reachability.Fact) {
	known := n.acquaintances()
	rtts := make([]RelayRTT, len(known))
	tried := make([][]tcpResult, len(known))
	plain := make([]reachability.Fact, len(known))
	var wg sync.WaitGroup
	for i, a := range known {
		rtts[i] = RelayRTT{ID: a.id.String(), Role: a.role}
		wg.Go(func() { n.probeRelay(ctx, a.id, &rtts[i], &tried[i]) })
		wg.Go(func() { plain[i] = n.probePlain(ctx, a.id) })
	}
	wg.Wait()
	for i := range plain {
		if rtts[i].How != "echo" && plain[i] == reachability.No {
			plain[i] = reachability.NotTold // it does not answer over TLS either
		}
	}
	only = only443(slices.Concat(tried...))
	return rtts, only, only443TLS(only, plain)
}

// probeRelay makes an echo over a connection that stands. It connects to the
// TCP ports if there is none, or if all run over port 443, which may be the only
// one that gets out.
func (n *Node) probeRelay(ctx context.Context, id peer.ID, out *RelayRTT, tried *[]tcpResult) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	all443 := true
	for _, c := range n.host.Network().ConnsToPeer(id) {
		port, ok := directTCPPort(c)
		if ok {
			*tried = append(*tried, tcpResult{port: port, ok: true})
		}
		all443 = all443 && port == 443
	}
	if n.host.Network().Connectedness(id) == network.Connected {
		if rtt, path, err := pingOver(ctx, n.host, id); err == nil {
			out.RTT, out.How, out.Path = rtt, "echo", path.Transport
		}
	}
	if len(n.cfg.Transports) > 0 || out.RTT > 0 && !all443 {
		return // simulated, or there is nothing to find out
	}
	results := connectAll(ctx, n.tcpAddrs(id))
	*tried = append(*tried, results...)
	if out.RTT > 0 {
		return
	}
	for _, r := range results {
		if r.ok && (out.RTT == 0 || r.took < out.RTT) {
			out.RTT, out.How, out.Path = r.took, "tcp connect", "tcp"
		}
	}
}

// directTCPPort is the port at the other end of a TCP connection.
func directTCPPort(c network.Conn) (int, bool) {
	if maddr.IsCircuit(c.RemoteMultiaddr()) || c.Stat().Direction != network.DirOutbound {
		return 0, false
	}
	s, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_TCP)
	if err != nil {
		return 0, false
	}
	port, err := strconv.Atoi(s)
	return port, err == nil
}

// tcpAddrs are the TCP addresses to try of an acquaintance, as host:port: those
// that the user gave, and public ones that it told us itself.
func (n *Node) tcpAddrs(id peer.ID) (list []string) {
	given := slices.Concat(n.cfg.StaticRelays, bootstrapPeers(n.cfg))
	var addrs []ma.Multiaddr
	for _, info := range given {
		if info.ID == id {
			addrs = append(addrs, info.Addrs...)
		}
	}
	for _, a := range n.host.Peerstore().Addrs(id) {
		if manet.IsPublicAddr(a) {
			addrs = append(addrs, a)
		}
	}
	for _, a := range addrs {
		target, ok := tcpTarget(a)
		if ok && len(list) < maxProbedAddrs && !slices.Contains(list, target) {
			list = append(list, target)
		}
	}
	return list
}

// tcpTarget is an address as net.Dial takes it; no for all but TCP.
func tcpTarget(a ma.Multiaddr) (string, bool) {
	if maddr.IsCircuit(a) || len(a) < 2 || a[1].Protocol().Code != ma.P_TCP {
		return "", false
	}
	switch a[0].Protocol().Code {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return net.JoinHostPort(a[0].Value(), a[1].Value()), true
	}
	return "", false
}

type tcpResult struct {
	port int
	ok   bool
	took time.Duration
}

// connectAll connects to each and closes at once; nothing is sent.
func connectAll(ctx context.Context, targets []string) []tcpResult {
	results := make([]tcpResult, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		_, port, _ := strings.Cut(target[strings.LastIndexByte(target, ']')+1:], ":")
		results[i].port, _ = strconv.Atoi(port)
		wg.Go(func() {
			start := time.Now()
			c, err := new(net.Dialer).DialContext(ctx, "tcp", target)
			if err == nil {
				results[i].ok, results[i].took = true, time.Since(start)
				c.Close()
			}
		})
	}
	wg.Wait()
	return results
}

// only443: port 443 answers and no other port that was tried does.
func only443(tried []tcpResult) reachability.Fact {
	var https, other, otherFailed bool
	for _, r := range tried {
		switch {
		case r.ok && r.port == 443:
			https = true
		case r.ok:
			other = true
		case r.port != 443:
			otherFailed = true
		}
	}
	switch {
	case other:
		return reachability.No
	case https && otherFailed:
		return reachability.Yes
	}
	return reachability.NotTold
}

// minSilence is how long nothing must come back before that means something.
const minSilence = time.Second

// hello is how a libp2p connection over TCP begins (multistream-select).
const hello = "\x13/multistream/1.0.0\n"

// probePlain finds out whether port 443 lets out what is not TLS: yes if all
// that stands to a peer is plain TCP there, or if something comes back that is
// sent in plain to where WebSocket over TLS answers; no if nothing does.
func (n *Node) probePlain(ctx context.Context, id peer.ID) reachability.Fact {
	target := ""
	for _, c := range n.host.Network().ConnsToPeer(id) {
		port, ok := directTCPPort(c)
		if !ok || port != 443 {
			return reachability.NotTold // more than that gets out
		}
		if a := c.RemoteMultiaddr(); !isSecureWS(a) {
			return reachability.Yes
		} else if t, ok := tcpTarget(a); ok {
			target = t
		}
	}
	if target == "" || len(n.cfg.Transports) > 0 {
		return reachability.NotTold
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return plainPasses(ctx, target)
}

// plainPasses says hello to a server.
func plainPasses(ctx context.Context, target string) reachability.Fact {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return reachability.NotTold
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		c.SetDeadline(end)
	}
	return answers(c)
}

// answers says hello over a connection with a deadline. Any byte that comes back
// shows that ours got there. The end of the connection does not: a firewall can
// forge it, and a server that does not want plain bytes hangs up.
func answers(c net.Conn) reachability.Fact {
	if _, err := c.Write([]byte(hello)); err != nil {
		return reachability.NotTold
	}
	said := time.Now()
	_, err := c.Read(make([]byte, 1))
	switch {
	case err == nil:
		return reachability.Yes
	case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(said) >= minSilence:
		return reachability.No
	}
	return reachability.NotTold
}

// only443TLS: on port 443, which alone gets out, TLS does and plain TCP does not.
func only443TLS(only443 reachability.Fact, plain []reachability.Fact) reachability.Fact {
	switch {
	case only443 != reachability.Yes:
		return only443
	case slices.Contains(plain, reachability.Yes):
		return reachability.No
	case slices.Contains(plain, reachability.No):
		return reachability.Yes
	}
	return reachability.NotTold
}
