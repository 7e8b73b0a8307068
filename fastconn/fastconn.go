// Package fastconn makes libp2p connections cheaper per byte, for nodes whose
// work is to carry bytes for others. Nothing changes on the wire, nothing has
// to be agreed with the other side:
//
//   - reads from the network are large, however small the pieces are in which
//     the security layer asks (wire.go);
//   - frames that the muxer writes one by one while the last write is still
//     under way leave together (combine.go);
//   - a bulk stream does not queue so much that the others on its connection
//     wait behind it (backlog.go);
//   - QUIC datagrams come from the kernel many at a time (quic.go).
//
// An idle connection holds no buffers of ours.
//
// [Options] is given to libp2p.New; [Pace] is for who copies between streams.
// The stock transports stay in place: this package wraps libp2p's TLS, Noise
// and yamux, and replaces the socket under its QUIC.
//
//	     yamux
//	       │          one Write per frame
//	     Conn         gathers frames while a write is under way
//	       │          up to 64 KiB
//	  TLS or Noise    records of up to 16 KiB, messages of up to 64 KiB
//	       │
//	     wire         one system call for many records, in both directions
//	       │
//	TCP or WebSocket
package fastconn

import (
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// Options makes a host's connections fast. It stands for the options Security,
// Muxer and QUICReuse, in the order of libp2p's defaults.
func Options() libp2p.Option {
	return libp2p.ChainOptions(
		libp2p.Security(libp2ptls.ID, TLS),
		libp2p.Security(noise.ID, Noise),
		libp2p.Muxer(yamux.ID, Muxer),
		libp2p.QUICReuse(newQUIC),
	)
}
