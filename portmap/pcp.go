package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// pcp is a gateway that speaks PCP. No kept library does, with TCP as well; the
// few messages that it takes are in pcpwire.go.
type pcp struct {
	route route
	name  namer
	epoch epoch
}

func findPCP(ctx context.Context, r route, name namer, found chan<- gateway) {
	g := &pcp{route: r, name: name}
	a, err := g.exchange(ctx, pcpRequest(opAnnounce, 0, r.local.Addr()), func(a pcpAnswer) bool { return a.opcode == opAnnounce })
	if err == nil && a.result != pcpSuccess && a.result != pcpUnsuppOpcode {
		err = a.result
	}
	if err != nil {
		log.Debug("no answer", "method", PCP, "gateway", r.gateway, "err", err)
		return
	}
	offer(ctx, found, g)
}

func (g *pcp) method() Method               { return PCP }
func (g *pcp) addr() netip.Addr             { return g.route.gateway }
func (g *pcp) tidy(context.Context, []Port) {}

const (
	// patience bounds an exchange over UDP with a gateway, which is one hop
	// away.
	patience = 1500 * time.Millisecond
	// resend is the first pause before a request is sent again; each further
	// one is twice as long. RFC 6887 section 8.1.1 has 3 s, for servers that
	// may be far away.
	resend = 250 * time.Millisecond
)

// exchange sends a request until an answer comes that is one to it.
func (g *pcp) exchange(ctx context.Context, request []byte, ours func(pcpAnswer) bool) (pcpAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A connected socket hears the gateway alone.
	c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.route.local.Addr(), 0)),
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.route.gateway, pcpPort)))
	if err != nil {
		return pcpAnswer{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	buf := make([]byte, pcpMax+1)
	for pause := resend; ; pause *= 2 {
		if _, err := c.Write(request); err != nil {
			return pcpAnswer{}, orEnd(ctx, err)
		}
		if err := c.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return pcpAnswer{}, orEnd(ctx, err)
		}
		for {
			n, err := c.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return pcpAnswer{}, orEnd(ctx, err) // refused: nobody listens there
			}
			if a, err := parsePCP(buf[:n]); err == nil && (ours(a) || a.result == pcpUnsuppVersion) {
				if a.result != pcpUnsuppVersion {
					g.epoch.heard(a.epoch, time.Now())
				}
				return a, nil
			}
		}
	}
}

var errSilent = errors.New("the gateway does not answer")

// orEnd says why a socket of ours was closed.
func orEnd(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errSilent
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (g *pcp) ask(ctx context.Context, p Port, external netip.AddrPort, lifetime time.Duration) (pcpAnswer, error) {
	m := pcpMapping{nonce: g.name.nonce(p), port: p, external: external}
	a, err := g.exchange(ctx, pcpMapRequest(m, lifetime, g.route.local.Addr()), func(a pcpAnswer) bool {
		return a.opcode == opMap && a.mapping.nonce == m.nonce && a.mapping.port == p
	})
	if err == nil && a.result != pcpSuccess {
		err = a.result
	}
	return a, err
}

func (g *pcp) add(ctx context.Context, p Port, external uint16, lifetime time.Duration) (grant, error) {
	a, err := g.ask(ctx, p, netip.AddrPortFrom(netip.Addr{}, external), lifetime)
	if err != nil {
		return grant{}, err
	}
	if !a.mapping.external.Addr().Is4() || a.mapping.external.Port() == 0 || a.lifetime == 0 {
		return grant{}, fmt.Errorf("mapped to %s for %v", a.mapping.external, a.lifetime)
	}
	return grant{a.mapping.external, a.lifetime}, nil
}

// remove: section 15, a lifetime of 0.
func (g *pcp) remove(ctx context.Context, p Port, _ uint16) error {
	_, err := g.ask(ctx, p, netip.AddrPort{}, 0)
	return err
}

// check asks for the mapping again: that costs the gateway nothing, and the
// answer has everything.
func (g *pcp) check(ctx context.Context, l *lease) (netip.Addr, bool, error) {
	a, err := g.ask(ctx, l.Port, l.External, l.lifetime)
	if result := pcpResult(0); errors.As(err, &result) {
		return l.External.Addr(), true, nil // it answers, and does not know us
	}
	return a.mapping.external.Addr(), g.epoch.lost() || a.mapping.external != l.External, err
}
