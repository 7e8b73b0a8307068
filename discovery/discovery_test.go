package discovery

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

func TestSourcesAreAskedOnlyWhenWanted(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		h := start(t, n.Host("self"))
		got := newFinds()
		fake := &fakeFinder{name: "fake"}
		cache := OpenCache(filepath.Join(t.TempDir(), "relays.json"))
		if err := cache.Remember(someone(2)); err != nil {
			t.Fatal(err)
		}
		self := peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
		d := New(Config{
			Host: h, Static: []peer.AddrInfo{someone(1), self, {}}, Cache: cache, Finders: []Finder{fake}, Found: got.add,
		})
		run(t, d)
		time.Sleep(time.Hour)
		if len(got.all) > 0 || len(fake.asked) > 0 {
			t.Fatalf("nobody wants relays: found %v, asked %v", got.all, fake.asked)
		}

		// On: everybody at once, then with a growing pause.
		begun := time.Now()
		d.Want(true)
		synctest.Wait()
		for s, want := range map[Source]peer.ID{Static: someone(1).ID, Cached: someone(2).ID} {
			if f := got.of(s); len(f) != 1 || f[0].ID != want || len(f[0].Addrs) != 1 {
				t.Errorf("%s: got %v, want %s once, and neither ourselves nor nobody", s, f, want)
			}
		}
		time.Sleep(5 * time.Minute)
		rounds := fake.rounds(begun)
		pause := firstPause
		for i, at := range rounds[1:] {
			if gap := at - rounds[i]; gap != pause {
				t.Errorf("pause %d: got %v, want %v", i, gap, pause)
			}
			pause = min(2*pause, maxPause)
		}
		if len(rounds) < 10 {
			t.Errorf("%d rounds in 5 minutes, want more", len(rounds))
		}

		// Again: at once, and quick again.
		begun = time.Now()
		d.Want(true)
		time.Sleep(firstPause)
		synctest.Wait()
		if got := fake.rounds(begun); len(got) < 2 || got[0] != 0 || got[1] != firstPause {
			t.Errorf("wanted again: asked after %v, want at once and after %v", got, firstPause)
		}

		// Off: nobody; and on again.
		d.Want(false)
		d.Want(false)
		synctest.Wait()
		begun = time.Now().Add(1)
		time.Sleep(time.Hour)
		if got := fake.rounds(begun); len(got) > 0 {
			t.Errorf("not wanted, and asked after %v", got)
		}
		begun = time.Now()
		d.Want(true)
		synctest.Wait()
		if got := fake.rounds(begun); len(got) != 1 {
			t.Errorf("wanted again: asked %d times at once, want 1", len(got))
		}
		// Announcements need a DHT; without one these do nothing.
		d.Announce(true)
		d.AddrsChanged()
	})
}

// TestFinderThatHangs holds that one source that does not answer costs the
// others nothing, and is itself let go in time.
func TestFinderThatHangs(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		got := newFinds()
		hangs := &fakeFinder{name: "hangs", do: func(ctx context.Context, round int, found func(peer.AddrInfo)) error {
			found(someone(round)) // what came before the time-out counts
			<-ctx.Done()
			return ctx.Err()
		}}
		fails := &fakeFinder{name: "fails", do: func(context.Context, int, func(peer.AddrInfo)) error {
			return errors.New("no such luck")
		}}
		works := &fakeFinder{name: "works", do: func(_ context.Context, round int, found func(peer.AddrInfo)) error {
			found(someone(100 + round))
			return nil
		}}
		d := New(Config{Host: start(t, n.Host("self")), Finders: []Finder{hangs, fails, works}, Found: got.add})
		run(t, d)
		begun := time.Now()
		d.Want(true)
		time.Sleep(2*findTimeout + time.Second)
		if rounds := hangs.rounds(begun); len(rounds) != 3 || rounds[1] != findTimeout+firstPause {
			t.Errorf("the one that hangs was asked after %v, want again after %v", rounds, findTimeout+firstPause)
		}
		if got := got.of("hangs"); len(got) != 3 || got[0].after != 0 {
			t.Errorf("the one that hangs found %v, want one at the start of each round", got)
		}
		if a, b := fails.rounds(begun), works.rounds(begun); !slices.Equal(a, b) || len(a) < 6 {
			t.Errorf("the others were asked after %v and %v, want the same and often", a, b)
		}
		// Wanting again while it hangs is remembered.
		d.Want(true)
		d.Want(true)
		time.Sleep(findTimeout)
		synctest.Wait()
		if got := len(hangs.rounds(begun)); got != 4 {
			t.Errorf("wanted again while it hung: %d rounds, want 4", got)
		}
	})
}

// hop makes h a stock relay.
func hop(t *testing.T, h host.Host) *relay.Relay {
	t.Helper()
	r, err := relay.New(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestConnectedPeersThatSpeakHop(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		self := start(t, n.Host("self"))
		early, late, turns, plain := start(t, n.Host("early")), start(t, n.Host("late")), start(t, n.Host("turns")), start(t, n.Host("plain"))
		hop(t, early)
		hop(t, late)
		// They are connected, and wanted, before anything runs.
		connect(t, self, early)
		connect(t, self, turns)
		connect(t, self, plain)
		synctest.Wait()
		got := newFinds()
		d := New(Config{Host: self, Found: got.add})
		d.Want(true)
		run(t, d)
		if f := got.await(t, Connected, early.ID(), time.Second); f.after > 0 || !slices.ContainsFunc(f.Addrs, early.Addrs()[0].Equal) {
			t.Errorf("connected before: found after %v at %v, want at once at %v", f.after, f.Addrs, early.Addrs())
		}
		connect(t, self, late)
		got.await(t, Connected, late.ID(), time.Second)
		hop(t, turns) // tells by identify push
		got.await(t, Connected, turns.ID(), time.Second)

		// Behind a relay is no relay.
		behind := start(t, n.NAT("box", testnet.Symmetric()).Host("behind"))
		hop(t, behind)
		connect(t, behind, late)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := client.Reserve(ctx, behind, peer.AddrInfo{ID: late.ID()}); err != nil {
			t.Fatal(err)
		}
		circuit := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", late.Addrs()[0], late.ID()))
		if err := self.Connect(ctx, peer.AddrInfo{ID: behind.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
			t.Fatal(err)
		}
		if got := self.Network().Connectedness(behind.ID()); got != network.Limited {
			t.Fatalf("connectedness %v, want limited", got)
		}
		time.Sleep(time.Minute)
		before := len(got.of(Connected))
		d.Want(true)
		synctest.Wait()
		if again := got.of(Connected)[before:]; len(again) != 3 {
			t.Errorf("wanted again: found %v, want the three relays again", again)
		}
		for _, f := range got.of(Connected) {
			if f.ID == plain.ID() || f.ID == behind.ID() {
				t.Errorf("found %s, which is no relay for us", f.ID)
			}
		}
	})
}

// kad joins a host to a DHT of its own.
func kad(t *testing.T, h host.Host, boot host.Host) *dht.IpfsDHT {
	t.Helper()
	opts := []dht.Option{dht.Mode(dht.ModeServer), dht.ProtocolPrefix("/causeway/test")}
	if boot != nil {
		opts = append(opts, dht.BootstrapPeers(peer.AddrInfo{ID: boot.ID(), Addrs: boot.Addrs()}))
	}
	d, err := dht.New(h, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if boot != nil {
		connect(t, h, boot)
	}
	return d
}

func TestRendezvous(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		boot := start(t, n.Host("boot"))
		kad(t, boot, nil)
		for i := range 3 {
			h := start(t, n.Host(fmt.Sprint("server", i)))
			kad(t, h, boot)
		}
		seeker, relayHost, elsewhere := start(t, n.Host("seeker")), start(t, n.Host("relay")), start(t, n.Host("elsewhere"))
		found := newFinds()
		seeking := New(Config{Host: seeker, Routing: kad(t, seeker, boot), Found: found.add})
		run(t, seeking)
		seeking.Want(true)
		announced := make(chan error, 100)
		serving := New(Config{
			Host: relayHost, Routing: kad(t, relayHost, boot), Found: func(Candidate) {},
			Announced: func(err error) { announced <- err },
		})
		run(t, serving)
		other := New(Config{Host: elsewhere, Routing: kad(t, elsewhere, boot), Found: func(Candidate) {}, Namespace: "/causeway/other/v1"})
		run(t, other)
		other.Announce(true)
		time.Sleep(10 * time.Second)
		if len(found.all) > 0 {
			t.Errorf("found %v before anybody announced", found.all)
		}
		select {
		case err := <-announced:
			t.Errorf("announced (%v) without being told to", err)
		default:
		}

		begun := time.Now()
		serving.Announce(true)
		if err := <-announced; err != nil || time.Since(begun) > 2*time.Second {
			t.Errorf("announcement: got %v after %v", err, time.Since(begun))
		}
		f := found.await(t, DHT, relayHost.ID(), maxPause)
		if !slices.ContainsFunc(f.Addrs, relayHost.Addrs()[0].Equal) {
			t.Errorf("found at %v, want %v", f.Addrs, relayHost.Addrs())
		}
		// Somebody who comes later finds it at once.
		late := start(t, n.Host("late"))
		lateFound := newFinds()
		d := New(Config{Host: late, Routing: kad(t, late, boot), Found: lateFound.add})
		run(t, d)
		lateFound.begun = time.Now()
		d.Want(true)
		if f := lateFound.await(t, DHT, relayHost.ID(), 2*time.Second); f.after > time.Second {
			t.Errorf("found after %v", f.after)
		}
		for _, f := range append(found.of(DHT), lateFound.of(DHT)...) {
			if f.ID != relayHost.ID() {
				t.Errorf("found %s, who announced another namespace", f.ID)
			}
		}
	})
}
