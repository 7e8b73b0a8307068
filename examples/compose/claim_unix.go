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
	for {
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
		if isStill(f, path) {
			return func() {
				os.Remove(path) // while it is ours
				f.Close()
			}, nil
		}
		f.Close() // somebody let go, and removed it, between our two steps
	}
}

// isStill reports whether an open file is the one at path.
func isStill(f *os.File, path string) bool {
	open, err1 := f.Stat()
	there, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(open, there)
}
