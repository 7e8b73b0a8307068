package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/node"
)

// page is what one visitor sees.
type page struct {
	host    string // ID of the peer that the page is at
	visitor admin.Connected
	enough  <-chan struct{} // closed when the visitor has no more to say
}

// maxTicks bounds how often the clock ticks, once a second.
const maxTicks = 100

// answer writes the response to a request, and returns when all of it is
// written.
func (p page) answer(ctx context.Context, w io.Writer, req *http.Request) error {
	resp := &http.Response{
		ProtoMajor: 1, ProtoMinor: 1, StatusCode: http.StatusOK, Request: req, Close: true, ContentLength: -1,
		Header: http.Header{
			"Content-Type": {"text/plain; charset=utf-8"}, "Server": {"causeway-demo"}, "Path": {p.visitor.Path.String()},
		},
	}
	switch {
	case req.Method != http.MethodGet:
		resp.StatusCode = http.StatusMethodNotAllowed
		resp.Body = io.NopCloser(strings.NewReader("GET is all there is.\n"))
	case req.URL.Path == "/":
		resp.Body = io.NopCloser(strings.NewReader(p.greeting()))
	case req.URL.Path == "/clock":
		resp.Body = clock(ctx, p.enough)
	default:
		resp.StatusCode = http.StatusNotFound
		resp.Body = io.NopCloser(strings.NewReader("There are / and /clock.\n"))
	}
	defer resp.Body.Close()
	return resp.Write(w)
}

func (p page) greeting() string {
	return fmt.Sprintf("Hello %s, you came %s.\nThis page is at %s: whoever knows that may fetch it, from anywhere.\n",
		node.ShortID(p.visitor.Peer), p.visitor.Path, p.host)
}

// clock is a body that lasts until it is enough, and says then how long it was:
// it is seen to be whole.
func clock(ctx context.Context, enough <-chan struct{}) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			if _, err := fmt.Fprintf(w, "tick %d\n", n); err != nil {
				return // closed by the reader
			}
			select {
			case <-tick.C:
				if n < maxTicks {
					continue
				}
			case <-enough:
			case <-ctx.Done():
				w.CloseWithError(ctx.Err())
				return
			}
			_, err := fmt.Fprintf(w, "%d in all\n", n)
			w.CloseWithError(err) // an EOF if nil
			return
		}
	}()
	return r
}
