package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/internal/interop/report"
)

// dial sends bytes to the peer's echo and compares what comes back.
func dial(ctx context.Context, s *session) error {
	size, err := strconv.ParseInt(s.args[2], 10, 64)
	if err != nil {
		return err
	}
	return s.overCircuit(ctx, func(ctx context.Context, c network.Conn, out *report.Circuit) error {
		st, err := s.host.NewStream(ctx, c.RemotePeer(), report.Echo)
		if err != nil {
			return err
		}
		defer st.Reset()
		if err := st.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		return echoed(st, size, out)
	})
}

// echoed writes while it reads: an echo that cannot get rid of what it read
// would otherwise stop reading.
func echoed(st network.Stream, size int64, out *report.Circuit) error {
	sent, got := sha256.New(), sha256.New()
	wrote := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.MultiWriter(st, sent), io.LimitReader(rand.Reader, size))
		out.Sent = n
		wrote <- errors.Join(err, st.CloseWrite())
	}()
	n, err := io.Copy(got, st)
	if err != nil {
		st.Reset() // or the writer would wait for a reader that is gone
	}
	err = errors.Join(err, <-wrote)
	out.Received = n
	out.Equal = n == size && string(sent.Sum(nil)) == string(got.Sum(nil))
	return err
}

// hold waits until the circuit ends.
func hold(ctx context.Context, s *session) error {
	return s.overCircuit(ctx, func(ctx context.Context, c network.Conn, out *report.Circuit) error {
		ended := make(chan struct{})
		watch := &network.NotifyBundle{DisconnectedF: func(_ network.Network, gone network.Conn) {
			if gone == c {
				close(ended)
			}
		}}
		s.host.Network().Notify(watch)
		defer s.host.Network().StopNotify(watch)
		if c.IsClosed() {
			out.Ended = true
			return nil
		}
		select {
		case <-ended:
			out.Ended = true
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// pingPeer pings the peer, over the circuit.
func pingPeer(ctx context.Context, s *session) error {
	return s.overCircuit(ctx, func(ctx context.Context, c network.Conn, out *report.Circuit) error {
		r := <-ping.Ping(ctx, s.host, c.RemotePeer())
		out.Pinged = r.Error == nil
		return r.Error
	})
}

// overCircuit opens a circuit, does something with it and reports.
func (s *session) overCircuit(ctx context.Context, do func(context.Context, network.Conn, *report.Circuit) error) error {
	var out report.Report
	err := func() error {
		relay, err := s.relay(ctx)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "interop"), patience)
		defer cancel()
		c, err := s.circuit(ctx)
		if err != nil {
			return err
		}
		out.Protocols = s.protocols(relay.ID)
		out.Circuit = &report.Circuit{Limited: c.Stat().Limited, Remote: c.RemoteMultiaddr().String()}
		return do(ctx, c, out.Circuit)
	}()
	if err != nil {
		out.Error, out.Refused = err.Error(), refusal(err)
	}
	return s.tell(out)
}

// circuit dials the peer that the second argument names, over the relay alone.
func (s *session) circuit(ctx context.Context) (network.Conn, error) {
	id, err := peer.Decode(s.args[1])
	if err != nil {
		return nil, err
	}
	over, err := ma.NewMultiaddr(s.args[0] + "/p2p-circuit")
	if err != nil {
		return nil, err
	}
	if err := s.host.Connect(ctx, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{over}}); err != nil {
		return nil, err
	}
	conns := s.host.Network().ConnsToPeer(id)
	if len(conns) == 0 {
		return nil, errors.New("the circuit ended at once")
	}
	return conns[0], nil
}

// The circuit client tells a refused circuit in words only
// (p2p/protocol/circuitv2/client/dial.go).
var refused = regexp.MustCompile(`error opening relay circuit: ([A-Z_]+) \(\d+\)`)

func refusal(err error) string {
	if m := refused.FindStringSubmatch(err.Error()); m != nil {
		return m[1]
	}
	return ""
}
