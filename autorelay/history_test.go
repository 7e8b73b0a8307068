package autorelay

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestHistoryRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	h, id, other, now := OpenHistory(path), randomID(t), randomID(t), time.Now()
	if got := h.reliability(id, now); got != 0.75 {
		t.Errorf("reliability of somebody unknown: got %v, want 0.75", got)
	}
	for range 30 {
		h.note(id, bad, now)
	}
	h.note(other, good, now)
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	again := OpenHistory(path)
	for _, p := range []struct {
		name      string
		got, want float64
	}{
		{"a bad relay", again.reliability(id, now), 3.0 / 34},
		{"a good one", again.reliability(other, now), 4.0 / 5},
	} {
		if math.Abs(p.got-p.want) > 1e-6 {
			t.Errorf("reliability of %s, read back: got %v, want %v", p.name, p.got, p.want)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("file: got %v (%v), want mode 0600: it tells whom we know", st.Mode(), err)
	}
}

func TestHistoryDecays(t *testing.T) {
	h, id, now := OpenHistory(filepath.Join(t.TempDir(), "h")), randomID(t), time.Now()
	for range 40 {
		h.note(id, bad, now)
	}
	for n, want := range []float64{3.0 / 44, 3.0 / 24, 3.0 / 14, 3.0 / 9} {
		if got := h.reliability(id, now.Add(time.Duration(n)*halfLife)); math.Abs(got-want) > 1e-9 {
			t.Errorf("reliability after %d half-lives: got %v, want %v", n, got, want)
		}
	}
	if got := h.reliability(id, now.Add(200*365*24*time.Hour)); math.Abs(got-0.75) > 1e-9 {
		t.Errorf("reliability after 200 years: got %v, want 0.75", got)
	}
	if got := h.reliability(id, now.Add(-time.Hour)); math.Abs(got-3.0/44) > 1e-9 {
		t.Errorf("reliability with the clock turned back: got %v, want %v", got, 3.0/44)
	}
}

func TestHistoryFileIsBad(t *testing.T) {
	id, now := randomID(t).String(), time.Now()
	stamp := now.Format(time.RFC3339)
	for name, c := range map[string]struct {
		data string
		left int
	}{
		"empty":        {"", 0},
		"truncated":    {`{"` + id + `":{"good":1`, 0},
		"not JSON":     {"\x00\x01garbage", 0},
		"another type": {`[1,2,3]`, 0},
		"null":         {`null`, 0},
		"too long":     {strings.Repeat(" ", maxHistoryFile) + "{}", 0},
		"no peer ID":   {`{"me":{"good":1,"bad":1,"updated":"` + stamp + `"}}`, 0},
		"negative":     {`{"` + id + `":{"good":-1,"bad":1,"updated":"` + stamp + `"}}`, 0},
		"absurd":       {`{"` + id + `":{"good":1e300,"bad":1,"updated":"` + stamp + `"}}`, 0},
		"future":       {`{"` + id + `":{"good":1,"bad":1,"updated":"2999-01-01T00:00:00Z"}}`, 0},
		"one is right": {`{"me":{},"` + id + `":{"good":1,"bad":1,"updated":"` + stamp + `"}}`, 1},
	} {
		path := filepath.Join(t.TempDir(), "h.json")
		if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		h := OpenHistory(path)
		if got := len(h.past); got != c.left {
			t.Errorf("%s: got %d relays, want %d", name, got, c.left)
		}
		h.note(randomID(t), good, now)
		if err := h.Save(); err != nil {
			t.Errorf("%s: save: %v", name, err)
		}
		if got := len(OpenHistory(path).past); got != c.left+1 {
			t.Errorf("%s: saved and read back: got %d relays, want %d", name, got, c.left+1)
		}
	}
	if h := OpenHistory(t.TempDir()); len(h.past) != 0 || h.reliability(randomID(t), now) != 0.75 {
		t.Errorf("a directory for a file: got %v, want an empty history", h.past)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.json")
	h, now := OpenHistory(path), time.Now()
	first := randomID(t)
	h.note(first, bad, now.Add(-time.Hour))
	for range 2 * maxHistory {
		h.note(randomID(t), good, now)
	}
	if _, still := h.past[first]; len(h.past) != maxHistory || still {
		t.Errorf("relays remembered: got %d (the oldest one: %v), want %d without the oldest", len(h.past), still, maxHistory)
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() > maxHistoryFile/4 {
		t.Errorf("size of a full history: got %d bytes (%v), want at most a quarter of what is read", st.Size(), err)
	}
	if got := len(OpenHistory(path).past); got != maxHistory {
		t.Errorf("read back: got %d relays, want %d", got, maxHistory)
	}
}

// TestHistoryNotSaved: what could not be written is not forgotten.
func TestHistoryNotSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	h := OpenHistory(filepath.Join(dir, "h.json"))
	h.note(randomID(t), good, time.Now())
	if err := h.Save(); err == nil {
		t.Error("save to a directory that is not there: got no error")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if got := len(OpenHistory(h.path).past); got != 1 {
		t.Errorf("after the second try: got %d relays, want 1", got)
	}
}

func TestNoHistory(t *testing.T) {
	var h *History
	h.note(randomID(t), bad, time.Now())
	if got := h.reliability(randomID(t), time.Now()); got != 1 {
		t.Errorf("reliability without a history: got %v, want 1", got)
	}
	if err := h.Save(); err != nil {
		t.Errorf("save of no history: got %v, want nil", err)
	}
}

func TestHistoryAtOnce(t *testing.T) {
	h := OpenHistory(filepath.Join(t.TempDir(), "h.json"))
	id := randomID(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 100 {
				h.note(id, i%2 == 0, time.Now())
				h.reliability(id, time.Now())
				if i%25 == 0 {
					if err := h.Save(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if got := OpenHistory(h.path).past[id]; math.Abs(got.Good-400) > 1 || math.Abs(got.Bad-400) > 1 {
		t.Errorf("after 400 good and 400 bad events: got %+v", got)
	}
}

// TestHistoryIsSaved: every minute if there is news, and at the end.
func TestHistoryIsSaved(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		path := filepath.Join(t.TempDir(), "h.json")
		r, later := w.relay(), w.relay()
		cfg := full()
		cfg.History = OpenHistory(path)
		n := w.node(cfg)
		n.add(r)
		n.settled(r)
		time.Sleep(saveEvery + time.Second)
		synctest.Wait()
		before, err := os.Stat(path)
		if err != nil {
			t.Fatalf("after %v: %v", saveEvery, err)
		}
		n.throughout(10*time.Minute, "not written without news", func() bool {
			now, err := os.Stat(path)
			return err == nil && os.SameFile(before, now)
		})
		n.add(later)
		n.settled(later)
		n.stop()
		if got := len(OpenHistory(path).past); got != 2 {
			t.Errorf("after Run has ended: got %d relays, want 2", got)
		}
	})
}

// TestOneOutageIsOneMark: however often we knock in the meantime.
func TestOneOutageIsOneMark(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		r := w.relay()
		cfg := only()
		cfg.History = OpenHistory(filepath.Join(t.TempDir(), "h.json"))
		n := w.node(cfg)
		n.add(r)
		n.settled(r)
		time.Sleep(10 * time.Minute)
		r.Close()
		time.Sleep(50 * time.Second)
		marks := func() float64 {
			cfg.History.mu.Lock()
			defer cfg.History.mu.Unlock()
			return cfg.History.past[r.ID()].Bad
		}
		if got := marks(); got > 1 {
			t.Errorf("an outage of 50 s: got %.1f bad marks, want one", got)
		}
		time.Sleep(6 * time.Hour)
		if got := marks(); got < 7 || got > 14 {
			t.Errorf("an outage of 6 h: got %.1f bad marks, want about one every %v", got, blameAgain)
		}
	})
}

// TestUnreliableIsChosenLess: of two that are alike, after a restart.
func TestUnreliableIsChosenLess(t *testing.T) {
	chosen := 0
	path := filepath.Join(t.TempDir(), "h.json")
	relays := equals(t, 2)
	h := OpenHistory(path)
	for range 20 {
		h.note(relays[0].id, bad, time.Now())
		h.note(relays[1].id, good, time.Now())
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	a := &AutoRelay{cfg: Config{History: OpenHistory(path)}, relays: relaysOf(relays...)}
	for range 1000 {
		if a.pick(time.Now(), anyRelay) == relays[0] {
			chosen++
		}
	}
	if chosen > 10 {
		t.Errorf("of 1000: got the unreliable one %d times, want hardly ever", chosen)
	}
}

func FuzzParseHistory(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Add([]byte(`{"` + randomText + `":{"good":1,"bad":2.5,"updated":"2025-12-31T23:00:00Z"}}`))
	f.Add([]byte(`{"` + randomText + `":{"good":1e308,"bad":-0,"updated":"9999-12-31T23:00:00Z"}}`))
	f.Add([]byte("null"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		past, err := parseHistory(data, now)
		if err != nil && len(past) > 0 {
			t.Errorf("parseHistory(%q): got %v and %v, want either", data, past, err)
		}
		h := &History{past: past}
		for id := range past {
			if id.Validate() != nil {
				t.Errorf("parseHistory(%q): got the ID %q", data, id)
			}
			for _, at := range []time.Time{now, now.Add(halfLife), {}} {
				if got := h.reliability(id, at); !(got >= 0 && got <= 1) {
					t.Errorf("parseHistory(%q): reliability at %v: got %v, want 0 to 1", data, at, got)
				}
			}
		}
		if len(past) > maxHistory {
			t.Errorf("parseHistory of %d bytes: got %d relays, want at most %d", len(data), len(past), maxHistory)
		}
	})
}

func TestParseHistoryIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range 2 * maxHistory {
		fmt.Fprintf(&b, `%s"%s":{"good":1,"bad":1,"updated":"2025-01-01T00:00:00Z"}`, map[bool]string{true: ",", false: "{"}[i > 0], randomID(t))
	}
	past, err := parseHistory([]byte(b.String()+"}"), time.Now())
	if err != nil || len(past) != maxHistory {
		t.Errorf("a file of %d relays: got %d (%v), want %d", 2*maxHistory, len(past), err, maxHistory)
	}
}
