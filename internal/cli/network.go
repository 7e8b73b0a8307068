package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/node"
)

// NodeFlags are the flags that every node has.
type NodeFlags struct {
	program      string
	DataDir      string
	Network      string
	Bootstrap    []string
	Listen       []string
	Announce     []string
	AllowPrivate bool
	MDNS         bool
	Metrics      string
	NoPortMap    bool

	registry *prometheus.Registry // nil without Metrics
}

// Add adds the flags. The listen addresses and whether to use mDNS are the
// defaults.
func (f *NodeFlags) Add(fs *pflag.FlagSet, program string, listen []string, mdns bool) {
	f.program = program
	fs.StringVar(&f.DataDir, "data-dir", "", "directory for the key, remembered relays and the control socket (default "+shortDataDir(program)+")")
	fs.StringVar(&f.Network, "network", node.PublicNetwork, "the DHT to join: \"public\", or the name of a private network")
	fs.StringSliceVar(&f.Bootstrap, "bootstrap", nil, "address of a node to join through, with its /p2p/ID (repeatable)")
	fs.StringSliceVar(&f.Listen, "listen", listen, "address to listen on (repeatable)")
	fs.StringSliceVar(&f.Announce, "announce", nil, "address to tell others instead of those we listen on (repeatable)")
	fs.StringVar(&f.Metrics, "metrics", "", "address for Prometheus, like 127.0.0.1:9464 (default: none)")
	fs.BoolVar(&f.NoPortMap, "no-port-mapping", false, "do not ask the router in front of this machine (PCP, NAT-PMP, UPnP) to let the internet in")
	fs.BoolVar(&f.MDNS, "mdns", mdns, "find peers of the network on the LAN, and be found by them")
	fs.BoolVar(&f.AllowPrivate, "allow-private", false, "private addresses count: for a LAN, docker compose or Kubernetes")
}

// Config turns the flags into a node's configuration, without identity.
func (f *NodeFlags) Config(ctx context.Context) (node.Config, error) {
	listen, err1 := parseAddrs("--listen", f.Listen)
	announce, err2 := parseAddrs("--announce", f.Announce)
	bootstrap, err3 := ParsePeers("--bootstrap", f.Bootstrap)
	if err := errors.Join(err1, err2, err3); err != nil {
		return node.Config{}, Usage(err, "an address like /ip4/203.0.113.7/udp/4001/quic-v1, with /p2p/12D3… behind it for a peer")
	}
	cfg := node.Config{
		Network: f.Network, Listen: listen, Announce: announce, AllowPrivate: f.AllowPrivate, MDNS: f.MDNS,
		DataDir: f.DataDir, NoPortMapping: f.NoPortMap,
	}
	if f.Metrics != "" {
		if _, _, err := net.SplitHostPort(f.Metrics); err != nil {
			return node.Config{}, Usage(fmt.Errorf("--metrics %q is not an address", f.Metrics), "--metrics 127.0.0.1:9464")
		}
		f.registry = prometheus.NewRegistry()
		cfg.Registerer = f.registry
	}
	var err error
	if cfg.Bootstrap, err = resolvePeers(ctx, bootstrap); err != nil {
		return node.Config{}, err
	}
	return cfg, nil
}

func parseAddrs(flag string, list []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	var errs []error
	for _, s := range list {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q is not a multiaddr: %w", flag, s, shortMultiaddrError(err, s)))
			continue
		}
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

// shortMultiaddrError takes the address out of the library's text, which
// repeats it.
func shortMultiaddrError(err error, s string) error {
	text := strings.TrimPrefix(err.Error(), fmt.Sprintf("failed to parse multiaddr %q: ", s))
	return errors.New(text)
}

// ParsePeers reads addresses that end in /p2p/ID, from the named flag.
func ParsePeers(flag string, list []string) ([]peer.AddrInfo, error) {
	addrs, err := parseAddrs(flag, list)
	errs := []error{err}
	byID := make(map[peer.ID]int)
	var out []peer.AddrInfo
	for _, a := range addrs {
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil || len(info.Addrs) == 0 && !strings.HasPrefix(a.String(), "/dnsaddr/") {
			errs = append(errs, fmt.Errorf("%s %s does not say which peer and where: want an address and /p2p/ID", flag, a))
			continue
		}
		if i, ok := byID[info.ID]; ok {
			out[i].Addrs = append(out[i].Addrs, info.Addrs...)
			continue
		}
		byID[info.ID] = len(out)
		out = append(out, *info)
	}
	return out, errors.Join(errs...)
}

// resolveTimeout bounds asking the name servers at start.
const resolveTimeout = 5 * time.Second

// resolvePeers drops the addresses whose names cannot be resolved. If nothing
// is left although something was given, that is an error: better now than a
// node that silently never joins.
func resolvePeers(ctx context.Context, peers []peer.AddrInfo) ([]peer.AddrInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var out []peer.AddrInfo
	var first error
	for _, info := range peers {
		var good []ma.Multiaddr
		for _, a := range info.Addrs {
			if !madns.Matches(a) {
				good = append(good, a)
				continue
			}
			if found, err := madns.DefaultResolver.Resolve(ctx, a); err == nil && len(found) > 0 {
				good = append(good, a) // libp2p resolves it again at every dial
			} else if first == nil {
				first = fmt.Errorf("bootstrap address %s cannot be resolved", a)
			}
		}
		if len(good) > 0 {
			out = append(out, peer.AddrInfo{ID: info.ID, Addrs: good})
		}
	}
	if len(peers) > 0 && len(out) == 0 {
		return nil, Fail(first, "check the name, or give an IP address")
	}
	return out, nil
}

func shortDataDir(program string) string { return "~/.local/share/causeway/" + program }

// OpenDataDir finds the data directory and creates it, for its owner only.
func (f *NodeFlags) OpenDataDir() (string, error) {
	if err := f.findDataDir(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(f.DataDir, 0o700); err != nil {
		return "", f.dataDirError(err)
	}
	// Writing a file is the only way to know that one may.
	probe, err := os.CreateTemp(f.DataDir, ".probe-*")
	if err != nil {
		return "", f.dataDirError(err)
	}
	probe.Close()
	os.Remove(probe.Name())
	return f.DataDir, nil
}

func (f *NodeFlags) findDataDir() (err error) {
	if f.DataDir == "" {
		f.DataDir, err = defaultDataDir(f.program)
	}
	return err
}

func defaultDataDir(program string) (string, error) {
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", Usage(errors.New("no home directory to put the data directory in"), "--data-dir DIR")
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "causeway", program), nil
}

func (f *NodeFlags) dataDirError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	fault := fmt.Errorf("cannot write to data directory %s: %w", f.DataDir, err)
	const try = "--data-dir with a directory that you own"
	if _, statErr := os.Stat(f.DataDir); statErr == nil && errors.Is(err, fs.ErrPermission) {
		// In a container it is a directory of the host's, mostly, and root's.
		return Fail(fault, "chown -R %d on it (a bind mount: on the host), or a named volume for a container; else %s", os.Getuid(), try)
	}
	return Fail(fault, try)
}

const socketName = "control.sock"

// Socket is the path of the control socket.
func (f *NodeFlags) Socket() (string, error) {
	if err := f.findDataDir(); err != nil {
		return "", err
	}
	return filepath.Join(f.DataDir, socketName), nil
}

// SocketOf is the path of the control socket of a program that runs with the
// default data directory.
func SocketOf(program string) (string, error) {
	dir, err := defaultDataDir(program)
	return filepath.Join(dir, socketName), err
}

// StartError says what to try when a node did not start.
func StartError(err error) error {
	var le *node.ListenError
	if !errors.As(err, &le) {
		return err
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return Fail(fmt.Errorf("cannot listen on %s: the port is in use", le.Addr), "stop the other program, or choose another port with --listen")
	case errors.Is(err, syscall.EACCES) && privileged(le.Addr):
		return Fail(fmt.Errorf("cannot listen on %s: permission denied, since ports below 1024 are root's", le.Addr),
			"setcap cap_net_bind_service=+ep on the program; under systemd AmbientCapabilities=CAP_NET_BIND_SERVICE; in a container a published port; or a port above 1023 with --listen")
	case errors.Is(err, syscall.EACCES):
		return Fail(fmt.Errorf("cannot listen on %s: permission denied", le.Addr), "a port above 1023 with --listen")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return Fail(fmt.Errorf("cannot listen on %s: this machine does not have the address", le.Addr), "--listen with /ip4/0.0.0.0, and --announce for the address that others see")
	}
	return Fail(fmt.Errorf("cannot listen on %s: %w", le.Addr, le.Err), "another --listen address")
}

// privileged reports whether the port of an address is one of those that systems
// keep for root.
func privileged(a ma.Multiaddr) bool {
	for _, proto := range []int{ma.P_TCP, ma.P_UDP} {
		if s, err := a.ValueForProtocol(proto); err == nil {
			port, err := strconv.Atoi(s)
			return err == nil && port > 0 && port < 1024
		}
	}
	return false
}
