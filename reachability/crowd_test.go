package reachability

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/testnet"
)

// TestMinority: servers take turns as they do when asked, in any order at first;
// once each has spoken, the truth stands whatever a minority says. A liar that
// says yes is one that the NAT lets in where it lets in nobody else.
func TestMinority(t *testing.T) {
	says := map[string]func(r *rand.Rand) outcome{
		"yes":    func(*rand.Rand) outcome { return dialled },
		"no":     func(*rand.Rand) outcome { return failed },
		"random": func(r *rand.Rand) outcome { return []outcome{dialled, failed, silent, declined}[r.IntN(4)] },
		"silent": func(*rand.Rand) outcome { return silent },
	}
	for name, lie := range says {
		for _, crowd := range [][2]int{{3, 1}, {5, 2}, {7, 3}} {
			for _, truth := range []Reachability{Public, Private} {
				for seed := range uint64(40) {
					r := rand.New(rand.NewPCG(seed, 1))
					order := r.Perm(crowd[0])
					c := newCandidate(ma.StringCast("/ip4/11.0.0.2/tcp/1"), fromObserved, epoch)
					now := epoch
					for turn := range 300 {
						if turn == 150 {
							c.renew(now) // the network changed, to the same
						}
						who := order[turn%len(order)]
						o := dialled
						if truth == Private {
							o = failed
						}
						if who < crowd[1] {
							o = lie(r)
						}
						now = now.Add(time.Second)
						others := turn%150 < len(order)-1
						c.record(result{server: peer.ID(fmt.Sprint(who)), outcome: o}, others, now)
						if turn%150 >= len(order)+publicPatience && c.reachable != truth {
							t.Fatalf("%d of %d say %s, turn %d, order %v: got %s, want %s", crowd[1], crowd[0], name, turn, order, c.reachable, truth)
						}
					}
				}
			}
		}
	}
}

// TestLiarsInTheNetwork: the same with servers that a public node is connected
// to.
func TestLiarsInTheNetwork(t *testing.T) {
	deny := func(_ *scripted, r request) { r.respond(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0) }
	mute := func(_ *scripted, r request) { r.reader.ReadMsg(new(pb.Message)) }
	whim := func(s *scripted, r request) {
		switch s.requests() % 3 {
		case 0:
			deny(s, r)
		case 1:
			mute(s, r)
		case 2:
			r.respond(pb.DialResponse_OK, pb.DialStatus_OK, 0)
		}
	}
	for _, c := range []struct {
		name          string
		do            func(*scripted, request)
		liars, honest int
	}{
		{"say no", deny, 1, 2},
		{"say no", deny, 2, 3},
		{"never answer", mute, 1, 2},
		{"never answer", mute, 2, 3},
		{"say anything", whim, 1, 2},
		{"say anything", whim, 2, 3},
	} {
		for _, nat := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d of %d %s, behind a NAT %v", c.liars, c.liars+c.honest, c.name, nat), func(t *testing.T) {
				simulate(t, func(t *testing.T, n *testnet.Net) {
					m, truth := n.Host("subject"), Public
					if nat {
						m, truth = n.NAT("box", testnet.PortRestricted()).Host("subject"), Private
					}
					s := track(t, start(t, m, true))
					for i := range c.liars {
						connect(t, s, script(t, n.Host(fmt.Sprint("liar", i)), c.do))
					}
					for i := range c.honest {
						connect(t, s, start(t, n.Host(fmt.Sprint("server", i)), true))
					}
					_, took := s.await(t, "the truth", time.Minute, func(v Verdict) bool { return v.Reachability == truth && !v.Weak })
					before := s.turns()
					time.Sleep(2 * time.Hour)
					if v := s.tracker.Verdict(); v.Reachability != truth || s.turns() != before {
						t.Errorf("2 hours later: %s because %s; the answer turned %d times", v.Reachability, v.Because, s.turns()-before)
					}
					t.Logf("%s after %v", truth, took)
				})
			})
		}
	}
}

// TestSilenceAlone: a server that stops to answer takes nothing back.
func TestSilenceAlone(t *testing.T) {
	simulate(t, func(t *testing.T, n *testnet.Net) {
		s := track(t, start(t, n.Host("subject"), true))
		dialer := start(t, n.Host("dialer"), false)
		connect(t, s, script(t, n.Host("server"), func(srv *scripted, r request) {
			if srv.requests() == 1 {
				honest(dialer)(srv, r)
				return
			}
			r.reader.ReadMsg(new(pb.Message)) // for ever
		}))
		s.await(t, "public", 2*time.Second, is(Public))
		time.Sleep(6 * time.Hour)
		if v := s.tracker.Verdict(); v.Reachability != Public {
			t.Errorf("got %s because %s, want public still", v.Reachability, v.Because)
		}
	})
}
