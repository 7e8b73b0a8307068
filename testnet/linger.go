package testnet

import "time"

// lingering is how long an AutoNAT v2 server works on one request at most
// (go-libp2p v0.51.0, p2p/protocol/autonatv2/autonat.go, streamTimeout, 15 s).
// When it got its dial data it waits for up to 3 s before it dials, whether or
// not its host is closed meanwhile (server.go, serveDialRequest).
const lingering = 16 * time.Second

// Linger waits for what go-libp2p's hosts leave behind when they are closed. In
// a synctest bubble, where it takes no time, call it after all else: time stands
// still once the function of the bubble has returned, and who waits for a timer
// then waits forever.
//
//	t.Cleanup(testnet.Linger) // the first cleanup runs last
func Linger() { time.Sleep(lingering) }
