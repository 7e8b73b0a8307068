package main

import (
	"context"
	"sync"
)

// feed is what somebody tells, one thing after the other, for as long as the
// story lasts.
type feed[T any] struct {
	mu    sync.Mutex // guards the fields below
	items []T
	err   error         // why there will be no more
	more  chan struct{} // closed, and replaced, when something changes
}

func newFeed[T any]() *feed[T] { return &feed[T]{more: make(chan struct{})} }

func (f *feed[T]) add(item T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, item)
	f.wakeLocked()
}

// end says that there will be no more, and why.
func (f *feed[T]) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.wakeLocked()
}

// over is why there will be no more; nil while there may be.
func (f *feed[T]) over() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *feed[T]) wakeLocked() {
	close(f.more)
	f.more = make(chan struct{})
}

// all is what was told so far. Items are only ever appended, so that sharing
// the array is safe.
func (f *feed[T]) all() []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[:len(f.items):len(f.items)]
}

// find waits for the first item that ok likes.
func (f *feed[T]) find(ctx context.Context, ok func(T) bool) (T, error) {
	for seen := 0; ; {
		f.mu.Lock()
		items, err, more := f.items, f.err, f.more
		f.mu.Unlock()
		for ; seen < len(items); seen++ {
			if ok(items[seen]) {
				return items[seen], nil
			}
		}
		var none T
		if err != nil {
			return none, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}
