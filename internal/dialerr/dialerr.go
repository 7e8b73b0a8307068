// Package dialerr says in a few words why a peer could not be dialled. The
// texts of go-libp2p, quic-go and the kernel name peers and addresses that
// whoever reads them knows already, and the history of every dial.
package dialerr

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multistream"
)

// most bounds the text of an error that is none of those below, in bytes.
const most = 60

// Short is err with a text of a few words. It is nil if err is.
func Short(err error) error {
	if err == nil {
		return nil
	}
	return &short{text: text(err), err: err}
}

type short struct {
	text string
	err  error
}

func (s *short) Error() string { return s.text }
func (s *short) Unwrap() error { return s.err }

// text looks for what tells most: where several addresses failed, a refusal is
// worth more than a silence, and both more than what was not even tried.
func text(err error) string {
	if s, ok := errors.AsType[*short](err); ok {
		return s.text // of one that was shortened before
	}
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	mismatch, isMismatch := errors.AsType[sec.ErrPeerIDMismatch](err)
	_, unsupported := errors.AsType[multistream.ErrNotSupported[protocol.ID]](err)
	netErr, isNet := errors.AsType[net.Error](err)
	_, stranger := errors.AsType[x509.UnknownAuthorityError](err)
	_, misnamed := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case isMismatch && mismatch.Actual != "":
		return "another peer answers there"
	case stranger:
		return "this machine does not trust who issued its certificate"
	case misnamed:
		return "its certificate is for another name"
	case isInvalid && invalid.Reason == x509.Expired:
		return "its certificate has expired, or this machine's clock is wrong"
	case unsupported:
		return "it does not offer that protocol"
	case is(syscall.ECONNREFUSED):
		return "connection refused"
	case is(network.ErrReset, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE):
		return "the connection broke"
	case is(context.DeadlineExceeded, swarm.ErrDialTimeout), isNet && netErr.Timeout():
		return "no answer in time"
	case is(syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL):
		return "no way there from this machine"
	case is(syscall.EPERM, syscall.EACCES):
		return "this machine does not let us"
	case is(swarm.ErrNoGoodAddresses, swarm.ErrNoAddresses, swarm.ErrNoTransport, swarm.ErrDialRefusedBlackHole):
		return "none of its addresses can be resolved or dialled from here"
	case is(swarm.ErrGaterDisallowedConnection):
		return "our own rules forbid its addresses"
	case is(network.ErrResourceLimitExceeded), strings.HasSuffix(err.Error(), "rate limit exceeded"):
		return "too many dials at once here" // the resource manager's (go-libp2p v0.51, rcmgr.go)
	}
	return first(err)
}

// first is the beginning of the innermost error's first line.
func first(err error) string {
	if d, ok := errors.AsType[*swarm.DialError](err); ok {
		switch {
		case len(d.DialErrors) > 0:
			err = d.DialErrors[len(d.DialErrors)-1].Cause
		case d.Cause != nil:
			err = d.Cause
		}
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) <= most {
		return line
	}
	return strings.ToValidUTF8(line[:most], "") + "…"
}
