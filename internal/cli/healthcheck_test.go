package cli

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/relay"
)

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		s           node.Status
		well, fault string
	}{
		{node.Status{Reachable: true}, "others can reach this node", ""},
		{node.Status{}, "others cannot reach this node yet", "others cannot reach this node yet"},
		{node.Status{Relay: &relay.Status{Serving: true, Reservations: 12, Circuits: 1}}, "serving as a relay, 12 reservations, 1 circuit", ""},
		{node.Status{Reachable: true, Relay: &relay.Status{Because: "nobody can dial us"}}, "not serving: nobody can dial us", "not serving as a relay: nobody can dial us"},
		{node.Status{Reachable: true, Relay: &relay.Status{Serving: true, Draining: true}}, "draining", "the relay drains"},
	} {
		well, fault := health(c.s)
		got := ""
		if fault != nil {
			got = fault.Error()
		}
		if well != c.well || got != c.fault {
			t.Errorf("%+v: got %q, %q; want %q, %q", c.s, well, got, c.well, c.fault)
		}
	}
}

// TestSilentNode: a node that hangs is not healthy, and nobody waits for it.
func TestSilentNode(t *testing.T) {
	f := &NodeFlags{program: "peer", DataDir: t.TempDir()}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(f.DataDir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel takes the connections that nobody accepts
	cmd := NewHealthcheck(f)
	cmd.SetArgs([]string{"--timeout", "20ms"})
	cmd.SetOut(io.Discard)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	const want = "the running node has not answered within 20ms"
	if err := cmd.ExecuteContext(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
