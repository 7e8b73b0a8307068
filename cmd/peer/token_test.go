package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestTokenFile(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var mu sync.Mutex // guards the two below
		var set, warned []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		f := tokenFile{path: path, current: "one"}
		write("one\n")
		go func() {
			defer close(done)
			f.follow(ctx, func(token string) error {
				if token == "bad" {
					return errors.New("this is not a token")
				}
				mu.Lock()
				defer mu.Unlock()
				set = append(set, token)
				return nil
			}, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				warned = append(warned, err.Error())
			})
		}()
		time.Sleep(tokenPoll / 2) // always between two readings
		for _, step := range []struct {
			name      string
			do        func()
			set, warn int // how many more
		}{
			{"nothing", func() {}, 0, 0},
			{"space", func() { write(" one") }, 0, 0},
			{"another", func() { write("two") }, 1, 0},
			{"bad", func() { write("bad\n") }, 0, 1},
			{"good again", func() { write("two") }, 1, 0},
			{"bad again", func() { write("bad\n") }, 0, 1},
			{"gone", func() { os.Remove(path) }, 0, 1},
			{"too long", func() { write(strings.Repeat("x", maxTokenFile+1)) }, 0, 1},
			{"none", func() { write("") }, 1, 0},
			{"half, and then whole", func() { write("thr"); time.Sleep(tokenPoll); write("three") }, 1, 0},
		} {
			mu.Lock()
			sets, warns := len(set), len(warned)
			mu.Unlock()
			step.do()
			time.Sleep(10 * tokenPoll)
			mu.Lock()
			if len(set)-sets != step.set || len(warned)-warns != step.warn {
				t.Errorf("%s: set %q, warned %q, want %d and %d more", step.name, set[sets:], warned[warns:], step.set, step.warn)
			}
			mu.Unlock()
		}
		cancel()
		<-done
		if want := []string{"two", "two", "", "three"}; !slices.Equal(set, want) {
			t.Errorf("got %q, want %q", set, want)
		}
	})
}
