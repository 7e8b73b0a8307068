package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
)

const (
	// prefix tells people and programs what the text is.
	prefix = "causeway1_"
	// maxToken bounds a signed token, in bytes. Those with every limit take
	// some 300; the rest is for what later versions add.
	maxToken = 1024
	// leeway is by how much the issuer's clock may be ahead of the relay's,
	// so that a fresh token can be used at once.
	leeway = time.Minute
)

var encoding = base64.RawURLEncoding.Strict()

// Signed is a token whose signature is good. Whether its signer is to be
// believed is another matter: Trust.Verify.
type Signed struct {
	Token
	sealed []byte
}

// Text is the token in one line.
func (s *Signed) Text() string { return prefix + encoding.EncodeToString(s.sealed) }

// Sign makes a token with an Ed25519 key, in one line of text.
func Sign(key crypto.PrivKey, t Token) (string, error) {
	if key.Type() != crypto.Ed25519 {
		return "", fmt.Errorf("sign token: the key is of type %s, want Ed25519", key.Type())
	}
	if t.Serial == (Serial{}) {
		t.Serial = NewSerial()
	}
	envelope, err := record.Seal(&t, key)
	if err != nil {
		if faults := t.validate(); faults != nil {
			err = faults // Seal makes a text of it
		}
		return "", fmt.Errorf("sign token: %w", err)
	}
	sealed, err := envelope.Marshal()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return (&Signed{sealed: sealed}).Text(), nil
}

// Parse reads what Sign wrote, with space around it, and checks the signature.
// The error is Malformed or BadSignature.
func Parse(text string) (*Signed, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	// The decoder would skip line breaks.
	if !ok || len(text) > encoding.EncodedLen(maxToken) || strings.ContainsAny(text, "\r\n") {
		return nil, Malformed
	}
	sealed, err := encoding.DecodeString(text)
	if err != nil {
		return nil, Malformed
	}
	return open(sealed)
}

func open(sealed []byte) (*Signed, error) {
	if len(sealed) > maxToken {
		return nil, Malformed
	}
	s := &Signed{sealed: bytes.Clone(sealed)}
	// It compares the domain, not the payload type (go-libp2p v0.51,
	// core/record/envelope.go).
	envelope, err := record.ConsumeTypedEnvelope(sealed, &s.Token)
	switch {
	case errors.Is(err, record.ErrInvalidSignature):
		return nil, BadSignature
	case err != nil || !bytes.Equal(envelope.PayloadType, s.Codec()) || envelope.PublicKey.Type() != crypto.Ed25519:
		return nil, Malformed
	}
	if s.Issuer, err = peer.IDFromPublicKey(envelope.PublicKey); err != nil {
		return nil, Malformed
	}
	return s, nil
}

// Trust is whom and what a relay believes. It may be copied, and is not changed.
type Trust struct {
	// Issuers are those whose tokens count.
	Issuers []peer.ID
	// Revoked are tokens and peers that do not. If nil, none.
	Revoked *Revocations
}

// Verify tells whether a token is good for the peer that holds it, at a time.
// The error is a Reason.
func (t Trust) Verify(s *Signed, holder peer.ID, now time.Time) error {
	switch {
	case !slices.Contains(t.Issuers, s.Issuer):
		return UnknownIssuer // and so nothing it says matters
	case s.Peer != holder:
		return OtherPeer
	case t.Revoked.Has(s.Token):
		return Revoked
	case now.Add(leeway).Before(s.NotBefore):
		return NotYetValid
	case !now.Before(s.Expires):
		return Expired
	}
	return nil
}
