package causeway_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/causeway-p2p/causeway"

// floors are the packages from the ground up; each may import those on the
// floors below its own, and none beside it. Packages that are not listed
// (examples, tools) may import whatever they like, but nobody here them.
var floors = [][]string{
	{"internal/logging", "internal/dialable", "internal/dialerr", "internal/follow", "internal/maddr"},
	// What relays and the peers that rely on them tell each other: one side
	// sends it and the other receives it, and these two must not know each
	// other.
	{"notice", "auth", "fastconn"},
	{"reachability", "direct", "autorelay", "discovery", "relay", "service", "stranger", "netwatch", "portmap"},
	{"node"},
	{"admin"},
	{"cmd/relayd", "cmd/peer"},
}

// TestLayers holds that dependencies point one way. Tests may look sideways.
func TestLayers(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	floor := make(map[string]int)
	for i, list := range floors {
		for _, p := range list {
			floor[p] = i
		}
	}
	seen := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		level, listed := within(floor, name)
		seen[name] = true
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, module+"/")
			if !ours || strings.HasPrefix(dep, name+"/") {
				continue // a package's own parts
			}
			below, known := within(floor, dep)
			switch {
			case listed && !known && !isPart(dep):
				t.Errorf("%s imports %s, which is on no floor", name, dep)
			case listed && known && below >= level && owner(dep) != owner(name):
				t.Errorf("%s (floor %d) imports %s (floor %d): dependencies point down only", name, level, dep, below)
			case !listed && known && name == "testnet":
				t.Errorf("testnet imports %s; it is of use without us", dep)
			}
		}
	}
	for _, list := range floors {
		for _, p := range list {
			if !seen[p] {
				t.Errorf("package %s is on a floor and not in the module", p)
			}
		}
	}
}

// within finds the floor of a package or of the one that it is part of
// (service/pb is part of service).
func within(floor map[string]int, name string) (int, bool) {
	for p := name; p != ""; {
		if i, ok := floor[p]; ok {
			return i, true
		}
		cut := strings.LastIndexByte(p, '/')
		if cut < 0 {
			break
		}
		p = p[:cut]
	}
	return 0, false
}

// owner is the listed package that name is or is part of.
func owner(name string) string {
	for _, list := range floors {
		for _, p := range list {
			if name == p || strings.HasPrefix(name, p+"/") {
				return p
			}
		}
	}
	return name
}

// isPart lets listed packages use internal ones that stand on no floor.
func isPart(name string) bool {
	return slices.Contains(strings.Split(name, "/"), "internal")
}
