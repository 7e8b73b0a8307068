package callout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxBody bounds an answer, in bytes. An honest one has 100.
	maxBody = 64 << 10
	// maxReason bounds what of a reason is kept, in characters.
	maxReason = 200
)

var validClass = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

// Kind is what is asked about.
type Kind string

// What is asked about.
const (
	Reserve Kind = "reserve" // a reservation
	Connect Kind = "connect" // a circuit
)

// Question is who wants what.
type Question struct {
	Kind Kind
	Peer peer.ID
	// Addr is where the peer comes from. If it is zero, it is not told.
	Addr netip.Addr
	// Destination is whom a circuit is to; empty for a reservation.
	Destination peer.ID
}

// Answer is whether it may.
type Answer struct {
	Allow bool
	// Class is what the endpoint puts the peer into; may be empty.
	Class string
	// Reason is the endpoint's, for the log: one short line, or empty.
	Reason  string
	Outcome Outcome
	// Asked tells that this question made a request, and is not one of many
	// that share its answer.
	Asked bool
}

// Outcome says how an answer came about, for logs and metrics.
type Outcome string

// Outcomes. All but the first two are failures, decided by Config.FailOpen.
const (
	Allowed     Outcome = "allowed"
	Refused     Outcome = "refused"
	Busy        Outcome = "busy"        // too many questions were open
	Timeout     Outcome = "timeout"     // no answer in time
	Unreachable Outcome = "unreachable" // no connection, or it broke
	Redirected  Outcome = "redirected"  // it pointed elsewhere
	BadStatus   Outcome = "status"      // neither 200 nor 403
	Oversize    Outcome = "oversize"    // an answer of more than 64 KiB
	Garbage     Outcome = "garbage"     // an answer that makes no sense
	Canceled    Outcome = "canceled"    // whoever asked went away, or Close was called
)

// Outcomes lists all there are.
func Outcomes() []Outcome {
	return []Outcome{Allowed, Refused, Busy, Timeout, Unreachable, Redirected, BadStatus, Oversize, Garbage, Canceled}
}

// failure is an error with its outcome.
type failure struct {
	outcome Outcome
	err     error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

type request struct {
	Kind        Kind   `json:"kind"`
	Peer        string `json:"peer"`
	Addr        string `json:"addr,omitempty"`
	Destination string `json:"destination,omitempty"`
}

func (q Question) encode() ([]byte, error) {
	r := request{Kind: q.Kind, Peer: q.Peer.String(), Destination: q.Destination.String()}
	if q.Addr.IsValid() {
		r.Addr = q.Addr.String()
	}
	return json.Marshal(r)
}

func (c *Client) post(ctx context.Context, q Question) (Answer, error) {
	body, err := q.encode()
	if err != nil {
		return Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "causeway")
	resp, err := c.cfg.Client.Do(req)
	if err != nil {
		return Answer{}, broken(ctx, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return Answer{}, broken(ctx, err)
	}
	return decode(resp.StatusCode, body)
}

// broken tells a time-out from a connection that did not hold.
func broken(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &failure{Canceled, err}
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return &failure{Timeout, err}
	}
	return &failure{Unreachable, err}
}

// decode reads an answer. Fields that we do not know are left for later
// versions.
func decode(status int, body []byte) (Answer, error) {
	var r struct {
		Allow  *bool  `json:"allow"`
		Class  string `json:"class"`
		Reason string `json:"reason"`
	}
	switch {
	case status >= 300 && status < 400:
		return Answer{}, &failure{Redirected, fmt.Errorf("redirected (status %d): name the URL where it ends", status)}
	case status != http.StatusOK && status != http.StatusForbidden:
		return Answer{}, &failure{BadStatus, fmt.Errorf("status %d, want 200 or 403", status)}
	case status == http.StatusForbidden:
		// Refused, whatever else it says; the reason is welcome.
		a := Answer{Outcome: Refused}
		if len(body) <= maxBody && json.Unmarshal(body, &r) == nil {
			a.Reason = oneLine(r.Reason)
		}
		return a, nil
	case len(body) > maxBody:
		return Answer{}, &failure{Oversize, fmt.Errorf("an answer of more than %d KiB", maxBody>>10)}
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return Answer{}, &failure{Garbage, fmt.Errorf("not the JSON that is expected: %w", err)}
	}
	if r.Allow == nil {
		return Answer{}, &failure{Garbage, errors.New(`an answer without "allow"`)}
	}
	a := Answer{Allow: *r.Allow, Reason: oneLine(r.Reason), Outcome: Refused}
	if a.Allow {
		if !validClass.MatchString(r.Class) {
			return Answer{}, &failure{Garbage, fmt.Errorf("class %.40q: use at most 32 of a-z, 0-9 and -", r.Class)}
		}
		a.Class, a.Outcome = r.Class, Allowed
	}
	return a, nil
}

// oneLine makes a text fit for a log.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if r := []rune(s); len(r) > maxReason {
		s = string(r[:maxReason]) + "…"
	}
	return s
}
