// Package certfile serves TLS with a certificate from two PEM files, and takes
// them again when they change, as ACME clients renew them: connections that
// stand keep what they have, new ones get the new certificate.
//
//	f, err := certfile.Open(certfile.Config{Cert: "fullchain.pem", Key: "privkey.pem"})
//	go f.Run(ctx)
//	server.TLSConfig = f.TLS()
//
// It does not ask for certificates, nor does it check who vouches for them.
package certfile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/causeway-p2p/causeway/internal/follow"
)

// remindBefore is when a certificate that was not renewed is spoken of: ACME
// clients do so a month before the end, and short-lived certificates (six days)
// still a third of their life. For those that live for a day, a quarter of it is
// left then.
const remindBefore = 2 * 24 * time.Hour

// Config is what a [File] needs. Cert and Key are required.
type Config struct {
	// Cert is a file with the certificate and those that lead to a root, Key
	// one with its private key. They may be the same.
	Cert, Key string
	// Name is the DNS name that the certificate must be for. If empty, the
	// first that the certificate names and that is no wildcard.
	Name string
	// Every is how often the files are looked at. If zero, 2 seconds.
	Every time.Duration
	// Changed is called when a new pair has been taken; Failed with one
	// sentence when one could not be taken and that before stays, and when the
	// certificate is about to expire. Both come from Run's goroutine, which
	// waits for them; either may be nil.
	Changed func(expires time.Time)
	Failed  func(error)
}

// File is a certificate that follows its files.
type File struct {
	cfg   Config
	pair  atomic.Pointer[tls.Certificate]
	files *follow.Files

	// owned by Run
	reminded bool   // of the end of the certificate in force
	again    bool   // the pair last read may come in order with the files as they are
	told     string // what was wrong with it
}

// Open reads the files. They must be there, and in order.
func Open(cfg Config) (*File, error) {
	f := &File{cfg: cfg, files: follow.New(cfg.Every, cfg.Cert, cfg.Key)}
	pair, err := f.read()
	if err != nil {
		return nil, err
	}
	if f.cfg.Name == "" {
		// For good: others have been told this name.
		if f.cfg.Name, err = nameOf(pair.Leaf); err != nil {
			return nil, &Error{cfg.Cert, NoName, err.Error()}
		}
	}
	f.pair.Store(pair)
	return f, nil
}

// TLS is a configuration for servers that uses the certificate in force.
func (f *File) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.pair.Load(), nil },
	}
}

// Name is the DNS name by which clients are to call, so that they can verify
// the certificate.
func (f *File) Name() string { return f.cfg.Name }

// Expires is the end of the certificate in force.
func (f *File) Expires() time.Time { return f.pair.Load().Leaf.NotAfter }

// Reload makes Run read the files now, whether or not they changed. It does not
// wait for it.
func (f *File) Reload() { f.files.Now() }

// Run follows the files until ctx ends.
func (f *File) Run(ctx context.Context) error {
	f.files.Run(ctx, func(s follow.State) {
		if s.Asked || s.Changed {
			f.told = ""
		}
		// They must have come to rest: whoever renews them writes one after the other,
		// and between the two the key is not the certificate's.
		if s.Asked || s.Resting && (s.Changed || f.again) {
			f.take()
		}
		f.remind()
	})
	return nil
}

func (f *File) take() {
	pair, err := f.read()
	f.again = mayPass(err)
	if err != nil {
		if text := err.Error(); text != f.told { // each fault once
			f.told = text
			f.fail(fmt.Errorf("the certificate before stays in use, until %s: %w", day(f.Expires()), err))
		}
		return
	}
	f.pair.Store(pair)
	f.reminded, f.told = false, ""
	if f.cfg.Changed != nil {
		f.cfg.Changed(pair.Leaf.NotAfter)
	}
}

// mayPass reports whether a fault may go although nobody writes the files: who may
// read them is set after they were copied, and clocks go.
func mayPass(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Fault == Unreadable || e.Fault == Expired)
}

// remind tells once that the certificate ends and none has come in its place.
func (f *File) remind() {
	leaf := f.pair.Load().Leaf
	left, life := time.Until(leaf.NotAfter), leaf.NotAfter.Sub(leaf.NotBefore)
	if f.reminded || left > min(remindBefore, life/4) {
		return
	}
	f.reminded = true
	if left <= 0 {
		f.fail(fmt.Errorf("the certificate in %s has expired, and was not renewed", f.cfg.Cert))
		return
	}
	f.fail(fmt.Errorf("the certificate in %s expires on %s, and was not renewed yet", f.cfg.Cert, day(f.Expires())))
}

func (f *File) fail(err error) {
	if f.cfg.Failed != nil {
		f.cfg.Failed(err)
	}
}

// read takes the pair in and checks it.
func (f *File) read() (*tls.Certificate, error) {
	f.files.Mark()
	cert, err := readFile(f.cfg.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readFile(f.cfg.Key)
	if err != nil {
		return nil, err
	}
	pair, err := parse(f.cfg, cert, key)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil { // as GODEBUG=x509keypairleaf=0 has it
		return nil, errors.New("the certificate was not parsed")
	}
	return pair, nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
