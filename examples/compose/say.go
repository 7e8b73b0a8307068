package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
)

// teller prints the story: a line for each thing that happened, in colours on a
// terminal, and what is being waited for below it.
type teller struct {
	mu       sync.Mutex // guards the fields below, and writing
	w        io.Writer
	terminal bool // may be written over
	colour   bool
	began    time.Time
	names    *strings.Replacer // IDs to names
	status   bool              // the last line is what is being waited for
	recalled []recalled
}

// recalled is what happened before it is told.
type recalled struct {
	at   time.Time
	who  string
	text string
}

func newTeller(f *os.File) *teller {
	tty := isatty.IsTerminal(f.Fd())
	return &teller{w: f, terminal: tty, colour: tty && os.Getenv("NO_COLOR") == "", began: time.Now(), names: strings.NewReplacer()}
}

// start is where time begins.
func (t *teller) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = time.Now()
}

// call makes the teller use names instead of IDs.
func (t *teller) call(names *strings.Replacer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = names
}

// named is a text with names instead of IDs.
func (t *teller) named(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.names.Replace(text)
}

// say tells what has just happened to somebody.
func (t *teller) say(who, format string, args ...any) {
	t.sayAt(time.Now(), who, format, args...)
}

// sayAt tells what happened at a time.
func (t *teller) sayAt(at time.Time, who, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	text := t.names.Replace(fmt.Sprintf(format, args...))
	fmt.Fprintf(t.w, "%s  %s %s\n", t.paint(dim, fmt.Sprintf("%6.2f s", at.Sub(t.began).Seconds())), t.paint(colourOf(who), fmt.Sprintf("%-7s", who)), text)
}

// recall tells, at the next flush, what has happened at a time, in the order in
// which it has.
func (t *teller) recall(at time.Time, who, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recalled = append(t.recalled, recalled{at, who, fmt.Sprintf(format, args...)})
}

func (t *teller) flush() {
	t.mu.Lock()
	list := t.recalled
	t.recalled = nil
	t.mu.Unlock()
	slices.SortStableFunc(list, func(x, y recalled) int { return x.at.Compare(y.at) })
	for _, r := range list {
		t.sayAt(r.at, r.who, "%s", r.text)
	}
}

// scene begins a new part.
func (t *teller) scene(title string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	fmt.Fprintf(t.w, "\n%s\n", t.paint(bold, title))
}

// progress says on a terminal what is being waited for, until the next line;
// "" for nothing.
func (t *teller) progress(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	if t.terminal && text != "" {
		fmt.Fprint(t.w, t.paint(dim, "  … "+text))
		t.status = true
	}
}

func (t *teller) clearLocked() {
	if t.status {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.status = false
	}
}

// table prints what was measured.
func (t *teller) table(rows []row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	fmt.Fprintln(t.w)
	tw := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		took := ""
		if r.took > 0 {
			took = millis(r.took)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", r.what, took, t.names.Replace(r.how))
	}
	_ = tw.Flush() // as with all that is printed here
}

// line prints a line as it is.
func (t *teller) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	fmt.Fprintf(t.w, format+"\n", args...)
}

// row is one of the table.
type row struct {
	what string
	took time.Duration // 0: it is no question of time
	how  string
}

// millis is a duration to the millisecond, or to the tenth of a second.
func millis(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// The colours of ECMA-48 (section 8.3.117) that terminals show readably on
// light and dark.
const (
	bold = "1"
	dim  = "2"
)

func colourOf(who string) string {
	switch {
	case strings.HasPrefix(who, "relay"):
		return "36" // cyan
	case len(who) == 1:
		return "32" // green: a peer
	}
	return "35" // magenta: the stage itself
}

func (t *teller) paint(code, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
