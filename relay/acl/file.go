package acl

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/causeway-p2p/causeway/internal/follow"
)

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
	cfg   Config
	list  atomic.Pointer[List]
	files *follow.Files
}

// Open reads the file. It must be there, and in order.
func Open(cfg Config) (*File, error) {
	f := &File{cfg: cfg, files: follow.New(cfg.Every, cfg.Path)}
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
func (f *File) Reload() { f.files.Now() }

// Run follows the file until ctx ends. A file that was not in order is not read
// again until it changes, so that its faults are told once.
func (f *File) Run(ctx context.Context) error {
	f.files.Run(ctx, func(s follow.State) {
		if s.Asked || s.Changed {
			f.take()
		}
	})
	return nil
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
	in, err := f.files.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return Parse(in, f.cfg.Path)
}
