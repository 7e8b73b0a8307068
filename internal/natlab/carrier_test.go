//go:build linux

package natlab_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/node"
)

// TestSameCarrier: two homes behind a carrier's NAT that leads nobody back in
// reach each other at their routers' addresses on the carrier's side, where these
// map ports; and stay on the relay where they do not.
//
//	relay                     public
//	  │
//	 cgn                      port-restricted, no hairpin
//	 ├──────┐
//	 ra     rb                port-restricted, 100.64/10 in front
//	 a      b
func TestSameCarrier(t *testing.T) {
	if testing.Short() {
		t.Skip("real programs take their time")
	}
	bin := buildPrograms(t)
	for _, maps := range []bool{true, false} {
		t.Run(fmt.Sprintf("maps %t", maps), func(t *testing.T) {
			t.Parallel()
			lab := natlab.New(t)
			s := newStory(t, bin, "quic")
			s.lab, s.bootstrap = lab, "/udp/4001/quic-v1"
			r := install(t, lab.Public("relay"), filepath.Join(bin, "relayd"))
			s.relays = append(s.relays, r)
			r.start("--network", "lab", "--relay", "on")
			r.line(0, `announcing|listening`)
			carrier := lab.NAT("cgn", natlab.PortRestricted)
			var peers []*program
			for i, name := range []string{"a", "b"} {
				box := carrier.NAT("r"+name, natlab.PortRestricted)
				host := box.Host(name)
				if maps {
					mapAll(t, box, host, 4001+i)
				}
				p := install(t, host, filepath.Join(bin, "peer"))
				listen := fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", 4001+i)
				p.start("up", "--json", "--network", "lab", "--bootstrap", s.bootstrapAddr(), "--listen", listen)
				event(p, 0, "a circuit address", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
				peers = append(peers, p)
			}
			began := time.Now()
			if !maps {
				if l := peers[0].ping(peers[1]); !l.Path.Relayed() {
					t.Errorf("without mappings: %s, want it relayed", l.Path)
				}
				e := event(peers[1], 0, "the attempt to end", func(e node.DirectAttempt) bool { return e.Peer.String() == peers[0].id })
				if e.Outcome.Direct() {
					t.Errorf("without mappings: %s, want no direct path", e)
				}
				return
			}
			_, last := peers[0].pingUntil(peers[1], "a direct path", node.Path.Direct)
			t.Logf("%s at %s, %s after the call", last.path, last.path.Addr, seconds(last.at.Sub(began)))
		})
	}
}

// mapAll makes a router lead what comes to a port from its carrier's network to
// a machine, and has a program say so over NAT-PMP: Debian's miniupnpd maps
// nothing where the external address is not the internet's.
func mapAll(t *testing.T, box *natlab.Box, to *natlab.Machine, port int) {
	t.Helper()
	box.NFT(`insert rule ip natlab input iifname "lan" accept`)
	box.NFT(fmt.Sprintf(`table ip mapall {
		chain prerouting {
			type nat hook prerouting priority dstnat - 1; policy accept;
			iifname "wan" udp dport %d dnat to %s
		}
	}`, port, to.IP()))
	box.Start("natpmp", "/usr/bin/env", pmpEnv+"="+box.IP().String(), os.Args[0], "-test.run=^TestNATPMPProgram$", "-test.v")
}

// pmpEnv makes this test binary a router that says over NAT-PMP that it maps every
// port, at this address.
const pmpEnv = "NATLAB_TEST_NATPMP"

func TestNATPMPProgram(t *testing.T) {
	external, err := netip.ParseAddr(os.Getenv(pmpEnv))
	if err != nil {
		t.Skip("a program for other tests")
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 5351})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	buf := make([]byte, 1100)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n < 2 || buf[0] != 0 { // PCP's version is another
			continue
		}
		// RFC 6886, sections 3.2 and 3.3: version, opcode, result, epoch.
		answer := []byte{0, 128 | buf[1], 0, 0}
		answer = binary.BigEndian.AppendUint32(answer, uint32(1000+time.Since(began)/time.Second))
		switch {
		case buf[1] == 0:
			answer = append(answer, external.AsSlice()...)
		case n >= 12:
			answer = append(answer, buf[4:6]...)  // internal port
			answer = append(answer, buf[4:6]...)  // external port
			answer = append(answer, buf[8:12]...) // lifetime
		}
		conn.WriteToUDPAddrPort(answer, from)
	}
}
