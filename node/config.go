package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/direct"
	"github.com/causeway-p2p/causeway/relay"

	"github.com/causeway-p2p/causeway/internal/maddr"
)

// PublicNetwork is the name of the public Amino DHT.
const PublicNetwork = "public"

// Config says what a node is to be. The zero value is a peer on the public
// network with a fresh identity, on random ports, that forgets everything when
// it stops.
type Config struct {
	// Identity is the node's private key. If nil, a new Ed25519 key.
	Identity crypto.PrivKey
	// DataDir is where relays that served us are remembered. If empty,
	// nothing is.
	DataDir string
	// Network is the DHT to join: PublicNetwork (if empty), or the name of a
	// private one, whose nodes use the DHT protocol /causeway/NAME/kad/1.0.0
	// and never meet the public one.
	Network string
	// Bootstrap are the peers through which the network is joined. If empty on
	// the public network, its well-known ones. A private network needs at
	// least one, except for its first node.
	Bootstrap []peer.AddrInfo
	// Listen are the addresses to listen on. If empty, a random port for TCP
	// and for QUIC, on IPv4 and IPv6.
	Listen []ma.Multiaddr
	// Announce replaces the addresses that are told to others, for hosts
	// behind Docker, a cloud's NAT or a DNS name. They are still verified by
	// dial-back, except for those that no server dials and that count on your
	// word: private ones, and names with no public IP address beside them.
	Announce []ma.Multiaddr
	// TLS has the certificate for listen addresses with /tls/ws: WebSocket over
	// TLS, which on port 443 gets out of networks that let out nothing else. It
	// is asked for the certificate at each handshake (GetCertificate), which may
	// be another by then. Plain TCP is listened for on the same port.
	TLS *tls.Config
	// TLSName is the DNS name in that certificate, by which others are told of
	// those addresses. Required with TLS.
	TLSName string
	// AllowPrivate makes private addresses (RFC 1918 and the like) good for
	// relaying on: circuit addresses through a relay at a private address are
	// advertised. For LANs, compose and Kubernetes.
	AllowPrivate bool
	// MDNS makes the node find peers of its network on the LAN, and be found by
	// them: it tells everybody there its ID and private addresses. It is left
	// out with Transports and where the node listens on loopback only.
	MDNS bool
	// StaticRelays are tried besides those that are discovered.
	StaticRelays []peer.AddrInfo
	// Relays is how many relays are advertised while the node cannot be
	// dialled. If zero, 2; if negative, none are sought.
	Relays int
	// Standby is how many more are held without being advertised, so that one
	// that goes is replaced in the same moment. If zero, 1; if negative, none.
	Standby int
	// IdleProbeInterval is the pause between two liveness probes of a relay
	// over which no circuit runs, for devices that live on batteries: at 30 s
	// a probed relay costs 54 kB an hour instead of 830 kB, and its death is
	// noticed within 32 s instead of 3 s. If zero, 1 s.
	IdleProbeInterval time.Duration
	// Token is shown to the relays that take tokens (package auth), to be
	// served better than a stranger. It must be for the Identity. If empty,
	// none. SetToken changes it.
	Token string
	// Relay says when to serve others as a relay. If empty, relay.Off.
	Relay relay.Mode
	// ForeignRelaySweep is how often connections to relays are looked through
	// that were opened to reach somebody there, and ForeignRelayGrace how long
	// the last circuit over one must be over for it to be closed. If zero,
	// 1 minute and 5 seconds.
	ForeignRelaySweep, ForeignRelayGrace time.Duration
	// RelayLimits bound what others may use of it.
	RelayLimits relay.Limits
	// RelayAccess says who may use it, and as what.
	RelayAccess relay.Access
	// RelayForwarder, if not nil, reaches destinations that hold their
	// reservation at another relay.
	RelayForwarder relay.Forwarder
	// Siblings are the relays that peers are told to go to when this one is
	// drained: at most 8.
	Siblings []peer.AddrInfo
	// Server makes the node a DHT server unless it turns out not to be
	// reachable, and an AutoNAT v1 server, as suits a machine that stays up.
	// Otherwise it becomes a DHT server when it turns out to be reachable.
	// AutoNAT v2 is always offered.
	Server bool
	// NoPortMapping keeps the router in front of this machine as it is. By
	// default it is asked, over PCP, NAT-PMP or UPnP, to let the internet in,
	// unless Announce says where others come in, or Listen is loopback only.
	NoPortMapping bool
	// NoHolePunching keeps relayed connections relayed.
	NoHolePunching bool
	// PortalURL is what Netcheck fetches to find out whether a captive portal
	// is in the way: it must answer 204 over plain HTTP. If empty,
	// DefaultPortalURL; if NoPortalURL, nothing is fetched.
	PortalURL string
	// UserAgent is what identify tells others. If empty, "causeway/VERSION".
	UserAgent string
	// Sockets is the machine beneath Transports that are not those of the real
	// one. If nil with those, ports of symmetric NATs are not guessed and peers
	// on the same network are not looked for.
	Sockets direct.Sockets
	// Transports replaces the transports (TCP, QUIC, WebSocket), for instance
	// by those of package testnet.
	Transports []libp2p.Option
	// Libp2p are further options for the host, applied last. Relay service,
	// autorelay and AutoNAT options would get in the way of the node's own.
	Libp2p []libp2p.Option
	// Registerer receives the metrics, ours (docs/metrics.md) and libp2p's. If
	// nil, there are none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Network == "" {
		c.Network = PublicNetwork
	}
	if c.Relay == "" {
		c.Relay = relay.Off
	}
	if c.ForeignRelaySweep == 0 {
		c.ForeignRelaySweep = foreignSweep
	}
	if c.ForeignRelayGrace == 0 {
		c.ForeignRelayGrace = foreignGrace
	}
	c.Token = strings.TrimSpace(c.Token)
	if c.PortalURL == "" {
		c.PortalURL = DefaultPortalURL
	}
	if c.UserAgent == "" {
		c.UserAgent = "causeway/" + Version
	}
	if len(c.Listen) == 0 {
		for _, s := range []string{
			"/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1",
			"/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0",
		} {
			c.Listen = append(c.Listen, ma.StringCast(s))
		}
	}
	c.Listen = spelledOut(c.Listen)
	if c.Identity == nil {
		key, err := NewIdentity()
		if err != nil {
			return c, err
		}
		c.Identity = key
	}
	return c, nil
}

var validNetwork = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (c Config) validate() error {
	var errs []error
	if !validNetwork.MatchString(c.Network) {
		errs = append(errs, fmt.Errorf("network name %q: want 1 to 32 characters of a-z 0-9 -", c.Network))
	}
	if _, err := relay.ParseMode(string(c.Relay)); err != nil {
		errs = append(errs, err)
	}
	if err := c.RelayLimits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.ForeignRelaySweep < 0 || c.ForeignRelayGrace < 0 {
		errs = append(errs, fmt.Errorf("sweep of foreign relays every %v, grace %v: want 0 or more", c.ForeignRelaySweep, c.ForeignRelayGrace))
	}
	if id, err := peer.IDFromPrivateKey(c.Identity); err != nil {
		errs = append(errs, fmt.Errorf("identity: %w", err))
	} else if err := checkToken(c.Token, id); err != nil {
		errs = append(errs, err)
	}
	if err := checkPortalURL(c.PortalURL); err != nil {
		errs = append(errs, err)
	}
	if err := c.checkTLS(); err != nil {
		errs = append(errs, err)
	}
	for _, a := range c.Announce {
		if maddr.IsCircuit(a) {
			errs = append(errs, fmt.Errorf("announced address %s: circuit addresses are announced by themselves", a))
		}
	}
	for _, list := range [][]peer.AddrInfo{c.Bootstrap, c.StaticRelays, c.Siblings} {
		for _, info := range list {
			if len(info.Addrs) == 0 {
				errs = append(errs, fmt.Errorf("peer %s has no address", info.ID))
			}
		}
	}
	return errors.Join(errs...)
}

// private reports whether the node is on a private network.
func (c Config) private() bool { return c.Network != PublicNetwork }

// dhtPrefix is the protocol prefix of a private network's DHT.
func (c Config) dhtPrefix() protocol.ID { return protocol.ID("/causeway/" + c.Network) }

// dhtProtocol is what the DHT's streams speak.
func (c Config) dhtProtocol() protocol.ID {
	if c.private() {
		return c.dhtPrefix() + "/kad/1.0.0"
	}
	return dht.ProtocolDHT
}
