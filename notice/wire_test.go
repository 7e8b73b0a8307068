package notice

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-p2p/causeway/notice/pb"
)

func newID(t testing.TB) peer.ID {
	t.Helper()
	id, err := test.RandPeerID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func addrs(list ...string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range list {
		out = append(out, ma.StringCast(a))
	}
	return out
}

// roundTrip is what the other side makes of n, and its size on the wire.
func roundTrip(t *testing.T, n Notice, except ...peer.ID) (Notice, int) {
	t.Helper()
	data, err := encode(n)
	if err != nil {
		t.Fatal(err)
	}
	var m pb.Notice
	if err := (protodelim.UnmarshalOptions{MaxSize: maxMessage}).UnmarshalFrom(bytes.NewReader(data), &m); err != nil {
		t.Fatalf("%+v: %v", n, err)
	}
	got, known := fromWire(&m, except...)
	if !known {
		t.Fatalf("%+v: of no known kind", n)
	}
	return got, len(data)
}

func TestRoundTrip(t *testing.T) {
	a, b := newID(t), newID(t)
	list := addrs("/ip4/8.8.8.8/udp/4001/quic-v1", "/ip6/2001:db8::1/tcp/4001", "/dns4/relay.example/tcp/443/tls/ws")
	for _, n := range []Notice{
		{Draining: &Draining{}},
		{Draining: &Draining{Within: 30 * time.Second}},
		{Draining: &Draining{Within: maxWithin, Siblings: []peer.AddrInfo{{ID: a, Addrs: list}, {ID: b}}}},
		{Load: &Load{}},
		{Load: &Load{Reservations: 127, MaxReservations: 128, Full: true}},
		{Ended: &Ended{}},
		{Ended: &Ended{Circuits: []Circuit{
			{Peer: a, Reason: "byte-limit", Sent: math.MaxInt64, Received: 1, Lasted: 90 * time.Minute},
			{Peer: b, Reason: "x"},
		}}},
	} {
		if got, _ := roundTrip(t, n); !reflect.DeepEqual(got, n) {
			t.Errorf("got %+v, want %+v", got, n)
		}
	}
}

func TestBoundsOnTheWayOut(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 999 * time.Millisecond: 0, 1999 * time.Millisecond: time.Second,
		25 * time.Hour: maxWithin, math.MaxInt64: maxWithin,
	} {
		if got, _ := roundTrip(t, Notice{Draining: &Draining{Within: in}}); got.Draining.Within != want {
			t.Errorf("within %v: got %v, want %v", in, got.Draining.Within, want)
		}
	}
	got, _ := roundTrip(t, Notice{Load: &Load{Reservations: -1, MaxReservations: math.MaxInt}})
	if want := (Load{MaxReservations: math.MaxInt32}); *got.Load != want {
		t.Errorf("load: got %+v, want %+v", *got.Load, want)
	}
	// Long addresses: as many of each sibling as fit.
	var many []peer.AddrInfo
	for range 2 * maxSiblings {
		s := peer.AddrInfo{ID: newID(t)}
		for i := range 2 * maxAddrs {
			s.Addrs = append(s.Addrs, addrs(fmt.Sprintf("/dns4/%s%d.example/tcp/443", strings.Repeat("x", 150), i))...)
		}
		many = append(many, s)
	}
	got, size := roundTrip(t, Notice{Draining: &Draining{Siblings: many}})
	if size > maxMessage+2 || len(got.Draining.Siblings) != maxSiblings {
		t.Errorf("%d siblings in %d bytes, want %d in at most %d", len(got.Draining.Siblings), size, maxSiblings, maxMessage+2)
	}
	for i, s := range got.Draining.Siblings {
		if s.ID != many[i].ID || len(s.Addrs) != 2 {
			t.Errorf("sibling %d has %d addresses, want 2", i, len(s.Addrs))
		}
	}
	circuits := make([]Circuit, 2*MaxEnded)
	for i := range circuits {
		circuits[i] = Circuit{Peer: newID(t), Reason: strings.Repeat("x", maxReason), Sent: math.MaxInt64, Received: math.MaxInt64, Lasted: math.MaxInt64}
	}
	circuits[0].Reason, circuits[1].Reason, circuits[2].Peer = "No such reason!", "", "nobody"
	if got, size := roundTrip(t, Notice{Ended: &Ended{Circuits: circuits}}); len(got.Ended.Circuits) != MaxEnded-3 || size > maxMessage+2 {
		t.Errorf("%d circuits in %d bytes, want the %d of the first %d that make sense", len(got.Ended.Circuits), size, MaxEnded-3, MaxEnded)
	}
	for _, n := range []Notice{{}, {Draining: &Draining{}, Load: &Load{}}, {Load: &Load{}, Ended: &Ended{}}} {
		if _, err := encode(n); err == nil {
			t.Errorf("%+v: encoded, want an error", n)
		}
	}
}

// TestHostileSiblings: what makes no sense is left out, and the notice stands.
func TestHostileSiblings(t *testing.T) {
	good, other, sender, us := newID(t), newID(t), newID(t), newID(t)
	wire := func(list ...string) [][]byte {
		var out [][]byte
		for _, a := range addrs(list...) {
			out = append(out, a.Bytes())
		}
		return out
	}
	full := wire(
		"/ip4/8.8.8.8/udp/4001/quic-v1",
		"/ip4/8.8.8.8/udp/4001/quic-v1", // again
		"/ip4/8.8.4.4/tcp/4001/p2p/"+good.String(),
		"/ip4/8.8.4.4/tcp/4002/p2p/"+other.String(),
		"/ip4/8.8.4.4/tcp/4003/p2p/"+other.String()+"/p2p-circuit",
		"/ip4/8.8.4.4/tcp/4003/p2p/"+other.String()+"/p2p-circuit/p2p/"+good.String(),
		"/p2p/"+good.String(),
		"/dns4/"+strings.Repeat("x", 300)+"/tcp/1",
	)
	full = append(full, nil, []byte{0}, []byte("/ip4/1.2.3.4/tcp/1"), bytes.Repeat([]byte{0xff}, 100))
	siblings := []*pb.Sibling{
		{PeerId: nil},
		{PeerId: []byte("peer")},
		{PeerId: bytes.Repeat([]byte{1}, 2000)},
		{PeerId: append([]byte{0, 200, 1}, make([]byte, 200)...)}, // an identity hash of 200 bytes
		{PeerId: []byte(sender)},
		{PeerId: []byte(us)},
		{PeerId: []byte(good), Addrs: full},
		{PeerId: []byte(good), Addrs: wire("/ip4/9.9.9.9/tcp/1")},
		nil,
	}
	got, _ := fromWire(&pb.Notice{Kind: &pb.Notice_Draining{Draining: &pb.Draining{
		Seconds: math.MaxUint32, Siblings: siblings,
	}}}, sender, us)
	want := Notice{Draining: &Draining{Within: maxWithin, Siblings: []peer.AddrInfo{
		{ID: good, Addrs: addrs("/ip4/8.8.8.8/udp/4001/quic-v1", "/ip4/8.8.4.4/tcp/4001")},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", *got.Draining, *want.Draining)
	}
	for _, m := range []*pb.Notice{{}, {Kind: &pb.Notice_Draining{}}, {Kind: &pb.Notice_Load{}}} {
		if n, known := fromWire(m); known != (m.GetKind() != nil) {
			t.Errorf("%v: got %+v, %v", m, n, known)
		}
	}
}

// FuzzDecode holds that whatever a message says, what comes of it is bounded,
// valid, and says the same when it is sent on.
func FuzzDecode(f *testing.F) {
	id := newID(f)
	for _, n := range []Notice{
		{Draining: &Draining{Within: time.Minute, Siblings: []peer.AddrInfo{{ID: id, Addrs: addrs("/ip4/8.8.8.8/udp/4001/quic-v1")}}}},
		{Load: &Load{Reservations: 1, MaxReservations: 2, Full: true}},
		{Ended: &Ended{Circuits: []Circuit{{Peer: id, Reason: "byte-limit", Sent: 1 << 17, Received: 3, Lasted: time.Second}}}},
	} {
		data, err := encode(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[1:])
	}
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x06, 0x08, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0x22, 0x00}) // a kind that we do not know
	f.Fuzz(func(t *testing.T, data []byte) {
		var m pb.Notice
		if len(data) > maxMessage || proto.Unmarshal(data, &m) != nil {
			return
		}
		n, known := fromWire(&m, id)
		if !known {
			if n != (Notice{}) {
				t.Errorf("%x: of no kind, and yet %+v", data, n)
			}
			return
		}
		kinds := 0
		for _, is := range []bool{n.Draining != nil, n.Load != nil, n.Ended != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			t.Fatalf("%x: got %+v, want one kind", data, n)
		}
		if e := n.Ended; e != nil {
			if len(e.Circuits) > MaxEnded {
				t.Errorf("%x: %d circuits", data, len(e.Circuits))
			}
			for _, c := range e.Circuits {
				if c.Peer.Validate() != nil || len(c.Peer) > maxIDLen || !validReason(c.Reason) || c.Sent < 0 || c.Received < 0 || c.Lasted < 0 {
					t.Errorf("%x: circuit %+v", data, c)
				}
			}
		}
		if l := n.Load; l != nil && (l.Reservations < 0 || l.MaxReservations < 0) {
			t.Errorf("%x: got load %+v", data, *l)
		}
		if d := n.Draining; d != nil {
			if d.Within < 0 || d.Within > 24*time.Hour || len(d.Siblings) > 8 {
				t.Errorf("%x: within %v, %d siblings", data, d.Within, len(d.Siblings))
			}
			for _, s := range d.Siblings {
				if s.ID.Validate() != nil || len(s.ID) > maxIDLen || s.ID == id || len(s.Addrs) > 8 {
					t.Errorf("%x: sibling %v", data, s)
				}
				for _, a := range s.Addrs {
					again, err := ma.NewMultiaddrBytes(a.Bytes())
					if err != nil || !again.Equal(a) || len(a.Bytes()) > maxAddrLen || slices.ContainsFunc(a.Protocols(), func(p ma.Protocol) bool {
						return p.Code == ma.P_CIRCUIT || p.Code == ma.P_P2P
					}) {
						t.Errorf("%x: address %q, %v", data, a, err)
					}
				}
			}
		}
		if got, _ := roundTrip(t, n); !reflect.DeepEqual(got, n) {
			t.Errorf("%x: sent on, %+v becomes %+v", data, n, got)
		}
	})
}
