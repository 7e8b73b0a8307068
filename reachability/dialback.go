package reachability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// The client side of AutoNAT v2 (github.com/libp2p/specs/blob/master/autonat/autonat-v2.md).

// outcome is what one dial-back request found.
type outcome int

const (
	declined outcome = iota // the server did not try, or could not be asked
	silent                  // neither the dial-back nor an answer came in time
	failed                  // the server says that it tried, and nothing arrived
	dialled                 // the nonce arrived: proof
	crossed                 // it arrived, but somewhere else: no evidence
)

func (o outcome) String() string {
	return [...]string{"declined", "silent", "failed", "dialled", "crossed"}[o]
}

// against reports whether it speaks against the address.
func (o outcome) against() bool { return o == silent || o == failed }

// result is what a request found, or a word more on it.
type result struct {
	kind     kind
	key      string
	door     string
	server   peer.ID
	outcome  outcome
	why      string
	stranger bool // the dial-back came from a host that is none of our contacts
	near     bool // it came from no address of the internet
	late     bool // a word came before
	last     bool // the server is done with the request
	era      int  // of byStranger: see strangers
}

// kind is who was asked.
type kind int

const (
	byServer   kind = iota // an AutoNAT v2 server
	byStranger             // a peer that has a stranger dial
	byHint                 // an AutoNAT v1 server
)

const (
	// dialBackWait is how long a dial-back may take until its absence counts.
	// A server dials for up to 10 s before it answers "no"; one that gets
	// through does so within a few round trips.
	dialBackWait = 2500 * time.Millisecond
	// dialBackSoon applies instead to an address that nobody could be asked
	// about for 5 s: long enough for the round trips of a handshake where
	// nothing is lost. What comes later is heard all the same.
	dialBackSoon = 750 * time.Millisecond
	// herdWait is how much longer it may take once the server got its dial
	// data: so long it waits at most before it dials (autonatv2/options.go,
	// against thundering herds).
	herdWait = 3 * time.Second
	// dialDataTime is how long 100 kB may take to get there.
	dialDataTime = 10 * time.Second
	// hangUp is when we stop waiting for the server's own word: it gives up
	// 15 s after it was asked (autonatv2/autonat.go, streamTimeout).
	hangUp = 16 * time.Second

	maxMessage  = 8192    // as go-libp2p's server
	maxDialData = 100_000 // bytes; the most that the spec lets a server ask for
	dialDataLen = 4000    // bytes per message; the spec's maximum is 4096
	maxNonceMsg = 1024    // bytes
)

// dialBackClient asks servers to dial us back, and answers when they do.
type dialBackClient struct {
	host     host.Host
	contacts *contacts
	here     *here

	mu      sync.Mutex // guards pending
	pending map[uint64]question
}

// question is a request whose nonce may arrive.
type question struct {
	asked   time.Time
	in      func(local ma.Multiaddr) bool // whether that is where it should
	arrived chan arrival                  // takes one
}

// arrival is a dial-back that came.
type arrival struct {
	came     bool
	stranger bool
	near     bool // from no address of the internet
	crossed  bool // not where we asked for it
}

func newDialBackClient(h host.Host, contacts *contacts, here *here) *dialBackClient {
	c := &dialBackClient{host: h, contacts: contacts, here: here, pending: make(map[uint64]question)}
	h.SetStreamHandler(autonatv2.DialBackProtocol, c.handleDialBack)
	return c
}

func (c *dialBackClient) close() { c.host.RemoveStreamHandler(autonatv2.DialBackProtocol) }

// expect waits for a nonce until it is forgotten.
func (c *dialBackClient) expect(nonce uint64, in func(ma.Multiaddr) bool) (arrived <-chan arrival, forget func()) {
	q := question{asked: time.Now(), in: in, arrived: make(chan arrival, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[nonce] = q
	return q.arrived, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pending, nonce)
	}
}

// ask makes one request for one address, so that the answer is about that
// address and no other. The proof that counts is the nonce on a connection to
// us, not what the server says. It calls say with what it finds, once or twice:
// when the dial-back has come or is missing, and when the server is done.
func (c *dialBackClient) ask(ctx context.Context, srv peer.ID, addr ma.Multiaddr, sendData bool, in func(ma.Multiaddr) bool, patience time.Duration, say func(result)) {
	final := func(o outcome, why string) { say(result{outcome: o, why: why, last: true}) }
	ctx, cancel := context.WithTimeout(ctx, hangUp)
	defer cancel()
	s, err := c.host.NewStream(network.WithNoDial(ctx, "autonat v2"), srv, autonatv2.DialProtocol)
	if err != nil {
		final(declined, fmt.Sprintf("stream: %v", err))
		return
	}
	if err := s.SetDeadline(time.Now().Add(hangUp)); err != nil {
		s.Reset()
		final(declined, fmt.Sprintf("deadline: %v", err))
		return
	}
	nonce := rand.Uint64()
	arrived, forget := c.expect(nonce, in)
	defer forget()
	w := pbio.NewDelimitedWriter(s)
	if err := w.WriteMsg(&pb.Message{Msg: &pb.Message_DialRequest{DialRequest: &pb.DialRequest{
		Addrs: [][]byte{addr.Bytes()}, Nonce: nonce,
	}}}); err != nil {
		s.Reset()
		final(declined, fmt.Sprintf("request: %v", err))
		return
	}
	answers := make(chan answer, 1)
	data := make(chan time.Duration, 2)
	read := make(chan struct{})
	go func() {
		defer close(read)
		answers <- readAnswer(s, w, sendData, patience, data)
	}()
	defer func() { s.Reset(); <-read }() // the reset ends the read
	c.follow(ctx, arrived, answers, data, patience, say)
}

// follow waits for what comes of a request.
func (c *dialBackClient) follow(ctx context.Context, arrived <-chan arrival, answers <-chan answer, data <-chan time.Duration, patience time.Duration, say func(result)) {
	var r result // the last word
	wait := time.NewTimer(patience)
	defer wait.Stop()
	answered := false
	for {
		select {
		case by := <-arrived:
			r.outcome, r.why, r.stranger, r.near = dialled, "the dial-back arrived", by.stranger, by.near
			if by.crossed {
				r.outcome, r.why, r.stranger = crossed, "the dial-back arrived at another address", false
			}
			if r.last = answered; answered {
				say(r)
				return
			}
			// The server keeps the request until its dialer has hung up.
			say(r)
			r.late = true
			wait.Reset(time.Second)
			arrived = nil
		case a := <-answers:
			switch {
			case arrived == nil:
				r.last = true
				say(r)
				return
			case a.outcome != dialled:
				r.outcome, r.why, r.last = a.outcome, a.why, true
				say(r)
				return
			}
			// The server says that it got through: the nonce is here already
			// or a moment away, on another connection.
			answers, answered = nil, true
			wait.Reset(time.Second)
		case d := <-data:
			wait.Reset(d)
		case <-wait.C:
			switch {
			case arrived == nil:
				r.last = true
				say(r)
				return
			case answered:
				r.outcome, r.why, r.last = declined, "the server claims a dial-back that never arrived", true
				say(r)
				return
			}
			r.outcome, r.why = silent, "no dial-back in time"
			say(r)
			r.late = true // until the server answers, or ctx ends
		case <-ctx.Done():
			if !r.late {
				r.outcome, r.why = declined, "stopped"
			}
			r.last = true
			say(r)
			return
		}
	}
}

type answer struct {
	outcome outcome
	why     string
}

// readAnswer reads the server's side of the conversation, and pays for the
// dial if it asks for that and we are willing. It says on data how long to wait
// from then on.
func readAnswer(s network.Stream, w pbio.Writer, sendData bool, patience time.Duration, data chan<- time.Duration) answer {
	r := pbio.NewDelimitedReader(s, maxMessage)
	var msg pb.Message
	if err := r.ReadMsg(&msg); err != nil {
		return answer{outcome: declined, why: fmt.Sprintf("answer: %v", err)}
	}
	if req := msg.GetDialDataRequest(); req != nil {
		if !sendData {
			return answer{outcome: declined, why: "the server asked for dial data and the address is one peer's word"}
		}
		if req.GetAddrIdx() != 0 {
			return answer{outcome: declined, why: "the server asked for dial data for an address that we did not ask about"}
		}
		if req.GetNumBytes() > maxDialData {
			return answer{outcome: declined, why: fmt.Sprintf("the server asked for %d bytes of dial data", req.GetNumBytes())}
		}
		data <- dialDataTime
		if err := writeDialData(w, int(req.GetNumBytes())); err != nil {
			return answer{outcome: declined, why: fmt.Sprintf("dial data: %v", err)}
		}
		data <- herdWait + patience
		msg.Reset()
		if err := r.ReadMsg(&msg); err != nil {
			return answer{outcome: declined, why: fmt.Sprintf("answer after dial data: %v", err)}
		}
	}
	return judge(msg.GetDialResponse())
}

// judge reads a dial response. An answer that makes no sense is no evidence.
func judge(resp *pb.DialResponse) answer {
	switch {
	case resp == nil:
		return answer{outcome: declined, why: "unexpected message instead of a dial response"}
	case resp.GetStatus() != pb.DialResponse_OK:
		return answer{outcome: declined, why: "server says " + resp.GetStatus().String()}
	case resp.GetAddrIdx() != 0:
		return answer{outcome: declined, why: "the answer is about an address that we did not ask for"}
	}
	switch resp.GetDialStatus() {
	case pb.DialStatus_OK, pb.DialStatus_E_DIAL_BACK_ERROR:
		// With E_DIAL_BACK_ERROR the connection stood and the stream failed;
		// if the nonce arrived all the same, that counts.
		return answer{outcome: dialled, why: "server says OK"}
	case pb.DialStatus_E_DIAL_ERROR:
		return answer{outcome: failed, why: "the server could not dial"}
	}
	return answer{outcome: declined, why: "unknown dial status " + resp.GetDialStatus().String()}
}

func writeDialData(w pbio.Writer, n int) error {
	data := make([]byte, dialDataLen)
	for ; n > 0; n -= dialDataLen {
		data = data[:min(n, dialDataLen)]
		if err := w.WriteMsg(&pb.Message{Msg: &pb.Message_DialDataResponse{
			DialDataResponse: &pb.DialDataResponse{Data: data},
		}}); err != nil {
			return err
		}
	}
	return nil
}

// handleDialBack receives the nonce. The stream comes from a stranger: the
// server dials from a throw-away identity.
func (c *dialBackClient) handleDialBack(s network.Stream) {
	defer s.Close()
	if err := s.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		s.Reset()
		return
	}
	var msg pb.DialBack
	if err := pbio.NewDelimitedReader(s, maxNonceMsg).ReadMsg(&msg); err != nil {
		s.Reset()
		return
	}
	c.mu.Lock()
	q, ok := c.pending[msg.GetNonce()]
	c.mu.Unlock()
	if !ok || !dialledSince(s.Conn(), q.asked) || c.here.conn(s.Conn()) {
		s.Reset() // unknown, forged, no dial at all, or no way through a network
		return
	}
	a := arrival{came: true, crossed: !q.in(s.Conn().LocalMultiaddr())}
	// A neighbour on the LAN comes in past the box.
	a.near = !manet.IsPublicAddr(s.Conn().RemoteMultiaddr())
	if ip, ok := remoteIP(s.Conn()); ok && !a.near {
		a.stranger = c.contacts.stranger(ip, s.Conn().Stat().Opened, time.Now())
	}
	select {
	case q.arrived <- a:
	default:
	}
	if err := pbio.NewDelimitedWriter(s).WriteMsg(&pb.DialBackResponse{}); err != nil {
		s.Reset()
	}
}

// dialledSince reports whether somebody dialled this connection to us directly
// and after the request. Only that proves anything: a nonce on a connection that
// stood before, or that we opened, or over a relay, comes through any NAT.
func dialledSince(conn network.Conn, asked time.Time) bool {
	st := conn.Stat()
	return st.Direction == network.DirInbound && !st.Limited && !maddr.IsCircuit(conn.RemoteMultiaddr()) &&
		!st.Opened.Before(asked)
}
