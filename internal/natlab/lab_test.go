//go:build linux

package natlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestBlackhole(t *testing.T) {
	t.Parallel()
	lab := New(t)
	s := startServers(t, lab.Public("stun1"), lab.Public("stun2"))
	c := newClient(t, lab.Public("c"), 40001)
	hears := func(server int, patience time.Duration) bool {
		_, ok := c.ask(s.at(server), s.at(server), patience)
		return ok
	}
	dials := func(ip netip.Addr, patience time.Duration) error {
		return s.b.Do(func() error { return dialFor(patience, "tcp", netip.AddrPortFrom(ip, 9)) })
	}
	if !hears(0, passes) {
		t.Fatal("no answer before the blackhole")
	}
	if err := dials(s.a.IP6(), passes); err == nil || isTimeout(err) {
		t.Fatalf("dial to a closed port over IPv6: %v, want refused", err)
	}
	lab.Blackhole(s.a)
	if hears(0, silence) {
		t.Error("an answer out of the blackhole")
	}
	for _, ip := range []netip.Addr{s.a.IP(), s.a.IP6()} {
		if err := dials(ip, silence); !isTimeout(err) {
			t.Errorf("dial to %s: %v, want a timeout", ip, err)
		}
	}
	// Each direction by itself: an echo cannot tell which one is dead.
	for _, pair := range [][2]*Machine{{s.a, s.b}, {s.b, s.a}} {
		for _, ip := range []func(*Machine) netip.Addr{(*Machine).IP, (*Machine).IP6} {
			if from, to := ip(pair[0]), ip(pair[1]); arrives(t, pair[0], from, pair[1], to, silence) {
				t.Errorf("a packet from %s to %s arrived", from, to)
			}
		}
	}
	if !hears(2, passes) {
		t.Error("the other server is gone too")
	}
	lab.Restore(s.a)
	if !hears(0, passes) {
		t.Error("no answer after Restore")
	}
	if !arrives(t, s.a, s.a.IP6(), s.b, s.b.IP6(), passes) {
		t.Error("a packet over IPv6 did not arrive after Restore")
	}
	if err := dials(s.a.IP6(), passes); err == nil || isTimeout(err) {
		t.Errorf("dial over IPv6 after Restore: %v, want refused", err)
	}
}

// arrives says whether one UDP packet gets from one machine to the other.
func arrives(t *testing.T, a *Machine, from netip.Addr, b *Machine, to netip.Addr, patience time.Duration) bool {
	t.Helper()
	listen := func(m *Machine, ip netip.Addr) (conn *net.UDPConn) {
		err := m.Do(func() (err error) {
			conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	sender, receiver := listen(a, from), listen(b, to)
	defer sender.Close()
	defer receiver.Close()
	if _, err := sender.WriteTo([]byte("?"), receiver.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	receiver.SetReadDeadline(time.Now().Add(patience))
	_, err := receiver.Read(make([]byte, 1))
	return err == nil
}

// Two labs have the same addresses and do not meet.
func TestTwoLabs(t *testing.T) {
	t.Parallel()
	one, two := New(t), New(t)
	if one.id == two.id {
		t.Fatalf("both labs are %s", one.id)
	}
	var clients []*client
	var all []*servers
	for _, lab := range []*Lab{one, two} {
		all = append(all, startServers(t, lab.Public("stun1"), lab.Public("stun2")))
		clients = append(clients, newClient(t, lab.NAT("nat", PortRestricted).Host("a"), 40001))
	}
	if all[0].at(0) != all[1].at(0) {
		t.Fatalf("addresses differ: %s, %s", all[0].at(0), all[1].at(0))
	}
	one.Blackhole(all[0].a)
	if _, ok := clients[0].ask(all[0].at(0), all[0].at(0), silence); ok {
		t.Error("the first lab heard its dead server, or the second's")
	}
	if _, ok := clients[1].ask(all[1].at(0), all[1].at(0), passes); !ok {
		t.Error("the second lab suffers from the first's blackhole")
	}
}

func TestCleanup(t *testing.T) {
	var namespaces []string
	var pids []int
	t.Run("lab", func(t *testing.T) {
		began := time.Now()
		lab := New(t)
		lab.Public("relay1" + mark(t))
		lab.Public("relay2" + mark(t))
		a, b := lab.NAT("natA"+mark(t), PortRestricted), lab.NAT("natB"+mark(t), Symmetric)
		ha, hb := a.Host("a"+mark(t)), b.Host("b"+mark(t))
		took := time.Since(began)
		t.Logf("a lab of %d namespaces took %s", len(lab.machines), took)
		if limit := 30 * time.Second; took > limit { // 0.3 s where nothing else runs
			t.Errorf("setting up took %s, want at most %s", took, limit)
		}
		for _, m := range lab.machines[1:] { // not the core: another test may have one of that name
			namespaces = append(namespaces, filepath.Join(netnsDir, m.netns))
		}
		pids = append(pids, ha.Start("sleep", "sleep", "600").PID())
		// A program with a child in a process group of its own, which ignores
		// what can be ignored.
		p := hb.Start("sh", "sh", "-c", `trap "" TERM HUP INT; setsid sh -c 'trap "" TERM HUP; echo child $$; sleep 600' & wait`)
		_, sub, err := p.WaitLine(timeout(t, patience), mustCompile(`^child (\d+)$`))
		if err != nil {
			t.Fatal(err)
		}
		child, _ := strconv.Atoi(sub[1])
		pids = append(pids, p.PID(), child)
		// One that the lab knows nothing about but its namespace.
		cmd := ha.Command(context.Background(), "sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !errors.Is(cmd.Process.Kill(), os.ErrProcessDone) {
				cmd.Wait()
			}
		})
		pids = append(pids, cmd.Process.Pid)
		waitFor(t, "the command to be sleep", func() bool { return comm(cmd.Process.Pid) == "sleep" })
		for _, ns := range namespaces {
			if _, err := os.Stat(ns); err != nil {
				t.Error(err)
			}
		}
	})
	for _, path := range namespaces {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", path, err)
		}
	}
	for _, pid := range pids {
		if comm(pid) != "" {
			t.Errorf("process %d (%s) is still there", pid, comm(pid))
		}
	}
}

// The machine's own namespace has nothing of the lab in it.
func TestDefaultNamespaceIsUntouched(t *testing.T) {
	interfaces := func() string {
		all, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range all {
			names = append(names, i.Name)
		}
		return strings.Join(names, " ")
	}
	routes := func() string {
		b, err := os.ReadFile("/proc/thread-self/net/route")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var changed string
	for range 5 { // another program may have changed them meanwhile, as Docker does
		wantInterfaces, wantRoutes := interfaces(), routes()
		lab := New(t)
		lab.Public("relay1")
		lab.NAT("nat", FullCone).NAT("inner", Symmetric).Host("a")
		gotInterfaces, gotRoutes := interfaces(), routes()
		if gotInterfaces == wantInterfaces && gotRoutes == wantRoutes {
			return
		}
		changed = fmt.Sprintf("interfaces: %s, want %s\nroutes:\n%s\nwant:\n%s", gotInterfaces, wantInterfaces, gotRoutes, wantRoutes)
	}
	t.Error(changed)
}

func TestDialContextAndLoopback(t *testing.T) {
	t.Parallel()
	lab := New(t)
	a, b := lab.Public("a"), lab.NAT("nat", PortRestricted).Host("b")
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		var ln net.Listener
		if err := b.Do(func() (err error) { ln, err = net.Listen("tcp", addr); return err }); err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn, err := b.DialContext(timeout(t, passes), "tcp", ln.Addr().String())
		if err != nil {
			t.Errorf("dial %s on its own machine: %v", ln.Addr(), err)
		} else {
			conn.Close()
		}
		if conn, err := a.DialContext(timeout(t, passes), "tcp", ln.Addr().String()); err == nil {
			conn.Close()
			t.Errorf("dial %s from another machine succeeded", ln.Addr())
		}
	}
}
