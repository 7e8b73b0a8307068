//go:build !unix

package relay

// filesInUse knows nothing here.
func filesInUse() (used, most int) { return 0, 0 }
