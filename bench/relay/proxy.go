package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/causeway-p2p/causeway/bench/child"
)

// What moving bytes costs without libp2p: proxies that accept a TCP connection,
// open another, and copy. A relay cannot be cheaper than the one that does the
// same cryptography.

// proxySpec says what the proxy does with the bytes.
type proxySpec struct {
	Target string `json:"target"`
	// Splice lets the kernel move them; otherwise they pass through a buffer
	// of 64 KiB. TLS ends TLS on both sides, which rules Splice out.
	Splice bool `json:"splice"`
	TLS    bool `json:"tls"`
}

const proxyBuffer = 64 << 10

// proxy is the process of one.
type proxy struct{ profiler }

func (p *proxy) actions() child.Actions {
	return child.Actions{
		"start":     child.Action(p.start),
		"usage":     child.Action(measureUsage),
		"profile":   child.Action(p.begin),
		"unprofile": child.Action(p.end),
	}
}

// start listens, and returns where.
func (p *proxy) start(ctx context.Context, spec proxySpec) (string, error) {
	return listenPlain(ctx, spec.TLS, func(in net.Conn) {
		out, err := dialPlain(ctx, spec.Target, spec.TLS)
		if err != nil {
			return
		}
		defer out.Close()
		var ways sync.WaitGroup
		ways.Go(func() { spec.copy(out, in) })
		ways.Go(func() { spec.copy(in, out) })
		ways.Wait()
	})
}

// copy moves one direction, and passes on its end.
func (p proxySpec) copy(dst, src net.Conn) {
	var err error
	if p.Splice {
		_, err = io.Copy(dst, src)
	} else {
		_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, proxyBuffer))
	}
	if err != nil || endWrite(dst) != nil {
		dst.Close()
	}
}

// endWrite passes on the end of a direction: *net.TCPConn and *tls.Conn can.
func endWrite(c net.Conn) error { return c.(halfCloser).CloseWrite() }

// plain is what clients do without libp2p.
type plain struct{}

type listenArgs struct {
	TLS bool `json:"tls"`
}

// listen takes what is sent, and returns where.
func (plain) listen(ctx context.Context, a listenArgs) (string, error) {
	return listenPlain(ctx, a.TLS, func(c net.Conn) {
		if err := receive(c); err != nil || endWrite(c) != nil {
			c.Close()
		}
	})
}

// sendArgs ask for bytes over so many connections.
type sendArgs struct {
	bulkArgs
	To    string `json:"to"`
	TLS   bool   `json:"tls"`
	Conns int    `json:"conns"`
}

func (plain) send(ctx context.Context, a sendArgs) (moved, error) {
	return sendAll(a.Conns, a.bulkArgs, func(int) (halfCloser, func(), error) {
		c, err := dialPlain(ctx, a.To, a.TLS)
		if err != nil {
			return nil, nil, err
		}
		return c.(halfCloser), func() { c.Close() }, nil
	})
}

// listenPlain serves connections at a loopback port until ctx ends, which ends
// them too.
func listenPlain(ctx context.Context, secure bool, serve func(net.Conn)) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	if secure {
		cert, err := selfSigned()
		if err != nil {
			return "", errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() { // ends with the listener, and so with the process
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				c.SetDeadline(time.Now().Add(circuitTime))
				serve(c)
			}()
		}
	}()
	return addr, nil
}

func dialPlain(ctx context.Context, to string, secure bool) (net.Conn, error) {
	d := net.Dialer{Timeout: handshakeTimeout}
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(circuitTime))
	if !secure {
		return c, nil
	}
	// Who it is does not matter on loopback; what it costs does.
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if err := s.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
