package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

// newHost makes a host with go-libp2p's defaults. Only a relay listens: a peer
// without an address of its own can be reached over circuits and no other way.
func newHost(o options, mode, relay string) (host.Host, error) {
	var opts []libp2p.Option
	switch mode {
	case "relay":
		// No QUIC: the quic-go of v0.36 and v0.43, built with Go 1.26, panics at
		// times when a client goes away at the end of the handshake ("crypto/tls
		// bug: where's my session ticket?", quic-go, crypto_setup.go).
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.ListenAddrStrings(
			"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"))
	case "auto":
		info, err := peer.AddrInfoFromString(relay)
		if err != nil {
			return nil, err
		}
		opts = append(opts, libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.ForceReachabilityPrivate(),
			libp2p.EnableAutoRelayWithStaticRelays([]peer.AddrInfo{*info}))
	default:
		opts = append(opts, libp2p.NoListenAddrs, libp2p.EnableRelay())
	}
	switch o.security {
	case "":
	case "noise":
		opts = append(opts, libp2p.Security(noise.ID, noise.New))
	case "tls":
		opts = append(opts, libp2p.Security(libp2ptls.ID, libp2ptls.New))
	default:
		return nil, fmt.Errorf("security %q is not one of tls, noise", o.security)
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, err
	}
	h.SetStreamHandler(report.Echo, echo)
	return h, nil
}

func echo(s network.Stream) {
	if _, err := io.Copy(s, s); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

// libp2pVersion is what this program was built with.
func libp2pVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/libp2p/go-libp2p" {
			return m.Version
		}
	}
	return "unknown"
}
