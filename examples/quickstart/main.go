// Command quickstart shows in one process, without root and without Docker,
// what Causeway does: a small internet with a bootstrap node, three relays and
// two peers behind NATs, which become reachable, survive the death of a relay,
// and find a direct path in the end.
//
//	go run ./examples/quickstart
//
// The network is simulated (package testnet), the nodes are real, and so is
// the time. It exits 0 only if every line of the story really happened.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/testnet"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./examples/quickstart\n\nRuns a simulated internet with NATs and tells what the nodes on it do.")
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := newStory()
	if err := s.tell(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\nError: %v\n", err)
		os.Exit(1)
	}
}

// story runs the network and prints what happens.
type story struct {
	start time.Time
	net   *testnet.Net
	nodes map[string]*node.Node
	names map[peer.ID]string
	boxes map[string]*testnet.Host
	boot  peer.AddrInfo
}

func newStory() *story {
	return &story{
		start: time.Now(),
		net:   testnet.New(testnet.Config{Latency: 20 * time.Millisecond}),
		nodes: make(map[string]*node.Node),
		names: make(map[peer.ID]string),
		boxes: make(map[string]*testnet.Host),
	}
}

const port = 4001

func (s *story) say(who, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for id, name := range s.names {
		text = strings.NewReplacer(id.String(), name, node.ShortID(id), name).Replace(text)
	}
	fmt.Printf("%6.2f s  %-10s %s\n", time.Since(s.start).Seconds(), who, text)
}

// tell is the story itself. Every step waits for what it claims.
func (s *story) tell(ctx context.Context) (err error) {
	defer func() {
		for _, n := range s.nodes {
			err = errors.Join(err, n.Close())
		}
		s.net.Close()
	}()
	if err := s.startPublic(ctx); err != nil {
		return err
	}
	fmt.Println()
	if err := s.startPeer(ctx, "A", false); err != nil {
		return err
	}
	fmt.Println()
	if err := s.startPeer(ctx, "B", true); err != nil {
		return err
	}
	fmt.Println()
	if err := s.verdict(ctx, "A"); err != nil {
		return err
	}
	if err := s.verdict(ctx, "B"); err != nil {
		return err
	}
	fmt.Println()
	used, err := s.reachThroughRelay(ctx)
	if err != nil {
		return err
	}
	fmt.Println()
	if err := s.killRelay(ctx, used); err != nil {
		return err
	}
	fmt.Println()
	if err := s.upgrade(ctx); err != nil {
		return err
	}
	fmt.Printf("\nAll of it happened, in %.1f s.\n", time.Since(s.start).Seconds())
	return nil
}

// startPublic starts the bootstrap node and the relays on public addresses.
func (s *story) startPublic(ctx context.Context) error {
	s.say("network", "a simulated internet, 20 ms between any two machines")
	if err := s.startNode(ctx, "bootstrap", s.net.Host("bootstrap"), node.Config{Server: true}); err != nil {
		return err
	}
	s.boot = *host.InfoFromHost(s.nodes["bootstrap"].Host())
	s.say("bootstrap", "is up at %s", s.boot.Addrs[0])
	for _, name := range []string{"relay1", "relay2", "relay3"} {
		cfg := node.Config{Server: true, Relay: relay.Auto, Relays: -1}
		if err := s.startNode(ctx, name, s.net.Host(name), cfg); err != nil {
			return err
		}
	}
	for _, name := range []string{"relay1", "relay2", "relay3"} {
		e, err := await(ctx, s.nodes[name], name+" to serve", func(e node.RelayService) bool { return e.Serving })
		if err != nil {
			return err
		}
		s.say(name, "%s", e)
		if _, err := await(ctx, s.nodes[name], name+" at the rendezvous", func(node.Announced) bool { return true }); err != nil {
			return err
		}
	}
	s.say("relays", "all three are announced at the rendezvous in the DHT")
	return nil
}

// startPeer starts a peer behind a NAT of its own and follows it until it
// advertises an address at which others can reach it.
func (s *story) startPeer(ctx context.Context, name string, stayRelayed bool) error {
	box := s.boxes[name]
	if box == nil {
		box = s.net.NAT("nat"+name, testnet.PortRestricted()).Host(name)
		s.boxes[name] = box
	}
	s.say(name, "starts behind a port-restricted NAT, knowing nothing but the bootstrap node")
	if err := s.startNode(ctx, name, box, node.Config{NoHolePunching: stayRelayed}); err != nil {
		return err
	}
	n := s.nodes[name]
	found, err := await(ctx, n, name+" to find a relay through the rendezvous", func(e node.RelayFound) bool { return e.Source == "dht" })
	if err != nil {
		return err
	}
	s.say(name, "%s", found)
	reserved, err := await(ctx, n, name+" to reserve", func(node.RelayReserved) bool { return true })
	if err != nil {
		return err
	}
	s.say(name, "%s", reserved)
	shown, err := await(ctx, n, name+" to advertise a circuit address", func(e node.AddrsChanged) bool { return e.Circuits > 0 })
	if err != nil {
		return err
	}
	for _, a := range shown.Addrs {
		if strings.Contains(a, "p2p-circuit") {
			s.say(name, "advertises %s", a)
			break
		}
	}
	if err := s.knows(ctx, "bootstrap", n.ID()); err != nil {
		return err
	}
	s.say("bootstrap", "has learned %s's circuit address through identify push", name)
	return nil
}

// verdict waits until a peer knows where it stands.
func (s *story) verdict(ctx context.Context, name string) error {
	verdict, err := await(ctx, s.nodes[name], name+"'s verdict", func(e node.ReachabilityChanged) bool {
		return e.Verdict.Reachability == reachability.Private
	})
	if err != nil {
		return err
	}
	s.say(name, "is %s", strings.TrimPrefix(verdict.String(), "reachability "))
	return nil
}

// reachThroughRelay lets B find A by its ID and ping it.
func (s *story) reachThroughRelay(ctx context.Context) (peer.ID, error) {
	a, b := s.nodes["A"], s.nodes["B"]
	start := time.Now()
	p, err := b.Ping(ctx, a.ID())
	if err != nil {
		return "", fmt.Errorf("node B cannot reach A: %w", err)
	}
	if !p.Path.Relayed() {
		return "", fmt.Errorf("node B should have reached A through a relay, but the path was %s", p.Path)
	}
	s.say("B", "found A by its peer ID and reached it %s after %d ms (round trip %d ms)",
		p.Path, time.Since(start).Milliseconds(), p.RTT.Milliseconds())
	return p.Path.Relay, nil
}

// killRelay cuts the power of the relay in use: its packets vanish.
func (s *story) killRelay(ctx context.Context, used peer.ID) error {
	a, b := s.nodes["A"], s.nodes["B"]
	ectx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := a.Events(ectx)
	s.say(s.names[used], "loses its power: not a packet gets in or out any more")
	killed := time.Now()
	s.boxes[s.names[used]].Kill()
	lost, err := next(ctx, events, "A to notice", func(e node.RelayLost) bool { return e.Relay == used })
	if err != nil {
		return err
	}
	s.say("A", "%s, %d ms after the power went", lost, time.Since(killed).Milliseconds())
	took, err := next(ctx, events, "another relay", func(e node.RelayReplaced) bool { return e.Old == used })
	if err != nil {
		return err
	}
	s.say("A", "%s", took)
	p, err := b.Ping(ctx, a.ID())
	if err != nil {
		return fmt.Errorf("node B cannot reach A any more: %w", err)
	}
	if p.Path.Relay == used {
		return errors.New("node B claims to reach A through the dead relay")
	}
	s.say("B", "reaches A again %s, %d ms after the power went", p.Path, time.Since(killed).Milliseconds())
	return nil
}

// upgrade restarts B with hole punching.
func (s *story) upgrade(ctx context.Context) error {
	a := s.nodes["A"]
	if err := s.nodes["B"].Close(); err != nil {
		return err
	}
	s.say("B", "restarts, now with hole punching")
	if err := s.startNode(ctx, "B", s.boxes["B"], node.Config{}); err != nil {
		return err
	}
	b := s.nodes["B"]
	if err := b.WaitReachable(ctx); err != nil {
		return err
	}
	p, err := b.Ping(ctx, a.ID())
	if err != nil {
		return fmt.Errorf("node B cannot reach A: %w", err)
	}
	s.say("B", "reaches A %s (round trip %d ms)", p.Path, p.RTT.Milliseconds())
	up, err := await(ctx, b, "the direct path", func(e node.PathChanged) bool { return e.Peer == a.ID() && e.To.Direct() })
	if err != nil {
		return err
	}
	s.say("B", "%s", up)
	if p, err = b.Ping(ctx, a.ID()); err != nil {
		return fmt.Errorf("node B cannot reach A directly: %w", err)
	}
	if !p.Path.Direct() {
		return fmt.Errorf("the path to A should be direct, but is %s", p.Path)
	}
	s.say("B", "reaches A %s (round trip %d ms)", p.Path, p.RTT.Milliseconds())
	return nil
}

// startNode starts a real node on a simulated machine.
func (s *story) startNode(ctx context.Context, name string, box *testnet.Host, cfg node.Config) error {
	cfg.Network = "quickstart"
	if s.boot.ID != "" {
		cfg.Bootstrap = []peer.AddrInfo{s.boot}
	}
	cfg.Listen = []ma.Multiaddr{box.ListenAddr(port)}
	cfg.Transports = []libp2p.Option{box.Transport()}
	n, err := node.New(cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := n.Start(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.nodes[name], s.boxes[name], s.names[n.ID()] = n, box, name
	return nil
}

// knows waits until a node knows a circuit address of a peer.
func (s *story) knows(ctx context.Context, who string, p peer.ID) error {
	actx, cancel := context.WithCancel(ctx)
	defer cancel()
	for a := range s.nodes[who].Host().Peerstore().AddrStream(actx, p) {
		if strings.Contains(a.String(), "p2p-circuit") {
			return nil
		}
	}
	return fmt.Errorf("%s did not learn the circuit address", who)
}

// await waits for an event of one type, which may have come already.
func await[E node.Event](ctx context.Context, n *node.Node, what string, ok func(E) bool) (E, error) {
	ectx, cancel := context.WithCancel(ctx)
	defer cancel()
	return next(ctx, n.History(ectx), what, ok)
}

func next[E node.Event](ctx context.Context, events <-chan node.Event, what string, ok func(E) bool) (E, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		select {
		case ev, open := <-events:
			if e, is := ev.(E); is && ok(e) {
				return e, nil
			}
			if !open {
				var none E
				return none, fmt.Errorf("waited for %s, and the node stopped", what)
			}
		case <-ctx.Done():
			var none E
			return none, fmt.Errorf("waited in vain for %s", what)
		}
	}
}
