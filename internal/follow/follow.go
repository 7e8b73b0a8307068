// Package follow tells when files have changed that operators edit, and programs of
// theirs renew, while we run.
//
//	files := follow.New(0, "acl.txt")
//	read(files) // calls files.Mark before it reads, or files.Open
//	files.Run(ctx, func(s follow.State) {
//		if s.Asked || s.Changed {
//			read(files)
//		}
//	})
package follow

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// defaultEvery is how often the files are looked at: an operator who locks somebody
// out looks whether it worked, and a stat costs a microsecond.
const defaultEvery = 2 * time.Second

// Files are some that belong together.
type Files struct {
	paths []string
	every time.Duration
	now   chan struct{}

	// owned by who reads them, and by Run
	read   []os.FileInfo // at the last Mark; nil where there was none
	looked []os.FileInfo // at the last look
}

// State is how the files are.
type State struct {
	Asked   bool // somebody called Now
	Changed bool // they are others than at the last Mark
	Resting bool // they are as they were at the look before, or at Mark
}

// New follows the files at paths, symbolic links as well. It looks at them so
// often; if every is zero, every 2 seconds.
func New(every time.Duration, paths ...string) *Files {
	if every <= 0 {
		every = defaultEvery
	}
	none := make([]os.FileInfo, len(paths))
	return &Files{paths: paths, every: every, now: make(chan struct{}, 1), read: none, looked: none}
}

// Mark says that the files are about to be read. If they change meanwhile, they
// count as changed.
func (f *Files) Mark() {
	f.read = f.look()
	f.looked = f.read
}

// Open marks them, and opens the first.
func (f *Files) Open() (*os.File, error) {
	f.Mark()
	return Open(f.paths[0])
}

// Now makes Run call look now, and does not wait for it.
func (f *Files) Now() {
	select {
	case f.now <- struct{}{}:
	default: // about to happen
	}
}

// Run calls look each time that it has looked at the files, and after Now, until
// ctx ends. It waits for look, which may call Mark.
func (f *Files) Run(ctx context.Context, look func(State)) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-f.now:
			asked = true
		case <-tick.C:
		}
		now := f.look()
		s := State{Asked: asked, Changed: !same(now, f.read), Resting: same(now, f.looked)}
		f.looked = now
		look(s)
	}
}

func (f *Files) look() []os.FileInfo {
	now := make([]os.FileInfo, len(f.paths))
	for i, path := range f.paths {
		if info, err := os.Stat(path); err == nil {
			now[i] = info
		}
	}
	return now
}

func same(a, b []os.FileInfo) bool {
	return slices.EqualFunc(a, b, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
	})
}

// Open opens a regular file. It does not wait for the other end of a pipe.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return os.Open(path)
}
