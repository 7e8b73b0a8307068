package fastconn

import (
	"net"
	"sync"
	"syscall"
)

const (
	// readSize is how much is read from the network at once: four TLS records of
	// 16 KiB or one Noise message, and what frames them. Twice that gained nothing.
	readSize = 65 << 10
	// writeSize is how much is written at once: a full queue, and what frames
	// its 17 TLS records or 5 Noise messages.
	writeSize = queueSize + 1<<10
)

type (
	readBlock  [readSize]byte
	writeBlock [writeSize]byte
)

var (
	readBlocks  = sync.Pool{New: func() any { return new(readBlock) }}
	writeBlocks = sync.Pool{New: func() any { return new(writeBlock) }}
)

// wire is the network's side of a security layer: it reads ahead, and gathers
// what is written while it is corked.
type wire struct {
	net.Conn
	raw syscall.RawConn // nil: no reading ahead

	readMu  sync.Mutex // guards the fields below
	framing framing
	ahead   *readBlock // nil unless something is unread
	unread  []byte     // a part of it
	noWait  bool       // fail with errWouldWait instead of waiting
	got     int        // what the last read of the network returned
	gotErr  error
	read    func(fd uintptr) bool // w.readOnce, made once

	writeMu sync.Mutex // guards the fields below
	corked  bool
	held    *writeBlock // nil unless corked
	holds   int         // bytes in it
}

func newWire(c net.Conn, f framing) *wire {
	w := &wire{Conn: c, raw: rawConn(c), framing: f}
	if w.raw != nil {
		w.read = w.readOnce
		limitUnsent(w.raw)
	}
	return w
}

// Read reads as much as the network has, and returns what fits and belongs to
// one message, so that the layer above never holds a part of the next one.
// Nothing is held while it waits: a block is taken for the moment of the system
// call.
func (w *wire) Read(p []byte) (int, error) {
	if w.raw == nil || len(p) == 0 {
		return w.Conn.Read(p)
	}
	w.readMu.Lock()
	defer w.readMu.Unlock()
	if w.noWait && !w.framing.within() && !w.framing.whole(w.unread) {
		return 0, errWouldWait
	}
	if len(w.unread) == 0 {
		if err := w.raw.Read(w.read); err != nil {
			return 0, err
		}
		if w.ahead == nil {
			return 0, w.gotErr
		}
		w.unread = w.ahead[:w.got]
	}
	n := w.framing.pass(w.unread[:min(len(p), len(w.unread))])
	copy(p, w.unread[:n])
	if w.unread = w.unread[n:]; len(w.unread) == 0 {
		readBlocks.Put(w.ahead)
		w.ahead, w.unread = nil, nil
	}
	return n, nil
}

// readOnce reads the socket into a new block, unless it would block.
func (w *wire) readOnce(fd uintptr) (done bool) {
	b := readBlocks.Get().(*readBlock)
	n, again, err := readSocket(fd, b[:])
	if n > 0 {
		w.ahead, w.got = b, n
		return true
	}
	readBlocks.Put(b)
	w.gotErr = err
	return !again
}

// setNoWait makes Read fail with errWouldWait where a message would begin that
// is not all there. A TLS record that is may have nothing for the reader in it,
// and crypto/tls then goes on to the next.
func (w *wire) setNoWait(on bool) {
	w.readMu.Lock()
	w.noWait = on
	w.readMu.Unlock()
}

// errWouldWait is temporary in the sense of net.Error, after which crypto/tls
// can be read again (Go 1.26, readRecordOrCCS). Noise, too, is between messages
// when it meets the error (go-libp2p v0.51, noise/rw.go).
var errWouldWait net.Error = wouldWait{}

type wouldWait struct{}

func (wouldWait) Error() string   { return "read would wait" }
func (wouldWait) Timeout() bool   { return true }
func (wouldWait) Temporary() bool { return true }

// Write sends p, or keeps it for later if the wire is corked.
func (w *wire) Write(p []byte) (int, error) {
	w.writeMu.Lock()
	defer w.writeMu.Unlock()
	if !w.corked {
		return w.Conn.Write(p)
	}
	if w.holds+len(p) > writeSize {
		if err := w.sendHeld(); err != nil {
			return 0, err
		}
	}
	if len(p) > writeSize {
		return w.Conn.Write(p)
	}
	if w.held == nil {
		w.held = writeBlocks.Get().(*writeBlock)
	}
	w.holds += copy(w.held[w.holds:], p)
	return len(p), nil
}

// cork keeps what is written from now on until uncork.
func (w *wire) cork() {
	w.writeMu.Lock()
	w.corked = true
	w.writeMu.Unlock()
}

// uncork sends what was kept.
func (w *wire) uncork() error {
	w.writeMu.Lock()
	defer w.writeMu.Unlock()
	w.corked = false
	err := w.sendHeld()
	if w.held != nil {
		writeBlocks.Put(w.held)
		w.held = nil
	}
	return err
}

func (w *wire) sendHeld() error {
	if w.holds == 0 {
		return nil
	}
	_, err := w.Conn.Write(w.held[:w.holds])
	w.holds = 0
	return err
}
