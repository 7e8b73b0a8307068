package reachability

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestBadServers asks one server that does not do its work about a subject
// that is dialable in truth, or is not.
func TestBadServers(t *testing.T) {
	const ok, noDial, dialError, streamError = pb.DialResponse_OK, pb.DialStatus_UNUSED, pb.DialStatus_E_DIAL_ERROR, pb.DialStatus_E_DIAL_BACK_ERROR
	lie := func(s *scripted, r request) { r.respond(ok, pb.DialStatus_OK, 0) }
	for _, c := range []struct {
		name    string
		private bool // the subject is behind a port-restricted NAT
		do      func(s *scripted, r request)
		want    Reachability
		because string // how an unknown verdict is explained
	}{
		{"rejects", false, func(_ *scripted, r request) { r.respond(pb.DialResponse_E_REQUEST_REJECTED, noDial, 0) }, Unknown, "servers declined to dial us back so far"},
		{"refuses to dial", false, func(_ *scripted, r request) { r.respond(pb.DialResponse_E_DIAL_REFUSED, noDial, 0) }, Unknown, "servers declined to dial us back so far"},
		{"has an internal error", false, func(_ *scripted, r request) { r.respond(pb.DialResponse_E_INTERNAL_ERROR, noDial, 0) }, Unknown, "servers declined to dial us back so far"},
		{"claims OK without a dial", false, lie, Unknown, "servers declined to dial us back so far"},
		{"claims OK without a dial", true, lie, Unknown, "servers declined to dial us back so far"},
		{"claims a broken stream without a dial", true, func(_ *scripted, r request) { r.respond(ok, streamError, 0) }, Unknown, "servers declined to dial us back so far"},
		{"claims failure", false, func(_ *scripted, r request) { r.respond(ok, dialError, 0) }, Private, ""},
		{"never answers", false, func(_ *scripted, r request) { r.reader.ReadMsg(new(pb.Message)) }, Private, ""},
		{"resets", false, func(_ *scripted, r request) { r.stream.Reset() }, Unknown, "servers declined to dial us back so far"},
		{"closes", false, func(_ *scripted, r request) {}, Unknown, "servers declined to dial us back so far"},
		{"answers about another index", true, func(_ *scripted, r request) { r.respond(ok, dialError, 1) }, Unknown, "servers declined to dial us back so far"},
		{"answers with an unknown status", true, func(_ *scripted, r request) { r.respond(ok, 7, 0) }, Unknown, "servers declined to dial us back so far"},
		{"answers with another message", true, func(_ *scripted, r request) {
			r.reply(&pb.Message{Msg: &pb.Message_DialRequest{DialRequest: &pb.DialRequest{}}})
		}, Unknown, "servers declined to dial us back so far"},
		{"answers with garbage", true, func(_ *scripted, r request) { r.stream.Write([]byte("\x05GET /")) }, Unknown, "servers declined to dial us back so far"},
		{"announces 1 TB", true, func(_ *scripted, r request) { r.stream.Write([]byte("\x80\x80\x80\x80\x80\x20")) }, Unknown, "servers declined to dial us back so far"},
		{"delivers the nonce on the connection that we opened", true, func(s *scripted, r request) {
			if err := sendNonce(s, r.stream.Conn().RemotePeer(), r.nonce); err == nil {
				t.Error("the nonce was taken on the connection that we opened ourselves")
			}
			r.respond(ok, pb.DialStatus_OK, 0)
		}, Unknown, "servers declined to dial us back so far"},
		{"delivers other nonces", false, func(s *scripted, r request) {
			for i := range uint64(4) {
				if err := sendNonce(s, r.stream.Conn().RemotePeer(), r.nonce+1+i); err == nil {
					t.Errorf("the nonce %d was taken, asked with %d", r.nonce+1+i, r.nonce)
				}
			}
			r.respond(ok, pb.DialStatus_OK, 0)
		}, Unknown, "servers declined to dial us back so far"},
	} {
		where := "public"
		if c.private {
			where = "private"
		}
		t.Run(c.name+" for a "+where+" subject", func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				m := n.Host("subject")
				if c.private {
					m = n.NAT("box", testnet.PortRestricted()).Host("subject")
				}
				s := track(t, start(t, m, true))
				bad := script(t, n.Host("bad"), c.do)
				connect(t, s, bad)
				time.Sleep(time.Minute)
				v := s.tracker.Verdict()
				if v.Reachability != c.want || s.ever(Public) {
					t.Errorf("after a minute: got %+v, want %q and never public", v, c.want)
				}
				if c.want == Unknown && v.Because != c.because {
					t.Errorf("got because %q, want %q", v.Because, c.because)
				}
				if c.want == Private && !v.Weak {
					t.Errorf("one server's word is not weak: %+v", v)
				}
				if got := bad.requests(); got == 0 || got > maxPerMinute {
					t.Errorf("asked the server %d times in a minute, want 1 to %d", got, maxPerMinute)
				}
				// An honest server sets it right, for as long as both are there.
				connect(t, s, start(t, n.Host("good"), true))
				truth := Public
				if c.private {
					truth = Private
				}
				s.await(t, "the truth", recheckPrivate, is(truth))
				at := time.Now()
				time.Sleep(20 * time.Minute)
				if v := s.tracker.Verdict(); v.Reachability != truth || v.Since.After(at) {
					t.Errorf("20 minutes with one bad and one good server: got %+v, want %q all the time", v, truth)
				}
			})
		})
	}
}

// TestDialDataIsNotForTheAsking holds that what a server wants to be paid is
// bounded.
func TestDialDataIsNotForTheAsking(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(r request) int
		want int
	}{
		{"100 kB", func(r request) int { return r.wantData(maxDialData, 0) }, maxDialData},
		{"4001 bytes", func(r request) int { return r.wantData(4001, 0) }, 4001},
		{"one byte too many", func(r request) int { return r.wantData(maxDialData+1, 0) }, 0},
		{"2^63 bytes", func(r request) int { return r.wantData(1<<63, 0) }, 0},
		{"for another address", func(r request) int { return r.wantData(30_000, 1) }, 0},
		{"twice", func(r request) int { return r.wantData(30_000, 0) + r.wantData(30_000, 0) }, 30_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(t *testing.T, n *testnet.Net) {
				s := track(t, start(t, n.Host("subject"), true)) // its interface is trusted
				paid := make(chan int, 1)
				srv := script(t, n.Host("server"), func(_ *scripted, r request) {
					select {
					case paid <- c.ask(r):
					default:
					}
				})
				connect(t, s, srv)
				select {
				case got := <-paid:
					if got != c.want {
						t.Errorf("asked for %s: got %d bytes, want %d", c.name, got, c.want)
					}
				case <-time.After(time.Minute):
					t.Error("the server was not asked")
				}
				if s.ever(Public) {
					t.Errorf("public by what? %+v", s.tracker.Verdict())
				}
			})
		})
	}
}

// observed makes s believe that a peer it is connected to sees it at addr.
func observed(t *testing.T, s *subject, by peer.ID, addr ma.Multiaddr) {
	t.Helper()
	em, err := s.EventBus().Emitter(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		t.Fatal(err)
	}
	defer em.Close()
	conn := s.Network().ConnsToPeer(by)[0]
	if err := em.Emit(event.EvtPeerIdentificationCompleted{Peer: by, Conn: conn, ObservedAddr: addr}); err != nil {
		t.Fatal(err)
	}
}

// TestInventedAddress holds that an address that one peer invents costs
// nothing, is nobody else's problem, and makes nobody public.
func TestInventedAddress(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true))
		victim := ma.StringCast("/ip4/7.7.7.7/udp/4001/quic-v1")
		paid := 0
		liar := script(t, n.Host("liar"), func(l *scripted, r request) {
			if r.addr.Equal(victim) {
				paid += r.wantData(30_000, 0)
				sendNonce(l, r.stream.Conn().RemotePeer(), r.nonce)
			}
			r.respond(pb.DialResponse_OK, pb.DialStatus_OK, 0)
		})
		other := script(t, n.Host("other"), honest(start(t, n.Host("dialer"), false)))
		connect(t, s, liar)
		connect(t, s, other)
		observed(t, s, liar.ID(), victim)
		time.Sleep(time.Hour)
		if !liar.askedAbout(victim) {
			t.Error("the liar was not asked; the test shows nothing")
		}
		if other.askedAbout(victim) {
			t.Errorf("another server was asked to dial %s, which only one peer claims", victim)
		}
		if paid > 0 {
			t.Errorf("paid the liar %d bytes of dial data, want none", paid)
		}
		v := s.tracker.Verdict()
		if v.Reachability != Private || s.ever(Public) {
			t.Errorf("got %+v, want private and never public", v)
		}
	})
}

// TestLiarAboutAName: honest servers refuse to dial most names, so that one that lies
// is the only one to say anything. It must not stop a relay that is announced by name.
func TestLiarAboutAName(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		name := ma.StringCast("/dns4/relay.example/udp/4001/quic-v1")
		s := track(t, start(t, n.NAT("box", testnet.PortRestricted()).Host("subject"), true), name)
		asked := 0
		liar := script(t, n.Host("liar"), func(_ *scripted, r request) {
			if r.addr.Equal(name) {
				asked++
			}
			r.respond(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0)
		})
		connect(t, s, liar)
		for i := range 2 {
			connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
		}
		time.Sleep(time.Hour)
		v := s.tracker.Verdict()
		if v.Reachability != Public || s.ever(Private) {
			t.Errorf("one liar, and two that do not judge names: got %s because %q, want public", v.Reachability, v.Because)
		}
		if asked == 0 || asked > 20 {
			t.Errorf("the liar was asked %d times in an hour, want once in 5 minutes", asked)
		}
		t.Logf("asked %d times: %s", asked, v.Because)
	})
}

// fakeConn is a connection over which a peer tells what it sees.
type fakeConn struct {
	network.Conn
	local, remote ma.Multiaddr
}

func (c fakeConn) LocalMultiaddr() ma.Multiaddr  { return c.local }
func (c fakeConn) RemoteMultiaddr() ma.Multiaddr { return c.remote }

func TestManyInventors(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("subject")
		tr, err := New(Config{Host: start(t, m, true)})
		if err != nil {
			t.Fatal(err)
		}
		runAtTheEnd(t, tr)
		now := time.Now()
		tr.updateOwnAddrs(now)
		own := len(tr.addrs)
		conn := fakeConn{local: m.ListenAddr(port), remote: ma.StringCast("/ip4/8.8.8.8/udp/1/quic-v1")}
		see := func(who int, addr string) {
			now = now.Add(time.Second)
			tr.observe(event.EvtPeerIdentificationCompleted{
				Peer: peer.ID(fmt.Sprint("peer", who)), Conn: conn, ObservedAddr: ma.StringCast(addr),
			}, now)
		}
		known := func(addr string) *candidate { return tr.addrs[string(ma.StringCast(addr).Bytes())] }
		const honest = "/ip4/12.0.0.1/udp/4001/quic-v1"
		for i := range 1000 {
			see(i, fmt.Sprintf("/ip4/13.0.%d.%d/udp/4001/quic-v1", i/250, i%250+1))
			if got := len(tr.addrs); got > own+maxObserved {
				t.Fatalf("%d candidates after %d inventions, want at most %d", got, i+1, own+maxObserved)
			}
		}
		// They must not keep out what two peers agree on, and then not drive it out.
		see(1001, honest)
		see(1002, honest)
		for i := range 100 {
			see(2000+i, fmt.Sprintf("/ip4/14.0.0.%d/udp/4001/quic-v1", i+1))
		}
		if c := known(honest); c == nil || !c.trusted() {
			t.Errorf("the address that two peers see is not a trusted candidate: %+v", c)
		}
		// Nor what a server has reached.
		const reached = "/ip4/14.0.0.100/udp/4001/quic-v1"
		known(reached).record(result{server: "s", outcome: dialled}, true, now)
		for i := range 100 {
			see(3000+i, fmt.Sprintf("/ip4/15.0.0.%d/udp/4001/quic-v1", i+1))
		}
		if known(reached) == nil {
			t.Error("inventions drove out an address that a server reached")
		}
		if got := len(known(honest).observers); got != 2 {
			t.Errorf("%d observers, want 2", got)
		}
		for i := range 1000 {
			see(5000+i, honest)
		}
		if got := len(known(honest).observers); got > maxWitnesses {
			t.Errorf("%d observers are kept, want at most %d", got, maxWitnesses)
		}
		// One peer that changes its mind has one address at a time.
		for i := range 10 {
			see(9999, fmt.Sprintf("/ip4/16.0.0.%d/udp/4001/quic-v1", i+1))
		}
		held := 0
		for _, c := range tr.addrs {
			if _, ok := c.observers["peer9999"]; ok {
				held++
			}
		}
		if held != 1 {
			t.Errorf("one peer holds %d observed addresses, want 1", held)
		}
		// What nobody repeats goes away.
		now = now.Add(observedTTL + time.Second)
		tr.updateOwnAddrs(now)
		if got := len(tr.addrs); got != own {
			t.Errorf("%d candidates after %v of silence, want our own %d", got, observedTTL, own)
		}
	})
}

// runAtTheEnd lets the tracker give back what New took.
func runAtTheEnd(t *testing.T, tr *Tracker) {
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := tr.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestObservationsThatDoNotCount: circuits, private addresses, and connections
// from ports that we do not listen on say nothing about where others may dial.
func TestObservationsThatDoNotCount(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("subject")
		tr, err := New(Config{Host: start(t, m, true)})
		if err != nil {
			t.Fatal(err)
		}
		runAtTheEnd(t, tr)
		tr.updateOwnAddrs(time.Now())
		own := len(tr.addrs)
		direct := ma.StringCast("/ip4/8.8.8.8/udp/1/quic-v1")
		circuit := ma.StringCast("/ip4/8.8.8.8/udp/1/quic-v1/p2p/12D3KooWEZXjE41uU4EL2gpkAQeDXYok6wghN7wwNVPF5bwkaNfS/p2p-circuit")
		good := ma.StringCast("/ip4/12.0.0.1/udp/4001/quic-v1")
		for _, c := range []struct {
			name string
			conn network.Conn
			addr ma.Multiaddr
		}{
			{"no address", fakeConn{local: m.ListenAddr(port), remote: direct}, nil},
			{"no connection", nil, good},
			{"another port", fakeConn{local: m.ListenAddr(port + 1), remote: direct}, good},
			{"another transport", fakeConn{local: ma.StringCast("/ip4/11.0.0.1/tcp/4001"), remote: direct}, good},
			{"over a relay", fakeConn{local: m.ListenAddr(port), remote: circuit}, good},
			{"a circuit address", fakeConn{local: m.ListenAddr(port), remote: direct}, circuit},
			{"a private address", fakeConn{local: m.ListenAddr(port), remote: direct}, ma.StringCast("/ip4/192.168.1.1/udp/4001/quic-v1")},
		} {
			tr.observe(event.EvtPeerIdentificationCompleted{Peer: "p", Conn: c.conn, ObservedAddr: c.addr}, time.Now())
			if got := len(tr.addrs); got != own {
				t.Errorf("%s: became a candidate: %v", c.name, slices.Collect(func(yield func(ma.Multiaddr) bool) {
					for _, c := range tr.addrs {
						if !yield(c.addr) {
							return
						}
					}
				}))
			}
		}
	})
}

// TestNonceOnAnOldConnection: a peer that dialled us before, say by a hole
// punch, can deliver the nonce there without dialling.
func TestNonceOnAnOldConnection(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.Host("subject"), true))
		srvMachine := n.Host("server")
		srv := script(t, srvMachine, func(srv *scripted, r request) {
			if err := sendNonce(srv, r.stream.Conn().RemotePeer(), r.nonce); err == nil {
				t.Error("the nonce was taken on a connection that stood before")
			}
			r.respond(pb.DialResponse_OK, pb.DialStatus_OK, 0)
		})
		// It is no stranger: its coming proves nothing either.
		s.tracker.Contacted(srvMachine.IP())
		connect(t, srv, s)
		time.Sleep(time.Minute)
		if srv.requests() == 0 || s.ever(Public) {
			t.Errorf("after %d requests: got %+v, want unknown", srv.requests(), s.tracker.Verdict())
		}
	})
}

// TestDialBackElsewhere: a nonce that comes in at another address of ours says
// nothing about the one that we asked about.
func TestDialBackElsewhere(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		m := n.Host("subject")
		h := start(t, m, true, both(m), libp2p.ListenAddrs(m.ListenAddr(port+1)))
		s := track(t, h)
		open := m.ListenAddr(port)
		var servers []*scripted
		for i := range 2 {
			dialer := start(t, n.Host(fmt.Sprint("dialer", i)), false)
			sm := n.Host(fmt.Sprint("server", i))
			srv := script(t, sm, func(_ *scripted, r request) {
				status := pb.DialStatus_OK
				if err := dialBack(dialer, s.ID(), open, r.nonce); err != nil {
					status = pb.DialStatus_E_DIAL_ERROR
				}
				r.respond(pb.DialResponse_OK, status, 0)
			})
			servers = append(servers, srv)
			meet(t, s, srv, sm.ListenAddr(port))
		}
		time.Sleep(10 * time.Minute)
		v := s.tracker.Verdict()
		for _, a := range v.Addrs {
			if (a.Reachability == Public) != (a.Addr == open.String()) {
				t.Errorf("%s: got %s; only %s was dialled", a.Addr, a.Reachability, open)
			}
		}
		if len(v.Addrs) != 3 || !servers[0].askedAbout(m.ListenAddr6(port)) || !servers[0].askedAbout(m.ListenAddr(port+1)) {
			t.Errorf("not all three addresses were asked about: %+v", v.Addrs)
		}
	})
}
