package admin

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/service"
)

// streamProtocol is the name of the framing in the HTTP upgrade.
const streamProtocol = "causeway-stream/1"

// Stream is a byte stream between a command and a peer, carried over the
// control socket. It is framed, because a socket cannot say "reset" or "the
// other side is …": a byte that tells the kind, four that tell the length, and
// the content.
type Stream struct {
	rw io.ReadWriteCloser

	wmu   sync.Mutex // guards writes to rw, and the field below
	ended bool       // frameEOF was written

	peers    chan Connected
	data     *io.PipeReader
	dataIn   *io.PipeWriter
	finished chan struct{} // closed when the reading goroutine ends
}

// Connected tells who is at the other end.
type Connected struct {
	Peer peer.ID   `json:"peer"`
	Path node.Path `json:"path"`
}

type frame byte

const (
	frameData      frame = iota + 1
	frameEOF             // no more data in this direction
	frameReset           // the stream broke; content: why
	frameConnected       // content: Connected as JSON
)

// maxFrame bounds a frame's content, in bytes.
const maxFrame = 64 << 10

// resetError is what a read returns after the other side reset the stream.
type resetError struct{ why string }

func (e *resetError) Error() string { return "the stream broke: " + e.why }

func newStream(rw io.ReadWriteCloser) *Stream {
	s := &Stream{rw: rw, peers: make(chan Connected, 1), finished: make(chan struct{})}
	s.data, s.dataIn = io.Pipe()
	go s.readFrames()
	return s
}

func (s *Stream) readFrames() {
	defer close(s.finished)
	buf := make([]byte, maxFrame)
	for {
		kind, content, err := readFrame(s.rw, buf)
		if err != nil {
			s.dataIn.CloseWithError(io.ErrUnexpectedEOF) // after frameEOF this changes nothing
			return
		}
		switch kind {
		case frameData:
			// Nobody may read any more; what comes then is dropped.
			_, _ = s.dataIn.Write(content)
		case frameEOF:
			s.dataIn.Close()
		case frameReset:
			s.dataIn.CloseWithError(&resetError{string(content)})
		case frameConnected:
			var c Connected
			if json.Unmarshal(content, &c) == nil {
				select {
				case s.peers <- c:
				default:
				}
			}
		}
	}
}

func readFrame(r io.Reader, buf []byte) (frame, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if int64(n) > int64(len(buf)) {
		return 0, nil, fmt.Errorf("frame of %d bytes is larger than %d", n, len(buf))
	}
	_, err := io.ReadFull(r, buf[:n])
	return frame(head[0]), buf[:n], err
}

func (s *Stream) writeFrame(kind frame, content []byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.writeLocked(kind, content)
}

func (s *Stream) writeLocked(kind frame, content []byte) error {
	msg := make([]byte, 0, 5+len(content))
	msg = append(msg, byte(kind))
	msg = binary.BigEndian.AppendUint32(msg, uint32(len(content)))
	msg = append(msg, content...)
	_, err := s.rw.Write(msg)
	return err
}

// Peer waits until the other end is known.
func (s *Stream) Peer(ctx context.Context) (Connected, error) {
	select {
	case c := <-s.peers:
		return c, nil
	case <-s.finished:
		select {
		case c := <-s.peers:
			return c, nil
		default:
		}
		return Connected{}, errors.New("the node closed the stream")
	case <-ctx.Done():
		return Connected{}, ctx.Err()
	}
}

// Read returns io.EOF when the other side has sent all it had, and another
// error when the stream broke.
func (s *Stream) Read(p []byte) (int, error) { return s.data.Read(p) }

// Write sends data.
func (s *Stream) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		chunk := p[:min(len(p), maxFrame)]
		if err := s.writeFrame(frameData, chunk); err != nil {
			return sent, err
		}
		sent += len(chunk)
		p = p[len(chunk):]
	}
	return sent, nil
}

// CloseWrite says that we have sent all we had. It says so once: when both
// directions have ended the other side closes the socket, and whoever calls
// again would take that for a fault.
func (s *Stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.ended {
		return nil
	}
	s.ended = true
	return s.writeLocked(frameEOF, nil)
}

// Close ends the stream. Unless both directions had ended, the peer sees it
// break.
func (s *Stream) Close() error {
	err := s.rw.Close()
	s.data.Close() // lets the reading goroutine go on to its end
	<-s.finished
	return err
}

// waitClosed returns when the command has closed its end.
func (s *Stream) waitClosed() { <-s.finished }

// endedWait is how long a broken stream waits for the relay's word on why: it
// comes within a round trip or two, and the time that busy machines take.
const endedWait = 2 * time.Second

// explain is what a stream broke with or, if its circuit ended over a relay that
// tells it, why that has. If the circuit is there still, it was the peer that ended
// the stream.
func (s *Server) explain(st *Stream, conn *service.Conn, err error) error {
	over := conn.Stream.Conn()
	if !node.PathOf(over).Relayed() || !over.IsClosed() {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, endedWait)
	defer cancel()
	events := s.node.History(ctx)
	for {
		select {
		case <-st.finished: // nobody wants to know
			return err
		case e, ok := <-events:
			if !ok {
				return err
			}
			ended, is := e.(node.CircuitEnded)
			if is && ended.Peer == over.RemotePeer() && time.Since(ended.Time) < endedRecently {
				return errors.New(ended.String())
			}
		}
	}
}

// endedRecently is how old the word on a circuit may be to be about this one:
// it may come before we notice that a stream broke.
const endedRecently = 2 * time.Second

// carry copies between a command's stream and a peer's, until both directions
// have ended or either breaks.
func (s *Server) carry(ctx context.Context, st *Stream, conn *service.Conn) {
	defer context.AfterFunc(ctx, func() { conn.Reset() })()
	who, err := json.Marshal(Connected{Peer: conn.Stream.Conn().RemotePeer(), Path: node.PathOf(conn.Stream.Conn())})
	if err == nil {
		err = st.writeFrame(frameConnected, who)
	}
	if err != nil {
		conn.Reset()
		return
	}
	fromPeer := make(chan error, 1)
	go func() {
		_, err := io.Copy(st, conn)
		if err == nil {
			err = st.CloseWrite()
		} else if werr := st.writeFrame(frameReset, []byte(s.explain(st, conn, err).Error())); werr != nil {
			err = werr
		}
		if err != nil {
			conn.Reset() // ends the other direction too
		}
		fromPeer <- err
	}()
	_, err = io.Copy(conn, st)
	if err == nil {
		err = conn.CloseWrite()
	}
	if err != nil {
		conn.Reset() // the command went away, or the peer did
	}
	select {
	case err = <-fromPeer:
	case <-st.finished:
		// The command closes its end after it has seen the last byte, which is
		// a moment before we see that it was sent. Anything else is a command
		// that went away in the middle.
		select {
		case err = <-fromPeer:
		case <-time.After(100 * time.Millisecond):
			conn.Reset()
			err = <-fromPeer
		}
	}
	if err == nil {
		conn.Close()
	}
}
