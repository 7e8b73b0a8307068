//go:build linux

package natlab_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/autorelay"
	"github.com/causeway-p2p/causeway/internal/certfile/certtest"
	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// relayName is what the certificate in TestWSS is for.
const relayName = "relay.causeway.example"

// TestWSS: networks that let out TLS to TCP port 443 and nothing else, not even
// plain TCP to that port. A relay with a certificate is reached there all the
// same, and others through it; and it may renew the certificate meanwhile.
//
//	relay     plain      public: relay over TLS on 443, plain without
//	  └─────────┘
//	 natA   natB  natC   natA and natC look into what they let out
//	   a      b     c
func TestWSS(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs")
	}
	lab := natlab.New(t)
	bin := buildPrograms(t)
	clock := newClock()
	defer func() { t.Logf("%s\n%s", t.Name(), clock.table()) }()

	ca := certtest.NewCA(t)
	files := t.TempDir()
	file := func(name string) string { return filepath.Join(files, name) }
	save := func(name string, data []byte) {
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew := func() {
		cert, key := ca.Issue(t, certtest.For(relayName))
		save("key.pem", key)
		save("cert.pem", cert)
	}
	renew()
	save("ca.pem", ca.PEM())

	relay := install(t, lab.Public("relay"), filepath.Join(bin, "relayd"))
	relay.start("--network", "lab", "--relay", "on", "--tls-cert", file("cert.pem"), "--tls-key", file("key.pem"))
	relay.line(0, `serving as a relay`)
	plain := install(t, lab.Public("plain"), filepath.Join(bin, "relayd"))
	at := func(r *program, addr string) string { return "/ip4/" + r.machine.IP().String() + addr + "/p2p/" + r.id }
	plain.start("--network", "lab", "--relay", "on", "--bootstrap", at(relay, "/udp/4001/quic-v1"),
		"--listen", "/ip4/0.0.0.0/tcp/443", "--listen", "/ip4/0.0.0.0/udp/4001/quic-v1")
	plain.line(0, `serving as a relay`)
	clock.done("two relays serve, one over TLS", "")

	// The relay tells others the name, and keeps plain TCP on 443 to itself.
	const named = "/dns4/" + relayName + "/tcp/443/tls/ws"
	addrs := relay.status().Addrs
	onIP := func(a string) bool { return strings.HasPrefix(a, "/ip") && strings.Contains(a, "/tcp/443") }
	if !slices.Contains(addrs, named) || slices.ContainsFunc(addrs, onIP) {
		t.Errorf("addresses of the relay: got %s, want %s among them and nothing else on port 443", addrs, named)
	}

	// Where peers find the name, and whom they trust.
	save("hosts", fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n", relay.machine.IP(), relayName))
	peerBin := file("peer")
	script := fmt.Sprintf("#!/bin/sh\nmount --bind %s /etc/hosts && SSL_CERT_FILE=%s exec %s \"$@\"\n", file("hosts"), file("ca.pem"), filepath.Join(bin, "peer"))
	if err := os.WriteFile(peerBin, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	strict := func(nat, name string) *program {
		box := lab.NAT(nat, natlab.PortRestricted)
		box.Restrict(natlab.TLS443Only)
		return install(t, box.Host(name), peerBin)
	}
	a, c := strict("natA", "a"), strict("natC", "c")
	b := install(t, lab.NAT("natB", natlab.PortRestricted).Host("b"), peerBin)

	// Plain TCP gets out of natB on port 443, and not of natA: that is what the
	// test is about.
	for _, r := range []*program{relay, plain} {
		if err := helloTo(t, b.machine, r, patience); err != nil {
			t.Errorf("plain TCP from b to %s: %v", r.machine.Name(), err)
		}
		if err := helloTo(t, a.machine, r, 2*time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("plain TCP from a to %s: got %v, want no answer", r.machine.Name(), err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := a.machine.Run(ctx, nil, peerBin, "ping", plain.id, "-c", "1", "-t", "5s", "--network", "lab",
		"--bootstrap", at(plain, "/tcp/443"), "--data-dir", t.TempDir())
	if err != nil || r.Code == 0 {
		t.Errorf("peer ping over plain TCP from a: got exit code %d, %v, want a failure\n%s", r.Code, err, r.Stdout)
	}
	clock.done("plain TCP on 443 fails", "%s", strings.TrimSpace(r.Stderr))

	for _, p := range []*program{a, c} {
		p.start("up", "--json", "--network", "lab", "--bootstrap", named+"/p2p/"+relay.id)
	}
	b.start("up", "--json", "--network", "lab", "--bootstrap", at(relay, "/udp/4001/quic-v1"))
	for _, p := range []*program{a, b, c} {
		event(p, 0, "a circuit address", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
		clock.done(p.machine.Name()+" is reachable through a relay", "")
	}
	circuit := named + "/p2p/" + relay.id + "/p2p-circuit"
	addrs = a.status().Addrs
	nameless := func(s string) bool {
		return strings.Contains(s, "/wss/") || onIP(s) && strings.Contains(s, "/p2p/"+relay.id)
	}
	if !slices.Contains(addrs, circuit) || slices.ContainsFunc(addrs, nameless) {
		t.Errorf("addresses of a: got %s, want %s and nothing else on port 443 of the relay", addrs, circuit)
	}
	for _, pair := range [][2]*program{{b, a}, {a, b}, {c, a}} {
		first, _ := pair[0].pingUntil(pair[1], "an answer over a relay", node.Path.Relayed)
		clock.done(pair[0].machine.Name()+" reaches "+pair[1].machine.Name(), "%s, first hop %s, %v", first.path, first.path.Transport, first.rtt)
		if pair[0] != b && first.path.Transport != "wss" {
			t.Errorf("first hop from %s: got %s, want wss", pair[0].machine.Name(), first.path.Transport)
		}
	}

	// What it is, and why no path is direct.
	event(a, 0, "an attempt at a direct path to end", func(e node.DirectAttempt) bool { return !e.Outcome.Direct() })
	for began := time.Now(); !strings.Contains(a.run(nil, "status"), "only TCP port 443 gets out of here"); {
		if time.Since(began) > patience {
			t.Fatalf("waited %s for peer status of a to say by itself why", patience)
		}
	}
	clock.done("a finds out why", "")
	n := netcheck(t, a)
	for range 9 { // what does not answer in 2 s is not known, and a busy machine may be late
		if n.Only443TLS == reachability.Yes {
			break
		}
		n = netcheck(t, a)
	}
	clock.done("netcheck of a", "%s", n.Headline)
	if n.Only443 != reachability.Yes || n.Only443TLS != reachability.Yes || n.UDP == reachability.Yes || !strings.Contains(n.Headline, "Only TLS on TCP port 443") {
		t.Errorf("netcheck of a: only 443 %q, with TLS only %q, UDP %q; want yes, yes and not yes; %s", n.Only443, n.Only443TLS, n.UDP, n.Headline)
	}
	text := a.run(nil, "status")
	if !strings.Contains(text, "over TLS for") || !strings.Contains(text, "only TCP port 443 gets out of here") {
		t.Errorf("peer status of a: got\n%s\nwant that the path is over TLS, and why", text)
	}
	if n := netcheck(t, b); n.Only443 != reachability.No || n.Only443TLS != reachability.No {
		t.Errorf("netcheck of b: only 443 %q, with TLS only %q; want no", n.Only443, n.Only443TLS)
	}

	// A new certificate, for new connections.
	before, logged, heard := serial(t, a.machine, relay, ca), relay.Mark(), a.Mark()
	renew()
	relay.line(logged, `certificate read again: it is valid until`)
	if now := serial(t, a.machine, relay, ca); now == before {
		t.Errorf("certificate after the renewal: got %s again", now)
	}
	if first, _ := c.pingUntil(a, "an answer over a relay", node.Path.Relayed); first.path.Transport != "wss" {
		t.Errorf("first hop from c after the renewal: got %s, want wss", first.path.Transport)
	}
	for _, lost := range events[node.RelayLost](a, heard) {
		if lost.Reason != autorelay.ProbesMissed { // which a busy machine may cause
			t.Errorf("when the certificate was renewed: %s", lost)
		}
	}
	clock.done("a new certificate, and a keeps its connection", "")
	startAnew(c)
	c.pingUntil(a, "an answer over a relay", node.Path.Relayed)
	clock.done("c starts anew and reaches a", "")
}

func netcheck(t *testing.T, p *program) (n node.Netcheck) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.run(nil, "netcheck", "--json", "--portal-url", "none")), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// startAnew stops a peer and starts it again: all its connections are new.
func startAnew(p *program) {
	p.t.Helper()
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	p.restart()
	event(p, 0, "a circuit address", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
}

// helloTo begins a plain libp2p connection to port 443, and waits for a word back.
func helloTo(t *testing.T, from *natlab.Machine, to *program, wait time.Duration) error {
	t.Helper()
	c := dial443(t, from, to)
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write([]byte("\x13/multistream/1.0.0\n")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// serial is the number of the certificate that a relay shows.
func serial(t *testing.T, from *natlab.Machine, relay *program, ca *certtest.CA) string {
	t.Helper()
	c := tls.Client(dial443(t, from, relay), &tls.Config{ServerName: relayName, RootCAs: ca.Pool()})
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		t.Fatalf("TLS from %s: %v", from.Name(), err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// dial443 gets through everywhere: what is looked at comes after the handshake.
func dial443(t *testing.T, from *natlab.Machine, to *program) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp4", net.JoinHostPort(to.machine.IP().String(), "443"))
	if err != nil {
		t.Fatalf("from %s to port 443 of %s: %v", from.Name(), to.machine.Name(), err)
	}
	return c
}
