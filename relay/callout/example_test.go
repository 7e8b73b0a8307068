package callout_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/relay/callout"
)

func Example() {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"allow": true, "class": "member"}`)
	}))
	defer endpoint.Close()

	client, err := callout.New(callout.Config{URL: endpoint.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	answer, err := client.Ask(context.Background(), callout.Question{
		Kind: callout.Reserve, Peer: peer.ID("somebody"), Addr: netip.MustParseAddr("192.0.2.7"),
	})
	fmt.Println(answer.Allow, answer.Class, err)

	// Output:
	// true member <nil>
}
