package certfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/internal/follow"
)

// maxFile bounds what is read of a file: a chain has some 5 KiB.
const maxFile = 1 << 20

// Fault is what is wrong with a file, for whoever knows what to do about it.
type Fault int

const (
	Missing    Fault = iota + 1 // there is no such file
	Unreadable                  // it may not be read, or is no regular file
	NotPEM                      // it has not what it should have, in PEM
	WrongKey                    // the key is another certificate's
	Expired                     // or not valid yet
	NoName                      // the certificate names no host that others could call
	WrongName                   // it is not for the name that was asked for
)

// Error is a fault of one of the files.
type Error struct {
	Path  string
	Fault Fault
	text  string
}

func (e *Error) Error() string { return e.text }

// readFile reads a file of bounded length. Symbolic links are followed: ACME
// clients leave such.
func readFile(path string) ([]byte, error) {
	fault := func(f Fault, text string) error { return &Error{path, f, text} }
	in, err := follow.Open(path)
	var no *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault(Missing, "there is no file "+path)
	case errors.As(err, &no):
		return nil, fault(Unreadable, fmt.Sprintf("%s cannot be read: %v", path, plain(err)))
	case err != nil: // it names the path
		return nil, fault(Unreadable, err.Error())
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		return nil, fault(Unreadable, fmt.Sprintf("%s cannot be read: %v", path, plain(err)))
	}
	return data, nil
}

// plain takes the path, which is told anyway, out of an error.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// parse makes a pair of two files' contents, if it is one that serves now.
func parse(cfg Config, cert, key []byte) (*tls.Certificate, error) {
	fault := func(path string, f Fault, format string, args ...any) error {
		return &Error{path, f, fmt.Sprintf(format, args...)}
	}
	if !hasBlock(cert, "CERTIFICATE") {
		return nil, fault(cfg.Cert, NotPEM, "%s has no certificate in PEM", cfg.Cert)
	}
	switch {
	case hasBlock(key, "ENCRYPTED PRIVATE KEY"), strings.Contains(string(key), "Proc-Type: 4,ENCRYPTED"):
		return nil, fault(cfg.Key, NotPEM, "the private key in %s is encrypted: nobody is there to type the password", cfg.Key)
	case !hasBlock(key, "PRIVATE KEY"):
		return nil, fault(cfg.Key, NotPEM, "%s has no private key in PEM", cfg.Key)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, keyPairFault(cfg, cert, err)
	}
	leaf, now := pair.Leaf, time.Now()
	switch {
	case now.After(leaf.NotAfter):
		return nil, fault(cfg.Cert, Expired, "the certificate in %s expired on %s", cfg.Cert, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return nil, fault(cfg.Cert, Expired, "the certificate in %s is not valid before %s", cfg.Cert, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if cfg.Name != "" && leaf.VerifyHostname(cfg.Name) != nil {
		return nil, fault(cfg.Cert, WrongName, "the certificate in %s is for %s, not for %s", cfg.Cert, names(leaf), cfg.Name)
	}
	return &pair, nil
}

// keyPairFault tells which of the two files crypto/tls means.
func keyPairFault(cfg Config, cert []byte, err error) error {
	for rest := cert; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, bad := x509.ParseCertificate(block.Bytes); bad != nil {
			return &Error{cfg.Cert, NotPEM, fmt.Sprintf("the certificate in %s is broken: %v", cfg.Cert, strings.TrimPrefix(bad.Error(), "x509: "))}
		}
		break // the first is the one that the key belongs to
	}
	if strings.Contains(err.Error(), "does not match") {
		return &Error{cfg.Key, WrongKey, fmt.Sprintf("the private key in %s is not that of the certificate in %s", cfg.Key, cfg.Cert)}
	}
	return &Error{cfg.Key, NotPEM, fmt.Sprintf("the private key in %s is broken: %v", cfg.Key, strings.TrimPrefix(err.Error(), "tls: "))}
}

// hasBlock reports whether a file has a PEM block of a type; for keys, of any
// that ends so ("EC PRIVATE KEY").
func hasBlock(data []byte, kind string) bool {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return false
		}
		if block.Type == kind || kind == "PRIVATE KEY" && strings.HasSuffix(block.Type, " "+kind) && !strings.HasPrefix(block.Type, "ENCRYPTED") {
			return true
		}
	}
}

// nameOf is the first name of a certificate by which somebody can call.
func nameOf(leaf *x509.Certificate) (string, error) {
	for _, n := range leaf.DNSNames {
		if !strings.HasPrefix(n, "*.") {
			return n, nil
		}
	}
	if len(leaf.DNSNames) > 0 {
		return "", fmt.Errorf("the certificate is for %s, which says not under which name this machine is called", names(leaf))
	}
	return "", errors.New("the certificate is for no DNS name")
}

// names lists what a certificate is for.
func names(leaf *x509.Certificate) string {
	list := leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		list = append(list[:len(list):len(list)], ip.String())
	}
	if len(list) == 0 {
		return "no name"
	}
	return strings.Join(list[:min(len(list), 5)], ", ")
}
