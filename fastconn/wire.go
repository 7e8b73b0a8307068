package fastconn

import (
	"net"
	"sync"
	"syscall"
)

// blockSize is how much is read from, and written to, the network at once.
// Four TLS records of 16 KiB, or one Noise message, and what frames them. More
// gained nothing on Linux, where a segment that is offloaded has 64 KiB.
const blockSize = flushSize + 1024

type block [blockSize]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// wire is the network's side of a security layer: it reads ahead, and gathers
// what is written while it is corked.
type wire struct {
	net.Conn
	raw syscall.RawConn // nil: no reading ahead

	readMu sync.Mutex // guards the fields below
	ahead  *block     // nil unless something is unread
	unread []byte     // a part of it
	got    int        // what the last read of the network returned
	gotErr error
	read   func(fd uintptr) bool // w.readOnce, made once

	writeMu sync.Mutex // guards the fields below
	corked  bool
	held    *block // nil unless corked
	holds   int    // bytes in it
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c, raw: rawConn(c)}
	if w.raw != nil {
		w.read = w.readOnce
		limitUnsent(w.raw)
	}
	return w
}

// Read reads as much as the network has, and returns what fits. Nothing is
// held while it waits: a block is taken for the moment of the system call.
func (w *wire) Read(p []byte) (int, error) {
	if w.raw == nil || len(p) == 0 {
		return w.Conn.Read(p)
	}
	w.readMu.Lock()
	defer w.readMu.Unlock()
	if w.ahead == nil {
		if err := w.raw.Read(w.read); err != nil {
			return 0, err
		}
		if w.ahead == nil {
			return 0, w.gotErr
		}
		w.unread = w.ahead[:w.got]
	}
	n := copy(p, w.unread)
	if w.unread = w.unread[n:]; len(w.unread) == 0 {
		blocks.Put(w.ahead)
		w.ahead, w.unread = nil, nil
	}
	return n, nil
}

// readOnce reads the socket into a new block, unless it would block.
func (w *wire) readOnce(fd uintptr) (done bool) {
	b := blocks.Get().(*block)
	n, again, err := readSocket(fd, b[:])
	if n > 0 {
		w.ahead, w.got = b, n
		return true
	}
	blocks.Put(b)
	w.gotErr = err
	return !again
}

// Write sends p, or keeps it for later if the wire is corked.
func (w *wire) Write(p []byte) (int, error) {
	w.writeMu.Lock()
	defer w.writeMu.Unlock()
	if !w.corked {
		return w.Conn.Write(p)
	}
	if w.holds+len(p) > blockSize {
		if err := w.sendHeld(); err != nil {
			return 0, err
		}
	}
	if len(p) > blockSize {
		return w.Conn.Write(p)
	}
	if w.held == nil {
		w.held = blocks.Get().(*block)
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
		blocks.Put(w.held)
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
