package dialerr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"
)

func TestShort(t *testing.T) {
	there := ma.StringCast("/ip4/203.0.113.7/tcp/4001")
	dial := func(causes ...error) error {
		d := &swarm.DialError{Peer: "a peer whose name is long", Cause: swarm.ErrAllDialsFailed}
		for _, c := range causes {
			d.DialErrors = append(d.DialErrors, swarm.TransportError{Address: there, Cause: c})
		}
		return fmt.Errorf("failed to dial: %w", d)
	}
	kernel := func(no syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp4", Err: os.NewSyscallError("connect", no)}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "no answer in time"},
		{dial(kernel(syscall.ECONNREFUSED)), "connection refused"},
		{dial(&quic.IdleTimeoutError{}, kernel(syscall.ECONNREFUSED)), "connection refused"},
		{dial(kernel(syscall.ECONNREFUSED), &quic.IdleTimeoutError{}), "connection refused"},
		{dial(&quic.HandshakeTimeoutError{}), "no answer in time"},
		{dial(kernel(syscall.ETIMEDOUT)), "no answer in time"},
		{dial(kernel(syscall.ENETUNREACH)), "no way there from this machine"},
		{dial(errors.New("rate limit exceeded")), "too many dials at once here"},
		{dial(), "all dials failed"},
		{fmt.Errorf("failed to dial: %w", &swarm.DialError{Cause: swarm.ErrNoGoodAddresses}), "none of its addresses can be resolved or dialled from here"},
		{dial(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, kernel(syscall.ECONNREFUSED)), "this machine does not trust who issued its certificate"},
		{dial(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: new(x509.Certificate), Host: "x"}}), "its certificate is for another name"},
		{dial(x509.CertificateInvalidError{Reason: x509.Expired}), "its certificate has expired, or this machine's clock is wrong"},
		{sec.ErrPeerIDMismatch{Expected: "a", Actual: "b"}, "another peer answers there"},
		{multistream.ErrNotSupported[protocol.ID]{}, "it does not offer that protocol"},
		{&network.StreamError{}, "the connection broke"},
		{io.EOF, "the connection broke"},
		{fmt.Errorf("to begin: %w", errors.New("first\nsecond")), "first"},
		{errors.New(strings.Repeat("ä", 1000)), strings.Repeat("ä", 30) + "…"},
	} {
		got := Short(c.err)
		if got.Error() != c.want {
			t.Errorf("Short(%v): got %q, want %q", c.err, got, c.want)
		}
		if !errors.Is(got, c.err) && !errors.As(c.err, new(multistream.ErrNotSupported[protocol.ID])) {
			t.Errorf("Short(%v) hides the error", c.err)
		}
		if again := Short(fmt.Errorf("relay: %w", got)); again.Error() != c.want {
			t.Errorf("Short, twice, of %v: got %q, want %q", c.err, again, c.want)
		}
	}
	if Short(nil) != nil {
		t.Error("Short(nil) is an error")
	}
}
