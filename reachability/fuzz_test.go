package reachability

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

// fakeStream reads what a peer sent and counts what it gets.
type fakeStream struct {
	network.Stream
	in      io.Reader
	out     bytes.Buffer
	conn    network.Conn
	isReset bool
}

func (s *fakeStream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *fakeStream) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *fakeStream) Close() error                { return nil }
func (s *fakeStream) Reset() error                { s.isReset = true; return nil }
func (s *fakeStream) SetDeadline(time.Time) error { return nil }
func (s *fakeStream) Conn() network.Conn          { return s.conn }

// delimited is messages as they stand on the wire.
func delimited(msgs ...proto.Message) []byte {
	var b bytes.Buffer
	w := pbio.NewDelimitedWriter(&b)
	for _, m := range msgs {
		if err := w.WriteMsg(m); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func response(status pb.DialResponse_ResponseStatus, dial pb.DialStatus, idx uint32) *pb.Message {
	return &pb.Message{Msg: &pb.Message_DialResponse{DialResponse: &pb.DialResponse{Status: status, DialStatus: dial, AddrIdx: idx}}}
}

func dataRequest(n uint64, idx uint32) *pb.Message {
	return &pb.Message{Msg: &pb.Message_DialDataRequest{DialDataRequest: &pb.DialDataRequest{NumBytes: n, AddrIdx: idx}}}
}

// FuzzReadAnswer holds that whatever a server sends, it gets no more dial data
// than the spec allows, and none for an address that is not trusted; and that
// only a well-formed answer about our address counts.
func FuzzReadAnswer(f *testing.F) {
	for _, data := range [][]byte{
		delimited(response(pb.DialResponse_OK, pb.DialStatus_OK, 0)),
		delimited(response(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0)),
		delimited(response(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 1)),
		delimited(response(pb.DialResponse_E_REQUEST_REJECTED, pb.DialStatus_OK, 0)),
		delimited(dataRequest(30_000, 0), response(pb.DialResponse_OK, pb.DialStatus_OK, 0)),
		delimited(dataRequest(100_001, 0), response(pb.DialResponse_OK, pb.DialStatus_OK, 0)),
		delimited(dataRequest(1<<63, 0)),
		delimited(dataRequest(30_000, 3)),
		{},
		{0},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		[]byte("GET / HTTP/1.1\r\n"),
	} {
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, sendData bool) {
		s := &fakeStream{in: bytes.NewReader(data)}
		asked := make(chan time.Duration, 2)
		got := readAnswer(s, pbio.NewDelimitedWriter(s), sendData, dialBackWait, asked)
		if got.why == "" {
			t.Errorf("%x: %v without a reason", data, got.outcome)
		}
		paid := 0
		r := pbio.NewDelimitedReader(&s.out, maxMessage)
		for {
			var m pb.Message
			err := r.ReadMsg(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || m.GetDialDataResponse() == nil {
				t.Fatalf("%x: we sent something else than dial data: %v", data, err)
			}
			paid += len(m.GetDialDataResponse().GetData())
		}
		if paid > maxDialData || (paid > 0 && (!sendData || len(asked) == 0)) {
			t.Errorf("%x, trusted %v: paid %d bytes", data, sendData, paid)
		}
		if got.outcome == declined {
			return
		}
		// The last message must be a response about index 0.
		r = pbio.NewDelimitedReader(bytes.NewReader(data), maxMessage)
		var m pb.Message
		for r.ReadMsg(&m) == nil {
			if resp := m.GetDialResponse(); resp != nil {
				if resp.GetStatus() != pb.DialResponse_OK || resp.GetAddrIdx() != 0 ||
					(got.outcome == failed) != (resp.GetDialStatus() == pb.DialStatus_E_DIAL_ERROR) {
					t.Errorf("%x: got %v (%s) from %v", data, got.outcome, got.why, resp)
				}
				return
			}
			m.Reset()
		}
		t.Errorf("%x: got %v (%s) without a response", data, got.outcome, got.why)
	})
}

// inbound is a connection that somebody dialled to us at a time.
type inbound struct {
	network.Conn
	stats network.ConnStats
}

func (c inbound) LocalMultiaddr() ma.Multiaddr {
	return ma.StringCast("/ip4/11.0.0.1/udp/4001/quic-v1")
}
func (c inbound) Stat() network.ConnStats { return c.stats }
func (c inbound) RemoteMultiaddr() ma.Multiaddr {
	return ma.StringCast("/ip4/11.0.0.9/udp/1/quic-v1")
}

// FuzzDialBack holds that only our nonce counts, however it is wrapped.
func FuzzDialBack(f *testing.F) {
	const nonce = 0x0123456789abcdef
	f.Add(delimited(&pb.DialBack{Nonce: nonce}))
	f.Add(delimited(&pb.DialBack{Nonce: nonce + 1}))
	f.Add(delimited(&pb.DialBack{}))
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		asked := time.Now()
		arrived := make(chan arrival, 1)
		anywhere := func(ma.Multiaddr) bool { return true }
		c := &dialBackClient{
			contacts: newContacts(), here: new(here),
			pending: map[uint64]question{nonce: {asked: asked, in: anywhere, arrived: arrived}},
		}
		s := &fakeStream{in: bytes.NewReader(data), conn: inbound{stats: network.ConnStats{Stats: network.Stats{
			Direction: network.DirInbound, Opened: asked,
		}}}}
		c.handleDialBack(s)
		var m pb.DialBack
		ours := pbio.NewDelimitedReader(bytes.NewReader(data), maxNonceMsg).ReadMsg(&m) == nil && m.GetNonce() == nonce
		if got := len(arrived) == 1; got != ours || s.isReset == ours {
			t.Errorf("%x: arrived %v, reset %v, want arrived %v", data, got, s.isReset, ours)
		}
	})
}

func TestDialledSince(t *testing.T) {
	for _, c := range []struct {
		name  string
		stats network.ConnStats
		want  bool
	}{
		{"dialled since", network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: epoch.Add(1)}}, true},
		{"at the same time", network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: epoch}}, true},
		{"before", network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: epoch.Add(-1)}}, false},
		{"by us", network.ConnStats{Stats: network.Stats{Direction: network.DirOutbound, Opened: epoch.Add(1)}}, false},
		{"through a relay", network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: epoch.Add(1), Limited: true}}, false},
	} {
		if got := dialledSince(inbound{stats: c.stats}, epoch); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
