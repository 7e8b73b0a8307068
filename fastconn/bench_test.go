package fastconn

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// BenchmarkRead reads TLS records as crypto/tls does, header and body, from a
// socket and from a wire.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1400, 16 << 10} {
		for _, fast := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/%s", size, name(fast)), func(b *testing.B) {
				from, to := tcpPair(b)
				if fast {
					to = newWire(to, tlsFraming)
				}
				m := message(tlsFraming, size)
				go func() {
					for {
						if _, err := from.Write(m); err != nil {
							return
						}
					}
				}()
				b.SetBytes(int64(size))
				buf := make([]byte, size)
				for b.Loop() {
					io.ReadFull(to, buf[:tlsHeader])
					io.ReadFull(to, buf)
				}
				from.Close()
			})
		}
	}
}

// BenchmarkStream sends over one stream between two hosts in this process, of
// which both are stock or both are fast.
func BenchmarkStream(b *testing.B) {
	for _, k := range kinds() {
		for _, size := range []int{1400, 64 << 10} {
			for _, fast := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%d/%s", k.name, size, name(fast)), func(b *testing.B) {
					from, to := newHost(b, k, fast), newHost(b, k, fast)
					connect(b, from, to)
					var wg sync.WaitGroup
					wg.Add(1)
					to.SetStreamHandler(holdProtocol, func(s network.Stream) {
						defer wg.Done()
						io.CopyBuffer(struct{ io.Writer }{io.Discard}, s, make([]byte, 64<<10))
						s.Close()
					})
					s := open(b, from, to, holdProtocol)
					b.SetBytes(int64(size))
					buf := make([]byte, size)
					for b.Loop() {
						if _, err := s.Write(buf); err != nil {
							b.Fatal(err)
						}
					}
					s.CloseWrite()
					wg.Wait()
				})
			}
		}
	}
}

// BenchmarkPing writes a byte over an idle connection and waits for it to come
// back: what combining must not delay.
func BenchmarkPing(b *testing.B) {
	for _, k := range kinds()[:2] {
		for _, fast := range []bool{false, true} {
			b.Run(k.name+"/"+name(fast), func(b *testing.B) {
				from, to := newHost(b, k, fast), newHost(b, k, fast)
				connect(b, from, to)
				s := open(b, from, to, echoProtocol)
				buf := make([]byte, 1)
				for b.Loop() {
					s.Write(buf)
					if _, err := io.ReadFull(s, buf); err != nil {
						b.Fatal(err)
					}
				}
				s.Reset()
			})
		}
	}
}

// BenchmarkIdle tells the memory of a connection on which nothing happens, both
// of its ends.
func BenchmarkIdle(b *testing.B) {
	for _, k := range kinds()[:2] {
		for _, fast := range []bool{false, true} {
			b.Run(k.name+"/"+name(fast), func(b *testing.B) {
				const conns = 50
				to := newHost(b, k, fast)
				for b.Loop() {
					var hosts []host.Host
					for range conns {
						hosts = append(hosts, newHost(b, k, fast))
					}
					before := inUse()
					for _, h := range hosts {
						connect(b, h, to)
						s := open(b, h, to, echoProtocol)
						s.Write(make([]byte, 100_000))
						io.ReadFull(s, make([]byte, 100_000))
						s.Close()
					}
					b.ReportMetric(float64(inUse()-before)/conns, "B/conn")
					for _, h := range hosts {
						h.Close()
					}
				}
			})
		}
	}
}

func inUse() int64 {
	for range 3 {
		runtime.GC() // pools keep what they have for two
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func name(fast bool) string {
	if fast {
		return "fast"
	}
	return "stock"
}

var _ net.Conn = (*Conn)(nil)
