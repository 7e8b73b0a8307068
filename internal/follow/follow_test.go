package follow_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/follow"
	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replace puts another file in place of one, as those do who take care.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestRun: what look is told, each time that the files were looked at.
func TestRun(t *testing.T) {
	const every = time.Second
	resting := follow.State{Resting: true}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, one, two string, f *follow.Files)
		read bool           // what has changed is read at once
		want []follow.State // of the looks after do
	}{
		{"nothing", func(*testing.T, string, string, *follow.Files) {}, false, []follow.State{resting, resting}},
		{
			"replaced", func(t *testing.T, _, two string, _ *follow.Files) { replace(t, two, "b") }, false,
			[]follow.State{{Changed: true}, {Changed: true, Resting: true}},
		},
		{
			"gone", func(_ *testing.T, one, _ string, _ *follow.Files) { os.Remove(one) }, false,
			[]follow.State{{Changed: true}, {Changed: true, Resting: true}},
		},
		{
			"replaced and read", func(t *testing.T, one, _ string, _ *follow.Files) { replace(t, one, "c") }, true,
			[]follow.State{{Changed: true}, resting},
		},
		{
			"asked", func(_ *testing.T, _, _ string, f *follow.Files) { f.Now() }, false,
			[]follow.State{{Asked: true, Resting: true}, resting},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
			replace(t, one, "a")
			replace(t, two, "a")
			virtual.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f := follow.New(every, one, two)
				f.Mark()
				looks := make(chan follow.State, 9)
				go f.Run(ctx, func(s follow.State) {
					if s.Changed && c.read {
						f.Mark()
					}
					looks <- s
				})
				time.Sleep(every + every/2)
				if got := <-looks; got != resting {
					t.Errorf("before anything happened: %+v", got)
				}
				c.do(t, one, two, f)
				for i, want := range c.want {
					if got := <-looks; got != want {
						t.Errorf("look %d: got %+v, want %+v", i+1, got, want)
					}
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// TestChangedWhileRead: what changes while it is read is read again.
func TestChangedWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	replace(t, path, "a")
	virtual.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := follow.New(0, path)
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		in.Close()
		replace(t, path, "b")
		f.Run(ctx, func(s follow.State) {
			if !s.Changed {
				t.Error("not changed")
			}
			cancel()
		})
	})
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := follow.Open(filepath.Join(dir, "missing")); !os.IsNotExist(err) {
		t.Errorf("missing: got %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	for _, path := range []string{dir, pipe} {
		if _, err := follow.Open(path); err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}
