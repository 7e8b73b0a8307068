package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxCached bounds the relays that are remembered.
	maxCached = 64
	// maxCachedAddrs bounds the addresses remembered of each.
	maxCachedAddrs = 16
	// maxCacheFile bounds what is read back, in bytes.
	maxCacheFile = 1 << 20
	// cacheAge is how long a relay is remembered that no longer serves us.
	cacheAge = 30 * 24 * time.Hour
)

// Cache remembers the relays that served us, in a JSON file. A missing file
// is an empty cache; a corrupted one is reported once, ignored, and replaced
// at the next change.
type Cache struct {
	path string

	// writing is held while the file is written, before mu, so that an older
	// state never replaces a newer one.
	writing sync.Mutex

	mu     sync.Mutex // guards relays
	relays map[peer.ID]cachedRelay
}

type cachedRelay struct {
	ID       peer.ID        `json:"id"`
	Addrs    []ma.Multiaddr `json:"addrs"`
	LastUsed time.Time      `json:"last_used"`
}

// OpenCache reads the file at path.
func OpenCache(path string) *Cache {
	c := &Cache{path: path, relays: make(map[peer.ID]cachedRelay)}
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c
	}
	if err == nil {
		c.relays, err = parseCache(data, time.Now())
	}
	if err != nil {
		log.Warn("relay cache ignored", "file", path, "err", err)
	}
	return c
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxCacheFile {
		return nil, fmt.Errorf("%d bytes is more than any relay cache has", st.Size())
	}
	return os.ReadFile(path)
}

// parseCache reads the file's content. Single entries that make no sense are
// left out; it returns an error only if nothing can be read.
func parseCache(data []byte, now time.Time) (map[peer.ID]cachedRelay, error) {
	relays := make(map[peer.ID]cachedRelay)
	var raw []struct {
		ID       string    `json:"id"`
		Addrs    []string  `json:"addrs"`
		LastUsed time.Time `json:"last_used"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return relays, fmt.Errorf("not a relay cache: %w", err)
	}
	for _, r := range raw {
		id, err := peer.Decode(r.ID)
		if err != nil || now.Sub(r.LastUsed) > cacheAge || len(relays) >= maxCached {
			continue
		}
		e := cachedRelay{ID: id, LastUsed: r.LastUsed}
		if e.LastUsed.After(now) {
			e.LastUsed = now // the clock was wrong; it must not stay first for ever
		}
		for _, s := range r.Addrs {
			if a, err := ma.NewMultiaddr(s); err == nil && len(e.Addrs) < maxCachedAddrs {
				e.Addrs = append(e.Addrs, a)
			}
		}
		if len(e.Addrs) > 0 {
			relays[id] = e
		}
	}
	return relays, nil
}

// Source implements Finder.
func (c *Cache) Source() Source { return Cached }

// Find implements Finder: the relays used last come first.
func (c *Cache) Find(_ context.Context, found func(peer.AddrInfo)) error {
	for _, r := range c.sorted() {
		found(peer.AddrInfo{ID: r.ID, Addrs: r.Addrs})
	}
	return nil
}

// Remember notes that a relay serves us now, and writes the file.
func (c *Cache) Remember(info peer.AddrInfo) error {
	if len(info.Addrs) == 0 {
		return nil
	}
	addrs := info.Addrs[:min(len(info.Addrs), maxCachedAddrs)]
	c.mu.Lock()
	c.relays[info.ID] = cachedRelay{ID: info.ID, Addrs: slices.Clone(addrs), LastUsed: time.Now()}
	for _, r := range c.sortedLocked()[min(len(c.relays), maxCached):] {
		delete(c.relays, r.ID)
	}
	c.mu.Unlock()
	return c.write()
}

func (c *Cache) sorted() []cachedRelay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sortedLocked()
}

// sortedLocked returns the relays, the last used first.
func (c *Cache) sortedLocked() []cachedRelay {
	all := make([]cachedRelay, 0, len(c.relays))
	for _, r := range c.relays {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b cachedRelay) int { return b.LastUsed.Compare(a.LastUsed) })
	return all
}

func (c *Cache) write() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	data, err := json.MarshalIndent(c.sorted(), "", "  ")
	if err != nil {
		return fmt.Errorf("relay cache: %w", err)
	}
	// Atomic, except on Windows, which cannot.
	if err := maybe.WriteFile(c.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("relay cache: %w", err)
	}
	return nil
}
