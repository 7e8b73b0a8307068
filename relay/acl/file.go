package acl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// defaultEvery is how often the file is looked at: an operator who locks
// somebody out looks whether it worked, and a stat costs a microsecond.
const defaultEvery = 2 * time.Second

// Config is what a [File] needs. Path is required.
type Config struct {
	Path string
	// Every is how often the file is looked at. If zero, 2 seconds.
	Every time.Duration
	// Changed is called with each new list but that of Open, Failed with one
	// sentence when the file could not be taken and the list before stays in
	// force. Both come from Run's goroutine, which waits for them; either may
	// be nil.
	Changed func(*List)
	Failed  func(error)
}

// File is a list that follows a file. Write the new file beside the old one and
// rename it: one that is written in place may be read when half of it is there.
type File struct {
	cfg    Config
	list   atomic.Pointer[List]
	reload chan struct{}

	seen os.FileInfo // of the file last read, or nil if it was not there; owned by Run
}

// Open reads the file. It must be there, and in order.
func Open(cfg Config) (*File, error) {
	if cfg.Every <= 0 {
		cfg.Every = defaultEvery
	}
	f := &File{cfg: cfg, reload: make(chan struct{}, 1)}
	l, err := f.read()
	if err != nil {
		return nil, err
	}
	f.list.Store(l)
	return f, nil
}

// List is the list in force.
func (f *File) List() *List { return f.list.Load() }

// Reload makes Run read the file now, whether or not it changed. It does not
// wait for it.
func (f *File) Reload() {
	select {
	case f.reload <- struct{}{}:
	default: // about to happen
	}
}

// Run follows the file until ctx ends.
func (f *File) Run(ctx context.Context) error {
	tick := time.NewTicker(f.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.reload:
			f.take()
		case <-tick.C:
			if f.changed() {
				f.take()
			}
		}
	}
}

// changed tells whether the file is another than the one last read. A file that
// was not in order is not read again until it changes, so that its faults are
// told once.
func (f *File) changed() bool {
	now, err := os.Stat(f.cfg.Path)
	if err != nil || f.seen == nil {
		return (err == nil) != (f.seen != nil)
	}
	return now.Size() != f.seen.Size() || !now.ModTime().Equal(f.seen.ModTime()) || !os.SameFile(now, f.seen)
}

func (f *File) take() {
	l, err := f.read()
	if err != nil {
		if p := (*ParseError)(nil); errors.As(err, &p) {
			err = &shortError{p}
		}
		if f.cfg.Failed != nil {
			f.cfg.Failed(fmt.Errorf("the rules before stay in force: %w", err))
		}
		return
	}
	f.list.Store(l)
	if f.cfg.Changed != nil {
		f.cfg.Changed(l)
	}
}

// shortError is a ParseError in one line.
type shortError struct{ *ParseError }

func (e *shortError) Error() string { return e.short() }
func (e *shortError) Unwrap() error { return e.ParseError }

func (f *File) read() (*List, error) {
	f.seen = nil
	// Before it is opened: that would wait for the other end of a pipe.
	info, err := os.Stat(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	f.seen = info // older than what is read, if it changes now: then it is read again
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", f.cfg.Path)
	}
	in, err := os.Open(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return Parse(in, f.cfg.Path)
}
