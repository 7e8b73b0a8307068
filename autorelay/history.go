package autorelay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/libp2p/go-libp2p/core/peer"
)

// History remembers how reliable relays were, over restarts, in a JSON file. A
// missing file is an empty history; a corrupted one is reported, ignored, and
// replaced when it is next saved. The nil History remembers nothing. Its
// methods may be called concurrently.
type History struct {
	path string

	mu    sync.Mutex // guards the fields below
	past  map[peer.ID]deeds
	dirty bool
}

// deeds counts what a relay did, each event worth less the older it is.
type deeds struct {
	Good    float64   `json:"good"`
	Bad     float64   `json:"bad"`
	Updated time.Time `json:"updated"`
}

type verdict bool

const (
	good verdict = true  // it gave or refreshed a reservation
	bad  verdict = false // it was lost, could not be reached, or misbehaved
)

const (
	// halfLife is the age at which an event counts half: a relay that was bad
	// last month deserves another chance.
	halfLife = 7 * 24 * time.Hour
	// maxHistory bounds the relays remembered.
	maxHistory = 512
	// maxHistoryFile bounds what is read back, in bytes.
	maxHistoryFile = 1 << 20
	// maxCount bounds a count: more is a damaged file.
	maxCount = 1e6
)

// OpenHistory reads the file at path.
func OpenHistory(path string) *History {
	h := &History{path: path, past: make(map[peer.ID]deeds)}
	data, err := readAtMost(path, maxHistoryFile+1)
	if errors.Is(err, fs.ErrNotExist) {
		return h
	}
	if err == nil {
		h.past, err = parseHistory(data, time.Now())
	}
	if err != nil {
		log.Warn("relay history ignored", "file", path, "err", err)
	}
	return h
}

func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// parseHistory reads the file's content. Entries that make no sense are left
// out; it returns an error only if nothing can be read.
func parseHistory(data []byte, now time.Time) (map[peer.ID]deeds, error) {
	past := make(map[peer.ID]deeds)
	if len(data) > maxHistoryFile {
		return past, fmt.Errorf("%d bytes or more, which no relay history has", len(data))
	}
	var raw map[string]deeds
	if err := json.Unmarshal(data, &raw); err != nil {
		return past, fmt.Errorf("not a relay history: %w", err)
	}
	for s, r := range raw {
		id, err := peer.Decode(s)
		sane := r.Good >= 0 && r.Good <= maxCount && r.Bad >= 0 && r.Bad <= maxCount && !r.Updated.After(now.Add(time.Hour))
		if err == nil && sane && len(past) < maxHistory {
			past[id] = r
		}
	}
	return past, nil
}

// note counts an event.
func (h *History) note(id peer.ID, v verdict, now time.Time) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, known := h.past[id]
	if !known && len(h.past) >= maxHistory {
		h.forgetOldest()
	}
	r = r.aged(now)
	if v == good {
		r.Good++
	} else {
		r.Bad++
	}
	h.past[id] = r
	h.dirty = true
}

func (h *History) forgetOldest() {
	var oldest peer.ID
	for id, r := range h.past {
		if oldest == "" || r.Updated.Before(h.past[oldest].Updated) {
			oldest = id
		}
	}
	delete(h.past, oldest)
}

func (r deeds) aged(now time.Time) deeds {
	if age := now.Sub(r.Updated); age > 0 {
		f := math.Exp2(-float64(age) / float64(halfLife))
		r.Good, r.Bad = r.Good*f, r.Bad*f
	}
	r.Updated = now
	return r
}

// reliability is the share of good events, from 0 to 1. Somebody unknown has
// three quarters: better than one who failed half of the time.
func (h *History) reliability(id peer.ID, now time.Time) float64 {
	if h == nil {
		return 1
	}
	h.mu.Lock()
	r := h.past[id].aged(now)
	h.mu.Unlock()
	return (r.Good + 3) / (r.Good + r.Bad + 4)
}

// Save writes the file, if there is anything new.
func (h *History) Save() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	if !h.dirty {
		h.mu.Unlock()
		return nil
	}
	h.dirty = false
	out := make(map[string]deeds, len(h.past))
	for id, r := range h.past {
		out[id.String()] = r
	}
	h.mu.Unlock()
	data, err := json.MarshalIndent(out, "", "  ")
	if err == nil {
		err = maybe.WriteFile(h.path, append(data, '\n'), 0o600)
	}
	if err != nil {
		h.mu.Lock()
		h.dirty = true
		h.mu.Unlock()
		return fmt.Errorf("relay history: %w", err)
	}
	return nil
}
