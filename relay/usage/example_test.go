package usage_test

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay/usage"
)

func Example() {
	store, err := usage.Open("") // or where accounts are to survive
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- store.Run(ctx) }()

	account := store.Account(peer.ID("somebody")) // for as long as a circuit runs
	account.AddCircuit()
	account.AddBytes(64 << 10)
	fmt.Println(account.MonthBytes() > 50<<10)
	account.Release()

	cancel()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	top, err := store.Top(10, usage.ByMonthBytes)
	fmt.Println(len(top), top[0].Bytes, err)

	// Output:
	// true
	// 1 65536 <nil>
}
