//go:build linux

package natlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

var errEnded = errors.New("the program has ended")

// transcript is what a program has printed, by lines. It is not bounded: it
// lives as long as one test, and a program that floods it floods the files too.
type transcript struct {
	began time.Time // of the lab, so that programs can be compared

	mu    sync.Mutex // guards the fields below
	lines []string
	at    []time.Duration
	ended bool
	more  chan struct{} // closed, and replaced, when something changes
}

func newTranscript(began time.Time) *transcript {
	return &transcript{began: began, more: make(chan struct{})}
}

func (t *transcript) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	t.at = append(t.at, time.Since(t.began))
	t.wakeLocked()
}

func (t *transcript) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.wakeLocked()
}

func (t *transcript) wakeLocked() {
	close(t.more)
	t.more = make(chan struct{})
}

// since returns the lines from a mark on. Lines are only ever appended, so
// sharing the array is safe.
func (t *transcript) since(mark int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines[min(mark, len(t.lines)):len(t.lines):len(t.lines)]
}

func (t *transcript) wait(ctx context.Context, mark int, re *regexp.Regexp) (string, []string, error) {
	for {
		t.mu.Lock()
		lines, ended, more := t.lines, t.ended, t.more
		t.mu.Unlock()
		for ; mark < len(lines); mark++ {
			if sub := re.FindStringSubmatch(lines[mark]); sub != nil {
				return lines[mark], sub, nil
			}
		}
		if ended {
			return "", nil, errEnded
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
}

// tail is the last n lines, with their time since the lab began.
func (t *transcript) tail(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for i := max(0, len(t.lines)-n); i < len(t.lines); i++ {
		fmt.Fprintf(&b, "  %8.3fs %s\n", t.at[i].Seconds(), t.lines[i])
	}
	return b.String()
}

// stream is one of a program's outputs on its way to the transcript and to a
// file. os/exec writes to it from one goroutine.
type stream struct {
	to      *transcript
	file    *os.File
	partial []byte
}

func (s *stream) Write(p []byte) (int, error) {
	// A full disk must not block or kill the program: its pipe is read on.
	_, _ = s.file.Write(p)
	s.partial = append(s.partial, p...)
	for {
		i := bytes.IndexByte(s.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		s.to.add(strings.TrimSuffix(string(s.partial[:i]), "\r"))
		s.partial = s.partial[i+1:]
	}
}

// flush adds a last line that had no end.
func (s *stream) flush() {
	if len(s.partial) > 0 {
		s.to.add(string(s.partial))
		s.partial = nil
	}
}
