package discovery

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		t.Cleanup(n.Close)
		f(t, n)
	})
}

func start(t *testing.T, m *testnet.Host, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ForceReachabilityPublic(),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Network().ListenAddresses()}); err != nil {
		t.Fatal(err)
	}
}

// run runs d until the test ends.
func run(t *testing.T, d *Discovery) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
}

// find is a candidate and when it was found.
type find struct {
	Candidate
	after time.Duration
}

// finds collects candidates.
type finds struct {
	begun time.Time

	mu  sync.Mutex // guards all
	all []find
}

func newFinds() *finds { return &finds{begun: time.Now()} }

func (f *finds) add(c Candidate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, find{c, time.Since(f.begun)})
}

func (f *finds) of(s Source) []find {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.all), func(x find) bool { return x.Source != s })
}

// await waits until a source has found id.
func (f *finds) await(t *testing.T, s Source, id peer.ID, limit time.Duration) find {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		for _, x := range f.of(s) {
			if x.ID == id {
				return x
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s did not find %s within %v; found %v", s, id, limit, f.of(s))
		}
	}
}

// fakeFinder is a source that does what a test says; asked is when.
type fakeFinder struct {
	name Source
	do   func(ctx context.Context, round int, found func(peer.AddrInfo)) error

	mu    sync.Mutex // guards asked
	asked []time.Time
}

func (f *fakeFinder) Source() Source { return f.name }

func (f *fakeFinder) Find(ctx context.Context, found func(peer.AddrInfo)) error {
	f.mu.Lock()
	f.asked = append(f.asked, time.Now())
	round := len(f.asked)
	f.mu.Unlock()
	if f.do == nil {
		return nil
	}
	return f.do(ctx, round, found)
}

// rounds returns when it was asked since a time.
func (f *fakeFinder) rounds(since time.Time) (at []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if !a.Before(since) {
			at = append(at, a.Sub(since))
		}
	}
	return at
}

// someone is a peer that does not exist.
func someone(i int) peer.AddrInfo {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	id, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		panic(err)
	}
	return peer.AddrInfo{
		ID:    peer.ID(id),
		Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/12.0.%d.%d/udp/4001/quic-v1", i/250, i%250+1))},
	}
}
