package discovery

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

const (
	// announceEvery is the pause between two announcements. Provider records
	// live for 48 h, but the addresses beside them only for 30 min to 24 h,
	// depending on the DHT server's version, so we stay below the lowest.
	announceEvery = 20 * time.Minute
	// announceGap is the least time between two announcements that follow
	// address changes, which come in bursts.
	announceGap = 5 * time.Second
	// announceTimeout bounds one walk to the nearest peers.
	announceTimeout = time.Minute
	// announceRetry and maxAnnounceRetry bound the pause after a failure,
	// which is the rule while the DHT is still joining.
	announceRetry    = 500 * time.Millisecond
	maxAnnounceRetry = time.Minute
)

// announcer provides the rendezvous namespace while it is on.
type announcer struct {
	cfg Config
	on  *signal
}

func newAnnouncer(cfg Config) *announcer { return &announcer{cfg: cfg, on: newSignal()} }

func (a *announcer) run(ctx context.Context) {
	retry := announceRetry
	for a.on.wait(ctx) {
		changed := a.on.changes()
		err := a.announce(ctx)
		if ctx.Err() != nil {
			return
		}
		a.cfg.Announced(err)
		pause, gap := announceEvery-rand.N(announceEvery/10), announceGap
		if err != nil {
			log.Debug("announcement failed", "namespace", a.cfg.Namespace, "err", err)
			pause = retry/2 + rand.N(retry/2)
			gap = min(gap, pause)
			retry = min(2*retry, maxAnnounceRetry)
		} else {
			retry = announceRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			// Several address changes become one announcement.
			select {
			case <-ctx.Done():
				return
			case <-time.After(gap):
			}
		case <-time.After(pause):
		}
	}
}

func (a *announcer) announce(ctx context.Context) error {
	key, err := rendezvousKey(a.cfg.Namespace)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	return a.cfg.Routing.Provide(ctx, key, true)
}

// rendezvousKey is the provider key of a namespace, as go-libp2p's
// p2p/discovery/routing computes it, so that its users find us too.
func rendezvousKey(namespace string) (cid.Cid, error) {
	h, err := mh.Sum([]byte(namespace), mh.SHA2_256, -1)
	if err != nil {
		return cid.Undef, err
	}
	return cid.NewCidV1(cid.Raw, h), nil
}
