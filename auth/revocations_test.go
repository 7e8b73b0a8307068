package auth

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestRevocations(t *testing.T) {
	_, p := newKey(t)
	_, other := newKey(t)
	a, b := NewSerial(), NewSerial()
	r, err := ParseRevocations(strings.NewReader(fmt.Sprintf(
		"# gone\n\n%s\n  %s\t# laptop lost\r\n%s\n%s", a, strings.ToUpper(b.String()), p, a)), "list")
	if err != nil || r.Len() != 3 {
		t.Fatalf("got %d entries, %v, want 3", r.Len(), err)
	}
	for name, c := range map[string]struct {
		token Token
		want  bool
	}{
		"by serial":         {Token{Serial: a, Peer: other}, true},
		"by another serial": {Token{Serial: b, Peer: other}, true},
		"by peer":           {Token{Serial: NewSerial(), Peer: p}, true},
		"not":               {Token{Serial: NewSerial(), Peer: other}, false},
	} {
		if got := r.Has(c.token); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	var none *Revocations
	if none.Has(Token{Serial: a}) || none.Len() != 0 {
		t.Error("the nil list has entries")
	}
}

func TestRevocationFaults(t *testing.T) {
	_, p := newKey(t)
	for name, c := range map[string]struct {
		text string
		want []string // by line
	}{
		"several":  {"x\n" + p.String() + "\n" + p.String() + " " + p.String() + "\nzz#", []string{`list:1: "x" is neither`, `list:3: `, `list:4: "zz" is neither`}},
		"serial":   {NewSerial().String()[1:] + "\n" + strings.Repeat("g", 32), []string{"list:1: ", "list:2: "}},
		"long":     {"#\n#" + strings.Repeat("x", 1000), []string{"list:2: longer than 512 bytes"}},
		"a binary": {strings.Repeat("\x00\n", 1000), slicesOf(maxFaults, "is neither")},
	} {
		r, err := ParseRevocations(strings.NewReader(c.text), "list")
		if err == nil {
			t.Errorf("%s: got %d entries", name, r.Len())
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(c.want) {
			t.Errorf("%s: got %d faults, want %d: %v", name, len(lines), len(c.want), err)
			continue
		}
		for i := range lines {
			if !strings.Contains(lines[i], c.want[i]) {
				t.Errorf("%s: got %q, want %q in it", name, lines[i], c.want[i])
			}
		}
		var le *LineError
		if !errors.As(err, &le) || le.Name != "list" || le.Line == 0 {
			t.Errorf("%s: got %T, want a *LineError", name, err)
		}
	}
	broken := errors.New("disk")
	if _, err := ParseRevocations(iotest.ErrReader(broken), "list"); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func slicesOf(n int, s string) []string {
	return strings.Split(strings.Repeat(s+"\n", n)[:n*(len(s)+1)-1], "\n")
}

// TestRevocationsBounded: no list takes more memory than it says.
func TestRevocationsBounded(t *testing.T) {
	serials := func(n int) io.Reader {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%032x\n", i)
		}
		return strings.NewReader(b.String())
	}
	if r, err := ParseRevocations(serials(maxRevoked), "list"); err != nil || r.Len() != maxRevoked {
		t.Errorf("got %d, %v, want %d", r.Len(), err, maxRevoked)
	}
	_, err := ParseRevocations(serials(maxRevoked+1), "list")
	var le *LineError
	if !errors.As(err, &le) || le.Line != maxRevoked+1 {
		t.Errorf("got %v, want a fault in line %d", err, maxRevoked+1)
	}
}

// FuzzRevocations holds that a list is either read whole, so that each of its
// lines counts, or refused with lines that it has.
func FuzzRevocations(f *testing.F) {
	_, p := newKey(f)
	f.Add(p.String() + " # remark\n" + NewSerial().String())
	f.Add("\n\n#\nx\n")
	f.Add(strings.Repeat("x", maxLine+1))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRevocations(strings.NewReader(text), "list")
		lines := strings.Split(text, "\n")
		if err != nil {
			var le *LineError
			if r != nil || !errors.As(err, &le) || le.Line < 1 || le.Line > len(lines) {
				t.Errorf("%q: got %v, %v", text, r, err)
			}
			return
		}
		for _, l := range lines {
			entry, _, _ := strings.Cut(l, "#")
			if entry = strings.TrimSpace(entry); entry == "" {
				continue
			}
			if s, err := ParseSerial(entry); err == nil && !r.Has(Token{Serial: s}) {
				t.Errorf("%q: %s is not on the list", text, s)
			} else if id, err2 := peer.Decode(entry); err != nil && (err2 != nil || !r.Has(Token{Peer: id})) {
				t.Errorf("%q: %q is not on the list, %v", text, entry, err2)
			}
		}
	})
}
