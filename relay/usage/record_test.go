package usage

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func at(s string) time.Time {
	t, err := time.Parse(time.DateTime, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestNextMonth(t *testing.T) {
	jan, feb := monthOf(at("2026-01-15 00:00:00")), monthOf(at("2026-02-15 00:00:00"))
	east := time.FixedZone("east", 10*3600)
	for _, c := range []struct {
		name  string
		month int
		now   time.Time
		next  int
		fresh bool
	}{
		{"new", 0, at("2026-01-31 23:59:59"), jan, true},
		{"same", jan, at("2026-01-31 23:59:59"), jan, false},
		{"next", jan, at("2026-02-01 00:00:00"), feb, true},
		{"in UTC", jan, at("2026-01-31 23:00:00").In(east), jan, false},
		{"a year on", jan, at("2027-01-01 00:00:00"), jan + 12, true},
		{"back over the end", feb, at("2026-01-31 23:59:59"), feb, false},
		{"was wrong", jan + 100, at("2026-02-01 00:00:00"), feb, false},
	} {
		if next, fresh := nextMonth(c.month, c.now); next != c.next || fresh != c.fresh {
			t.Errorf("%s: got %d, %v, want %d, %v", c.name, next, fresh, c.next, c.fresh)
		}
	}
	for now, want := range map[string]time.Duration{
		"2026-01-31 23:59:59": time.Second, "2026-12-31 00:00:00": 24 * time.Hour, "2026-02-01 00:00:00": 28 * 24 * time.Hour,
	} {
		if got := untilNextMonth(at(now)); got != want {
			t.Errorf("%s: got %v, want %v", now, got, want)
		}
	}
}

// TestMonths in virtual time, over a restart.
func TestMonths(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "usage.db")
		s := open(t, path)
		go s.Run(t.Context())
		time.Sleep(untilNextMonth(time.Now()) - 10*time.Second)
		held := s.Account("held")
		held.AddBytes(100)
		count(s, "idle", 100)
		time.Sleep(11 * time.Second) // a second into the month, and not yet 30 since a flush
		held.AddBytes(10)
		check := func(what string, bytes, month int64) {
			t.Helper()
			if u, _ := s.Get("held"); u.Bytes != bytes || u.MonthBytes != month {
				t.Errorf("%s: got %d, %d this month, want %d, %d", what, u.Bytes, u.MonthBytes, bytes, month)
			}
		}
		check("in use", 110, 10)
		if held.MonthBytes() != 10 {
			t.Errorf("got %d, want 10", held.MonthBytes())
		}
		if u, _ := s.Get("idle"); u.MonthBytes != 0 || u.Bytes != 100 {
			t.Errorf("idle: got %+v, want nothing this month", u)
		}
		if top, _ := s.Top(10, ByMonthBytes); len(top) != 1 {
			t.Errorf("got %+v, want one", top)
		}
		held.Release()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
		check("restarted", 110, 10)
		time.Sleep(untilNextMonth(time.Now()))
		check("on disk, a month later", 110, 0)
		count(s, "held", 1)
		check("and used", 111, 1)
	})
}

// TestClockGoesBack: nothing is lost and nothing counts twice.
func TestClockGoesBack(t *testing.T) {
	s := open(t, "")
	a := s.Account("a")
	defer a.Release()
	a.roll(at("2026-01-31 00:00:00")) // whatever the test's own clock says
	for _, step := range []struct {
		now       string
		add, want int64
	}{
		{"2026-01-31 23:59:50", 10, 10},
		{"2026-02-01 00:00:01", 0, 0},
		{"2026-02-01 00:00:02", 5, 5},
		{"2026-01-31 23:59:58", 5, 10}, // back by four seconds
		{"2026-02-01 00:00:00", 5, 15},
		{"2031-05-01 00:00:00", 0, 0}, // wrong
		{"2031-05-01 00:00:01", 5, 5},
		{"2026-02-02 00:00:00", 5, 10}, // and right again
		{"2026-03-01 00:00:00", 0, 0},
	} {
		a.AddBytes(step.add)
		if got := a.roll(at(step.now)); got != step.want {
			t.Errorf("%s: got %d, want %d", step.now, got, step.want)
		}
	}
	if got := a.bytes.Load(); got != 35 {
		t.Errorf("got %d in all, want 35", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, recordSize))
	f.Add(bytes.Repeat([]byte{0xff}, recordSize))
	f.Add(record{bytes: 5, monthBytes: 4, circuits: 3, refusals: 2, first: 1, last: 2, month: monthOf(at("2026-01-01 00:00:00"))}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		if again := r.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
		if u := r.usage("p", at("2026-01-01 00:00:00")); u.MonthBytes > u.Bytes || u.Bytes < 0 {
			t.Errorf("got %+v", u)
		}
	})
}
