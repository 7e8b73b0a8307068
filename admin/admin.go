// Package admin lets other programs on the same machine look at a running node
// and use it: HTTP on a unix socket that only its owner may open.
//
//	GET  /v1/status                    node.Status
//	GET  /v1/events?history=1&follow=0 node.EventRecord, one JSON object a line;
//	                                   without follow=0 it goes on with what happens
//	GET  /v1/ping?peer=ID&count=3      PingLine, one JSON object a line
//	GET  /v1/netcheck?portal=URL       node.Netcheck
//	POST /v1/connect?peer=ID&service=S a byte stream (see Stream)
//	POST /v1/listen?service=S          a byte stream with the next caller
//	POST /v1/relays?do=VERB&…          change which relays are used (see relays.go)
//	…    /v1/relay/…                   look at and control the relay host (see host.go)
//
// Errors are {"error": "a sentence", "kind": "…"}. Server and Client are the
// two ends.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/node"
	"github.com/causeway-p2p/causeway/service"
)

var log = logging.For("admin")

// Kind classifies an error, so that a command can say what to try.
type Kind string

const (
	BadRequest  Kind = "bad request"
	Self        Kind = "this node itself"
	NotFound    Kind = "peer not found"
	Unreachable Kind = "peer unreachable"
	NotJoined   Kind = "not joined"
	Refused     Kind = "refused"
	Failed      Kind = "failed"
)

// Error is an error as it travels over the socket.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

func kindOf(err error) Kind {
	var (
		refused     *service.RefusedError
		unreachable *node.UnreachableError
		own         *Error
	)
	switch {
	case errors.As(err, &own):
		return own.Kind
	case errors.As(err, &refused):
		return Refused
	case errors.Is(err, node.ErrNotJoined):
		return NotJoined
	case errors.Is(err, node.ErrPeerNotFound):
		return NotFound
	case errors.As(err, &unreachable):
		return Unreachable
	case errors.Is(err, node.ErrSelf):
		return Self
	}
	return Failed
}

// Server serves one node.
type Server struct {
	node     *node.Node
	onDrain  func(time.Duration) // nil if there is nothing to drain
	listener net.Listener
	http     *http.Server
	streams  sync.WaitGroup
	ctx      context.Context // ends with Close, and with it all streams
	cancel   context.CancelFunc
	served   chan struct{}
}

// ErrInUse: another program answers on the socket.
var ErrInUse = errors.New("another node is running here")

// Option is something that Serve can do besides.
type Option func(*Server)

// OnDrain is how a program can be asked to drain its node for a time (0: as
// long as it would by itself) and to stop. It may be called concurrently, and
// must not block.
func OnDrain(f func(time.Duration)) Option { return func(s *Server) { s.onDrain = f } }

// Serve begins to listen on a unix socket at path, mode 0600. A socket that a
// dead program left behind is replaced. Requests are answered once the node has
// started: before, there is nothing true to say about it.
func Serve(n *node.Node, path string, opts ...Option) (*Server, error) {
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	s := &Server{node: n, listener: l, served: make(chan struct{})}
	for _, o := range opts {
		o(s)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/ping", s.ping)
	mux.HandleFunc("GET /v1/netcheck", s.netcheck)
	mux.HandleFunc("POST /v1/connect", s.connect)
	mux.HandleFunc("POST /v1/listen", s.listen)
	mux.HandleFunc("POST /v1/relays", s.relays)
	s.handleHost(mux)
	s.http = &http.Server{
		Handler:           s.onceSettled(mux),
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket failed", "err", err)
		}
	}()
	return s, nil
}

func (s *Server) onceSettled(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.node.Settled():
			h.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// listenUnix binds under another name, restricts the mode, and then moves the
// socket into place, so that it is never there for others to open.
func listenUnix(path string) (net.Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return nil, ErrInUse
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, plain(err)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	os.Remove(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, plain(err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		l.Close()
		os.Remove(tmp)
		return nil, err
	}
	return &unlinkingListener{l, path}, nil
}

// maxPath is the longest path of a control socket, in bytes. Unix sockets may
// have 107 on Linux and 103 on others, and listenUnix first binds under a name
// that has the PID behind it.
const maxPath = 97

// checkPath says in words what the kernel calls an invalid argument.
func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("the path has %d bytes, and a socket's may have %d", len(path), maxPath)
	}
	return nil
}

// unlinkingListener removes the socket under its final name.
type unlinkingListener struct {
	*net.UnixListener
	path string
}

func (l *unlinkingListener) Close() error {
	os.Remove(l.path)
	return l.UnixListener.Close()
}

// plain takes the system call's own words out of a net.OpError.
func plain(err error) error {
	var se *os.SyscallError
	if errors.As(err, &se) {
		return se.Err
	}
	return err
}

// Close ends all requests and streams, and waits for them.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	<-s.served
	s.streams.Wait()
	return err
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, s.node.Status())
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	events := s.node.Events
	if r.FormValue("history") != "" {
		events = s.node.History
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if r.FormValue("follow") == "0" {
		cancel() // the channel closes behind what is already in it
	}
	lines := newLineWriter(w)
	for e := range events(ctx) {
		rec, err := node.Record(e)
		if err != nil {
			log.Error("event not shown", "err", err)
			continue
		}
		if lines.write(rec) != nil {
			return
		}
	}
}

// connect opens a service and hands the stream over.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	p, err := peer.Decode(r.FormValue("peer"))
	if err != nil {
		fail(w, &Error{BadRequest, fmt.Sprintf("%q is not a peer ID", r.FormValue("peer"))})
		return
	}
	timeout, err := durationValue(r, "timeout", defaultTimeout)
	if err != nil {
		fail(w, &Error{BadRequest, err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	conn, err := s.node.Dial(ctx, p, r.FormValue("service"))
	if err != nil {
		fail(w, &Error{kindOf(err), err.Error()})
		return
	}
	s.handOver(w, func(ctx context.Context, st *Stream) { s.carry(ctx, st, conn) })
}

// listen offers a service and hands over the first stream that comes.
func (s *Server) listen(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("service")
	if err := service.CheckName(name); err != nil {
		fail(w, &Error{BadRequest, err.Error()})
		return
	}
	l, err := s.node.Listen(name)
	if err != nil {
		fail(w, &Error{Failed, err.Error()})
		return
	}
	s.handOver(w, func(ctx context.Context, st *Stream) {
		// The command may give up while it waits, or we may be closed.
		go func() { st.waitClosed(); l.Close() }()
		c, err := l.Accept()
		l.Close() // one stream a request; others find nobody
		if err == nil {
			s.carry(ctx, st, c.(*service.Conn))
		}
	})
}

// handOver takes the connection out of HTTP's hands and lets f have it.
func (s *Server) handOver(w http.ResponseWriter, f func(context.Context, *Stream)) {
	rc := http.NewResponseController(w)
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", streamProtocol)
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buf, err := rc.Hijack()
	if err != nil {
		log.Error("stream not handed over", "err", err)
		return
	}
	s.streams.Add(1)
	defer s.streams.Done()
	defer conn.Close()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	st := newStream(readWriteCloser{buf.Reader, conn})
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	defer st.Close() // also ends what waits for it
	f(s.ctx, st)
}

type readWriteCloser struct {
	io.Reader
	net.Conn
}

func (r readWriteCloser) Read(p []byte) (int, error) { return r.Reader.Read(p) }

func intValue(r *http.Request, name string, def int) (int, error) {
	v := r.FormValue(name)
	if v == "" {
		return def, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s %q is not a number of 0 or more", name, v)
	}
	return n, nil
}

func durationValue(r *http.Request, name string, def time.Duration) (time.Duration, error) {
	v := r.FormValue(name)
	if v == "" {
		return def, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s %q is not a time like 500ms or 10s", name, v)
	}
	return d, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Debug("answer not sent", "err", err)
	}
}

func fail(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(map[Kind]int{
		BadRequest: http.StatusBadRequest, Self: http.StatusBadRequest, NotFound: http.StatusNotFound,
		Refused: http.StatusForbidden, Unreachable: http.StatusBadGateway,
		NotJoined: http.StatusServiceUnavailable,
		Failed:    http.StatusInternalServerError,
	}[e.Kind])
	if err := json.NewEncoder(w).Encode(e); err != nil {
		log.Debug("answer not sent", "err", err)
	}
}

// lineWriter sends one JSON object a line, each at once.
type lineWriter struct {
	enc *json.Encoder
	rc  *http.ResponseController
}

func newLineWriter(w http.ResponseWriter) *lineWriter {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	l := &lineWriter{json.NewEncoder(w), http.NewResponseController(w)}
	if err := l.rc.Flush(); err != nil {
		log.Debug("answer not sent", "err", err)
	}
	return l
}

func (l *lineWriter) write(v any) error {
	if err := l.enc.Encode(v); err != nil {
		return err
	}
	return l.rc.Flush()
}
