package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func simulate(t *testing.T, f func(t *testing.T, n *testnet.Net)) {
	t.Helper()
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		t.Cleanup(n.Close)
		f(t, n)
	})
}

// start starts a stock host.
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

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Connect(timeout(t), peer.AddrInfo{ID: to.ID(), Addrs: to.Network().ListenAddresses()}); err != nil {
		t.Fatal(err)
	}
}

// running is a relay host that runs, and the changes it told of.
type running struct {
	*Relay
	host host.Host
	stop func() error

	mu      sync.Mutex // guards changes
	changes []string
}

func run(t *testing.T, h host.Host, cfg Config) *running {
	t.Helper()
	s := &running{host: h}
	cfg.Host, cfg.OnChange = h, s.note
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Relay = r
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := r.Check(); err != nil {
			t.Errorf("before the end: %v", err)
		}
		if err := s.stop(); err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if err := r.Check(); err != nil {
			t.Errorf("after the end: %v", err)
		}
		if st := r.Status(); st.Reservations != 0 || st.Circuits != 0 || r.larges.lent.Load() != 0 {
			t.Errorf("after the end: %d reservations, %d circuits, %d large buffers", st.Reservations, st.Circuits, r.larges.lent.Load())
		}
	})
	synctest.Wait()
	return s
}

func (s *running) note(st Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, fmt.Sprintf("%v %s", st.Serving, st.Because))
}

func (s *running) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.changes)
}

func (s *running) verdict(public bool, because string) {
	s.SetVerdict(public, because)
	synctest.Wait()
}

// want holds what the relay says and what it does.
func (s *running) want(t *testing.T, when string, serving bool, because string) {
	t.Helper()
	synctest.Wait()
	st := s.Status()
	hop := slices.Contains(s.host.Mux().Protocols(), proto.ProtoIDv2Hop)
	if st.Serving != serving || hop != serving || st.Because != because {
		t.Errorf("%s: says serving %v because %q, speaks hop %v; want %v because %q", when, st.Serving, st.Because, hop, serving, because)
	}
}

// reserve makes a reservation as stock clients do; refused is the status.
func (s *running) reserve(t *testing.T, h host.Host) (r *client.Reservation, refused pbv2.Status) {
	t.Helper()
	connect(t, h, s.host)
	r, err := client.Reserve(timeout(t), h, peer.AddrInfo{ID: s.host.ID()})
	if err == nil {
		return r, pbv2.Status_OK
	}
	var re client.ReservationError
	if !errors.As(err, &re) {
		t.Fatalf("reserve: %v", err)
	}
	return nil, re.Status
}

const echo = "/echo"

// peers returns a host that has a reservation and echoes, and one that can
// reach it only through the relay.
func (s *running) peers(t *testing.T, n *testnet.Net, name string) (reserved, caller host.Host) {
	t.Helper()
	reserved = start(t, n.NAT("box of reserved "+name, testnet.Symmetric()).Host("reserved "+name))
	reserved.SetStreamHandler(echo, func(st network.Stream) {
		io.Copy(st, st)
		st.Close()
	})
	if _, status := s.reserve(t, reserved); status != pbv2.Status_OK {
		t.Fatalf("reserve: %v", status)
	}
	caller = start(t, n.NAT("box of caller "+name, testnet.Symmetric()).Host("caller "+name))
	return reserved, caller
}

func (s *running) dial(t *testing.T, from, to host.Host) error {
	t.Helper()
	circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", s.host.Addrs()[0], s.host.ID()))
	return from.Connect(timeout(t), peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{circuit}})
}

// echoes sends data over a circuit and reads it back.
func echoes(t *testing.T, from, to host.Host, size int) error {
	t.Helper()
	st, err := from.NewStream(network.WithAllowLimitedConn(timeout(t), "test"), to.ID(), echo)
	if err != nil {
		return err
	}
	defer st.Reset()
	if err := st.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	data := bytes.Repeat([]byte("x"), size)
	go func() {
		st.Write(data)
		st.CloseWrite()
	}()
	got, err := io.ReadAll(st)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("got %d bytes, want %d", len(got), size)
	}
	return err
}

func TestNew(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Host") {
		t.Errorf("without a host: got %v", err)
	}
	simulate(t, func(t *testing.T, n *testnet.Net) {
		h := start(t, n.Host("h"))
		if _, err := New(Config{Host: h, Limits: Limits{Reservations: -1, CircuitBytes: 1}}); err == nil ||
			!strings.Contains(err.Error(), "reservations") || !strings.Contains(err.Error(), "circuit_bytes") {
			t.Errorf("two bad limits: got %v, want both named", err)
		}
		r, err := New(Config{Host: h, Mode: On})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(h.Mux().Protocols(), proto.ProtoIDv2Hop) || r.Status().Serving {
			t.Error("serves before Run")
		}
		if got := r.Status().Limits; !reflect.DeepEqual(got, Limits{}.WithDefaults()) {
			t.Errorf("limits: got %+v, want the defaults", got)
		}
	})
}

func TestModeAuto(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{})
		r.want(t, "at first", false, "waiting for a verdict on reachability")
		r.verdict(false, "2 of 2 servers could not dial us")
		r.want(t, "private", false, "2 of 2 servers could not dial us")
		r.verdict(true, "1 of 1 server dialled us")
		r.want(t, "public", true, "1 of 1 server dialled us")
		r.verdict(true, "2 of 2 servers dialled us")
		r.want(t, "still public", true, "2 of 2 servers dialled us")

		// Doubt that a new verdict takes away, however late.
		r.verdict(false, "3 of 3 servers could not dial us")
		r.want(t, "in doubt", true, "in doubt: 3 of 3 servers could not dial us")
		time.Sleep(3*time.Minute - time.Second)
		r.want(t, "in doubt for long", true, "in doubt: 3 of 3 servers could not dial us")
		r.verdict(true, "again")
		time.Sleep(time.Hour)
		r.want(t, "no doubt any more", true, "again")

		// Doubt that stays; more of it neither lengthens nor shortens it.
		r.verdict(false, "first")
		time.Sleep(2 * time.Minute)
		r.verdict(false, "second")
		time.Sleep(time.Minute - time.Second)
		r.want(t, "before patience ends", true, "in doubt: first")
		time.Sleep(time.Second)
		r.want(t, "after patience", false, "second")
		time.Sleep(time.Hour)
		r.want(t, "an hour later", false, "second")
		r.verdict(true, "back")
		r.want(t, "public again", true, "back")

		want := []string{
			"false 2 of 2 servers could not dial us",
			"true 1 of 1 server dialled us",
			"true 2 of 2 servers dialled us",
			"true in doubt: 3 of 3 servers could not dial us",
			"true again",
			"true in doubt: first",
			"false second",
			"true back",
		}
		if got := r.told(); !slices.Equal(got, want) {
			t.Errorf("told of\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		r.want(t, "after Run", false, "stopped")
	})
}

func TestPatienceIsConfigured(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Patience: time.Second})
		r.verdict(true, "public")
		r.verdict(false, "private")
		time.Sleep(time.Second)
		r.want(t, "after a second", false, "private")
	})
}

func TestOnlyTheLatestVerdictCounts(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r, err := New(Config{Host: start(t, n.Host("relay"))})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 { // before Run, and so with nobody to take them
			r.SetVerdict(i%2 == 1, strconv.Itoa(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if s := r.Status(); !s.Serving || s.Because != "99" {
			t.Errorf("got %+v, want serving because 99", s)
		}
		cancel()
		<-done
		r.SetVerdict(false, "late") // does not block either
	})
}

func TestModesThatDoNotAsk(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		on := run(t, start(t, n.Host("on")), Config{Mode: On})
		off := run(t, start(t, n.Host("off")), Config{Mode: Off})
		for _, public := range []bool{false, true, false} {
			on.want(t, "on", true, "switched on")
			off.want(t, "off", false, "switched off")
			on.verdict(public, "some verdict")
			off.verdict(public, "some verdict")
			time.Sleep(time.Hour)
		}
		if got := on.told(); !slices.Equal(got, []string{"true switched on"}) {
			t.Errorf("on: told of %q", got)
		}
		if got := off.told(); len(got) > 0 {
			t.Errorf("off: told of %q", got)
		}
	})
}

func TestCircuit(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{
			ReservationTTL: 30 * time.Minute, CircuitTime: 10 * time.Minute, CircuitBytes: 1 << 20,
		}})
		reserved, caller := r.peers(t, n, "")
		rsvp, _ := r.reserve(t, reserved) // a refresh
		if rsvp.LimitDuration != 10*time.Minute || rsvp.LimitData != 1<<20 || time.Until(rsvp.Expiration).Round(time.Minute) != 30*time.Minute {
			t.Errorf("told %v and %d bytes until in %v, want 10 min, 1 MiB and 30 min", rsvp.LimitDuration, rsvp.LimitData, time.Until(rsvp.Expiration))
		}
		if rsvp.Voucher == nil || rsvp.Voucher.Relay != r.host.ID() || rsvp.Voucher.Peer != reserved.ID() {
			t.Errorf("voucher %+v, want one of %s for %s", rsvp.Voucher, r.host.ID(), reserved.ID())
		}
		if s := r.Status(); s.Reservations != 1 || s.Circuits != 0 {
			t.Errorf("reserved twice: got %d reservations and %d circuits, want 1 and 0", s.Reservations, s.Circuits)
		}
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if !caller.Network().ConnsToPeer(reserved.ID())[0].Stat().Limited {
			t.Error("the circuit is not marked as limited")
		}
		const size = 100_000
		if err := echoes(t, caller, reserved, size); err != nil {
			t.Errorf("echo: %v", err)
		}
		synctest.Wait()
		if s := r.Status(); s.Circuits != 1 || s.Bytes < 2*size || s.Bytes > 3*size {
			t.Errorf("got %d circuits and %d bytes, want 1 and about %d", s.Circuits, s.Bytes, 2*size)
		}
		// The limit holds.
		if err := echoes(t, caller, reserved, 2<<20); err == nil {
			t.Error("2 MiB went through a circuit of 1 MiB")
		}
		time.Sleep(time.Minute)
		if s := r.Status(); s.Bytes > 2<<20 {
			t.Errorf("relayed %d bytes, want at most 1 MiB each way", s.Bytes)
		}
		caller.Network().ClosePeer(reserved.ID())
		time.Sleep(time.Minute)
		if s := r.Status(); s.Circuits != 0 || s.Reservations != 1 {
			t.Errorf("circuit closed: got %d circuits and %d reservations, want 0 and 1", s.Circuits, s.Reservations)
		}

		// So does the time.
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		if err := echoes(t, caller, reserved, 1000); err != nil {
			t.Errorf("echo after 9 minutes: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if got := caller.Network().Connectedness(reserved.ID()); got != network.NotConnected {
			t.Errorf("after 11 minutes: %v, want not connected", got)
		}
		if s := r.Status(); s.Circuits != 0 {
			t.Errorf("got %d circuits, want 0", s.Circuits)
		}
		// A reservation that is not refreshed ends.
		time.Sleep(30 * time.Minute)
		if s := r.Status(); s.Reservations != 0 {
			t.Errorf("%d reservations after their time, want 0", s.Reservations)
		}
		if err := r.dial(t, caller, reserved); err == nil {
			t.Error("a circuit without a reservation")
		}
	})
}

func TestUnlimitedCircuit(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{CircuitTime: Unlimited, CircuitBytes: Unlimited}})
		reserved, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if caller.Network().ConnsToPeer(reserved.ID())[0].Stat().Limited {
			t.Error("marked as limited")
		}
		time.Sleep(2 * time.Hour)
		if err := echoes(t, caller, reserved, 1<<20); err != nil {
			t.Errorf("after two hours: %v", err)
		}
	})
}

func TestLimitsPerPeerAndInAll(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{
			Reservations: 4, ReservationsPerIP: 2, CircuitsPerPeer: 1,
		}})
		office := n.NAT("office", testnet.PortRestricted())
		var got []pbv2.Status
		for i := range 3 {
			_, status := r.reserve(t, start(t, office.Host(fmt.Sprint("desk", i))))
			got = append(got, status)
		}
		for i := range 2 {
			_, status := r.reserve(t, start(t, n.Host(fmt.Sprint("home", i))))
			got = append(got, status)
		}
		ok, full := pbv2.Status_OK, pbv2.Status_RESERVATION_REFUSED
		if want := []pbv2.Status{ok, ok, full, ok, ok}; !slices.Equal(got, want) {
			t.Errorf("three from one address, two from others: got %v, want %v", got, want)
		}
		if _, status := r.reserve(t, start(t, n.Host("too many"))); status != full {
			t.Errorf("a fifth of four: got %v, want %v", status, full)
		}
		if got := r.Status().Reservations; got != 4 {
			t.Errorf("%d reservations, want 4", got)
		}
	})
	simulate(t, func(t *testing.T, n *testnet.Net) {
		r := run(t, start(t, n.Host("relay")), Config{Mode: On, Limits: Limits{CircuitsPerPeer: 1}})
		reserved, caller := r.peers(t, n, "")
		if err := r.dial(t, caller, reserved); err != nil {
			t.Fatal(err)
		}
		if err := r.dial(t, start(t, n.Host("second")), reserved); err == nil {
			t.Error("a second circuit to a peer that may have one")
		}
		if got := r.Status().Circuits; got != 1 {
			t.Errorf("%d circuits, want 1", got)
		}
	})
}

func TestAddressesInReservations(t *testing.T) {
	for _, c := range []struct {
		name    string
		private bool // the relay is on a LAN
		cfg     func(own ma.Multiaddr) Config
		want    bool
	}{
		{"public", false, func(ma.Multiaddr) Config { return Config{} }, true},
		{"private", true, func(ma.Multiaddr) Config { return Config{} }, false},
		{"private and allowed", true, func(ma.Multiaddr) Config { return Config{AllowPrivate: true} }, true},
		{"private and announced", true, func(own ma.Multiaddr) Config { return Config{Announced: []ma.Multiaddr{own}} }, true},
		{"private, another announced", true, func(ma.Multiaddr) Config {
			return Config{Announced: []ma.Multiaddr{ma.StringCast("/ip4/10.9.9.9/udp/4001/quic-v1")}}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				add := n.Host
				if c.private {
					add = n.NAT("lan", testnet.PortRestricted()).Host
				}
				m := add("relay")
				own := m.ListenAddr(4001)
				cfg := c.cfg(own)
				cfg.Mode = On
				r := run(t, start(t, m), cfg)
				rsvp, status := r.reserve(t, start(t, add("peer")))
				if status != pbv2.Status_OK {
					t.Fatal(status)
				}
				named := slices.ContainsFunc(rsvp.Addrs, func(a ma.Multiaddr) bool {
					return strings.HasPrefix(a.String(), own.String()+"/p2p/"+r.host.ID().String())
				})
				if named != c.want || len(rsvp.Addrs) > 1 {
					t.Errorf("the reservation names %v; want %s in it: %v", rsvp.Addrs, own, c.want)
				}
			})
		})
	}
	r := &Relay{cfg: Config{AllowPrivate: true}}
	circuit := ma.StringCast("/ip4/8.8.8.8/udp/1/quic-v1/p2p/12D3KooWEZXjE41uU4EL2gpkAQeDXYok6wghN7wwNVPF5bwkaNfS/p2p-circuit")
	if r.namesInReservation(circuit) {
		t.Errorf("a reservation names the circuit address %s", circuit)
	}
}
