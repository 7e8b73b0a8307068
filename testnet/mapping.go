package testnet

import (
	"maps"
	"net/netip"
	"time"
)

// External ports start above the well-known ones, as most boxes have it.
const (
	firstExternal = 1024
	lastExternal  = 65535
)

// minSweep is how many remembered destinations a mapping has before it looks
// for expired ones to forget.
const minSweep = 256

// mappings is the table of a box, guarded by Net.mu like all in it. Each external
// port belongs to one mapping (RFC 4787 REQ-3: no port overloading). The ports
// bound its size; expired mappings go when their port or their endpoint is asked
// for.
type mappings struct {
	byKey  map[mappingKey]*mapping
	byPort map[uint16]*mapping
}

func newMappings() mappings {
	return mappings{byKey: make(map[mappingKey]*mapping), byPort: make(map[uint16]*mapping)}
}

// mappingKey is an internal endpoint and as much of the destination as the
// box's mapping behavior distinguishes by; the rest is zero.
type mappingKey struct {
	internal    netip.AddrPort
	destination netip.AddrPort
}

// mapping is one internal endpoint's external port.
type mapping struct {
	key      mappingKey
	internal netip.AddrPort
	port     uint16
	lastOut  time.Time
	// contacted holds when the mapping last sent to a destination, with as
	// much of it as the filtering behavior distinguishes by.
	contacted map[netip.AddrPort]time.Time
	sweepAt   int // size of contacted at which to look for expired entries
}

// distinguish returns the part of an endpoint that matters to a behavior.
func (b Behavior) distinguish(ap netip.AddrPort) netip.AddrPort {
	switch b {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(ap.Addr(), 0)
	default:
		return ap
	}
}

// mappingLocked finds or makes the mapping for packets from internal to dst;
// nil if no port is free.
func (b *NAT) mappingLocked(now time.Time, internal, dst netip.AddrPort) *mapping {
	key := mappingKey{internal, b.cfg.Mapping.distinguish(dst)}
	if m := b.table.byKey[key]; m != nil {
		if !m.expired(now, b.cfg) {
			return m
		}
		b.table.remove(m)
	}
	free := func(port uint16) bool {
		m := b.table.byPort[port]
		if m != nil && m.expired(now, b.cfg) {
			b.table.remove(m)
			m = nil
		}
		return m == nil
	}
	port, ok := internal.Port(), true
	if !b.cfg.PreservePort || !free(port) {
		port, ok = b.pickLocked(free)
	}
	if !ok {
		return nil
	}
	m := &mapping{key: key, internal: internal, port: port, contacted: make(map[netip.AddrPort]time.Time), sweepAt: minSweep}
	b.table.byKey[key] = m
	b.table.byPort[port] = m
	return m
}

// pickLocked takes a free external port: the next one of a sequential box,
// which starts anywhere, or a random one.
func (b *NAT) pickLocked(free func(uint16) bool) (uint16, bool) {
	if !b.cfg.Sequential || b.lastPort == 0 {
		port, ok := pickPort(b.dice, firstExternal, lastExternal, free)
		b.lastPort = port
		return port, ok
	}
	const ports = lastExternal - firstExternal + 1
	for i := range ports {
		port := uint16(firstExternal + (int(b.lastPort)-firstExternal+1+i)%ports)
		if free(port) {
			b.lastPort = port
			return port, true
		}
	}
	return 0, false
}

func (t mappings) remove(m *mapping) {
	delete(t.byKey, m.key)
	delete(t.byPort, m.port)
}

func (m *mapping) expired(now time.Time, cfg NATConfig) bool {
	return now.Sub(m.lastOut) >= cfg.MappingTimeout
}

// sentTo records a packet out.
func (m *mapping) sentTo(now time.Time, dst netip.AddrPort, cfg NATConfig) {
	m.lastOut = now
	m.contacted[cfg.Filtering.distinguish(dst)] = now
	if len(m.contacted) > m.sweepAt {
		maps.DeleteFunc(m.contacted, func(_ netip.AddrPort, at time.Time) bool {
			return now.Sub(at) >= cfg.MappingTimeout
		})
		m.sweepAt = max(minSweep, 2*len(m.contacted))
	}
}

// admits says whether a packet from src may pass inward.
func (m *mapping) admits(now time.Time, src netip.AddrPort, cfg NATConfig) bool {
	at, ok := m.contacted[cfg.Filtering.distinguish(src)]
	return ok && now.Sub(at) < cfg.MappingTimeout
}
