package discovery

import (
	"context"
	"crypto/rand"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// StandardMDNS is the service that libp2p nodes of the public network are found
// by on a LAN (libp2p's specs, discovery/mdns.md).
const StandardMDNS = "_p2p._udp"

const (
	// lanTTL is how long a neighbour's addresses are kept that does not say
	// them again: as long as the answer holds.
	lanTTL = mdnsTTL * time.Second
	// maxLANPeers bounds the neighbours that are known at a time: a LAN that
	// shares one broadcast domain seldom has more machines.
	maxLANPeers = 256
	// firstAsk and maxAsk bound the pause between two questions (RFC 6762,
	// section 5.2: 1 s or more, growing); the longest is half of lanTTL.
	firstAsk, maxAsk = time.Second, lanTTL / 2
	// answerGap is the least time between two answers (RFC 6762, section 6),
	// and answerJitter the wait before one, so that not all speak at once.
	answerGap              = time.Second
	answerLeast, answerMax = 20 * time.Millisecond, 120 * time.Millisecond
	// joinEvery is how often new interfaces are looked for.
	joinEvery = 15 * time.Second
)

// mdns finds peers on the LAN, and is found by them. One goroutine, run, owns
// its state.
type mdns struct {
	host   host.Host
	addrs  func() ([]ma.Multiaddr, error) // on the interfaces
	domain string
	// serves tells whether we serve as a relay now, and changed when that may
	// have changed; found is called with neighbours that do.
	serves  func() bool
	changed func() <-chan struct{}
	found   func(peer.AddrInfo)
	open    func(context.Context) (link, error)

	// owned by run
	link     link
	where    string // our addresses on the LAN, to see that it is another one
	said     string // what we last told, to see changes
	instance string // a name that means nothing; a new one for new texts

	mu         sync.Mutex // guards neighbours
	neighbours map[peer.ID]neighbour
}

type neighbour struct {
	addrs []ma.Multiaddr
	until time.Time
}

func newMDNS(cfg Config, serving *signal, found func(peer.AddrInfo)) *mdns {
	return &mdns{
		host: cfg.Host, addrs: cfg.Host.Network().InterfaceListenAddresses, domain: domainOf(cfg.MDNS), found: found, open: openMulticast,
		serves: serving.isOn, changed: serving.changes,
		neighbours: make(map[peer.ID]neighbour),
	}
}

// await opens the link, as soon as there is one: the machine may be on no
// network yet. It says once that it is not; a LAN is a convenience.
func (m *mdns) await(ctx context.Context) (link, bool) {
	again := time.NewTicker(joinEvery)
	defer again.Stop()
	for tries := 0; ; tries++ {
		l, err := m.open(ctx)
		if err == nil {
			return l, true
		}
		if tries == 0 {
			log.Info("no peers are looked for on the LAN", "err", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// run asks and answers until ctx ends.
func (m *mdns) run(ctx context.Context) {
	l, ok := m.await(ctx)
	if !ok {
		return
	}
	m.link = l
	defer l.close()
	m.moved() // to where we are
	sub, err := m.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.Name("causeway/mdns"))
	if err != nil {
		log.Error("no peers are looked for on the LAN", "err", err)
		return
	}
	defer sub.Close()

	pause := firstAsk
	ask, tell, join := time.NewTimer(0), time.NewTimer(0), time.NewTicker(joinEvery)
	defer ask.Stop()
	defer tell.Stop()
	defer join.Stop()
	told := 0 // the first answer is repeated once (RFC 6762, section 8.3)
	var last time.Time
	soon := func(wait time.Duration) { // no earlier than answerGap after the last
		tell.Reset(max(wait, time.Until(last.Add(answerGap))))
	}
	for {
		serving := m.changed()
		select {
		case <-ctx.Done():
			return
		case data, ok := <-l.heard():
			if !ok {
				return
			}
			if m.hear(data, time.Now()) {
				soon(answerLeast + mrand.N(answerMax-answerLeast))
			}
		case <-ask.C:
			m.ask()
			ask.Reset(pause)
			pause = min(2*pause, maxAsk)
		case <-tell.C:
			if m.tell() {
				last = time.Now()
				if told++; told == 1 {
					soon(answerGap)
				}
			}
		case <-join.C:
			if err := l.join(); err != nil {
				log.Debug("lan", "err", err)
			}
		case <-sub.Out():
			if m.moved() {
				m.drain()
				pause, told = firstAsk, 0
				ask.Reset(0)
				soon(0)
			}
		case <-serving:
			soon(0)
		}
	}
}

// drain throws away what was said on the LAN that we have left.
func (m *mdns) drain() {
	for {
		select {
		case _, ok := <-m.link.heard():
			if !ok {
				return
			}
		default:
			return
		}
	}
}

func (m *mdns) ask() {
	q, err := question(m.domain)
	if err == nil {
		err = m.link.send(q)
	}
	if err != nil {
		log.Debug("lan not asked", "err", err)
	}
}

// tell says where we are, if we are anywhere on a LAN.
func (m *mdns) tell() bool {
	addrs, err := m.addrs()
	if err != nil {
		log.Debug("own addresses", "err", err)
		return false
	}
	texts, ips := textsOf(m.host.ID(), addrs, m.serves())
	if len(texts) == 0 {
		return false
	}
	// Those that know the instance do not look at its texts again (zeroconf
	// v2.2.0, client.go, sentEntries).
	if said := strings.Join(texts, " "); said != m.said {
		m.said, m.instance = said, strings.ToLower(rand.Text())+strings.ToLower(rand.Text())[:6]
	}
	msg, err := answer(m.domain, m.instance, texts, ips)
	for err == nil && len(msg) > maxMDNSSend && len(texts) > 1 {
		texts = slices.Delete(texts, len(texts)-1, len(texts))
		msg, err = answer(m.domain, m.instance, texts, ips[:min(len(ips), 2)])
	}
	if err == nil {
		err = m.link.send(msg)
	}
	if err != nil {
		log.Debug("lan not told", "err", err)
	}
	return err == nil
}

// hear takes a message, and reports whether it wants an answer.
func (m *mdns) hear(data []byte, now time.Time) (asked bool) {
	msg, err := parseMDNS(data, m.domain)
	if err != nil {
		log.Debug("message on the lan not understood", "err", err)
		return false
	}
	for _, p := range peersOf(msg.texts) {
		if p.ID == m.host.ID() || !m.meet(p.ID, neighbour{addrs: p.Addrs, until: now.Add(lanTTL)}, now) {
			continue
		}
		m.host.Peerstore().AddAddrs(p.ID, p.Addrs, lanTTL)
		if p.relay {
			m.found(p.AddrInfo)
		}
	}
	return msg.asks
}

// meet notes a neighbour, if there is room for one more.
func (m *mdns) meet(id peer.ID, n neighbour, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.neighbours[id]; !known {
		m.expireLocked(now)
		if len(m.neighbours) >= maxLANPeers {
			return false
		}
	}
	m.neighbours[id] = n
	return true
}

func (m *mdns) expireLocked(now time.Time) {
	maps.DeleteFunc(m.neighbours, func(_ peer.ID, n neighbour) bool { return now.After(n.until) })
}

// addrsOf is where a neighbour is.
func (m *mdns) addrsOf(id peer.ID) []ma.Multiaddr {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked(time.Now())
	return m.neighbours[id].addrs
}

// moved reports whether the machine is on another LAN. Its neighbours are
// forgotten then: their addresses may be somebody else's here, and every dial
// would try them first.
func (m *mdns) moved() bool {
	addrs, err := m.addrs()
	if err != nil {
		return false
	}
	texts, _ := textsOf(m.host.ID(), addrs, false)
	where := strings.Join(texts, " ")
	if where == m.where {
		return false
	}
	m.where = where
	m.mu.Lock()
	strangers := m.neighbours
	m.neighbours = make(map[peer.ID]neighbour)
	m.mu.Unlock()
	for id, n := range strangers {
		m.host.Peerstore().SetAddrs(id, n.addrs, 0)
	}
	if err := m.link.join(); err != nil {
		log.Debug("lan", "err", err)
	}
	return true
}
