//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/causeway-p2p/causeway/internal/cli"
)

// claim makes this the only demo of its name that runs on this machine, until
// it lets go: each begins by taking down what an earlier one has left. The
// claim ends with the process, however that ends.
func claim(name string) (letGo func(), err error) {
	path := filepath.Join(os.TempDir(), name+".lock")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644) // others of this machine may claim it next
	}
	if err != nil {
		return nil, fmt.Errorf("claim the name %s: %w", name, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, cli.Fail(fmt.Errorf("a demo named %s is running already", name),
			"again when it has ended, or DEMO_NAME=demo2 %s", otherSubnets)
	}
	return func() { f.Close() }, nil // the file stays: whoever removed it might remove the next one's
}
