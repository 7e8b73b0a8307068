package fair_test

import (
	"fmt"
	"io"
	"strings"

	"github.com/causeway-p2p/causeway/relay/fair"
)

// One direction of a circuit, under a cap of 10 MB/s for the relay and of 1
// MB/s for the peer.
func Example() {
	relay := fair.New(10_000_000, 0)
	peer := relay.Share(1_000_000, 0)

	flow := peer.Flow()
	defer flow.Close()
	var from io.Reader = strings.NewReader(strings.Repeat("x", 30_000))
	done := make(chan struct{}) // closed when the circuit ends
	buf := make([]byte, fair.MaxPiece)
	pieces := 0
	for {
		n, err := from.Read(buf[:flow.Piece()])
		if err != nil {
			break
		}
		if flow.Acquire(n, done) != nil {
			break
		}
		pieces++ // and write buf[:n]
	}
	fmt.Println(pieces, "pieces")

	// Output:
	// 6 pieces
}
