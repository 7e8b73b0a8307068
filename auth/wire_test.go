package auth

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/auth/pb"
	"github.com/causeway-p2p/causeway/internal/oneshot"
)

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct{ in, want Grant }{
		"stranger": {Grant{}, Grant{}},
		"member":   {Grant{Class: "member", Expires: start.Add(time.Hour)}, Grant{Class: "member", Expires: start.Add(time.Hour)}},
		"rounded":  {Grant{Class: "m", Expires: start.Add(1500 * time.Millisecond)}, Grant{Class: "m", Expires: start.Add(2 * time.Second)}},
		"over":     {Grant{Class: "m", Expires: start.Add(-time.Hour)}, Grant{Class: "m", Expires: start.Add(time.Second)}},
		"far":      {Grant{Class: "m", Expires: start.Add(math.MaxInt64)}, Grant{Class: "m", Expires: start.Add(maxGrant * time.Second)}},
		"limits": {
			Grant{Class: "m", Limits: Limits{Circuits: 3, CircuitTime: 90 * time.Second, Rate: Unlimited, CircuitBytes: Unlimited}},
			Grant{Class: "m", Limits: Limits{Circuits: 3, CircuitTime: 90 * time.Second, Rate: Unlimited, CircuitBytes: Unlimited}},
		},
	} {
		if got, err := outcome(granted(c.in, start), start); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
	}
	for _, r := range Reasons {
		if g, err := outcome(refused(r), start); err != r || g != (Grant{}) {
			t.Errorf("%q: got %+v, %v", string(r), g, err)
		}
	}
	for name, m := range map[string]*pb.Answer{
		"nothing":      {},
		"empty":        {Outcome: &pb.Answer_Granted{}},
		"class":        {Outcome: &pb.Answer_Granted{Granted: &pb.Granted{Class: "Big Boss\n"}}},
		"limit":        {Outcome: &pb.Answer_Granted{Granted: &pb.Granted{Limits: &pb.Limits{Rate: -2}}}},
		"limit 2":      {Outcome: &pb.Answer_Granted{Granted: &pb.Granted{Limits: &pb.Limits{CircuitSeconds: math.MinInt64}}}},
		"later reason": {Outcome: &pb.Answer_Refused{Refused: &pb.Refused{Reason: 77}}},
	} {
		want := errAnswer
		switch name {
		case "later reason":
			want = NotTaken
		case "empty":
			want = nil // what a stranger gets
		}
		if g, err := outcome(m, start); err != want || g != (Grant{}) {
			t.Errorf("%s: got %+v, %v, want %v", name, g, err, want)
		}
	}
}

// FuzzAnswer holds that whatever a relay says, what comes of it is bounded and
// means the same when it is said again.
func FuzzAnswer(f *testing.F) {
	for _, m := range []*pb.Answer{
		{},
		refused(Revoked), granted(Grant{}, start),
		granted(Grant{Class: "member", Limits: Limits{CircuitTime: Unlimited, Rate: 5}, Expires: start.Add(time.Hour)}, start),
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0x1a, 0x00}) // an outcome that we do not know
	f.Fuzz(func(t *testing.T, data []byte) {
		var m pb.Answer
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		g, err := outcome(&m, start)
		if err != nil {
			if g != (Grant{}) {
				t.Errorf("%x: got %+v with %v", data, g, err)
			}
			return
		}
		if g.Limits.validate() != nil || len(g.Class) > 32 || g.Expires.After(start.Add(maxGrant*time.Second)) {
			t.Errorf("%x: got %+v", data, g)
		}
		if again, err := outcome(granted(g, start), start); err != nil || again != g {
			t.Errorf("%x: said again, %+v becomes %+v, %v", data, g, again, err)
		}
	})
}

// fakeStream is a peer that has said all it will say.
type fakeStream struct {
	network.Stream
	in  *bytes.Reader
	out bytes.Buffer
	end string
}

func (s *fakeStream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *fakeStream) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *fakeStream) Close() error                { s.end += "closed "; return nil }
func (s *fakeStream) Reset() error                { s.end += "reset "; return nil }
func (s *fakeStream) SetDeadline(time.Time) error { return nil }
func (s *fakeStream) Protocol() protocol.ID       { return Protocol }
func (s *fakeStream) Conn() network.Conn          { return fakeConn{} }

type fakeConn struct{ network.Conn }

func (fakeConn) RemotePeer() peer.ID { return "sender" }

// FuzzReceive holds that whatever comes in, the stream ends once: in a reset,
// or with one answer, which is a refusal unless the token was a token.
func FuzzReceive(f *testing.F) {
	key, _ := newKey(f)
	_, p := newKey(f)
	s, err := Parse(sign(f, key, Token{Peer: p, Class: "member", Expires: start}))
	if err != nil {
		f.Fatal(err)
	}
	for _, token := range [][]byte{nil, s.sealed, s.sealed[:100], make([]byte, maxToken+1)} {
		var b bytes.Buffer
		if err := oneshot.Write(&b, &pb.Present{Token: token}); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()/2])
	}
	f.Add([]byte{0x81, 0x20})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		asked, told := 0, 0
		v := oneshot.NewServer(bounds, Relay{
			Accept: func(from peer.ID, s *Signed) (Grant, error) {
				if asked++; s != nil && s.validate() != nil || from != "sender" {
					t.Errorf("%x: from %q: %+v", data, from, s)
				}
				return Grant{Class: "member"}, nil
			},
			Refused: func(peer.ID, Reason) { told++ },
		}.take)
		s := &fakeStream{in: bytes.NewReader(data)}
		v.Handle(s)
		if s.end == "reset " && asked+told+s.out.Len() == 0 {
			return
		}
		var m pb.Answer
		err := protodelim.UnmarshalFrom(&s.out, &m)
		g, refusal := outcome(&m, start)
		if s.end != "closed " || err != nil || s.out.Len() > 0 || asked+told != 1 || (refusal == nil) != (asked == 1) || refusal == nil && g.Class != "member" {
			t.Errorf("%x: %s%v, asked %d, told %d, answered %+v, %v", data, s.end, err, asked, told, g, refusal)
		}
	})
}
