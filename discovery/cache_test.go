package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func content(c *Cache) (all []peer.AddrInfo) {
	c.Find(context.Background(), func(info peer.AddrInfo) { all = append(all, info) })
	return all
}

func TestCacheRoundTrip(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "relays.json")
		c := OpenCache(file)
		if got := content(c); len(got) > 0 {
			t.Errorf("a missing file: got %v", got)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("opening a cache made a file")
		}
		for i := range 3 {
			time.Sleep(time.Minute)
			if err := c.Remember(someone(i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		moved := someone(0)
		moved.Addrs = append(moved.Addrs, ma.StringCast("/dns4/relay.example/tcp/443/wss"))
		if err := c.Remember(moved); err != nil {
			t.Fatal(err)
		}
		if err := c.Remember(peer.AddrInfo{ID: someone(9).ID}); err != nil {
			t.Errorf("without addresses: got %v, want it ignored", err)
		}
		want := fmt.Sprint([]peer.AddrInfo{moved, someone(2), someone(1)})
		for name, cache := range map[string]*Cache{"same": c, "read back": OpenCache(file)} {
			if got := fmt.Sprint(content(cache)); got != want {
				t.Errorf("%s: got %s, want the last used first: %s", name, got, want)
			}
		}
		if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("file: got %v, %v, want mode 0600", st.Mode(), err)
		}
		if c.Source() != Cached {
			t.Errorf("source %q", c.Source())
		}
		// What served nobody for a month is forgotten.
		time.Sleep(cacheAge - 90*time.Second)
		if got := content(OpenCache(file)); len(got) != 2 {
			t.Errorf("a month later: got %v, want the two youngest", got)
		}
	})
}

// TestCacheIsBounded in relays and in addresses, in memory and in the file.
func TestCacheIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relays.json")
	c := OpenCache(file)
	many := someone(0)
	for i := range 100 {
		many.Addrs = append(many.Addrs, ma.StringCast(fmt.Sprintf("/ip4/12.1.0.%d/tcp/1", i+1)))
	}
	for i := range maxCached + 10 {
		info := many
		info.ID = someone(i).ID
		if err := c.Remember(info); err != nil {
			t.Fatal(err)
		}
	}
	for name, cache := range map[string]*Cache{"memory": c, "file": OpenCache(file)} {
		all := content(cache)
		if len(all) != maxCached || len(all[0].Addrs) != maxCachedAddrs || len(cache.relays) != maxCached {
			t.Errorf("%s: %d relays, %d in the map, with %d addresses; want %d with %d", name, len(all), len(cache.relays), len(all[0].Addrs), maxCached, maxCachedAddrs)
		}
		if all[0].ID != someone(maxCached+9).ID {
			t.Errorf("%s: the last used is not the first", name)
		}
	}
}

func TestCacheFileThatIsNoCache(t *testing.T) {
	for name, data := range map[string][]byte{
		"garbage":   []byte("\x00\x01\x02"),
		"truncated": []byte(`[{"id":"12D3KooW`),
		"an object": []byte(`{"relays":[]}`),
		"empty":     {},
		"huge":      append([]byte("[]"), bytes.Repeat([]byte(" "), maxCacheFile)...),
	} {
		file := filepath.Join(t.TempDir(), "relays.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c := OpenCache(file)
		if got := content(c); len(got) > 0 {
			t.Errorf("%s: got %v, want nothing", name, got)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the file was touched before there was anything to write: %v", name, err)
		}
		if err := c.Remember(someone(1)); err != nil {
			t.Errorf("%s: remember: %v", name, err)
		}
		if got := content(OpenCache(file)); len(got) != 1 {
			t.Errorf("%s: after the next write: got %v, want one relay", name, got)
		}
	}
}

// TestCacheThatCannotBeWritten works on without a file, and says so; and an
// interrupted write leaves what was there.
func TestCacheThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	notADir := filepath.Join(dir, "file")
	if err := os.WriteFile(notADir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "missing", "relays.json"), filepath.Join(notADir, "relays.json"), dir} {
		c := OpenCache(file)
		err := c.Remember(someone(1))
		if err == nil || !strings.Contains(err.Error(), "relay cache") {
			t.Errorf("%s: got %v, want an error that names the relay cache", file, err)
		}
		if got := content(c); len(got) != 1 {
			t.Errorf("%s: got %v, want the relay remembered as long as we run", file, got)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v, want only what was there", entries, err)
	}
}

// TestCacheWritesInOrder: of many writes at once, the file has what memory has.
func TestCacheWritesInOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relays.json")
	c := OpenCache(file)
	var all sync.WaitGroup
	for i := range maxCached {
		all.Go(func() {
			if err := c.Remember(someone(i)); err != nil {
				t.Error(err)
			}
			if data, err := os.ReadFile(file); err != nil || !json.Valid(data) {
				t.Errorf("the file is not whole: %v %q", err, data)
			}
		})
	}
	all.Wait()
	if got := content(OpenCache(file)); len(got) != maxCached {
		t.Errorf("the file has %d relays, want %d", len(got), maxCached)
	}
}

func TestParseCache(t *testing.T) {
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	id, id2 := someone(1).ID.String(), someone(2).ID.String()
	for _, c := range []struct{ data, want string }{
		{`[]`, ""},
		{`null`, ""},
		{`[{"id":"` + id + `","addrs":["/ip4/12.0.0.1/tcp/1"],"last_used":"2026-01-30T00:00:00Z"}]`, id + " 1 2026-01-30"},
		{`[{"id":"` + id + `","addrs":["nonsense","/ip4/12.0.0.1/tcp/1",""],"last_used":"2026-01-30T00:00:00Z"}]`, id + " 1 2026-01-30"},
		{`[{"id":"nonsense","addrs":["/ip4/12.0.0.1/tcp/1"],"last_used":"2026-01-30T00:00:00Z"},{"id":"` + id2 + `","addrs":["/ip4/12.0.0.1/tcp/1"],"last_used":"2026-01-30T00:00:00Z"}]`, id2 + " 1 2026-01-30"},
		{`[{"id":"` + id + `","addrs":[],"last_used":"2026-01-30T00:00:00Z"}]`, ""},
		{`[{"id":"` + id + `","addrs":["/ip4/12.0.0.1/tcp/1"],"last_used":"2025-12-30T00:00:00Z"}]`, ""},
		{`[{"id":"` + id + `","addrs":["/ip4/12.0.0.1/tcp/1"]}]`, ""},
		{`[{"id":"` + id + `","addrs":["/ip4/12.0.0.1/tcp/1"],"last_used":"9999-12-31T23:59:59-23:59"}]`, id + " 1 2026-01-31"},
		{`{}`, "error"},
		{`[{"id":1}]`, "error"},
		{`[{"id":"` + id + `","last_used":"yesterday"}]`, "error"},
	} {
		relays, err := parseCache([]byte(c.data), now)
		var got []string
		for id, r := range relays {
			got = append(got, fmt.Sprint(id, " ", len(r.Addrs), " ", r.LastUsed.Format(time.DateOnly)))
		}
		if err != nil {
			got = append(got, "error")
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.data, s, err, c.want)
		}
	}
}

// FuzzParseCache holds that what is read can be written and read again.
func FuzzParseCache(f *testing.F) {
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"id":"` + someone(1).ID.String() + `","addrs":["/ip4/12.0.0.1/udp/1/quic-v1"],"last_used":"2026-01-30T00:00:00Z"}]`))
	f.Add([]byte(`[{"id":"` + someone(1).ID.String() + `","addrs":["/p2p-circuit","/ip4/1"],"last_used":"9999-12-31T23:59:59-23:59"}]`))
	f.Add([]byte(`[{"id":"","addrs":null},{}]`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		relays, err := parseCache(data, now)
		if len(relays) > maxCached || (err != nil && len(relays) > 0) {
			t.Errorf("%q: %d relays, %v", data, len(relays), err)
		}
		c := &Cache{relays: relays}
		written, err := json.Marshal(c.sorted())
		if err != nil {
			t.Fatalf("%q: cannot be written: %v", data, err)
		}
		again, err := parseCache(written, now)
		if err != nil || len(again) != len(relays) {
			t.Fatalf("%q: written as %s, read as %d relays, %v", data, written, len(again), err)
		}
		for id, r := range relays {
			a := again[id]
			if a.ID != id || len(r.Addrs) > maxCachedAddrs || !a.LastUsed.Equal(r.LastUsed) ||
				!slices.EqualFunc(a.Addrs, r.Addrs, func(x, y ma.Multiaddr) bool { return x.Equal(y) }) {
				t.Errorf("%q: %v became %v", data, r, a)
			}
		}
	})
}
