package direct_test

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/causeway-p2p/causeway/direct"
)

// A host whose transport has a door gets direct connections beside the relayed
// ones. Package node does all of this.
func Example() {
	var (
		h    host.Host          // built with a transport whose listener is door.Listener(…)
		door = direct.NewDoor() // the same
	)
	u, err := direct.New(direct.Config{
		Host: h, Door: door,
		Addrs:   func() []ma.Multiaddr { return nil }, // where others see us
		OnEvent: func(e direct.Event) { fmt.Println(e.Peer, e.Outcome, e.Why) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = u.Run(context.Background()) // blocks
	// Output:
	// direct: Host, Door and Addrs are required
}
