//go:build linux

package natlab_test

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/internal/natlab"
)

// A peer behind a home router reaches a relay, which then vanishes from the
// internet without a word.
func Example() {
	_ = func(t *testing.T) {
		lab := natlab.New(t)
		relay := lab.Public("relay1")
		a := lab.NAT("natA", natlab.PortRestricted).Host("a")

		relayd := relay.Start("relayd", "./relayd")
		_, sub, err := relayd.WaitLine(t.Context(), regexp.MustCompile(`peer ID (\S+)`))
		if err != nil {
			t.Fatal(err)
		}
		peer := a.Start("peer", "./peer", "-relay", "/ip4/"+relay.IP().String()+"/tcp/4001/p2p/"+sub[1])
		mark := peer.Mark()
		lab.Blackhole(relay)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, _, err := peer.WaitLineAfter(ctx, mark, regexp.MustCompile(`relay lost`)); err != nil {
			t.Error(err)
		}
	}
}
