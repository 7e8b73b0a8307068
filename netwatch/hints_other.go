//go:build !linux

package netwatch

import (
	"context"
	"errors"
)

// hints are given on Linux only.
func hints(context.Context, chan<- struct{}) error { return errors.ErrUnsupported }
