package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// printed is what a program prints, while it prints.
type printed struct {
	mu   sync.Mutex // guards the fields below
	text bytes.Buffer
	more chan struct{}
}

func newPrinted() *printed { return &printed{more: make(chan struct{})} }

func (o *printed) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(p)
}

func (o *printed) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// waitFor waits until a text has been printed.
func (o *printed) waitFor(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(5 * time.Minute)
	for {
		o.mu.Lock()
		more := o.more
		o.mu.Unlock()
		if strings.Contains(o.String(), text) {
			return
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("it did not say %q, but:\n%s", text, o)
		}
	}
}
