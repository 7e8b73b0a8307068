//go:build !linux

// Command router is the NAT router of the demo's LANs, which needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "Error: router needs Linux, whose kernel does the work")
	fmt.Fprintln(os.Stderr, "Try: GOOS=linux go build, and run it in a container")
	os.Exit(1)
}
