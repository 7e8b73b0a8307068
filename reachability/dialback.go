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
)

// The client side of AutoNAT v2 (github.com/libp2p/specs/blob/master/autonat/autonat-v2.md).

// outcome is what one dial-back request found.
type outcome int

const (
	declined outcome = iota // the server did not try, or could not be asked
	failed                  // the server tried and nothing arrived
	dialled                 // the nonce arrived: proof
)

func (o outcome) String() string { return [...]string{"declined", "failed", "dialled"}[o] }

type result struct {
	key     string
	server  peer.ID
	outcome outcome
	why     string
}

const (
	// dialBackWait is how long a dial-back may take until it counts as failed.
	// A server dials for up to 10 s before it answers "no"; one that gets
	// through does so within a few round trips.
	dialBackWait = 3500 * time.Millisecond
	// dialDataWait applies once the server asked for dial data: it then waits
	// up to 3 s before it dials (autonatv2/options.go, against thundering
	// herds), and our data has to get there first.
	dialDataWait = 10 * time.Second

	maxMessage  = 8192    // as go-libp2p's server
	maxDialData = 100_000 // bytes; the most that the spec lets a server ask for
	dialDataLen = 4000    // bytes per message; the spec's maximum is 4096
	maxNonceMsg = 1024    // bytes
)

// dialBackClient asks servers to dial us back, and answers when they do.
type dialBackClient struct {
	host host.Host

	mu      sync.Mutex // guards pending
	pending map[uint64]question
}

// question is a request whose nonce may arrive.
type question struct {
	asked   time.Time
	arrived chan struct{}
}

func newDialBackClient(h host.Host) *dialBackClient {
	c := &dialBackClient{host: h, pending: make(map[uint64]question)}
	h.SetStreamHandler(autonatv2.DialBackProtocol, c.handleDialBack)
	return c
}

func (c *dialBackClient) close() { c.host.RemoveStreamHandler(autonatv2.DialBackProtocol) }

// ask makes one request for one address, so that the answer is about that
// address and no other. The proof that counts is the nonce on a connection to
// us, not what the server says.
func (c *dialBackClient) ask(ctx context.Context, srv peer.ID, addr ma.Multiaddr, sendData bool) (outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, dialBackWait+dialDataWait)
	defer cancel()
	s, err := c.host.NewStream(network.WithNoDial(ctx, "autonat v2"), srv, autonatv2.DialProtocol)
	if err != nil {
		return declined, fmt.Sprintf("stream: %v", err)
	}
	if err := s.SetDeadline(time.Now().Add(dialBackWait + dialDataWait)); err != nil {
		s.Reset()
		return declined, fmt.Sprintf("deadline: %v", err)
	}

	nonce := rand.Uint64()
	arrived := make(chan struct{}, 1)
	c.mu.Lock()
	c.pending[nonce] = question{asked: time.Now(), arrived: arrived}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, nonce)
		c.mu.Unlock()
	}()

	w := pbio.NewDelimitedWriter(s)
	if err := w.WriteMsg(&pb.Message{Msg: &pb.Message_DialRequest{DialRequest: &pb.DialRequest{
		Addrs: [][]byte{addr.Bytes()}, Nonce: nonce,
	}}}); err != nil {
		s.Reset()
		return declined, fmt.Sprintf("request: %v", err)
	}

	answers := make(chan answer, 1)
	wantsData := make(chan struct{}, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		answers <- readAnswer(s, w, sendData, wantsData)
	}()
	defer func() { s.Reset(); <-read }() // the reset ends the read

	wait := time.NewTimer(dialBackWait)
	defer wait.Stop()
	for {
		select {
		case <-arrived:
			return dialled, "the dial-back arrived"
		case a := <-answers:
			if a.outcome != dialled {
				return a.outcome, a.why
			}
			// The server says that it got through: the nonce is here already
			// or a moment away, on another connection.
			answers = nil
			wait.Reset(time.Second)
		case <-wantsData:
			wait.Reset(dialDataWait)
		case <-wait.C:
			if answers == nil {
				return declined, "the server claims a dial-back that never arrived"
			}
			return failed, "no dial-back in time"
		case <-ctx.Done():
			return declined, "stopped"
		}
	}
}

type answer struct {
	outcome outcome
	why     string
}

// readAnswer reads the server's side of the conversation, and pays for the
// dial if it asks for that and we are willing.
func readAnswer(s network.Stream, w pbio.Writer, sendData bool, wantsData chan<- struct{}) answer {
	r := pbio.NewDelimitedReader(s, maxMessage)
	var msg pb.Message
	if err := r.ReadMsg(&msg); err != nil {
		return answer{declined, fmt.Sprintf("answer: %v", err)}
	}
	if req := msg.GetDialDataRequest(); req != nil {
		if !sendData {
			return answer{declined, "the server asked for dial data and the address is one peer's word"}
		}
		if req.GetAddrIdx() != 0 {
			return answer{declined, "the server asked for dial data for an address that we did not ask about"}
		}
		if req.GetNumBytes() > maxDialData {
			return answer{declined, fmt.Sprintf("the server asked for %d bytes of dial data", req.GetNumBytes())}
		}
		wantsData <- struct{}{}
		if err := writeDialData(w, int(req.GetNumBytes())); err != nil {
			return answer{declined, fmt.Sprintf("dial data: %v", err)}
		}
		msg.Reset()
		if err := r.ReadMsg(&msg); err != nil {
			return answer{declined, fmt.Sprintf("answer after dial data: %v", err)}
		}
	}
	return judge(msg.GetDialResponse())
}

// judge reads a dial response. An answer that makes no sense is no evidence.
func judge(resp *pb.DialResponse) answer {
	switch {
	case resp == nil:
		return answer{declined, "unexpected message instead of a dial response"}
	case resp.GetStatus() != pb.DialResponse_OK:
		return answer{declined, "server says " + resp.GetStatus().String()}
	case resp.GetAddrIdx() != 0:
		return answer{declined, "the answer is about an address that we did not ask for"}
	}
	switch resp.GetDialStatus() {
	case pb.DialStatus_OK, pb.DialStatus_E_DIAL_BACK_ERROR:
		// With E_DIAL_BACK_ERROR the connection stood and the stream failed;
		// if the nonce arrived all the same, that counts.
		return answer{dialled, "server says OK"}
	case pb.DialStatus_E_DIAL_ERROR:
		return answer{failed, "the server could not dial"}
	}
	return answer{declined, "unknown dial status " + resp.GetDialStatus().String()}
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
	if !ok || !dialledSince(s.Conn(), q.asked) {
		s.Reset() // unknown, forged, or no dial at all
		return
	}
	select {
	case q.arrived <- struct{}{}:
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
	return st.Direction == network.DirInbound && !st.Limited && !isCircuit(conn.RemoteMultiaddr()) &&
		!st.Opened.Before(asked)
}
