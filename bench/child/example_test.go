package child_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/causeway-p2p/causeway/bench/child"
)

// A program whose main, or here TestMain, begins with child.Main can be its own
// child.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := child.Start(exec.CommandContext(ctx, exe), "counter1", "counter")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Println(child.Ask[int](ctx, c, "add", 3))
	fmt.Println(child.Ask[int](ctx, c, "add", 4))
	fmt.Println(child.Tell(ctx, c, "dance", child.None{}))
	// Output:
	// 3 <nil>
	// 7 <nil>
	// counter1: dance: there is no action "dance"
}
