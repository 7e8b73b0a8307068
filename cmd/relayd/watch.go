package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// watchEvery is how often a file is looked at, as with the ACL (package
// relay/acl).
const watchEvery = 2 * time.Second

// watchedFile is a file that may change while we run.
type watchedFile struct {
	path   string
	reload chan struct{} // has room for one

	seen os.FileInfo // when it was opened last, or nil; owned by follow
}

// follow calls changed when the file is another than when it was opened last,
// and after now, until ctx ends.
func (f *watchedFile) follow(ctx context.Context, changed func()) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.reload:
			changed()
		case <-tick.C:
			if f.changed() {
				changed()
			}
		}
	}
}

func (f *watchedFile) changed() bool {
	now, err := os.Stat(f.path)
	if err != nil || f.seen == nil {
		return (err == nil) != (f.seen != nil)
	}
	return now.Size() != f.seen.Size() || !now.ModTime().Equal(f.seen.ModTime()) || !os.SameFile(now, f.seen)
}

// now makes follow call changed, without waiting for it.
func (f *watchedFile) now() {
	select {
	case f.reload <- struct{}{}:
	default: // about to happen
	}
}

// open opens the file, and remembers which it is.
func (f *watchedFile) open() (*os.File, error) {
	f.seen = nil
	// Before it is opened: that would wait for the other end of a pipe.
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	f.seen = info // older than what is read, if it changes now: then it is read again
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", f.path)
	}
	return os.Open(f.path)
}
