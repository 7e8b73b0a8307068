// Package auth lets a peer show a relay that the relay's operator, or somebody
// that the operator trusts, wants it served better than a stranger.
//
// What it shows is a token: a statement that one peer belongs to one class of
// peers, for a time, signed by an issuer ([Sign], [Parse]). It is bound to a
// peer ID, which libp2p has authenticated before the first stream, so that a
// token is no secret: to anybody else it is worth nothing.
//
//	issuer ──Sign──▶ text ──flag, file──▶ peer ──Present──▶ relay ──Trust.Verify
//	                                        ◀──Grant or Reason──
//
// On the wire it is /causeway/auth/1.0.0 (docs/protocols/auth.md): one stream
// per presentation, one message each way. The peer calls [Present], the relay
// [Receive], and what a class may is for the relay to know.
package auth

import (
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/causeway-p2p/causeway/internal/oneshot"
)

// Protocol is the protocol ID.
const Protocol protocol.ID = "/causeway/auth/1.0.0"

// Grant is what a relay says that a peer may from now on.
type Grant struct {
	// Class is the peer's class there. If empty, that of strangers.
	Class string `json:"class,omitempty"`
	// Limits are those in force, as far as the relay tells: 0 says nothing.
	Limits Limits `json:"limits"`
	// Expires is when it ends, by our own clock. If zero, it does not.
	Expires time.Time `json:"expires,omitzero"`
}

// Speaks tells whether a peer said in identify that it takes tokens.
func Speaks(h host.Host, p peer.ID) bool { return oneshot.Speaks(h, p, Protocol) }
