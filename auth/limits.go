package auth

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/causeway-p2p/causeway/auth/pb"
)

// Limits bound what a peer may use of a relay. In a token they take the place
// of those of its class: 0 leaves a limit to the class, Unlimited lifts it.
type Limits struct {
	// Circuits of the peer at a time.
	Circuits int64 `json:"circuits,omitempty"`
	// CircuitTime is how long one of them may last, in whole seconds.
	CircuitTime time.Duration `json:"circuit_time_ns,omitempty"`
	// CircuitBytes is how much one of them may carry, each way.
	CircuitBytes int64 `json:"circuit_bytes,omitempty"`
	// Rate is how many bytes a second all of them may carry together, and
	// Burst how many at once after a pause.
	Rate  int64 `json:"rate,omitempty"`
	Burst int64 `json:"burst,omitempty"`
	// MonthlyBytes is how much all of them may carry in a calendar month.
	MonthlyBytes int64 `json:"monthly_bytes,omitempty"`
}

// Unlimited, in any field of Limits, lifts that limit. In CircuitTime it is a
// nanosecond less than nothing.
const Unlimited = -1

// Over returns l with what it leaves open taken from the class.
func (l Limits) Over(class Limits) Limits {
	return Limits{
		Circuits:     cmp.Or(l.Circuits, class.Circuits),
		CircuitTime:  cmp.Or(l.CircuitTime, class.CircuitTime),
		CircuitBytes: cmp.Or(l.CircuitBytes, class.CircuitBytes),
		Rate:         cmp.Or(l.Rate, class.Rate),
		Burst:        cmp.Or(l.Burst, class.Burst),
		MonthlyBytes: cmp.Or(l.MonthlyBytes, class.MonthlyBytes),
	}
}

// validate reports every limit that makes no sense.
func (l Limits) validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"circuits", l.Circuits},
		{"circuit bytes", l.CircuitBytes},
		{"rate", l.Rate},
		{"burst", l.Burst},
		{"monthly bytes", l.MonthlyBytes},
	} {
		if f.value < Unlimited {
			errs = append(errs, fmt.Errorf("limit %s is %d, want 1 or more, 0 for the class's or -1 for none", f.name, f.value))
		}
	}
	if t := l.CircuitTime; t != 0 && t != Unlimited && t < time.Second {
		errs = append(errs, fmt.Errorf("limit circuit time is %v, want 1s or more, 0 for the class's or -1ns for none", t))
	}
	return errors.Join(errs...)
}

// limitsToWire cuts to whole seconds.
func limitsToWire(l Limits) *pb.Limits {
	if l == (Limits{}) {
		return nil
	}
	seconds := int64(l.CircuitTime / time.Second)
	if l.CircuitTime == Unlimited {
		seconds = Unlimited
	}
	return &pb.Limits{
		Circuits: l.Circuits, CircuitSeconds: seconds, CircuitBytes: l.CircuitBytes,
		Rate: l.Rate, Burst: l.Burst, MonthlyBytes: l.MonthlyBytes,
	}
}

// limitsFromWire refuses what validate does. More seconds than a Duration has
// room for, 292 years, are as many as it has.
func limitsFromWire(w *pb.Limits) (Limits, error) {
	const most = int64(math.MaxInt64 / time.Second)
	t := time.Duration(min(max(w.GetCircuitSeconds(), -most), most)) * time.Second
	if w.GetCircuitSeconds() == Unlimited {
		t = Unlimited
	}
	l := Limits{
		Circuits: w.GetCircuits(), CircuitTime: t, CircuitBytes: w.GetCircuitBytes(),
		Rate: w.GetRate(), Burst: w.GetBurst(), MonthlyBytes: w.GetMonthlyBytes(),
	}
	return l, l.validate()
}
