package acl

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replace writes a file as an operator should.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "acl")
		replace(t, path, "deny all")
		var mu sync.Mutex // guards the two below
		var lists []*List
		var failed []error
		f, err := Open(Config{
			Path: path, Every: time.Second,
			Changed: func(l *List) {
				mu.Lock()
				defer mu.Unlock()
				lists = append(lists, l)
			},
			Failed: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()

		step := func(what string, wait time.Duration, wantRules, wantLists, wantFailed int) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if f.List().Len() != wantRules || len(lists) != wantLists || len(failed) != wantFailed {
				t.Fatalf("%s: %d rules, %d new lists, %q; want %d, %d, %d", what, f.List().Len(), len(lists), failed, wantRules, wantLists, wantFailed)
			}
			if wantLists > 0 && lists[wantLists-1] != f.List() {
				t.Fatalf("%s: told another list than that in force", what)
			}
		}
		step("nothing happens", 10*time.Second, 1, 0, 0)
		replace(t, path, "deny all\nallow all")
		step("a new file", 1*time.Second, 2, 1, 0)
		replace(t, path, "deny all\nallow all") // one of the same size and, maybe, time
		step("the same again", 1*time.Second, 2, 2, 0)
		replace(t, path, "nonsense\nnonsense")
		step("one that does not parse", 10*time.Second, 2, 2, 1)
		for _, want := range []string{"the rules before stay in force: ", path + ":1: ", " (and 1 more)"} {
			if !strings.Contains(failed[0].Error(), want) || strings.Contains(failed[0].Error(), "\n") {
				t.Errorf("got %q, want one line with %q", failed[0], want)
			}
		}
		if p := (*ParseError)(nil); !errors.As(failed[0], &p) || len(p.Faults) != 2 {
			t.Errorf("got %v, want two faults in it", failed[0])
		}
		f.Reload()
		step("asked for", 0, 2, 2, 2)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		step("one that is gone", 10*time.Second, 2, 2, 3)
		if !errors.Is(failed[2], fs.ErrNotExist) || strings.Contains(failed[2].Error(), "\n") {
			t.Errorf("got %v, want that it is not there", failed[2])
		}
		replace(t, path, "")
		step("there again", time.Second, 0, 3, 3)
		f.Reload()
		step("asked for, unchanged", 0, 0, 4, 3)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		step("a directory", 10*time.Second, 0, 4, 4)

		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acl")
	if _, err := Open(Config{Path: path}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that it is not there", err)
	}
	if _, err := Open(Config{Path: filepath.Dir(path)}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("got %v, want that it is a directory", err)
	}
	replace(t, path, "x\ny")
	if _, err := Open(Config{Path: path}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two faults", err)
	}
	replace(t, path, "deny all")
	f, err := Open(Config{Path: path})
	if err != nil || f.List().Len() != 1 {
		t.Errorf("got %v", err)
	}
}
