package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/auth"
	"github.com/causeway-p2p/causeway/testnet"
)

// An operator signs a token for a peer, which shows it to the operator's relay.
func Example() {
	net := testnet.New(testnet.Config{})
	defer net.Close()
	var hosts []host.Host
	for _, name := range []string{"relay", "peer", "thief"} {
		m := net.Host(name)
		h, err := libp2p.New(m.Transport(), libp2p.ListenAddrs(m.ListenAddr(4001)))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer h.Close()
		hosts = append(hosts, h)
	}
	relay, p, thief := hosts[0], hosts[1], hosts[2]

	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer, err := peer.IDFromPrivateKey(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := auth.Sign(key, auth.Token{
		Peer: p.ID(), Class: "member", Expires: time.Now().Add(30 * 24 * time.Hour),
		Limits: auth.Limits{Circuits: 8, Rate: auth.Unlimited},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	trust := auth.Trust{Issuers: []peer.ID{issuer}}
	classes := map[string]auth.Limits{"member": {Circuits: 4, Rate: 1 << 20, CircuitTime: time.Hour}}
	stop := auth.Receive(relay, auth.Relay{Accept: func(from peer.ID, s *auth.Signed) (auth.Grant, error) {
		if s == nil {
			return auth.Grant{}, nil // given back; a relay forgets it here
		}
		if err := trust.Verify(s, from, time.Now()); err != nil {
			return auth.Grant{}, err
		}
		class, ok := classes[s.Class]
		if !ok {
			return auth.Grant{}, auth.NotTaken
		}
		return auth.Grant{Class: s.Class, Limits: s.Limits.Over(class), Expires: s.Expires}, nil // and keeps it here
	}})
	defer stop()

	ctx := context.Background()
	for _, h := range []host.Host{p, thief} {
		if err := h.Connect(ctx, peer.AddrInfo{ID: relay.ID(), Addrs: relay.Addrs()}); err != nil {
			fmt.Println(err)
			return
		}
		grant, err := auth.Present(ctx, h, relay.ID(), token)
		var why auth.Reason
		if errors.As(err, &why) {
			fmt.Println("refused:", why)
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(grant.Class, grant.Limits.Circuits, grant.Limits.Rate, grant.Limits.CircuitTime)
	}

	// Output:
	// member 8 -1 1h0m0s
	// refused: the token is for another peer
}
