package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"

	"github.com/causeway-p2p/causeway/auth"
)

// SetToken gives the node another token for relays (package auth), or with the
// empty text none. The relays that we hold are shown it at once and their
// reservations refreshed, so that the limits known are the limits in force; the
// outcome comes as events. It may be called before Start. The error says in a
// sentence why the text is no token of ours; whether relays take it is for them
// to say.
func (n *Node) SetToken(token string) error {
	token = strings.TrimSpace(token)
	if err := checkToken(token, n.id); err != nil {
		return err
	}
	if n.credentials.set(token) && n.seeksRelays() == nil {
		n.autorelay.Refresh()
	}
	return nil
}

// checkToken does not look at the time: our clock may be wrong, and the relay's
// is the one that counts.
func checkToken(token string, id peer.ID) error {
	if token == "" {
		return nil
	}
	s, err := auth.Parse(token)
	if err != nil {
		return err
	}
	if s.Peer != id {
		return fmt.Errorf("the token is for peer %s, and this is %s", s.Peer, id)
	}
	return nil
}

// credentials show the node's token to relays: before every reservation, and
// before a circuit over a relay that has not seen it on this connection.
type credentials struct {
	emit func(Event)
	host host.Host // static after attach

	mu    sync.Mutex // guards the fields below
	token string
	shown map[peer.ID]presented // by relay; those we are connected to
}

// presented is what a relay saw last and what it said.
type presented struct{ token, answer string }

// introduceTimeout bounds what comes before a circuit. A relay that needs longer
// opens it as to a stranger.
const introduceTimeout = 2 * time.Second

func newCredentials(token string, emit func(Event)) *credentials {
	return &credentials{emit: emit, token: token, shown: make(map[peer.ID]presented)}
}

// attach is called before anything else but set.
func (c *credentials) attach(h host.Host) {
	c.host = h
	// A relay may have forgotten us in between.
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(nw network.Network, conn network.Conn) {
			if len(nw.ConnsToPeer(conn.RemotePeer())) == 1 {
				c.forget(conn.RemotePeer())
			}
		},
		DisconnectedF: func(nw network.Network, conn network.Conn) {
			if nw.Connectedness(conn.RemotePeer()) == network.NotConnected {
				c.forget(conn.RemotePeer())
			}
		},
	})
}

func (c *credentials) forget(relay peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.shown, relay)
}

// set reports whether the token is another one.
func (c *credentials) set(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.token != token
	c.token = token
	return changed
}

// due tells whether to show a relay the token, or that there is none any more.
func (c *credentials) due(relay peer.ID, again bool) (token string, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == "" {
		return "", c.shown[relay].token != ""
	}
	return c.token, again || c.shown[relay].token != c.token
}

// beforeReserve is autorelay's BeforeReserve.
func (c *credentials) beforeReserve(ctx context.Context, relay peer.ID) { c.show(ctx, relay, true) }

// beforeCircuit shows the token to a relay to which we may have just connected.
func (c *credentials) beforeCircuit(ctx context.Context, relay peer.ID) {
	if _, due := c.due(relay, false); !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	awaitIdentify(ctx, c.host, relay)
	c.show(ctx, relay, false)
}

func awaitIdentify(ctx context.Context, h host.Host, p peer.ID) {
	ids, ok := h.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	for _, conn := range h.Network().ConnsToPeer(p) {
		select {
		case <-ids.IDService().IdentifyWait(conn):
		case <-ctx.Done():
		}
	}
}

// show presents the token, and once more if it was changed meanwhile: the last
// that a relay sees is the last that was set.
func (c *credentials) show(ctx context.Context, relay peer.ID, again bool) {
	for {
		token, due := c.due(relay, again)
		if !due || !auth.Speaks(c.host, relay) {
			return
		}
		again = false
		grant, err := auth.Present(ctx, c.host, relay, token)
		if errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		c.note(relay, token, grant, err)
	}
}

// note keeps what a relay said, and tells of it if that is news.
func (c *credentials) note(relay peer.ID, token string, grant auth.Grant, err error) {
	log.Debug("token presented", "relay", relay, "class", grant.Class, "err", err)
	var why auth.Reason
	answer, event := "granted "+grant.Class, Event(TokenTaken{At: now(), Relay: relay, Grant: grant})
	switch {
	case errors.As(err, &why):
		answer, event = string(why), TokenRefused{At: now(), Relay: relay, Reason: why}
	case err != nil:
		answer, event = "nothing", TokenRefused{At: now(), Relay: relay, Detail: "no answer that makes sense"}
	}
	if token == "" {
		event = nil
	}
	c.mu.Lock()
	told := c.shown[relay] == presented{token, answer}
	c.shown[relay] = presented{token, answer}
	c.mu.Unlock()
	if c.host.Network().Connectedness(relay) == network.NotConnected {
		c.forget(relay)
	}
	if !told && event != nil {
		c.emit(event)
	}
}
