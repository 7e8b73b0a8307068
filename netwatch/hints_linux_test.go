package netwatch

import (
	"context"
	"testing"
	"time"
)

// TestFirstHint: what changed while nobody listened yet is looked for.
func TestFirstHint(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hinted, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- hints(ctx, hinted) }()
	select {
	case <-hinted:
	case err := <-ended:
		t.Fatalf("the kernel cannot be heard: %v", err)
	case <-time.After(10 * time.Second):
		t.Error("nothing told that the kernel is listened to")
	}
	cancel()
	<-ended
}
