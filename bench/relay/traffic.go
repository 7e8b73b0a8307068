package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/bench/child"
)

// sink reads as much at a time as a muxer has.
const sinkBuffer = 64 << 10

// countBulk reads to the end and writes back how many bytes those were.
func countBulk(rw io.ReadWriter) error {
	var total int64
	for buf := make([]byte, sinkBuffer); ; {
		n, err := rw.Read(buf)
		total += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := rw.Write(binary.BigEndian.AppendUint64(nil, uint64(total)))
	return err
}

// halfCloser is a stream or a connection.
type halfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

// sendBulk writes so many bytes, in writes of one size, and returns when the
// other end has counted them.
func sendBulk(s halfCloser, size int64, write int) error {
	buf := make([]byte, write)
	buf[0] = kindBulk
	for sent := int64(0); sent < size; {
		n, err := s.Write(buf[:min(int64(write), size-sent)])
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", sent, err)
		}
		sent += int64(n)
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	var count [8]byte
	if _, err := io.ReadFull(s, count[:]); err != nil {
		return fmt.Errorf("wait for the count: %w", err)
	}
	// The first byte said what it is.
	if got := int64(binary.BigEndian.Uint64(count[:])) + 1; got != size {
		return fmt.Errorf("%d bytes arrived of %d", got, size)
	}
	return nil
}

// bulkArgs ask for bytes over all open circuits together.
type bulkArgs struct {
	Bytes int64 `json:"bytes"`
	Write int   `json:"write"`
}

// moved is what was transferred in which time.
type moved struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func (m moved) rate() float64 { return float64(m.Bytes) / 1e6 / m.Seconds }

// bulk sends over every open circuit, and closes them.
func (c *clients) bulk(_ context.Context, a bulkArgs) (moved, error) {
	list := c.circuits
	c.circuits = nil
	return sendAll(len(list), a, func(i int) (halfCloser, func(), error) {
		return list[i], func() { list[i].Close() }, nil
	})
}

// sendAll sends over n streams at a time.
func sendAll(n int, a bulkArgs, get func(int) (halfCloser, func(), error)) (moved, error) {
	if n == 0 {
		return moved{}, errors.New("nothing is open")
	}
	each := a.Bytes / int64(n)
	begun := time.Now()
	err := inParallel(n, n, func(i int) error {
		s, done, err := get(i)
		if err != nil {
			return err
		}
		defer done()
		return sendBulk(s, each, a.Write)
	})
	return moved{Bytes: each * int64(n), Seconds: time.Since(begun).Seconds()}, err
}

// pingArgs ask for ping-pong over circuits of its own, all at a time.
type pingArgs struct {
	Dests    []string `json:"dests"`
	Circuits int      `json:"circuits"`
	Seconds  float64  `json:"seconds"`
	// Gap is the pause between two pings of a circuit. If zero, none. The
	// circuits begin one after the other within a gap, so that they do not
	// ping in step and wait for each other.
	Gap time.Duration `json:"gap_ns"`
}

// latency is what they saw, in µs.
type latency struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
}

// pingSize is that of a keystroke or a small datagram.
const pingSize = 64

func (c *clients) ping(ctx context.Context, a pingArgs) (l latency, err error) {
	dests, err := decodeAll(a.Dests)
	if err != nil {
		return l, err
	}
	samples := make([][]time.Duration, a.Circuits)
	err = inParallel(a.Circuits, a.Circuits, func(i int) (err error) {
		if err := pause(ctx, a.Gap*time.Duration(i)/time.Duration(a.Circuits)); err != nil {
			return err
		}
		samples[i], err = c.pingOne(ctx, c.hosts[i%len(c.hosts)], dests[i%len(dests)], a)
		return err
	})
	if err != nil {
		return l, err
	}
	return summarise(slices.Concat(samples...)), nil
}

func (c *clients) pingOne(ctx context.Context, h host.Host, dest peer.ID, a pingArgs) ([]time.Duration, error) {
	s, err := openCircuit(ctx, h, c.relay, dest)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write([]byte{kindEcho}); err != nil {
		return nil, err
	}
	var samples []time.Duration
	buf := make([]byte, pingSize)
	for end := time.Now().Add(time.Duration(a.Seconds * float64(time.Second))); ; {
		begun := time.Now()
		if _, err := s.Write(buf); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(s, buf); err != nil {
			return nil, err
		}
		samples = append(samples, time.Since(begun))
		if time.Now().After(end) {
			return samples, nil
		}
		if err := pause(ctx, a.Gap); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func summarise(samples []time.Duration) (l latency) {
	if len(samples) == 0 {
		return l
	}
	slices.Sort(samples)
	var sum time.Duration
	for _, d := range samples {
		sum += d
	}
	at := func(q float64) float64 {
		return float64(samples[int(q*float64(len(samples)-1))].Nanoseconds()) / 1e3
	}
	return latency{Count: len(samples), Mean: float64(sum.Nanoseconds()) / 1e3 / float64(len(samples)), P50: at(0.50), P99: at(0.99)}
}

// flood is one circuit that sends as fast as it can until it is stopped.
type flood struct {
	stream network.Stream
	sent   atomic.Int64
	begun  time.Time
	done   sync.WaitGroup
}

// floodWarm is what a flood has sent before it counts as running: more than
// all buffers on the way.
const floodWarm = 4 << 20

// flood starts one to the first destination and returns when it runs.
func (c *clients) flood(ctx context.Context, a openArgs) (child.None, error) {
	dests, err := decodeAll(a.Dests)
	if err != nil {
		return child.None{}, err
	}
	s, err := openCircuit(ctx, c.hosts[0], c.relay, dests[0])
	if err != nil {
		return child.None{}, err
	}
	f := &flood{stream: s, begun: time.Now()}
	warm, ended := make(chan struct{}), make(chan error, 1)
	f.done.Go(func() {
		buf := make([]byte, sinkBuffer)
		buf[0] = kindBulk
		for told := false; ; {
			n, err := s.Write(buf)
			if err != nil {
				ended <- err
				return
			}
			if f.sent.Add(int64(n)) >= floodWarm && !told {
				told = true
				close(warm)
			}
		}
	})
	c.flooding = f
	select {
	case <-warm:
		return child.None{}, nil
	case err := <-ended:
		return child.None{}, fmt.Errorf("flood: %w", err)
	case <-ctx.Done():
		s.Reset()
		f.done.Wait()
		return child.None{}, ctx.Err()
	}
}

// calm ends the flood and tells how much it was.
func (c *clients) calm(context.Context, child.None) (moved, error) {
	f := c.flooding
	if f == nil {
		return moved{}, errors.New("there is no flood")
	}
	c.flooding = nil
	m := moved{Bytes: f.sent.Load(), Seconds: time.Since(f.begun).Seconds()}
	f.stream.Reset()
	f.done.Wait()
	return m, nil
}
