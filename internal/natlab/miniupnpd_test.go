//go:build linux

package natlab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
	"github.com/causeway-p2p/causeway/portmap"
)

// The router that maps ports in these tests is Debian's miniupnpd 2.3, which is
// what many home routers run.

const miniupnpd = "/usr/sbin/miniupnpd" // not in everybody's PATH

// needMiniupnpd skips the test where there is none, or fails it where there is
// supposed to be one.
func needMiniupnpd(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath(miniupnpd); err == nil {
		return
	}
	const why = "the miniupnpd command: apt install miniupnpd-nftables"
	if os.Getenv("NATLAB") == "require" {
		t.Fatalf("natlab needs %s", why)
	}
	t.Skipf("natlab needs %s", why)
}

// mapping is a NAT box with a miniupnpd.
type mapping struct {
	t *testing.T
	*natlab.Box
	conf string
	*natlab.Process
}

// shortLease is what the router gives where a test has to see renewals.
const shortLease = 10 * time.Second

// newMapping starts it on a box; settings are lines of miniupnpd.conf.
func newMapping(t *testing.T, box *natlab.Box, settings ...string) *mapping {
	t.Helper()
	m := &mapping{t: t, Box: box, conf: filepath.Join(t.TempDir(), "miniupnpd.conf")}
	settings = append([]string{
		"ext_ifname=wan", "listening_ip=lan", "secure_mode=yes", "system_uptime=no",
		"enable_upnp=yes", "min_lifetime=5", "max_lifetime=86400",
		"uuid=cc309a1f-ac4b-43c1-a51d-003e4d4f1b00", "clean_ruleset_interval=0",
		"upnp_table_name=upnp", "upnp_nat_table_name=upnp",
		"upnp_forward_chain=forwarded", "upnp_nat_chain=mapped", "upnp_nat_postrouting_chain=sent",
		"allow 1024-65535 192.168.0.0/16 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535",
	}, settings...)
	if err := os.WriteFile(m.conf, []byte(strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.NFT(`insert rule ip natlab input iifname "lan" accept`)
	m.start()
	return m
}

// start starts the daemon in an empty table, as after a reboot.
func (m *mapping) start() {
	m.t.Helper()
	m.NFT(`
		table inet upnp
		delete table inet upnp
		table inet upnp {
			chain forwarded {
			}
			chain mapped {
			}
			chain sent {
			}
			chain forward {
				type filter hook forward priority 0; policy accept;
				jump forwarded
			}
			chain prerouting {
				type nat hook prerouting priority dstnat; policy accept;
				jump mapped
			}
			chain postrouting {
				type nat hook postrouting priority 99; policy accept;
				jump sent
			}
		}`)
	m.Process = m.Start("miniupnpd", miniupnpd, "-d", "-f", m.conf, "-P", filepath.Join(m.t.TempDir(), "pid"))
	m.line(m.Process, 0, `HTTP listening`)
}

func (m *mapping) line(p *natlab.Process, mark int, re string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	line, _, err := p.WaitLineAfter(ctx, mark, regexp.MustCompile(re))
	if err != nil {
		m.t.Fatal(err)
	}
	return line
}

// mapped lists the rules by which the router lets the internet in.
func (m *mapping) mapped() (rules []string) {
	m.t.Helper()
	r, err := m.Run(m.t.Context(), nil, "nft", "list", "chain", "inet", "upnp", "mapped")
	if err != nil || r.Code != 0 {
		m.t.Fatalf("nft: %v %+v", err, r)
	}
	for line := range strings.Lines(r.Stdout) {
		if strings.Contains(line, "dnat") {
			rules = append(rules, strings.TrimSpace(line))
		}
	}
	return rules
}

// TestMapper holds that ports are mapped, so that strangers get in; renewed,
// mapped again by a router that was restarted, and removed in the end.
func TestMapper(t *testing.T) {
	for _, c := range []struct {
		name     string
		method   portmap.Method
		settings []string
		nft      string
	}{
		{name: "PCP", method: portmap.PCP, settings: []string{"enable_natpmp=yes"}},
		// As before there was PCP: its version, the first byte, is dropped.
		{
			name: "NAT-PMP", method: portmap.NATPMP, settings: []string{"enable_natpmp=yes"},
			nft: `insert rule ip natlab input iifname "lan" udp dport 5351 @th,64,8 2 drop`,
		},
		{name: "UPnP", method: portmap.UPnP, settings: []string{"enable_natpmp=no"}},
		{name: "UPnP version 1", method: portmap.UPnP, settings: []string{"enable_natpmp=no", "force_igd_desc_v1=yes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lab := natlab.New(t)
			needMiniupnpd(t)
			m := newMapping(t, lab.NAT("box", natlab.PortRestricted), c.settings...)
			m.NFT(c.nft)
			stranger := lab.Public("stranger")
			host := m.Host("host")
			began := time.Now()
			p := startMapper(host)
			first := m.status(p, 0, "all mapped", func(s portmap.Status) bool { return s.State == portmap.Mapped && len(s.Mappings) == 2 })
			t.Logf("%s after %s", first.Text, seconds(time.Since(began)))
			if first.Method != c.method || first.External != m.IP() {
				t.Errorf("got %s at %s, want %s at %s", first.Method, first.External, c.method, m.IP())
			}
			if rules := m.mapped(); len(rules) != 2 {
				t.Errorf("the router has %q, want two rules", rules)
			}
			m.callIn(stranger, first)

			// Renewed: it outlives its lease.
			later := m.status(p, 0, "a renewal", func(s portmap.Status) bool {
				return len(s.Mappings) == 2 && s.Mappings[0].Expires.After(first.Mappings[0].Expires.Add(shortLease/4))
			})
			t.Logf("expiry put off by %v", later.Mappings[0].Expires.Sub(first.Mappings[0].Expires))

			// The router is restarted, and knows nothing any more.
			m.Kill()
			mark := p.Mark()
			restarted := time.Now()
			m.start()
			if rules := m.mapped(); len(rules) != 0 {
				t.Fatalf("after its restart the router has %q", rules)
			}
			m.status(p, mark, "new mappings", func(s portmap.Status) bool {
				return len(s.Mappings) == 2 && s.Mappings[0].Expires.After(restarted.Add(shortLease))
			})
			if rules := m.mapped(); len(rules) != 2 {
				t.Errorf("after its restart the router has %q, want two rules", rules)
			}
			t.Logf("mapped again %s after the restart", seconds(time.Since(restarted)))
			m.callIn(stranger, first)

			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			if rules := m.mapped(); len(rules) != 0 {
				t.Errorf("left behind: %q", rules)
			}
		})
	}
}

// TestMapperElsewhere: the router gets another address from its provider, or
// is behind another NAT all along.
func TestMapperElsewhere(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	needMiniupnpd(t)
	stranger := lab.Public("stranger")
	m := newMapping(t, lab.NAT("box", natlab.PortRestricted), "enable_natpmp=yes")
	p := startMapper(m.Host("host"))
	m.status(p, 0, "all mapped", func(s portmap.Status) bool { return s.External == m.IP() && len(s.Mappings) == 2 })
	old, other := m.IP(), m.IP().Next()
	began := time.Now()
	r, err := m.Run(t.Context(), strings.NewReader(fmt.Sprintf(
		"addr del %s/24 dev wan\naddr add %s/24 dev wan\nroute add default via %s\n", old, other, old.Prev())), "ip", "-batch", "-")
	if err != nil || r.Code != 0 {
		t.Fatalf("ip: %v, %+v", err, r)
	}
	moved := m.status(p, 0, "the other address", func(s portmap.Status) bool { return s.External == other && len(s.Mappings) == 2 })
	t.Logf("%s, %s after the change", moved.Text, seconds(time.Since(began)))
	m.callIn(stranger, moved)

	inner := newMapping(t, lab.NAT("outer", natlab.PortRestricted).NAT("inner", natlab.PortRestricted), "enable_natpmp=yes")
	p = startMapper(inner.Host("deep"))
	// This daemon maps nothing then; some do, which is for package portmap's
	// own tests.
	double := inner.status(p, 0, "an answer", func(s portmap.Status) bool { return s.State != portmap.Searching })
	t.Log(double.Text)
	if double.State != portmap.Refused || len(double.Mappings) > 0 {
		t.Errorf("got %s, want %s", double.State, portmap.Refused)
	}
}

func startMapper(host *natlab.Machine) *natlab.Process {
	return host.Start("mapper", "/usr/bin/env", mapperEnv+"=1", os.Args[0], "-test.run=^TestMapperProgram$", "-test.v")
}

func (m *mapping) status(p *natlab.Process, mark int, what string, ok func(portmap.Status) bool) (found portmap.Status) {
	m.t.Helper()
	scan(m.t, p, mark, what, func(line string) bool {
		var s portmap.Status
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &s) != nil || !ok(s) {
			return false
		}
		found = s
		return true
	})
	return found
}

// callIn has somebody on the internet talk to the ports that are mapped.
func (m *mapping) callIn(from *natlab.Machine, s portmap.Status) {
	m.t.Helper()
	for _, x := range s.Mappings {
		err := from.Do(func() error {
			c, err := net.DialTimeout(string(x.Protocol)+"4", x.External.String(), 5*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Write([]byte("anybody there?")); err != nil {
				return err
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if err == nil && string(buf[:n]) != "yes" {
				err = fmt.Errorf("answer %q", buf[:n])
			}
			return err
		})
		if err != nil {
			m.t.Errorf("a call to %s %s: %v", x.Protocol, x.External, err)
		}
	}
}

// mapperEnv makes this test binary a program that has its ports mapped.
const mapperEnv = "NATLAB_TEST_MAPPER"

// TestMapperProgram is that program: it answers on a UDP and a TCP port, and
// prints the state of their mapping when it changes, until it is told to end.
func TestMapperProgram(t *testing.T) {
	if os.Getenv(mapperEnv) == "" {
		t.Skip("not a test, but the program of one")
	}
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 4001})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			udp.WriteToUDPAddrPort([]byte("yes"), from)
		}
	}()
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: 4001})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("yes"))
			c.Close()
		}
	}()
	m, err := portmap.New(portmap.Config{
		Ports: func() []portmap.Port {
			return []portmap.Port{{Protocol: portmap.UDP, Number: 4001}, {Protocol: portmap.TCP, Number: 4001}}
		},
		Lease: shortLease, CheckInterval: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for last := ""; ; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-every.C:
			line, err := json.Marshal(m.Status())
			if err != nil {
				t.Fatal(err)
			}
			if string(line) != last {
				last = string(line)
				fmt.Println(last)
			}
		}
	}
}
