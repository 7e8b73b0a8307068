package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/internal/certfile"
	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/node"
)

// tlsOptions are the flags for WebSocket over TLS.
type tlsOptions struct {
	cert, key, name string
}

func (o *tlsOptions) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.cert, "tls-cert", "", "certificate chain in PEM, to be reached over TLS on port 443 as well; taken again when it changes")
	fs.StringVar(&o.key, "tls-key", "", "its private key in PEM")
	fs.StringVar(&o.name, "tls-name", "", "the DNS name by which others reach the relay (default: the certificate's first)")
}

// Where relayd listens besides when it has a certificate.
var (
	listenTLS         = []string{"/ip4/0.0.0.0/tcp/443/tls/ws", "/ip6/::/tcp/443/tls/ws"}
	listenTLSLoopback = []string{"/ip4/127.0.0.1/tcp/4001/tls/ws"}
)

const tryTLS = "--tls-cert fullchain.pem --tls-key privkey.pem"

// check reports what does not go together.
func (o tlsOptions) check(listen []string) error {
	secure := slices.ContainsFunc(listen, func(a string) bool {
		return strings.HasSuffix(a, "/wss") || strings.Contains(a, "/tls/") && strings.HasSuffix(a, "/ws")
	})
	switch {
	case o.cert != "" && o.key == "":
		return cli.Usage(errors.New("--tls-cert without --tls-key"), tryTLS)
	case o.cert == "" && (o.key != "" || o.name != ""):
		return cli.Usage(errors.New("--tls-key or --tls-name without --tls-cert"), tryTLS)
	case o.cert != "" && !secure:
		return cli.Usage(errors.New("--tls-cert, and no address with /tls/ws to listen on"), "--listen %s besides", listenTLS[0])
	case o.cert == "" && secure:
		return cli.Usage(errors.New("--listen with /tls/ws, and no certificate for it"), tryTLS)
	}
	return nil
}

// certificate is what the files say at the time; nil if there are none.
type certificate struct {
	file *certfile.File
	news chan string
	stop context.CancelFunc
}

// open reads the files and gives the node what it needs of them.
func (o tlsOptions) open(ctx context.Context, cfg *node.Config) (*certificate, error) {
	if o.cert == "" {
		return nil, nil
	}
	ctx, stop := context.WithCancel(ctx)
	c := &certificate{news: make(chan string), stop: stop}
	tell := func(text string) {
		select {
		case c.news <- text:
		case <-ctx.Done():
		}
	}
	var err error
	c.file, err = certfile.Open(certfile.Config{
		Cert: o.cert, Key: o.key, Name: o.name,
		Changed: func(expires time.Time) {
			tell("certificate read again: it is valid until " + expires.UTC().Format(time.DateOnly))
		},
		Failed: func(err error) { tell("certificate: " + cli.OneLine(err)) },
	})
	if err != nil {
		stop()
		return nil, cli.Usage(err, "%s", tryFor(err))
	}
	cfg.TLS, cfg.TLSName = c.file.TLS(), c.file.Name()
	return c, nil
}

// tryFor is what to do about a file that cannot be used.
func tryFor(err error) string {
	var e *certfile.Error
	if !errors.As(err, &e) {
		return tryTLS
	}
	switch e.Fault {
	case certfile.Unreadable:
		return "let the relay's user read it: chown or setfacl, or a copy that the ACME client's hook makes"
	case certfile.WrongKey, certfile.Expired:
		return "certbot renew, and the fullchain.pem and privkey.pem of one and the same directory"
	case certfile.NoName:
		return "--tls-name with the DNS name of this machine, or a certificate for one"
	case certfile.WrongName:
		return "--tls-name with one of the names that it is for"
	}
	return tryTLS + ", as certbot leaves them in /etc/letsencrypt/live"
}

// follow reads the files again when they change, until stop is called. What
// there is to say comes over the news.
func (c *certificate) follow() (stop func()) {
	if c == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.file.Run(ctx); err != nil {
			log.Error("the certificate is not followed any more", "err", err)
		}
	})
	return func() {
		cancel()
		c.stop()
		running.Wait()
	}
}

// count registers when the certificate in force ends.
func (c *certificate) count(reg prometheus.Registerer) error {
	if c == nil || reg == nil {
		return nil
	}
	return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "causeway", Subsystem: "relayd", Name: "certificate_expiry_timestamp_seconds",
		Help: "When the certificate in use expires, in Unix time.",
	}, func() float64 { return float64(c.file.Expires().Unix()) }))
}

// reload makes the files be read now.
func (c *certificate) reload() {
	if c != nil {
		c.file.Reload()
	}
}

// told are the news; nil, which never has any, without a certificate.
func (c *certificate) told() <-chan string {
	if c == nil {
		return nil
	}
	return c.news
}

// words say for whom the certificate is and until when, and what is missing for
// others to hear of it.
func (c *certificate) words(s node.Status) string {
	text := fmt.Sprintf("as %s, with a certificate until %s", c.file.Name(), c.file.Expires().UTC().Format(time.DateOnly))
	named := func(a string) bool { return strings.Contains(a, "/"+c.file.Name()+"/") }
	if len(s.Addrs) > 0 && !slices.ContainsFunc(s.Addrs, named) {
		text += fmt.Sprintf("; not announced: where others come in on port 443, --announce /dns4/%s/tcp/443/tls/ws besides", c.file.Name())
	}
	return text
}
