//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	corenet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"github.com/causeway-p2p/causeway/bench/child"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/reachability"
)

// verdictPatience is how long a node may take to judge. Stock's AutoNAT v1
// begins after 15 s, and says "private" at 17.
const verdictPatience = 24 * time.Second

// judges are who decides: go-libp2p has two, that do not know each other.
const (
	judgeV1   = "AutoNAT v1"
	judgeV2   = "AutoNAT v2"
	judgeNode = "ours"
)

// verdict is what a judge said, and when.
type verdict struct {
	Judge   string  `json:"judge"`
	Seconds float64 `json:"seconds"` // since the node was started
	Says    string  `json:"says"`    // public or private
	// Insured: it says public, and keeps a relay until that is proven. Only
	// ours does.
	Insured bool   `json:"insured,omitempty"`
	Because string `json:"because,omitempty"`
}

// judgement collects verdicts while the node runs.
type judgement struct {
	begun time.Time

	mu   sync.Mutex // guards list
	list []verdict
}

// add drops what says nothing new, but for its last reason.
func (j *judgement) add(v verdict) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, old := range slices.Backward(j.list) {
		if old.Judge == v.Judge {
			if old.Says == v.Says && old.Insured == v.Insured {
				j.list[i].Because = v.Because
				return
			}
			break
		}
	}
	v.Seconds = time.Since(j.begun).Seconds()
	j.list = append(j.list, v)
}

// all returns what was said, and whether each of the judges has spoken.
func (j *judgement) all(judges ...string) (list []verdict, complete bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	spoke := make(map[string]bool)
	for _, v := range j.list {
		spoke[v.Judge] = true
	}
	for _, judge := range judges {
		if !spoke[judge] {
			return append(list, j.list...), false
		}
	}
	return append(list, j.list...), true
}

// judgeStock follows both versions of AutoNAT for as long as the host lives.
func judgeStock(h host.Host, begun time.Time) (*judgement, error) {
	sub, err := h.EventBus().Subscribe([]any{new(event.EvtLocalReachabilityChanged), new(event.EvtHostReachableAddrsChanged)},
		eventbus.Name("bench"))
	if err != nil {
		return nil, err
	}
	j := &judgement{begun: begun}
	go func() { // ends with the host, which ends with the process
		for e := range sub.Out() {
			switch e := e.(type) {
			case event.EvtLocalReachabilityChanged:
				says := map[corenet.Reachability]string{
					corenet.ReachabilityPublic: "public", corenet.ReachabilityPrivate: "private",
				}[e.Reachability]
				if says != "" {
					j.add(verdict{Judge: judgeV1, Says: says})
				}
			case event.EvtHostReachableAddrsChanged:
				switch {
				case len(e.Reachable) > 0:
					j.add(verdict{Judge: judgeV2, Says: "public", Because: fmt.Sprint(e.Reachable)})
				case len(e.Unreachable) > 0:
					j.add(verdict{Judge: judgeV2, Says: "private", Because: fmt.Sprint(e.Unreachable)})
				}
			}
		}
	}()
	return j, nil
}

// judgeOurs follows the node's one judge.
func judgeOurs(n *node.Node, begun time.Time) *judgement {
	j := &judgement{begun: begun}
	events := n.Events(context.Background())
	go func() { // ends with the node, which ends with the process
		for e := range events {
			if e, ok := e.(node.ReachabilityChanged); ok && e.Verdict.Reachability != reachability.Unknown {
				v := e.Verdict
				j.add(verdict{
					Judge: judgeNode, Says: string(v.Reachability), Because: v.Because,
					Insured: v.Reachability == reachability.Public && v.NeedsRelay(),
				})
			}
		}
	}()
	return j
}

// verdict connects to the servers and waits until every judge has spoken; then
// a little longer, for those who think again.
func (m *member) verdict(ctx context.Context, _ child.None) ([]verdict, error) {
	if err := m.meetServers(ctx); err != nil {
		return nil, err
	}
	judges := []string{judgeNode}
	if m.spec.Impl == stock {
		judges = []string{judgeV1, judgeV2}
	}
	deadline := m.log.begun.Add(verdictPatience)
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	_ = poll(waiting, "every judge", func() bool { // who is silent has not spoken: a result
		_, complete := m.log.all(judges...)
		return complete
	})
	second, cancel := context.WithTimeout(waiting, secondThoughts)
	defer cancel()
	<-second.Done()
	third, cancel := context.WithTimeout(ctx, thirdThoughts)
	defer cancel()
	_ = poll(third, "proof", func() bool { // without it the verdict stays insured: a result
		list, _ := m.log.all()
		return len(list) == 0 || !list[len(list)-1].Insured
	})
	list, _ := m.log.all()
	return list, ctx.Err()
}

const (
	// secondThoughts is how long a verdict is watched for a change: ours asks
	// strangers, who take 3 s to find out that they are not let in.
	secondThoughts = 8 * time.Second
	// thirdThoughts is how much longer if it is not proven yet: whoever
	// knows no stranger is asked again after half a minute.
	thirdThoughts = 40 * time.Second
)
