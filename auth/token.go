package auth

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/auth/pb"
)

// Token says that a peer belongs to a class, for a time.
type Token struct {
	// Serial is what it is revoked by. If zero, Sign draws one.
	Serial Serial `json:"serial"`
	// Peer is who may present it.
	Peer peer.ID `json:"peer"`
	// Class is the name of what the peer belongs to, 1 to 32 characters of
	// a-z 0-9 -. What it means is up to the relay.
	Class string `json:"class"`
	// Limits take the place of the class's.
	Limits Limits `json:"limits"`
	// NotBefore and Expires are when it is valid, in whole seconds, by the
	// relay's clock. If NotBefore is zero, it has always been.
	NotBefore time.Time `json:"not_before,omitzero"`
	Expires   time.Time `json:"expires"`
	// Issuer is who signed it. Sign and Parse take it from the key.
	Issuer peer.ID `json:"issuer"`
}

// Serial names a token.
type Serial [16]byte

// NewSerial draws one that nobody else will.
func NewSerial() (s Serial) {
	rand.Read(s[:])
	return s
}

// ParseSerial reads what String writes.
func ParseSerial(text string) (s Serial, err error) {
	if len(text) != hex.EncodedLen(len(s)) {
		return Serial{}, fmt.Errorf("serial %.40q: want %d hexadecimal digits", text, hex.EncodedLen(len(s)))
	}
	if _, err := hex.Decode(s[:], []byte(text)); err != nil {
		return Serial{}, fmt.Errorf("serial %q: %w", text, err)
	}
	return s, nil
}

// String writes 32 hexadecimal digits.
func (s Serial) String() string { return hex.EncodeToString(s[:]) }

// MarshalText makes it the same in JSON.
func (s Serial) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Serial) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSerial(string(text))
	return err
}

var validClass = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// maxIDLen bounds a peer ID, in bytes. Those in use have 34 to 39.
const maxIDLen = 64

// lastSecond is the end of the year 9999, after which times have no JSON.
const lastSecond = 253402300799

// validate reports every fault at once. Sign refuses them, and so does Parse:
// whatever reads a token need not look again.
func (t Token) validate() error {
	var errs []error
	if t.Serial == (Serial{}) {
		errs = append(errs, errors.New("the serial is missing"))
	}
	if len(t.Peer) > maxIDLen || t.Peer.Validate() != nil {
		errs = append(errs, errors.New("the peer ID is missing or not valid"))
	}
	if !validClass.MatchString(t.Class) {
		errs = append(errs, fmt.Errorf("class %.40q: want 1 to 32 characters of a-z 0-9 -", t.Class))
	}
	errs = append(errs, t.Limits.validate())
	from, to := seconds(t.NotBefore), seconds(t.Expires)
	switch {
	case to <= 0:
		errs = append(errs, errors.New("the time when it expires is missing"))
	case from < 0 || to > lastSecond:
		errs = append(errs, errors.New("valid from 1970 to 9999 at most"))
	case from >= to:
		errs = append(errs, errors.New("it expires before it is valid"))
	}
	return errors.Join(errs...)
}

// seconds is a time as Unix has it, and 0 for the zero time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func timeOf(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// Domain, Codec, MarshalRecord and UnmarshalRecord make a token the payload of
// a libp2p signed envelope (RFC 0002): the signature covers domain and payload
// type, so that none made for something else counts as a token's.
func (*Token) Domain() string { return "causeway-auth-token" }

// Codec is the payload type.
func (*Token) Codec() []byte { return []byte("/causeway/auth-token/1") }

// MarshalRecord encodes the token, less its issuer, who is the signer.
func (t *Token) MarshalRecord() ([]byte, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	return proto.Marshal(&pb.Token{
		Serial: t.Serial[:], PeerId: []byte(t.Peer), Class: t.Class, Limits: limitsToWire(t.Limits),
		NotBefore: seconds(t.NotBefore), Expires: seconds(t.Expires),
	})
}

// UnmarshalRecord decodes what MarshalRecord encoded.
func (t *Token) UnmarshalRecord(data []byte) error {
	var m pb.Token
	if err := proto.Unmarshal(data, &m); err != nil {
		return err
	}
	limits, err := limitsFromWire(m.GetLimits())
	if err != nil {
		return err
	}
	if len(m.GetSerial()) != len(t.Serial) {
		return fmt.Errorf("the serial has %d bytes, want %d", len(m.GetSerial()), len(t.Serial))
	}
	*t = Token{
		Serial: Serial(m.GetSerial()), Peer: peer.ID(m.GetPeerId()), Class: m.GetClass(), Limits: limits,
		NotBefore: timeOf(m.GetNotBefore()), Expires: timeOf(m.GetExpires()),
	}
	return t.validate()
}
