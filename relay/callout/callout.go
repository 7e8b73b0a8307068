// Package callout asks an operator's HTTP endpoint whether a peer may use the
// relay. What goes over the wire is in docs/verify-url.md.
//
//	Ask ──▶ answered a moment ago? ──▶ the answer
//	    ──▶ asked at this moment?  ──▶ wait for that
//	    ──▶ one of 64 slots ──▶ POST ──▶ the answer, kept for a few seconds
//
// The endpoint is the operator's own, but may be slow, down or broken, and
// strangers decide how often it is asked. So there is a time-out for all of it,
// every queue is bounded, and whatever is not a clear answer is decided by
// Config.FailOpen.
package callout

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// defaultTimeout is what a peer waits for an answer at most: a reservation
	// or a circuit is given 10 s and more by those who ask for one.
	defaultTimeout = 2 * time.Second
	// defaultKeep is how long an answer is good for: as long as a storm of
	// retries, and no longer than an operator waits for a change to show.
	defaultKeep = 5 * time.Second
	// keepFailure is that for what was not an answer.
	keepFailure = time.Second
	// maxRequests bounds the requests at the endpoint at one time.
	maxRequests = 64
	// maxEntries bounds answers kept and questions open, together.
	maxEntries = 4096
)

// Config is what a [Client] needs. URL is required.
type Config struct {
	// URL is asked. It may hold a user and a password, for basic
	// authentication.
	URL string
	// AllowHTTP lets the URL be http and not https also where it does not point
	// to this machine or a private network.
	AllowHTTP bool
	// Timeout bounds a question, with all waiting. If zero, 2 seconds.
	Timeout time.Duration
	// Keep is how long an answer is good for. If zero, 5 seconds; if less, it
	// is not kept.
	Keep time.Duration
	// FailOpen allows, and does not refuse, where there is no clear answer.
	FailOpen bool
	// Client makes the requests; its CheckRedirect is not used. If nil, one of
	// our own, which knows no proxy.
	Client *http.Client
}

func (c Config) withDefaults() Config {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	if c.Client == nil {
		c.Client = &http.Client{Transport: &http.Transport{
			MaxConnsPerHost: maxRequests, MaxIdleConnsPerHost: maxRequests, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: maxBody, ForceAttemptHTTP2: true,
		}}
	}
	client := *c.Client
	// A redirect is an answer, and not a clear one: what is asked about a peer
	// goes nowhere but to the URL.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Client = &client
	return c
}

func (c Config) validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		// Not the error, which may show a password.
		return errors.New("verify URL is none: write it as https://example.org/verify")
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return fmt.Errorf("verify URL %s is not of the web: write it as https://example.org/verify", u.Redacted())
	case u.Scheme == "http" && !c.AllowHTTP && !isNear(u.Hostname()):
		return fmt.Errorf("verify URL %s could be read and answered by anybody on the way: use https, or an address on this machine or a private network", u.Redacted())
	}
	return nil
}

// isNear tells whether a host is on this machine or a private network. Of
// names, only one is known to be.
func isNear(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.Unmap().IsLoopback() || ip.Unmap().IsPrivate() || ip.IsLinkLocalUnicast())
}

// Client asks. It may be used concurrently.
type Client struct {
	cfg   Config
	own   bool // cfg.Client is
	slots chan struct{}

	ctx    context.Context // of the requests, until Close
	cancel context.CancelFunc

	mu      sync.Mutex // guards the fields below
	closed  bool
	entries map[key]*entry
	running sync.WaitGroup // requests; added to under mu
}

// key is what makes two questions one. Ports are no part of it, so that a peer
// that connects again and again asks the same.
type key struct {
	kind        Kind
	peer        peer.ID
	addr        netip.Addr
	destination peer.ID
}

// entry is a question, and its answer once done is closed.
type entry struct {
	done   chan struct{}
	answer Answer
	err    error
	until  time.Time // how long the answer is good; guarded by the client's mu
}

// New returns a client, which is to be closed. It asks nothing yet.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg.withDefaults(), own: cfg.Client == nil,
		slots: make(chan struct{}, maxRequests), entries: make(map[key]*entry),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Ask returns whether a peer may. The answer holds also if there is an error,
// which says why it was not the endpoint that gave it.
func (c *Client) Ask(ctx context.Context, q Question) (Answer, error) {
	q.Addr = q.Addr.Unmap().WithZone("")
	e, asked, err := c.entry(q)
	if err != nil {
		return c.failed(err)
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return c.failed(&failure{Canceled, ctx.Err()})
	}
	a := e.answer
	a.Asked = asked
	return a, e.err
}

// entry returns the entry of a question, and whether it is asked for it.
func (c *Client) entry(q Question) (e *entry, asked bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false, &failure{Canceled, errors.New("closed")}
	}
	k := key{q.Kind, q.Peer, q.Addr, q.Destination}
	now := time.Now()
	if e := c.entries[k]; e != nil && (e.open() || now.Before(e.until)) {
		return e, false, nil
	}
	if len(c.entries) >= maxEntries && !c.forgetLocked() {
		return nil, false, &failure{Busy, fmt.Errorf("%d questions are open", len(c.entries))}
	}
	e = &entry{done: make(chan struct{})}
	c.entries[k] = e
	c.running.Add(1)
	go c.run(k, e, q)
	return e, true, nil
}

func (e *entry) open() bool {
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}

// forgetLocked makes room for one. Which answer goes is left to chance, since
// none is good for long.
func (c *Client) forgetLocked() bool {
	for k, e := range c.entries {
		if !e.open() {
			delete(c.entries, k)
			return true
		}
	}
	return false
}

// run asks for all who wait for an entry, so none of their contexts ends it.
func (c *Client) run(k key, e *entry, q Question) {
	defer c.running.Done()
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Timeout)
	defer cancel()
	keep := c.cfg.Keep
	answer, err := c.take(ctx, q)
	if err != nil {
		keep = min(keep, keepFailure)
		answer, err = c.failed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.answer, e.err = answer, err
	e.until = time.Now().Add(keep)
	if keep <= 0 {
		delete(c.entries, k)
	}
	close(e.done)
}

// take waits for a slot, and asks.
func (c *Client) take(ctx context.Context, q Question) (Answer, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
	}
	switch { // both may have happened
	case c.ctx.Err() != nil:
		return Answer{}, &failure{Canceled, c.ctx.Err()}
	case ctx.Err() != nil:
		return Answer{}, &failure{Busy, fmt.Errorf("%d requests were open for %v", maxRequests, c.cfg.Timeout)}
	}
	return c.post(ctx, q)
}

// failed is the answer where the endpoint gave none.
func (c *Client) failed(err error) (Answer, error) {
	a := Answer{Allow: c.cfg.FailOpen, Outcome: Unreachable}
	var f *failure
	if errors.As(err, &f) {
		a.Outcome = f.outcome
	}
	return a, fmt.Errorf("ask the verify URL: %w", err)
}

// Close ends what is open, which is then answered as a failure, and waits for
// it. It may be called again.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	if c.own {
		c.cfg.Client.CloseIdleConnections()
	}
	return nil
}
