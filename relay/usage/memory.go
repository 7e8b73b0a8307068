package usage

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// memory is a backend that does not survive.
type memory struct {
	mu      sync.Mutex // guards the field below
	records map[peer.ID]record
}

func newMemory() *memory { return &memory{records: make(map[peer.ID]record)} }

func (m *memory) get(p peer.ID) (record, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[p]
	return r, ok, nil
}

func (m *memory) update(put []entry, remove []peer.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range put {
		m.records[e.id] = e.record
	}
	for _, p := range remove {
		delete(m.records, p)
	}
	return nil
}

// each holds mu while it calls f, which must not come back.
func (m *memory) each(f func(peer.ID, record) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, r := range m.records {
		if err := f(p, r); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

func (m *memory) close() error { return nil }
