//go:build linux

package natlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Not every kernel has netem, so that what crosses the core takes a detour
// through this process: a policy route leads it into a TUN device, we hold each
// packet for as long as the internet would, and write it back, upon which the
// core forwards it as if nothing had been.

const (
	// transitDev is the TUN device in the core, transitTable the routing table
	// that leads there.
	transitDev, transitTable = "transit", 100
	// transitQueue is how many packets can be under way; more are lost, as they
	// are where a link is too slow. At 40 ms it is 100,000 packets a second.
	transitQueue = 4096
	// transitMTU is a veth's.
	transitMTU = 1500
)

// Delay makes every packet between two public networks take d (one way); 0 is
// what the kernel takes. It adds up to 1 ms, and is made for protocols, not for
// throughput: each packet costs two system calls.
func (lab *Lab) Delay(d time.Duration) {
	lab.tb.Helper()
	if d < 0 {
		lab.tb.Fatalf("natlab: a delay of %s", d)
	}
	lab.onTheWay().delay.Store(int64(d))
}

// Loss makes the internet lose a share of the packets between two public
// networks, at random; 0 is none.
func (lab *Lab) Loss(share float64) {
	lab.tb.Helper()
	if share < 0 || share > 1 {
		lab.tb.Fatalf("natlab: a loss of %v, want 0 to 1", share)
	}
	lab.onTheWay().loss.Store(int64(share * lossScale))
}

// onTheWay starts the detour when it is first needed.
func (lab *Lab) onTheWay() *transit {
	lab.tb.Helper()
	lab.mu.Lock()
	defer lab.mu.Unlock()
	if lab.transit == nil {
		t, err := newTransit(lab.core.netns)
		if errors.Is(err, errNoTUN) {
			unmet(lab.tb, "TUN devices (modprobe tun; without root, leave to open /dev/net/tun): "+firstLine(err))
		}
		lab.must(err)
		lab.transit = t
	}
	return lab.transit
}

// lossScale makes a share an integer, for an atomic.
const lossScale = 1 << 20

// transit is the detour. Its packets stay in order.
type transit struct {
	dev   *os.File
	delay atomic.Int64 // nanoseconds
	loss  atomic.Int64 // in 1/lossScale
	queue chan held
	gone  chan struct{} // closed by close
	parts sync.WaitGroup
}

// held is a packet on its way.
type held struct {
	due    time.Time
	packet *[]byte
}

func newTransit(netns string) (*transit, error) {
	dev, err := openTUN(netns, transitDev)
	if err != nil {
		return nil, err
	}
	if err := ipBatch(netns,
		fmt.Sprintf("link set %s up mtu %d txqueuelen %d", transitDev, transitMTU, transitQueue),
		fmt.Sprintf("route add default dev %s table %d", transitDev, transitTable),
		fmt.Sprintf("route add ::/0 dev %s table %d", transitDev, transitTable),
	); err != nil {
		dev.Close()
		return nil, err
	}
	for _, family := range []string{"-4", "-6"} { // a batch knows no families
		// What comes out of the device goes by the main table.
		if err := command("", "ip", family, "-n", netns, "rule", "add", "not", "iif", transitDev, "lookup", strconv.Itoa(transitTable)); err != nil {
			dev.Close()
			return nil, err
		}
	}
	t := &transit{dev: dev, queue: make(chan held, transitQueue), gone: make(chan struct{})}
	t.parts.Go(t.take)
	t.parts.Go(t.deliver)
	return t, nil
}

// errNoTUN: the machine has none, or not for us.
var errNoTUN = errors.New("no TUN devices")

// openTUN makes a TUN device in a namespace, whose file works from anywhere.
func openTUN(netns, name string) (*os.File, error) {
	fd := -1
	err := inNamespace(netns, func() (err error) {
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("%w: open /dev/net/tun: %w", errNoTUN, err)
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	// Only now: a TUN file that has no device yet cannot be polled.
	return os.NewFile(uintptr(fd), name), nil
}

// close ends the detour and waits for it.
func (t *transit) close() {
	close(t.gone)
	t.dev.Close()
	t.parts.Wait()
}

var packets = sync.Pool{New: func() any { b := make([]byte, transitMTU+64); return &b }}

// take reads what enters the internet.
func (t *transit) take() {
	defer close(t.queue)
	for {
		buf := packets.Get().(*[]byte)
		*buf = (*buf)[:cap(*buf)]
		n, err := t.dev.Read(*buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n == 0 || rand.Int64N(lossScale) < t.loss.Load() {
			packets.Put(buf)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return // the device went with its namespace
			}
			continue
		}
		*buf = (*buf)[:n]
		select {
		case t.queue <- held{time.Now().Add(time.Duration(t.delay.Load())), buf}:
		default:
			packets.Put(buf)
		}
	}
}

// deliver writes back what has been held long enough. A queue does, because
// all packets take the same time.
func (t *transit) deliver() {
	wait := time.NewTimer(0)
	for h := range t.queue {
		if left := time.Until(h.due); left > 0 {
			wait.Reset(left)
			select {
			case <-wait.C:
			case <-t.gone:
			}
		}
		// What the core has no route for is refused here; so is everything
		// once the device is closed, and then the queue ends.
		_, _ = t.dev.Write(*h.packet)
		packets.Put(h.packet)
	}
}
