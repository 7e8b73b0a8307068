package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// page is a page on its way.
type page struct {
	path   string // the way to the visitor, as the web server sees it
	body   io.ReadCloser
	in     io.Closer // what the visitor may say further
	cmd    *exec.Cmd
	stderr strings.Builder
}

// fetch begins an HTTP request by an actor to the web server at a peer, of
// which nothing is known but the peer ID: `peer connect` carries it.
func fetch(ctx context.Context, from *actor, at peer.ID, path string) (*page, error) {
	p := &page{cmd: command(ctx, nil, "docker", "exec", "--interactive", from.container, from.program, "connect", at.String(), "web")}
	p.cmd.Stderr = &p.stderr
	out, err1 := p.cmd.StdoutPipe()
	in, err2 := p.cmd.StdinPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.in = in
	_, err := fmt.Fprintf(in, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, at)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(bufio.NewReader(out), nil)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("%s fetches %s: %w", from.name, path, cmp.Or(p.ended(), err))
	}
	p.path, p.body = resp.Header.Get("Path"), resp.Body
	return p, nil
}

// maxPage bounds what is read of a page, in bytes.
const maxPage = 64 << 10

// text is the whole page, which has ended as it should. What lasts until the
// visitor has had enough, as the clock does, ends now.
func (p *page) text() (string, error) {
	p.in.Close()
	text, err := io.ReadAll(io.LimitReader(p.body, maxPage))
	return string(text), errors.Join(p.ended(), err)
}

func (p *page) ended() error {
	if err := p.cmd.Wait(); err != nil {
		return explain("peer connect", err, p.stderr.String())
	}
	return nil
}
