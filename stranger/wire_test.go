package stranger

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/stranger/pb"
)

func newID(t testing.TB) peer.ID {
	t.Helper()
	id, err := test.RandPeerID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func bytesOf(a string) []byte { return ma.StringCast(a).Bytes() }

func TestTargets(t *testing.T) {
	p := newID(t).String()
	for _, a := range []string{
		"/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.8/udp/65535/quic-v1", "/ip6/2a00::1/tcp/4001", "/ip6/2a00::1/udp/4001/quic-v1",
	} {
		if got, err := parseTarget(bytesOf(a)); err != nil || got.addr.String() != a {
			t.Errorf("%s: got %v, %v", a, got.addr, err)
		}
	}
	for reason, list := range map[Reason][]string{
		Malformed: {
			"/dns4/example.com/tcp/443", "/dnsaddr/example.com", "/ip4/8.8.8.8", "/ip4/8.8.8.8/udp/1", "/ip4/8.8.8.8/tcp/0",
			"/ip4/8.8.8.8/udp/0/quic-v1", "/ip4/8.8.8.8/tcp/1/ws", "/ip4/8.8.8.8/tcp/1/tls/ws", "/ip4/8.8.8.8/udp/1/quic",
			"/ip4/8.8.8.8/udp/1/quic-v1/webtransport", "/ip4/8.8.8.8/tcp/1/p2p/" + p, "/ip4/8.8.8.8/tcp/1/p2p/" + p + "/p2p-circuit",
			"/ip4/8.8.8.8/tcp/1/ip4/10.0.0.1/tcp/1", "/ip6zone/lo/ip6/fe80::1/tcp/1", "/unix/tmp/x", "/p2p/" + p,
			"/ip4/8.8.8.8/udp/1/webrtc-direct", "/tcp/1/ip4/8.8.8.8", "/ip4/8.8.8.8/tcp/1/http-path/" + strings.Repeat("x", 100),
		},
		NotPublic: {
			"/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/172.16.0.1/tcp/1", "/ip4/192.168.0.1/udp/1/quic-v1",
			"/ip4/100.64.0.1/tcp/1", "/ip4/169.254.169.254/tcp/80", "/ip4/224.0.0.1/udp/1/quic-v1", "/ip4/255.255.255.255/udp/1/quic-v1",
			"/ip4/240.0.0.1/tcp/1", "/ip4/192.0.0.170/tcp/1", "/ip4/198.51.100.1/tcp/1",
			"/ip6/::/tcp/1", "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6/fc00::1/tcp/1", "/ip6/ff02::1/udp/1/quic-v1", "/ip6/2001:db8::1/tcp/1",
			"/ip6/::ffff:8.8.8.8/tcp/1", "/ip6/::ffff:127.0.0.1/tcp/1", "/ip6/64:ff9b::7f00:1/tcp/1", "/ip6/64:ff9b:1::a00:1/tcp/1",
			"/ip6/2002:7f00:1::1/tcp/1", "/ip6/2001:0:a00:1::1/tcp/1",
		},
	} {
		for _, a := range list {
			_, err := parseTarget(bytesOf(a))
			var refusal *RefusedError
			if !errors.As(err, &refusal) || refusal.Reason != reason {
				t.Errorf("%s: got %v, want %s", a, err, reason)
			}
		}
	}
	for _, b := range [][]byte{nil, {4}, {4, 8, 8, 8}, bytes.Repeat([]byte{0xff}, 64), make([]byte, 1<<16)} {
		if got, err := parseTarget(b); err == nil {
			t.Errorf("%x: got %v", b, got.addr)
		}
	}
}

func TestRequests(t *testing.T) {
	id, addr := newID(t), bytesOf("/ip4/8.8.8.8/tcp/1")
	known := []netip.Prefix{netip.MustParsePrefix("9.9.9.0/24"), netip.MustParsePrefix("2a00:1:2::/48")}
	m := &pb.Ask{Addr: addr, Nonce: 7}
	for _, p := range known {
		m.Known = append(m.Known, prefixToWire(p))
	}
	a, err := parseAsk(m)
	if err != nil || a.nonce != 7 || len(a.known) != 2 || a.known[0] != known[0] || a.known[1] != known[1] {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, k := range [][][]byte{make([][]byte, 33), {nil}, {{1, 2}}, {{1, 2, 3, 4}}, {make([]byte, 300)}} {
		if _, err := parseAsk(&pb.Ask{Addr: addr, Known: k}); err == nil {
			t.Errorf("known %v: accepted", k)
		}
	}
	if o, err := parseDial(&pb.Dial{PeerId: []byte(id), Addr: addr, Nonce: 7}); err != nil || o.peer != id || o.nonce != 7 {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, p := range [][]byte{nil, []byte("peer"), bytes.Repeat([]byte{1}, 2000), append([]byte{0, 200, 1}, make([]byte, 200)...)} {
		if _, err := parseDial(&pb.Dial{PeerId: p, Addr: addr}); err == nil {
			t.Errorf("peer ID %x: accepted", p)
		}
	}
}

// TestAskFits: the longest request is one that a server reads.
func TestAskFits(t *testing.T) {
	m := &pb.Ask{Addr: make([]byte, maxAddrLen), Nonce: 1<<64 - 1}
	for range maxKnown {
		m.Known = append(m.Known, make([]byte, near6/8))
	}
	if got := proto.Size(&pb.Message{Kind: &pb.Message_Ask{Ask: m}}); got > maxMessage {
		t.Errorf("%d bytes, want at most %d", got, maxMessage)
	}
}

func TestAnswers(t *testing.T) {
	for _, want := range []error{nil, ErrDialFailed, ErrNobody} {
		m, err := answerTo(want)
		if got := outcomeOf(m.GetAnswer()); err != nil || !errors.Is(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	for r := range onWire {
		m, err := answerTo(refuse(r))
		got := outcomeOf(m.GetAnswer())
		var refusal *RefusedError
		switch {
		case err != nil, r == nobody && !errors.Is(got, ErrNobody), r != nobody && (!errors.As(got, &refusal) || refusal.Reason != r):
			t.Errorf("%s: got %v, %v", r, got, err)
		}
	}
	if len(onWire) != len(pb.Reason_name) {
		t.Errorf("%d reasons, and %d on the wire", len(onWire), len(pb.Reason_name))
	}
	var refusal *RefusedError
	if err := outcomeOf(&pb.Answer{Outcome: 77, Reason: 99}); !errors.As(err, &refusal) || refusal.Reason != Other {
		t.Errorf("of a later version: got %v", err)
	}
	if _, err := answerTo(errMessage); err == nil {
		t.Error("what came to nothing is answered")
	}
}

// FuzzRequest holds that whatever is asked for, what would be dialled is one
// public address of a known form, and all else is bounded.
func FuzzRequest(f *testing.F) {
	id := newID(f)
	seed := func(m *pb.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, a := range []string{"/ip4/8.8.8.8/tcp/1", "/ip6/2a00::1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/22", "/dns4/example.com/tcp/1"} {
		seed(&pb.Message{Kind: &pb.Message_Ask{Ask: &pb.Ask{Addr: bytesOf(a), Nonce: 1, Known: [][]byte{{1, 2, 3}, {1, 2, 3, 4, 5, 6}}}}})
		seed(&pb.Message{Kind: &pb.Message_Dial{Dial: &pb.Dial{PeerId: []byte(id), Addr: bytesOf(a), Nonce: 1}}})
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.Message
		if len(b) > maxMessage || proto.Unmarshal(b, &m) != nil {
			return
		}
		var got target
		var err error
		switch k := m.GetKind().(type) {
		case *pb.Message_Ask:
			var a ask
			a, err = parseAsk(k.Ask)
			if got = a.target; len(a.known) > maxKnown {
				t.Errorf("%x: %d networks", b, len(a.known))
			}
			for _, p := range a.known {
				if !p.IsValid() || !bytes.Equal(prefixToWire(p), prefixToWire(around(p.Addr()))) {
					t.Errorf("%x: network %v", b, p)
				}
			}
		case *pb.Message_Dial:
			var o order
			o, err = parseDial(k.Dial)
			if got = o.target; err == nil && o.peer.Validate() != nil {
				t.Errorf("%x: peer %q", b, o.peer)
			}
		default:
			return
		}
		if err != nil {
			var refusal *RefusedError
			if !errors.As(err, &refusal) {
				t.Errorf("%x: got %v, want a refusal", b, err)
			}
			return
		}
		if ip, ok := publicIP(got.addr); !ok || ip != got.ip || !ip.IsGlobalUnicast() || ip.IsPrivate() || len(got.addr) > 3 {
			t.Errorf("%x: would dial %v", b, got.addr)
		}
	})
}
