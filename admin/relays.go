package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/autorelay"
)

// RelayVerb is what can be done about a relay while the node runs.
type RelayVerb string

const (
	AddRelay    RelayVerb = "add"    // use it besides those that are found; needs an address
	RemoveRelay RelayVerb = "remove" // let it go and forget it
	PreferRelay RelayVerb = "prefer" // take it rather than one that is a little nearer
	PinRelay    RelayVerb = "pin"    // hold it, whatever else there is
	BanRelay    RelayVerb = "ban"    // never use it
	ClearRelay  RelayVerb = "clear"  // none of these any more
)

// wishes are the verbs that state one.
var wishes = map[RelayVerb]autorelay.Wish{
	PreferRelay: autorelay.Preferred, PinRelay: autorelay.Pinned,
	BanRelay: autorelay.Banned, ClearRelay: autorelay.NoWish,
}

// relays does one thing about one relay: do=VERB&relay=ID, or, for add,
// addr=MULTIADDR with /p2p/ID at its end, as often as there are addresses.
func (s *Server) relays(w http.ResponseWriter, r *http.Request) {
	if err := s.changeRelay(r); err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) changeRelay(r *http.Request) *Error {
	verb := RelayVerb(r.FormValue("do"))
	if verb == AddRelay {
		var addrs []ma.Multiaddr
		for _, text := range r.Form["addr"] {
			a, err := ma.NewMultiaddr(text)
			if err != nil {
				return &Error{BadRequest, fmt.Sprintf("%q is not a multiaddr", text)}
			}
			addrs = append(addrs, a)
		}
		infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
		if err != nil || len(infos) == 0 {
			return &Error{BadRequest, "a relay to add needs an address with /p2p/ID at its end"}
		}
		for _, info := range infos {
			if err := s.node.AddRelay(info); err != nil {
				return &Error{Failed, err.Error()}
			}
		}
		return nil
	}
	id, err := peer.Decode(r.FormValue("relay"))
	if err != nil {
		return &Error{BadRequest, fmt.Sprintf("%q is not a peer ID", r.FormValue("relay"))}
	}
	wish, isWish := wishes[verb]
	switch {
	case verb == RemoveRelay:
		err = s.node.RemoveRelay(id)
	case isWish:
		err = s.node.WishRelay(id, wish)
	default:
		return &Error{BadRequest, fmt.Sprintf("%q is nothing that can be done about a relay", verb)}
	}
	if err != nil {
		return &Error{Failed, err.Error()}
	}
	return nil
}

// Relay does something about a relay that the node knows.
func (c *Client) Relay(ctx context.Context, verb RelayVerb, id peer.ID) error {
	return c.post(ctx, "/v1/relays", url.Values{"do": {string(verb)}, "relay": {id.String()}})
}

// AddRelay makes the node use a relay besides those that it finds.
func (c *Client) AddRelay(ctx context.Context, info peer.AddrInfo) error {
	addrs, err := peer.AddrInfoToP2pAddrs(&info)
	if err != nil {
		return err
	}
	q := url.Values{"do": {string(AddRelay)}}
	for _, a := range addrs {
		q.Add("addr", a.String())
	}
	return c.post(ctx, "/v1/relays", q)
}

// post makes a request that has no answer but its success.
func (c *Client) post(ctx context.Context, path string, q url.Values) error {
	resp, err := c.do(ctx, http.MethodPost, path, q, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return err
}
