// Package logging gives every room of the house its logger: log/slog in the
// code, go-log/v2 underneath, so that GOLOG_LOG_LEVEL, GOLOG_LOG_FMT and
// GOLOG_FILE mean what they mean in the rest of the libp2p ecosystem.
//
//	var log = logging.For("autorelay") // GOLOG_LOG_LEVEL=causeway/autorelay=debug
//
// Messages are constant and lower case; everything that varies is an
// attribute (peer, addr, relay, reason, dur, err, bytes, ttl).
package logging

import (
	"log/slog"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
)

// For returns the logger of one package, named "causeway/<room>".
// Its level follows GOLOG_LOG_LEVEL and can be changed at run time with
// go-log's SetLogLevel.
func For(room string) *slog.Logger {
	name := "causeway/" + room
	golog.Logger(name) // registers the name, so that SetLogLevel finds it
	return slog.New(golog.SlogHandler().WithAttrs([]slog.Attr{slog.String("logger", name)}))
}

// CaptureLibp2p sends go-libp2p's own log lines through go-log too, so that
// one setting governs both. Commands call it first thing in main; libraries
// leave the choice to the program that embeds them.
func CaptureLibp2p() {
	gologshim.SetDefaultHandler(golog.SlogHandler())
}
