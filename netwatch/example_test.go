package netwatch_test

import (
	"context"
	"fmt"

	"github.com/causeway-p2p/causeway/netwatch"
)

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // or when the program ends
	err := netwatch.Run(ctx, func(c netwatch.Change) {
		fmt.Println(c) // 192.168.1.10 is gone, 10.7.0.4 is new, default route changed
	})
	fmt.Println(err)
	// Output: <nil>
}
