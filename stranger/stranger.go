// Package stranger has a node dialled by somebody it never had to do with.
//
// An address-restricted NAT lets in every host that the node has talked to on
// any port, and AutoNAT's servers are such hosts: they find the node public,
// and nobody else can dial it. So the node asks a server that it is connected
// to, and the server asks a third node:
//
//	client ──Ask──▶ server ──Dial──▶ third node ─┐
//	  ▲                                          │ dials, from an identity and
//	  └──────── the nonce, as in AutoNAT v2 ─────┘ a port made for it
//
// What proves something is the nonce that arrives, from an IP address that the
// client has never sent anything to; how it arrives is AutoNAT v2's dial-back,
// which belongs to package reachability. What the server and the third node say
// is their word.
//
// Whoever asks pays: for every dial 30,000 bytes go from the client to the
// server, and from there to the third node, before it dials. On the wire it is
// /causeway/stranger/1.0.0 (docs/protocols/stranger.md). [Stranger.Ask] is the
// client; [Stranger.Run] serves as server and as third node, while
// [Stranger.SetPublic] says that this node can be dialled itself.
package stranger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/causeway-p2p/causeway/internal/logging"
	"github.com/causeway-p2p/causeway/internal/oneshot"
	"github.com/causeway-p2p/causeway/stranger/pb"
)

// Protocol is the protocol ID.
const Protocol protocol.ID = "/causeway/stranger/1.0.0"

var log = logging.For("stranger")

// bounds are on what is opened to us, before it is read: what is asked for is
// bounded by a gate. The streams are those of all who wait for a place in it,
// which takes no time, and the few inside.
var bounds = oneshot.Bounds{
	Timeout: serveTimeout, Burst: 20, Interval: 3 * time.Second, Peers: 1024, Streams: 64,
}

// Config is what a Stranger needs to know.
type Config struct {
	// NewDialer makes a host that dials one address and is closed after it:
	// with an identity of its own, listening nowhere, and with the transports
	// of the host. It may be called concurrently. Required.
	NewDialer func() (host.Host, error)
	// Limits are on what others may ask for.
	Limits Limits
}

// Stranger asks for strangers, and is one. Create it with New; Ask works from
// then on, and what others ask for is served while Run runs.
type Stranger struct {
	// static after New
	host  host.Host
	cfg   Config
	asks  *gate
	dials *gate

	public  atomic.Bool
	changed chan struct{} // public may be another
}

// New returns a Stranger for the host.
func New(h host.Host, cfg Config) (*Stranger, error) {
	cfg.Limits = cfg.Limits.withDefaults()
	l := cfg.Limits
	errs := l.validate()
	if cfg.NewDialer == nil {
		errs = errors.Join(errs, errors.New("a maker of dialers is required"))
	}
	if errs != nil {
		return nil, fmt.Errorf("stranger: %w", errs)
	}
	return &Stranger{
		host: h, cfg: cfg, changed: make(chan struct{}, 1),
		asks: newGate(l.PerAsker, l.PerTarget, l.Total, l.Concurrent),

		dials: newGate(l.PerServer, l.PerTarget, l.Total, l.Concurrent),
	}, nil
}

// Protocol returns the protocol that a server must speak to be asked.
func (s *Stranger) Protocol() protocol.ID { return Protocol }

// SetPublic says whether this node can be dialled from anywhere. Only such a
// node serves: one behind a NAT dials from an address that it shares. It does
// not block.
func (s *Stranger) SetPublic(public bool) {
	s.public.Store(public)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends, and waits for what is under way.
func (s *Stranger) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	server := oneshot.NewServer(bounds, func(st network.Stream) error { return s.serve(ctx, st) })
	defer server.Stop()
	defer cancel()
	defer s.host.RemoveStreamHandler(Protocol)
	serving := false
	for {
		if public := s.public.Load(); public != serving {
			if serving = public; serving {
				s.host.SetStreamHandler(Protocol, server.Handle)
			} else {
				s.host.RemoveStreamHandler(Protocol) // what is under way goes on
			}
			log.Debug("strangers", "serving", serving)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
	}
}

// serve is one exchange, of either kind.
func (s *Stranger) serve(ctx context.Context, st network.Stream) error {
	var m pb.Message
	if err := oneshot.Read(st, maxMessage, &m); err != nil {
		return err
	}
	var err error
	switch k := m.GetKind().(type) {
	case *pb.Message_Ask:
		err = s.find(ctx, st, k.Ask)
	case *pb.Message_Dial:
		err = s.dial(ctx, st, k.Dial)
	default:
		return errMessage
	}
	log.Debug("request served", "peer", st.Conn().RemotePeer(), "err", err)
	answer, err := answerTo(err)
	if err != nil {
		return err
	}
	if err := oneshot.Write(st, answer); err != nil {
		return err
	}
	return st.Close()
}
