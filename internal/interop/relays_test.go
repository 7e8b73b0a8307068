//go:build linux

package interop_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/interop/report"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

// ownNetwork keeps our nodes off the public network.
const ownNetwork = "interop"

var loopback = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"}

// server is a relay that runs, ours or a stock one: its addresses, with its ID.
type server struct {
	addrs []string
}

// over is the address of one transport: tcp, ws or quic.
func (s server) over(t *testing.T, transport string) string {
	t.Helper()
	for _, a := range s.addrs {
		got := "tcp"
		switch {
		case strings.Contains(a, "/ws/"):
			got = "ws"
		case strings.Contains(a, "/quic-v1/") && !strings.Contains(a, "/webtransport"):
			got = "quic"
		case !strings.Contains(a, "/tcp/"):
			continue
		}
		if got == transport {
			return a
		}
	}
	t.Fatalf("the relay has no %s address: %v", transport, s.addrs)
	return ""
}

func withID(addrs []string, id string) server {
	var s server
	for _, a := range addrs {
		s.addrs = append(s.addrs, a+"/p2p/"+id)
	}
	return s
}

// startRelayd runs the binary, as relayd --dev, until the test ends.
func startRelayd(t *testing.T, flags ...string) server {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	// All peers come from one address, and hold their reservations together.
	cmd := command(ctx, append([]string{
		relayd, "--dev", "--data-dir", dir, "--listen", strings.Join(loopback, ","), "--drain", "0s", "--max-reservations-per-ip", "1024",
	}, flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	_, err = out.ReadString('\n') // it is up once it says anything
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() {
		cancel()
		<-drained
		cmd.Wait()
		if t.Failed() {
			t.Logf("relayd: %s", stderr.String())
		}
	})
	if err != nil {
		t.Fatalf("relayd: %v: %s", err, stderr.String())
	}
	status, err := exec.CommandContext(t.Context(), relayd, "--data-dir", dir, "status", "--json").Output()
	if err != nil {
		t.Fatalf("relayd status: %v", err)
	}
	var s node.Status
	if err := json.Unmarshal(status, &s); err != nil {
		t.Fatalf("relayd status: %v", err)
	}
	return withID(s.Listen, s.ID)
}

// startNode runs a node of ours in this process until the test ends.
func startNode(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	cfg.Network, cfg.AllowPrivate, cfg.NoHolePunching = ownNetwork, true, true
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// startHost runs a relay host of ours in this process, for what relayd has no
// flag for.
func startHost(t *testing.T, limits relay.Limits, access relay.Access) server {
	t.Helper()
	limits.ReservationsPerIP = 1024
	cfg := node.Config{Relay: relay.On, Relays: -1, Server: true, RelayLimits: limits, RelayAccess: access}
	for _, a := range loopback {
		cfg.Listen = append(cfg.Listen, ma.StringCast(a))
	}
	s := startNode(t, cfg).Status()
	return withID(s.Listen, s.ID)
}

// startStockRelay runs a stock relay until the test ends.
func startStockRelay(t *testing.T, p program, flags ...string) server {
	t.Helper()
	return server{addrs: p.start(t, append(flags, "relay")...).first.Addrs}
}

// reserve starts a peer that reserves on the relay, and wants it to work.
func reserve(t *testing.T, p program, addr string, flags ...string) *process {
	t.Helper()
	x := p.start(t, append(flags, "reserve", addr)...)
	if x.first.Reservation == nil {
		t.Fatalf("%s reserves at %s: got %+v, want a reservation", p.name, addr, x.first)
	}
	return x
}

// wantEcho wants all bytes to have come back over a limited connection.
func wantEcho(t *testing.T, r report.Report, size int64) {
	t.Helper()
	c := r.Circuit
	switch {
	case r.Error != "" || c == nil:
		t.Errorf("circuit of %d bytes: got error %q, circuit %+v", size, r.Error, c)
	case !c.Equal || c.Sent != size || c.Received != size:
		t.Errorf("echo of %d bytes: got %+v", size, *c)
	case !c.Limited:
		t.Errorf("circuit counts as unlimited: %+v", *c)
	case !strings.Contains(c.Remote, "/p2p-circuit"):
		t.Errorf("not over the relay: %+v", *c)
	}
}
