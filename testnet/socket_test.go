package testnet_test

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/testnet"
)

func TestSocket(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		n := testnet.New(testnet.Config{})
		h := n.Host("h")
		a, b := listen(t, h, 0), listen(t, h, 0)
		if a.addr() == b.addr() || a.addr().Addr() != h.IP() {
			t.Errorf("ephemeral sockets: got %v and %v on %v", a.addr(), b.addr(), h.IP())
		}
		if _, err := h.ListenPacket(int(a.addr().Port())); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("port taken: got %v, want EADDRINUSE", err)
		}
		if _, err := h.ListenPacket(65536); err == nil {
			t.Error("port 65536: got no error")
		}
		for _, to := range []net.Addr{&net.TCPAddr{}, &net.UDPAddr{Port: 1}, &net.UDPAddr{IP: net.IPv6loopback, Port: 1}} {
			if _, err := a.WriteTo([]byte("x"), to); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("write to %T %v: got %v, want EINVAL", to, to, err)
			}
		}
		if _, err := a.WriteTo(make([]byte, 65536), b.LocalAddr()); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("write of 64 KiB: got %v, want EMSGSIZE", err)
		}

		// The receiver's copy is its own, and a short buffer cuts it.
		msg := []byte("hello")
		a.WriteTo(msg, b.LocalAddr())
		copy(msg, "xxxxx")
		got := make([]byte, 4)
		if c, _, err := b.ReadFrom(got); c != 4 || err != nil || string(got) != "hell" {
			t.Errorf("read: got %d %v %q", c, err, got)
		}

		// A deadline reaches all readers that already wait, however many.
		b.SetDeadline(time.Time{})
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				_, _, err := b.ReadFrom(make([]byte, 1))
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("read: got %v, want a timeout", err)
				}
			})
		}
		synctest.Wait()
		b.SetReadDeadline(time.Now().Add(time.Minute))
		synctest.Wait()
		start := time.Now()
		b.SetReadDeadline(time.Now().Add(time.Second))
		readers.Wait()
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("readers waited %v, want 1 s", waited)
		}
		b.SetDeadline(time.Now())
		if _, err := b.WriteTo(msg, a.LocalAddr()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write after the deadline: got %v, want a timeout", err)
		}
		b.SetDeadline(time.Time{})

		// Close ends readers and frees the port.
		readers.Go(func() {
			if _, _, err := b.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: got %v, want net.ErrClosed", err)
			}
		})
		synctest.Wait()
		b.Close()
		readers.Wait()
		if _, err := b.WriteTo(msg, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: got %v, want net.ErrClosed", err)
		}
		a.send(b.addr())
		time.Sleep(time.Second)
		wantDrops(t, n, testnet.DropNoSocket, 1)
		listen(t, h, int(b.addr().Port())).Close()

		// So does closing the network, as often as one likes.
		readers.Go(func() {
			if _, _, err := a.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: got %v, want net.ErrClosed", err)
			}
		})
		synctest.Wait()
		n.Close()
		n.Close()
		readers.Wait()
		if _, err := h.ListenPacket(0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen after the network closed: got %v, want net.ErrClosed", err)
		}
	})
}

// TestSocketsCostNothing holds that a socket has no goroutine of its own and
// that its port is free again once it is closed.
func TestSocketsCostNothing(t *testing.T) {
	n := testnet.New(testnet.Config{})
	defer n.Close()
	h := n.Host("h")
	before := runtime.NumGoroutine()
	for range 70_000 {
		c, err := h.ListenPacket(0)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	c, err := h.ListenPacket(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("goroutines: %d before, %d after", before, after)
	}
}
