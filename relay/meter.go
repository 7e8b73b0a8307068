package relay

import (
	"sync/atomic"
	"time"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// meter counts what go-libp2p's relay service reports. It implements
// relayv2.MetricsTracer.
type meter struct {
	reservations atomic.Int64
	circuits     atomic.Int64
	bytes        atomic.Int64

	onRefused func() // a reservation, for lack of room in all or per network
}

func (m *meter) RelayStatus(bool)                     {}
func (m *meter) ConnectionOpened()                    { m.circuits.Add(1) }
func (m *meter) ConnectionClosed(time.Duration)       { m.circuits.Add(-1) }
func (m *meter) ConnectionRequestHandled(pbv2.Status) {}
func (m *meter) ReservationClosed(n int)              { m.reservations.Add(int64(-n)) }
func (m *meter) BytesTransferred(n int)               { m.bytes.Add(int64(n)) }

func (m *meter) ReservationRequestHandled(s pbv2.Status) {
	if s == pbv2.Status_RESERVATION_REFUSED {
		m.onRefused()
	}
}

func (m *meter) ReservationAllowed(isRenewal bool) {
	if !isRenewal {
		m.reservations.Add(1)
	}
}
