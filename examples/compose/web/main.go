// Command web is a web server without a network: those who want its page come
// to the peer whose control socket it has, by that peer's ID, from anywhere.
//
//	web --socket /data/control.sock
//
// It answers GET / with a greeting, and GET /clock with a line each second until
// the visitor closes its side, for whoever wants to see a transfer outlive a relay.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/node"
)

func main() {
	socket := flag.String("socket", "/data/control.sock", "control socket of the peer that is reached")
	service := flag.String("service", "web", "name of the service at that peer")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *socket, *service); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "Error: %v\nTry: start a peer there, with: peer up\n", err)
		os.Exit(1)
	}
}

const (
	// maxVisitors is how many are served at a time; further ones wait at the
	// peer.
	maxVisitors = 16
	// maxRequest bounds what is read of a request, in bytes.
	maxRequest = 16 << 10
	// patience is how long a visitor may stay: the clock ticks for less.
	patience = 2 * time.Minute
)

// serve takes one visitor after the other, until ctx ends.
func serve(ctx context.Context, socket, service string) error {
	c, err := admin.Open(ctx, socket)
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("this page is at peer %s, service %q\n", status.ID, service)

	var visitors sync.WaitGroup
	defer visitors.Wait()
	room := make(chan struct{}, maxVisitors)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		st, err := c.Listen(ctx, service)
		if err != nil {
			return err
		}
		who, err := st.Peer(ctx)
		if err != nil {
			return errors.Join(err, st.Close())
		}
		fmt.Printf("%s comes %s\n", node.ShortID(who.Peer), who.Path)
		visitors.Go(func() {
			defer func() { <-room }()
			visit(ctx, st, page{host: status.ID, visitor: who})
		})
	}
}

// visit answers one request and closes the stream.
func visit(ctx context.Context, st *admin.Stream, p page) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer st.Close()
	defer context.AfterFunc(ctx, func() { st.Close() })()
	in := bufio.NewReader(io.LimitReader(st, maxRequest))
	req, err := http.ReadRequest(in)
	if err != nil {
		return // not HTTP, or gone
	}
	enough := make(chan struct{})
	go func() {
		defer close(enough)
		_, _ = io.Copy(io.Discard, in) // until the visitor has closed its side, or has gone
	}()
	p.enough = enough
	if err := errors.Join(p.answer(ctx, st, req), st.CloseWrite()); err != nil {
		st.Close() // gone
	}
	<-enough
}
