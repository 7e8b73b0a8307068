package direct

import (
	"errors"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
)

// Door is where connections enter the swarm that were not dialled by it: the
// swarm keeps one dial per peer, with one role and one pace for all addresses,
// and dials nobody to whom a connection stands (go-libp2p v0.51,
// p2p/net/swarm/dial_sync.go). It is a listener of the swarm's, and so all that
// comes in through it counts as inbound there.
type Door struct {
	conns  chan transport.CapableConn
	closed chan struct{}
	once   sync.Once
}

// NewDoor returns a door that nobody listens at yet.
func NewDoor() *Door {
	return &Door{conns: make(chan transport.CapableConn), closed: make(chan struct{})}
}

var errDoorClosed = errors.New("the host is closed")

// dialled is a connection that we made, whatever the swarm takes it for.
type dialled struct {
	transport.CapableConn
	how Outcome
}

// As lets WeDialled find it beneath the swarm's wrappers.
func (c *dialled) As(target any) bool {
	if t, ok := target.(**dialled); ok {
		*t = c
		return true
	}
	return c.CapableConn.As(target)
}

// WeDialled reports whether we made a connection, here or in the swarm.
func WeDialled(c network.Conn) bool {
	var d *dialled
	return c.Stat().Direction == network.DirOutbound || c.As(&d)
}

// hand gives a connection to the swarm, or closes it if that is gone.
func (d *Door) hand(c transport.CapableConn, how Outcome) error {
	select {
	case d.conns <- &dialled{c, how}:
		return nil
	case <-d.closed:
		c.Close()
		return errDoorClosed
	}
}

// Listener puts the door beside a listener of the swarm's: the one that comes
// back accepts what either has.
func (d *Door) Listener(l transport.Listener) transport.Listener {
	both := &doorListener{Listener: l, door: d, conns: make(chan transport.CapableConn), failed: make(chan struct{})}
	go both.accept()
	return both
}

type doorListener struct {
	transport.Listener
	door   *Door
	conns  chan transport.CapableConn
	failed chan struct{} // closed after err was set
	err    error
}

// accept passes on what the other listener accepts, until it is closed.
func (l *doorListener) accept() {
	defer close(l.failed)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			return
		}
		select {
		case l.conns <- c:
		case <-l.door.closed:
			c.Close()
		}
	}
}

func (l *doorListener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case c := <-l.door.conns:
		return c, nil
	case <-l.failed:
		return nil, l.err
	}
}

func (l *doorListener) Close() error {
	l.door.once.Do(func() { close(l.door.closed) })
	err := l.Listener.Close()
	<-l.failed
	return err
}
