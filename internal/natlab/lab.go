//go:build linux

package natlab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// Lab is one internet. Its methods, and those of its machines, report faults
// with t.Fatal: call them from the test's goroutine, except where their doc
// says otherwise.
type Lab struct {
	// static after New
	tb        TB
	id        string // "natlab0": prefix of everything this lab makes
	lock      *os.File
	artifacts string
	began     time.Time
	core      *Machine

	mu       sync.Mutex // guards the fields below
	machines []*Machine
	public   int // public networks handed out
	private  int // LANs handed out
	procs    []*Process
	transit  *transit // nil while packets take no time
}

// New makes a lab with nothing in it but the core router, and removes it when
// the test ends, however it ends. Several labs can exist at once. A program
// that is no test calls [Use].
func New(tb TB) *Lab {
	tb.Helper()
	if why := missing(); why != "" {
		unmet(tb, why)
	}
	// Asked for first, so that the directory is removed after the lab.
	lab := &Lab{tb: tb, artifacts: tb.ArtifactDir(), began: time.Now()}
	id, lock, leftover, err := claim()
	if err != nil {
		unmet(tb, "to write to /run: "+err.Error())
	}
	if leftover != nil {
		tb.Logf("natlab: %v", leftover)
	}
	lab.id, lab.lock = id, lock
	tb.Cleanup(lab.close)
	// A test may have two labs with machines of the same names.
	lab.artifacts = filepath.Join(lab.artifacts, id)
	lab.must(os.MkdirAll(lab.artifacts, 0o755))

	core, err := lab.machine("core")
	if err != nil {
		unmet(tb, "to make network namespaces: "+firstLine(err))
	}
	lab.core = core
	if why := missingInKernel(core.netns); why != "" {
		unmet(tb, why)
	}
	lab.must(lab.setUpCore())
	return lab
}

// nameRule keeps names usable as file names, and in a log.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,60}$`)

// machine makes a bare namespace: loopback up, nothing else.
func (lab *Lab) machine(name string) (*Machine, error) {
	if !nameRule.MatchString(name) {
		return nil, fmt.Errorf("machine name %q does not match %s", name, nameRule)
	}
	m := &Machine{lab: lab, name: name, netns: lab.id + "-" + name}
	lab.mu.Lock()
	for _, other := range lab.machines {
		if other.name == name {
			lab.mu.Unlock()
			return nil, fmt.Errorf("two machines are named %q", name)
		}
	}
	lab.machines = append(lab.machines, m) // before it exists: close removes half-made ones too
	lab.mu.Unlock()

	if err := addNamespace(m.netns); err != nil {
		return nil, err
	}
	// Before any interface exists, because interfaces copy the defaults.
	return m, sysctl(m.netns, map[string]string{
		"net/ipv4/conf/all/rp_filter":          "0",
		"net/ipv4/conf/default/rp_filter":      "0",
		"net/ipv6/conf/all/accept_dad":         "0",
		"net/ipv6/conf/default/accept_dad":     "0",
		"net/ipv6/conf/default/dad_transmits":  "0",
		"net/ipv6/conf/default/autoconf":       "0",
		"net/ipv6/conf/default/accept_ra":      "0",
		"net/bridge/bridge-nf-call-iptables":   "0", // on by default, per namespace: spoils SNAT
		"net/bridge/bridge-nf-call-ip6tables":  "0",
		"net/ipv4/icmp_echo_ignore_broadcasts": "1",
	})
}

// close removes the lab. It is a t.Cleanup, so it also runs after a Fatal and
// after a panic of the test's own goroutine.
func (lab *Lab) close() {
	lab.mu.Lock()
	procs, machines, transit := lab.procs, lab.machines, lab.transit
	lab.mu.Unlock()
	if lab.tb.Failed() {
		for _, p := range procs {
			lab.tb.Log(p.lastWords())
		}
	}
	for _, p := range procs {
		p.signal(killGroup)
	}
	namespaces := make([]string, len(machines))
	for i, m := range machines {
		namespaces[i] = m.netns
	}
	if err := removeNamespaces(namespaces); err != nil {
		lab.tb.Errorf("natlab: remove %s: %v", lab.id, err)
	}
	if transit != nil {
		transit.close()
	}
	for _, p := range procs {
		<-p.done // ends: the process is dead, and WaitDelay bounds its pipes
	}
	release(lab.lock)
}

func (lab *Lab) must(err error) {
	lab.tb.Helper()
	if err != nil {
		lab.tb.Fatalf("natlab: %v", err)
	}
}
