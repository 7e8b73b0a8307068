//go:build !linux

// Command nat needs Linux: the NATs are its kernel's.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "Error: bench/nat needs Linux: the NATs that it measures are those of its kernel")
	os.Exit(1)
}
