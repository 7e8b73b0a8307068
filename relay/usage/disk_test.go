package usage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestLocked(t *testing.T) {
	virtual.Test(t, func(t *testing.T) { // waits for the lock in virtual time
		path := filepath.Join(t.TempDir(), "usage.db")
		open(t, path)
		_, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), path+" are in use by another process: stop it") {
			t.Errorf("got %v, want that it is in use", err)
		}
		if _, err := os.Stat(path + ".corrupt"); err == nil {
			t.Error("moved aside")
		}
	})
}

func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no", "usage.db")} {
		if _, err := Open(path); err == nil || !strings.HasPrefix(err.Error(), "open accounts: ") {
			t.Errorf("%s: got %v, want the file system's error", path, err)
		}
	}
}

// written returns a file of some accounts.
func written(t testing.TB, n int) []byte {
	path := filepath.Join(t.TempDir(), "usage.db")
	s := open(t, path)
	for i := range n {
		count(s, peer.ID(fmt.Sprintf("peer%06d", i)), 1)
		if i%100 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// use opens a file, which must succeed whatever is in it, and tells whether the
// file was moved aside. What is found later is an error.
func use(t testing.TB, data []byte) (moved bool, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usage.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count(s, "peer000001", 1)
	count(s, "another", 1)
	_, topErr := s.Top(10, ByBytes)
	if err = errors.Join(s.Flush(), topErr); err == nil {
		if u, _ := s.Get("another"); u.Bytes != 1 {
			err = errors.New("what was written is not there")
		}
	}
	aside, statErr := os.Stat(path + ".corrupt")
	if moved = statErr == nil; moved && aside.Size() != int64(len(data)) {
		t.Errorf("%d bytes were moved aside, of %d", aside.Size(), len(data))
	}
	if now, err := os.Stat(path); err != nil || now.Size() > 1<<20 {
		t.Errorf("got %v, %v, want a small file", now.Size(), err)
	}
	return moved, err
}

func TestDamaged(t *testing.T) {
	good := written(t, 2000)
	page := os.Getpagesize()
	for name, c := range map[string]struct {
		data  []byte
		moved bool
	}{
		"whole":           {good, false},
		"empty":           {nil, false},
		"text":            {[]byte("allow all\n"), true},
		"much text":       {bytes.Repeat([]byte("allow all\n"), 10_000), true},
		"one page":        {good[:page], true},
		"cut":             {good[:5*page], true},
		"no pages":        {append(bytes.Clone(good[:2*page]), make([]byte, len(good)-2*page)...), true},
		"random pages":    {append(bytes.Clone(good[:2*page]), noise(len(good)-2*page)...), true},
		"no second meta":  {append(append(bytes.Clone(good[:page]), make([]byte, page)...), good[2*page:]...), false},
		"another's bbolt": {bytes.ReplaceAll(good, accounts, []byte("accounts-2")), false},
	} {
		t.Run(name, func(t *testing.T) {
			if moved, err := use(t, c.data); moved != c.moved || err != nil {
				t.Errorf("moved aside: %v, and then %v, want %v and no error", moved, err, c.moved)
			}
		})
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// FuzzDamage changes a few bytes of a file: it is used or moved aside, and
// nothing crashes. Not all of it can be found, since pages have no checksums.
func FuzzDamage(f *testing.F) {
	good := written(f, 500)
	for i := range uint32(40) {
		f.Add(i*1021, byte(0xff), i*4096+3, byte(i), uint32(0))
	}
	f.Add(uint32(0), byte(0), uint32(0), byte(0), uint32(4096*3+100))
	f.Add(uint32(28588), byte(0xff), uint32(114715), byte('8'), uint32(0)) // a page far beyond the end is called free
	f.Add(uint32(28588), byte(0xff), uint32(114702), byte(6), uint32(0))   // a page goes on far beyond the end
	f.Add(uint32(28640), byte(0xfb), uint32(114720), byte(7), uint32(0))   // pages lead to one another
	f.Fuzz(func(t *testing.T, at1 uint32, by1 byte, at2 uint32, by2 byte, cut uint32) {
		data := bytes.Clone(good)
		data[at1%uint32(len(data))] ^= by1
		data[at2%uint32(len(data))] ^= by2
		if cut != 0 {
			data = data[:cut%uint32(len(data))]
		}
		use(t, data) // what is found later may be any error
	})
}
