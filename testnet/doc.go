// Package testnet is a simulated internet inside one process: machines with
// public-looking addresses, NAT boxes in front of some of them, latency, loss,
// bandwidth, and switches that break things. It carries UDP, and with
// [Host.Transport] any libp2p host speaks QUIC over it unchanged. Every machine
// has an IPv6 address as well, which no box is in the way of, and on demand a
// stateful firewall in front of it ([Host.Firewall6]).
//
//	net := testnet.New(testnet.Config{Latency: 25 * time.Millisecond})
//	defer net.Close()
//	relay := net.Host("relay")
//	alice := net.NAT("home", testnet.PortRestricted()).Host("alice")
//
//	h, err := libp2p.New(alice.Transport(), libp2p.ListenAddrs(alice.ListenAddr(4001)))
//
// It runs in real time anywhere and in virtual time inside a testing/synctest
// bubble; it needs no *testing.T.
//
// # How a packet travels
//
//	socket ─▶ uplink ─▶ NAT boxes, inner to outer ─▶ loss, latency
//	                                                    │
//	socket ◀─ downlink ◀─ NAT boxes, outer to inner ◀───┘
//
// Source translation happens when the packet is sent and destination
// translation when it arrives, so a mapping that expired or was forgotten while
// the packet was under way does drop it. One goroutine per Net moves the
// packets; nothing in it waits for a socket, so a machine that does not read
// stalls nobody: what does not fit its receive buffer is dropped and counted
// ([Net.Drops]), as are all other packets that do not arrive.
//
// One mutex guards everything but the receive buffers, which have one each.
// Order: Net.mu, then socket.mu.
//
// # libp2p hosts on it
//
// All of this was seen with go-libp2p v0.51.0.
//
//   - Listen on [Host.ListenAddr], not on 0.0.0.0: the swarm resolves that to
//     the interfaces of the real machine.
//   - AutoNAT v2's server refuses QUIC dial-backs until the UDP black-hole
//     counter has seen successes; libp2p.UDPBlackHoleSuccessCounter(nil) and
//     libp2p.IPv6BlackHoleSuccessCounter(nil) turn it off. A stock host also
//     needs four observers before it knows its address behind a box.
//   - The hole puncher looks for observed addresses 250 ms, 750 ms, 1.75 s, …
//     after it started (p2p/protocol/holepunch/svc.go, waitForPublicAddr) and
//     never punches for a circuit that came before it found one. Wait until the
//     host handles holepunch.Protocol.
//   - libp2p.New leaks goroutines when it cannot listen on any address, with any
//     transport. In a synctest bubble this ends the test with a deadlock report.
//   - So does an AutoNAT v2 server that was asked a moment before the test
//     ended, now and then: its request outlives Host.Close. [Linger] last of all
//     waits for it.
//
// # Virtual time
//
// Everything here works in a synctest bubble, including observed addresses,
// AutoNAT and hole punching; Net, hosts and everything that waits for them must
// be made inside it and closed before it ends.
//
// go-libp2p's x/simlibp2p/libp2p.go says that identify address discovery stalls
// synctest and turns it off. At v0.51.0 it does not: that package's own test
// passes without the option, and so do the 200 hosts of the test here. One way
// to a stall is left, in real time as well: p2p/host/observedaddrs/manager.go,
// eventHandler, returns without closing its subscription, so that after it a
// 17th identify event blocks the host's event bus, with its lock held. It takes
// 17 identifies that complete between two steps of Host.Close. Should a
// test ever stall there, close the dialers before the host they all dial.
//
// # What it does not do
//
// No TCP, ICMP, fragmentation, path MTU or UPnP; the link from a NAT box
// to the machines behind it takes no time. A port nobody listens on is silent.
package testnet
