package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-p2p/causeway/auth/pb"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newKey(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func sign(t testing.TB, key crypto.PrivKey, token Token) string {
	t.Helper()
	text, err := Sign(key, token)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSignAndParse(t *testing.T) {
	key, issuer := newKey(t)
	_, p := newKey(t)
	for name, want := range map[string]Token{
		"least": {Serial: NewSerial(), Peer: p, Class: "m", Expires: start},
		"most": {
			Serial: NewSerial(), Peer: p, Class: strings.Repeat("x-9", 11)[:32],
			Limits: Limits{
				Circuits: math.MaxInt64, CircuitTime: math.MaxInt64 / time.Second * time.Second, CircuitBytes: math.MaxInt64,
				Rate: math.MaxInt64, Burst: math.MaxInt64, MonthlyBytes: math.MaxInt64,
			},
			NotBefore: time.Unix(lastSecond-1, 0).UTC(), Expires: time.Unix(lastSecond, 0).UTC(),
		},
		"unlimited": {
			Serial: NewSerial(), Peer: p, Class: "member", Expires: start,
			Limits: Limits{
				Circuits: Unlimited, CircuitTime: Unlimited, CircuitBytes: Unlimited,
				Rate: Unlimited, Burst: Unlimited, MonthlyBytes: Unlimited,
			},
		},
		"mixed": {
			Serial: NewSerial(), Peer: p, Class: "member", NotBefore: start.Add(-time.Hour), Expires: start,
			Limits: Limits{CircuitTime: time.Second, MonthlyBytes: 1},
		},
	} {
		text := sign(t, key, want)
		got, err := Parse(" " + text + "\r\n")
		if err != nil {
			t.Errorf("%s: %s: %v", name, text, err)
			continue
		}
		want.Issuer = issuer
		if !reflect.DeepEqual(got.Token, want) || got.Text() != text {
			t.Errorf("%s: got %+v, want %+v", name, got.Token, want)
		}
		if name == "most" && len(text) > 600 {
			t.Errorf("the longest token has %d characters", len(text))
		}
		data, err := json.Marshal(got.Token)
		var back Token
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		if err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%s: JSON %s: got %+v, %v", name, data, back, err)
		}
	}
	a, b := Token{Peer: p, Class: "m", Expires: start}, Token{}
	one, two := sign(t, key, a), sign(t, key, a)
	s1, _ := Parse(one)
	s2, _ := Parse(two)
	if s1.Serial == b.Serial || s1.Serial == s2.Serial {
		t.Errorf("serials drawn: got %s and %s", s1.Serial, s2.Serial)
	}
}

func TestSignRefuses(t *testing.T) {
	key, _ := newKey(t)
	_, p := newKey(t)
	good := Token{Peer: p, Class: "member", Expires: start}
	for want, spoil := range map[string]func(*Token){
		"peer ID is missing":       func(t *Token) { t.Peer = "" },
		"peer ID is missing or":    func(t *Token) { t.Peer = peer.ID(strings.Repeat("x", 100)) },
		`class "": want 1 to 32`:   func(t *Token) { t.Class = "" },
		`class "Member"`:           func(t *Token) { t.Class = "Member" },
		`class "a b"`:              func(t *Token) { t.Class = "a b" },
		`class "a\n"`:              func(t *Token) { t.Class = "a\n" },
		`class "ä"`:                func(t *Token) { t.Class = "ä" },
		`class "xxxxxxxxxxxxxxx`:   func(t *Token) { t.Class = strings.Repeat("x", 33) },
		"expires is missing":       func(t *Token) { t.Expires = time.Time{} },
		"1970 to 9999":             func(t *Token) { t.Expires = time.Unix(lastSecond+1, 0) },
		"expires before it":        func(t *Token) { t.NotBefore = t.Expires },
		"circuits is -2":           func(t *Token) { t.Limits.Circuits = -2 },
		"circuit time is 999ms":    func(t *Token) { t.Limits.CircuitTime = 999 * time.Millisecond },
		"circuit time is -1s":      func(t *Token) { t.Limits.CircuitTime = -time.Second },
		"monthly bytes is -9":      func(t *Token) { t.Limits.MonthlyBytes = -9 },
		"rate is -3":               func(t *Token) { t.Limits.Rate = -3 },
		"burst is -3":              func(t *Token) { t.Limits.Burst = -3 },
		"circuit bytes is -922337": func(t *Token) { t.Limits.CircuitBytes = math.MinInt64 },
	} {
		token := good
		spoil(&token)
		if text, err := Sign(key, token); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %q, %v, want an error with %q", token, text, err, want)
		}
	}
	_, err := Sign(key, Token{Class: "X", Limits: Limits{Rate: -5}})
	if got := strings.Count(err.Error(), "\n") + 1; got != 4 {
		t.Errorf("faults told at once: got %d in %v, want 4", got, err)
	}
	other, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(other, good); err == nil || !strings.Contains(err.Error(), "want Ed25519") {
		t.Errorf("a key of another type: got %v", err)
	}
}

// sealed is a token's payload in an envelope that need not be in order.
type forged struct {
	domain, codec string
	payload       []byte
}

func (f forged) Domain() string                 { return f.domain }
func (f forged) Codec() []byte                  { return []byte(f.codec) }
func (f forged) MarshalRecord() ([]byte, error) { return f.payload, nil }
func (f forged) UnmarshalRecord([]byte) error   { return nil }

func (f forged) seal(t testing.TB, key crypto.PrivKey) string {
	t.Helper()
	envelope, err := record.Seal(f, key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := envelope.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return (&Signed{sealed: data}).Text()
}

func TestParseRefuses(t *testing.T) {
	key, _ := newKey(t)
	_, p := newKey(t)
	token := Token{Serial: NewSerial(), Peer: p, Class: "member", Expires: start}
	text := sign(t, key, token)
	payload, err := token.MarshalRecord()
	if err != nil {
		t.Fatal(err)
	}
	secp, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	domain, codec := token.Domain(), string(token.Codec())
	good := forged{domain, codec, payload}
	with := func(more ...byte) forged {
		return forged{domain, codec, append(payload[:len(payload):len(payload)], more...)}
	}
	if s, err := Parse(good.seal(t, key)); err != nil || s.Serial != token.Serial {
		t.Fatalf("in order: got %+v, %v", s, err)
	}
	// What a later version adds is passed over.
	later := with(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "new")...)
	if s, err := Parse(later.seal(t, key)); err != nil || s.Class != "member" {
		t.Errorf("with a field that we do not know: got %+v, %v", s, err)
	}
	for name, c := range map[string]struct {
		text string
		want Reason
	}{
		"nothing":        {"", Malformed},
		"prefix":         {prefix, Malformed},
		"no prefix":      {text[len(prefix):], Malformed},
		"other version":  {"causeway2_" + text[len(prefix):], Malformed},
		"cut":            {text[:len(text)-4], Malformed},
		"padded":         {text + "==", Malformed},
		"two lines":      {text[:40] + "\n" + text[40:], Malformed},
		"other alphabet": {text[:40] + "+/" + text[42:], Malformed},
		"too long":       {prefix + strings.Repeat("A", 10000), Malformed},
		"zeros":          {prefix + strings.Repeat("A", 200), Malformed},
		"other domain":   {forged{"libp2p-peer-record", codec, payload}.seal(t, key), BadSignature},
		"other type":     {forged{domain, "/causeway/auth-token/2", payload}.seal(t, key), Malformed},
		"other key":      {good.seal(t, secp), Malformed},
		"no payload":     {forged{domain, codec, nil}.seal(t, key), Malformed},
		"no protobuf":    {forged{domain, codec, []byte("hello")}.seal(t, key), Malformed},
		"class":          {with(0x1a, 1, 'X').seal(t, key), Malformed},
		"serial":         {with(0x0a, 1, 'X').seal(t, key), Malformed},
		"limits":         {with(0x22, 2, 0x08, 3).seal(t, key), Malformed}, // circuits -2
		"long peer ID":   {with(append([]byte{0x12, 104, 0, 102}, make([]byte, 102)...)...).seal(t, key), Malformed},
		"never expires":  {with(0x30, 0).seal(t, key), Malformed},
		"negative time":  {with(0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1).seal(t, key), Malformed},
		"oversized":      {with(append([]byte{0x9a, 0x06, 0x80, 0x08}, make([]byte, 1024)...)...).seal(t, key), Malformed},
	} {
		if s, err := Parse(c.text); err != c.want || s != nil {
			t.Errorf("%s: got %+v, %v, want %q", name, s, err, string(c.want))
		}
	}
}

// TestEveryBitCounts: a token that was changed anywhere is not one any more.
func TestEveryBitCounts(t *testing.T) {
	key, _ := newKey(t)
	_, p := newKey(t)
	s, err := Parse(sign(t, key, Token{Peer: p, Class: "member", Expires: start}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.sealed {
		for bit := range 8 {
			s.sealed[i] ^= 1 << bit
			if got, err := open(s.sealed); err == nil && got.Token != s.Token {
				t.Errorf("byte %d, bit %d: got %+v", i, bit, got.Token)
			}
			s.sealed[i] ^= 1 << bit
		}
	}
}

// FuzzParse holds that what is taken for a token is valid, says the same when
// it is written again, and that all else has one of two reasons.
func FuzzParse(f *testing.F) {
	key, _ := newKey(f)
	_, p := newKey(f)
	text := sign(f, key, Token{Peer: p, Class: "member", Expires: start, Limits: Limits{Rate: Unlimited}})
	f.Add(text)
	f.Add(text[:len(text)-8])
	f.Add(" " + text + "\n")
	f.Add(prefix)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if s != nil || err != Malformed && err != BadSignature {
				t.Errorf("%q: got %v, %v", text, s, err)
			}
			return
		}
		if err := s.validate(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if again, err := Parse(s.Text()); err != nil || again.Token != s.Token {
			t.Errorf("%q: written again it is %+v, %v", text, again, err)
		}
	})
}

// FuzzToken holds the same for the payload, whatever an issuer may sign.
func FuzzToken(f *testing.F) {
	_, p := newKey(f)
	for _, t := range []Token{
		{Serial: NewSerial(), Peer: p, Class: "m", Expires: start},
		{Serial: NewSerial(), Peer: p, Class: "m", NotBefore: start, Expires: start.Add(1e9), Limits: Limits{Circuits: 3, CircuitTime: Unlimited}},
	} {
		data, err := t.MarshalRecord()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{})
	f.Add([]byte{0x22, 0x02, 0x10, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		var token, again Token
		if token.UnmarshalRecord(data) != nil {
			return
		}
		if _, err := json.Marshal(token); err != nil {
			t.Errorf("%x: %+v has no JSON: %v", data, token, err)
		}
		out, err := token.MarshalRecord()
		if err != nil {
			t.Fatalf("%x: %+v: %v", data, token, err)
		}
		if err := again.UnmarshalRecord(out); err != nil || again != token {
			t.Errorf("%x: %+v becomes %+v, %v", data, token, again, err)
		}
	})
}

func TestVerify(t *testing.T) {
	key, issuer := newKey(t)
	stranger, _ := newKey(t)
	_, holder := newKey(t)
	_, thief := newKey(t)
	const year = 365 * 24 * time.Hour
	token := Token{Serial: NewSerial(), Peer: holder, Class: "member", NotBefore: start, Expires: start.Add(time.Hour)}
	list := func(text string) *Revocations {
		r, err := ParseRevocations(strings.NewReader(text), "list")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	trust := Trust{Issuers: []peer.ID{thief, issuer}}
	for name, c := range map[string]struct {
		trust  Trust
		key    crypto.PrivKey
		holder peer.ID
		after  time.Duration
		want   error
	}{
		"good":                 {trust, key, holder, 0, nil},
		"last second":          {trust, key, holder, time.Hour - 1, nil},
		"over":                 {trust, key, holder, time.Hour, Expired},
		"relay a little late":  {trust, key, holder, -time.Minute, nil},
		"too early":            {trust, key, holder, -time.Minute - 1, NotYetValid},
		"clock 5 years late":   {trust, key, holder, -5 * year, NotYetValid},
		"clock 5 years early":  {trust, key, holder, 5 * year, Expired},
		"stolen":               {trust, key, thief, 0, OtherPeer},
		"nobody trusted":       {Trust{}, key, holder, 0, UnknownIssuer},
		"other issuer":         {trust, stranger, holder, 0, UnknownIssuer},
		"revoked":              {Trust{trust.Issuers, list(token.Serial.String())}, key, holder, 0, Revoked},
		"peer revoked":         {Trust{trust.Issuers, list(holder.String())}, key, holder, 0, Revoked},
		"others revoked":       {Trust{trust.Issuers, list(thief.String() + "\n" + NewSerial().String())}, key, holder, 0, nil},
		"stolen and revoked":   {Trust{trust.Issuers, list(holder.String())}, key, thief, 0, OtherPeer},
		"revoked and over":     {Trust{trust.Issuers, list(holder.String())}, key, holder, year, Revoked},
		"issued to and by one": {Trust{Issuers: []peer.ID{holder}}, key, holder, 0, UnknownIssuer},
	} {
		s, err := Parse(sign(t, c.key, token))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.trust.Verify(s, c.holder, start.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	token.NotBefore = time.Time{}
	if s, err := Parse(sign(t, key, token)); err != nil || trust.Verify(s, holder, start.Add(-5*year)) != nil {
		t.Errorf("without NotBefore, clock 5 years late: %v", err)
	}
}

func TestLimitsOver(t *testing.T) {
	class := Limits{Circuits: 1, CircuitTime: 2, CircuitBytes: 3, Rate: 4, Burst: 5, MonthlyBytes: 6}
	for _, c := range []struct{ token, want Limits }{
		{Limits{}, class},
		{class, class},
		{Limits{Rate: Unlimited, Circuits: 9}, Limits{Circuits: 9, CircuitTime: 2, CircuitBytes: 3, Rate: Unlimited, Burst: 5, MonthlyBytes: 6}},
	} {
		if got := c.token.Over(class); got != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.token, got, c.want)
		}
	}
}

func TestReasons(t *testing.T) {
	said := make(map[string]bool)
	for _, r := range Reasons {
		if got := reasonFromWire(onWire[r]); got != r {
			t.Errorf("%q comes out as %q", string(r), string(got))
		}
		said[r.Error()] = true
	}
	if len(said) != len(onWire) || len(onWire) != len(Reasons) || len(pb.Reason_name) != len(Reasons) {
		t.Errorf("%d reasons, %d sentences, %d on the wire of %d", len(Reasons), len(said), len(onWire), len(pb.Reason_name))
	}
	for err, want := range map[error]Reason{errAnswer: NotTaken, Reason("else"): NotTaken, Revoked: Revoked} {
		if got := reasonOf(err); got != want {
			t.Errorf("%v: got %q, want %q", err, string(got), string(want))
		}
	}
	if got := reasonFromWire(99); got != NotTaken {
		t.Errorf("a reason of a later version: got %q", string(got))
	}
}

// BenchmarkParse is what a presentation costs a relay, less the stream.
func BenchmarkParse(b *testing.B) {
	key, issuer := newKey(b)
	_, p := newKey(b)
	text := sign(b, key, Token{Peer: p, Class: "member", Expires: start, Limits: Limits{Circuits: 8, Rate: Unlimited}})
	trust := Trust{Issuers: []peer.ID{issuer}}
	b.ReportAllocs()
	for b.Loop() {
		s, err := Parse(text)
		if err == nil {
			err = trust.Verify(s, p, start.Add(-time.Hour))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(text)), "characters")
}
