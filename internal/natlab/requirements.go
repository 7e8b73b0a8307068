//go:build linux

package natlab

import (
	"os"
	"os/exec"
	"strings"
	"sync"
)

// unmet ends the test: skipped, or failed where NATLAB=require says that this
// machine is supposed to have everything.
func unmet(tb TB, why string) {
	tb.Helper()
	if os.Getenv("NATLAB") == "require" {
		tb.Fatalf("natlab needs %s", why)
	}
	tb.Skipf("natlab needs %s", why)
}

// missing names what can be seen missing without making anything, and how to
// get it; "" if nothing is.
func missing() string {
	if os.Geteuid() != 0 {
		return "root: run it with sudo, or inside unshare -Urnm (see the package doc)"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "the ip command: apt install iproute2"
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return "the nft command: apt install nftables"
	}
	return ""
}

var kernel struct {
	once    sync.Once
	missing string
}

// missingInKernel tries, once per test binary and in an empty namespace, what
// the machines are made of.
func missingInKernel(netns string) string {
	kernel.once.Do(func() {
		err := ipBatch(netns,
			"link add name probe0 type veth peer name probe1",
			"link add name probe2 type bridge",
			"link del probe0",
			"link del probe2")
		if err != nil {
			kernel.missing = "veth and bridge in the kernel (modprobe veth bridge): " + firstLine(err)
			return
		}
		for _, kind := range []Kind{FullCone, AddressRestricted, PortRestricted, Symmetric} {
			if err := nft(netns, rules(kind), "-c"); err != nil {
				kernel.missing = "nf_tables with NAT in the kernel (modprobe nf_tables nft_nat nft_masq): " + firstLine(err)
				return
			}
		}
	})
	return kernel.missing
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
