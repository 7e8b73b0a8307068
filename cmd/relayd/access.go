package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/internal/follow"
	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/internal/maddr"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/acl"
	"github.com/causeway-p2p/causeway/relay/callout"
)

var log = logging.For("relayd")

// accessOptions are the flags that say who may use the relay.
type accessOptions struct {
	acl           string
	issuers       []string
	revoked       string
	verifyURL     string
	verifyTimeout time.Duration
	verifyFail    string
}

func (o *accessOptions) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.acl, "acl", "", "file that says who may use the relay, and in which class; taken again when it changes")
	fs.StringSliceVar(&o.issuers, "issuer", nil, "ID of a key whose tokens put peers into classes (repeatable)")
	fs.StringVar(&o.revoked, "revoked", "", "file of tokens and peers whose tokens do not count; taken again when it changes")
	fs.StringVar(&o.verifyURL, "verify-url", "", "URL that is asked whether a peer may have a reservation or a circuit")
	fs.DurationVar(&o.verifyTimeout, "verify-timeout", 2*time.Second, "how long to wait for its answer")
	fs.StringVar(&o.verifyFail, "verify-fail", "closed", "what an answer that does not come means: closed (no) or open (yes)")
}

// access is who may use the relay, as files and an endpoint say at the time.
type access struct {
	opts    accessOptions
	issuers []peer.ID
	acl     *acl.File       // nil if there is none
	verify  *callout.Client // nil if nobody is asked
	revoked *follow.Files   // nil if there is none
	news    chan news

	verifyFails atomic.Bool
	outcomes    *prometheus.CounterVec
}

// count registers how often the endpoint was asked, and what came of it.
func (a *access) count(reg prometheus.Registerer) error {
	if a.verify == nil || reg == nil {
		return nil
	}
	for _, o := range callout.Outcomes() {
		a.outcomes.WithLabelValues(string(o)) // there from the start, so that a rate is 0 and not nothing
	}
	return reg.Register(a.outcomes)
}

// news is a change that has been read from a file, or why it could not be.
type news struct {
	acl   *acl.List
	trust *auth.Trust
	err   error
}

// open reads the files and checks the rest. The classes in the ACL must be
// among those of the limits. The access is to be closed.
func (o accessOptions) open(limits relay.Limits) (_ *access, start relay.Access, err error) {
	a := &access{opts: o, news: make(chan news), outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "causeway", Subsystem: "relayd", Name: "verify_answers_total",
		Help: "Questions to the verify URL, by what came of them.",
	}, []string{"outcome"})}
	if a.issuers, err = parseIssuers(o.issuers); err != nil {
		return nil, start, cli.Usage(err, "--issuer 12D3KooW…, as \"relayd token key\" prints it")
	}
	start.Trust.Issuers = a.issuers
	if o.revoked != "" {
		if len(a.issuers) == 0 {
			return nil, start, cli.Usage(errors.New("--revoked without --issuer: no tokens count"), "--issuer 12D3KooW…")
		}
		a.revoked = follow.New(0, o.revoked)
		t, err := a.readTrust()
		if err != nil {
			return nil, start, cli.Usage(fmt.Errorf("--revoked: %w", plainPath(err)), "a file with a serial or a peer ID on each line; it may be empty")
		}
		start.Trust = *t
	}
	if o.acl != "" {
		a.acl, err = acl.Open(acl.Config{
			Path:    o.acl,
			Changed: func(l *acl.List) { a.news <- news{acl: l} },
			Failed:  func(err error) { a.news <- news{err: fmt.Errorf("ACL: %w", plainPath(err))} },
		})
		if err != nil {
			return nil, start, cli.Usage(fmt.Errorf("--acl: %w", plainPath(err)), "lines like  allow 12D3KooW… member  and  deny 203.0.113.0/24")
		}
		start.ACL = a.acl.List()
		if err := checkClasses(start.ACL, limits); err != nil {
			return nil, start, cli.Usage(err, "a table like [class.member] in the file given with --config")
		}
	}
	if o.verifyFail != "open" && o.verifyFail != "closed" {
		return nil, start, cli.Usage(fmt.Errorf("--verify-fail %q is not one of open, closed", o.verifyFail), "--verify-fail closed")
	}
	if o.verifyTimeout < time.Millisecond {
		return nil, start, cli.Usage(fmt.Errorf("--verify-timeout is %v, want 1ms or more", o.verifyTimeout), "--verify-timeout 2s")
	}
	if o.verifyURL != "" {
		a.verify, err = callout.New(callout.Config{URL: o.verifyURL, Timeout: o.verifyTimeout, FailOpen: o.verifyFail == "open"})
		if err != nil {
			return nil, start, cli.Usage(err, "--verify-url https://example.org/verify")
		}
		start.Validator = a.ask
	}
	return a, start, nil
}

func parseIssuers(list []string) (out []peer.ID, err error) {
	var errs []error
	for _, s := range list {
		id, err := peer.Decode(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--issuer %q is not the ID of a key", s))
			continue
		}
		out = append(out, id)
	}
	return out, errors.Join(errs...)
}

// plainPath takes the system call's name out of an error about a file.
func plainPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s", p.Path)
	}
	return err
}

// follow reads the files again when they change, until stop is called. What is
// new comes over a.news, which must be read until then.
func (a *access) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	if a.acl != nil {
		running.Go(func() {
			if err := a.acl.Run(ctx); err != nil {
				log.Error("the ACL is not followed any more", "err", err)
			}
		})
	}
	if a.revoked != nil {
		running.Go(func() {
			a.revoked.Run(ctx, func(s follow.State) {
				if !s.Asked && !s.Changed {
					return
				}
				t, err := a.readTrust()
				if err != nil {
					err = fmt.Errorf("revocations: those before stay in force: %w", plainPath(err))
				}
				a.news <- news{trust: t, err: err}
			})
		})
	}
	return func() {
		cancel()
		over := make(chan struct{})
		go func() { running.Wait(); close(over) }()
		for { // what they have to say goes nowhere
			select {
			case <-a.news:
			case <-over:
				if a.verify != nil {
					a.verify.Close()
				}
				return
			}
		}
	}
}

// reload makes all files be read now.
func (a *access) reload() {
	if a.acl != nil {
		a.acl.Reload()
	}
	if a.revoked != nil {
		a.revoked.Now()
	}
}

func (a *access) readTrust() (*auth.Trust, error) {
	f, err := a.revoked.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := auth.ParseRevocations(f, a.opts.revoked)
	if err != nil {
		return nil, err
	}
	return &auth.Trust{Issuers: a.issuers, Revoked: r}, nil
}

// ask is the relay's validator. What it was that failed is logged once, and
// that it does not fail any more.
func (a *access) ask(ctx context.Context, q relay.Question) relay.Answer {
	what := callout.Question{Kind: callout.Reserve, Peer: q.Peer, Addr: maddr.IP(q.Addr), Destination: q.Connect}
	if q.Connect != "" {
		what.Kind = callout.Connect
	}
	got, err := a.verify.Ask(ctx, what)
	a.outcomes.WithLabelValues(string(got.Outcome)).Inc()
	if got.Reason != "" {
		log.Debug("answer of the verify URL", "peer", q.Peer, "allowed", got.Allow, "reason", got.Reason)
	}
	switch {
	case got.Outcome == callout.Canceled:
	case err != nil && !a.verifyFails.Swap(true):
		log.Warn("the verify URL gives no answer", "reason", got.Outcome, "err", err, "allowed", got.Allow)
	case err == nil && a.verifyFails.Swap(false):
		log.Info("the verify URL answers again")
	}
	return relay.Answer{Allow: got.Allow, Class: got.Class}
}

// String says in words who may use the relay.
func (a *access) String() string {
	var by []string
	if a.acl != nil {
		by = append(by, fmt.Sprintf("%s (%s)", a.opts.acl, many(a.acl.List().Len(), "rule")))
	}
	if a.verify != nil {
		u, err := url.Parse(a.opts.verifyURL)
		if err == nil {
			without := "nobody"
			if a.opts.verifyFail == "open" {
				without = "everybody"
			}
			by = append(by, fmt.Sprintf("%s (without an answer: %s)", u.Redacted(), without))
		}
	}
	s := "everybody"
	if len(by) > 0 {
		s = "whom " + strings.Join(by, " and ") + " allow"
		if len(by) == 1 {
			s += "s"
		}
	}
	if len(a.issuers) > 0 {
		s += fmt.Sprintf("; tokens of %s count", many(len(a.issuers), "issuer"))
	}
	return s
}

func many(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
