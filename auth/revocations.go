package auth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Revocations are tokens, by serial, and peers whose tokens do not count any
// more. The nil *Revocations has none. It does not change once it is parsed.
type Revocations struct {
	serials map[Serial]struct{}
	peers   map[peer.ID]struct{}
}

const (
	// maxRevoked bounds the list: with 100 bytes of memory each, 10 MB. A
	// token that has expired need not be on it any more.
	maxRevoked = 100_000
	// maxLine bounds a line, in bytes: an ID and a remark.
	maxLine = 512
	// maxFaults is how many are told; somebody gave the wrong file.
	maxFaults = 10
)

// LineError is a fault in a list.
type LineError struct {
	Name string // of the list
	Line int    // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Name, e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// ParseRevocations reads a list: one serial or peer ID a line; what follows a
// # is a remark. The name is for errors, which are *LineError, several of them
// joined, unless the reading itself failed.
func ParseRevocations(in io.Reader, name string) (*Revocations, error) {
	r := &Revocations{serials: make(map[Serial]struct{}), peers: make(map[peer.ID]struct{})}
	var faults []error
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	line := 0
	fault := func(err error) { faults = append(faults, &LineError{Name: name, Line: line, Err: err}) }
	for len(faults) < maxFaults && lines.Scan() {
		line++
		entry, _, _ := strings.Cut(lines.Text(), "#")
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		if r.Len() == maxRevoked {
			fault(fmt.Errorf("more than %d entries; leave out tokens that have expired", maxRevoked))
			break
		}
		if err := r.add(entry); err != nil {
			fault(err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		line++
		fault(fmt.Errorf("longer than %d bytes", maxLine))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Revocations) add(entry string) error {
	if s, err := ParseSerial(entry); err == nil {
		r.serials[s] = struct{}{}
		return nil
	}
	id, err := peer.Decode(entry)
	if err != nil || len(id) > maxIDLen {
		return fmt.Errorf("%.60q is neither a serial nor a peer ID", entry)
	}
	r.peers[id] = struct{}{}
	return nil
}

// Has tells whether a token is revoked, by itself or with its peer.
func (r *Revocations) Has(t Token) bool {
	if r == nil {
		return false
	}
	_, serial := r.serials[t.Serial]
	_, peer := r.peers[t.Peer]
	return serial || peer
}

// Len is how many entries there are.
func (r *Revocations) Len() int {
	if r == nil {
		return 0
	}
	return len(r.serials) + len(r.peers)
}
