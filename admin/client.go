package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/causeway-p2p/causeway/node"
)

// Client talks to a running node.
type Client struct {
	http     *http.Client
	patience time.Duration // with what the node answers at once
}

// patience is how long a node may take for what takes it 2 seconds at most
// (Netcheck): one that takes longer hangs, or its machine does.
const patience = 30 * time.Second

// ErrNotRunning: nobody answers on the socket.
var ErrNotRunning = errors.New("no node is running here")

// ErrStopped: the node answered, and then did not any more.
var ErrStopped = errors.New("the running node has stopped")

// ErrSilent: the node took the question, and has not answered.
var ErrSilent = errors.New("the running node does not answer: it hangs, or its machine is very busy")

// hasStopped recognises that the other end of the socket is gone.
func hasStopped(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Open looks for a running node on the socket at path.
func Open(ctx context.Context, path string) (*Client, error) {
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	c, err := dial(ctx, "", "")
	switch {
	case err == nil:
		c.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w (nobody answers on %s)", ErrNotRunning, path)
	default:
		return nil, fmt.Errorf("control socket %s: %w", path, plain(err))
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}, patience}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for the node's status.
func (c *Client) Status(ctx context.Context) (node.Status, error) {
	return ask[node.Status](ctx, c, http.MethodGet, "/v1/status", nil, nil)
}

// Events calls f with the node's past and future events until it returns
// false, ctx ends, or the node stops.
func (c *Client) Events(ctx context.Context, f func(node.EventRecord) bool) error {
	return lines(ctx, c, "/v1/events", url.Values{"history": {"1"}}, f)
}

// History is Events that ends after what has happened so far.
func (c *Client) History(ctx context.Context, f func(node.EventRecord) bool) error {
	return lines(ctx, c, "/v1/events", url.Values{"history": {"1"}, "follow": {"0"}}, f)
}

// lines reads a stream of JSON objects.
func lines[T any](ctx context.Context, c *Client, path string, q url.Values, f func(T) bool) error {
	resp, err := c.do(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var v T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) || ctx.Err() != nil {
			return ctx.Err()
		} else if hasStopped(err) {
			return ErrStopped
		} else if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		if !f(v) {
			return nil
		}
	}
}

// Connect opens a service of a peer.
func (c *Client) Connect(ctx context.Context, p peer.ID, service string, timeout time.Duration) (*Stream, error) {
	return c.stream(ctx, "/v1/connect", url.Values{
		"peer": {p.String()}, "service": {service}, "timeout": {timeout.String()},
	})
}

// Listen offers a service; the stream is that of the first caller, which
// Stream.Peer waits for.
func (c *Client) Listen(ctx context.Context, service string) (*Stream, error) {
	return c.stream(ctx, "/v1/listen", url.Values{"service": {service}})
}

func (c *Client) stream(ctx context.Context, path string, q url.Values) (*Stream, error) {
	resp, err := c.do(ctx, http.MethodPost, path, q, nil)
	if err != nil {
		return nil, err
	}
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body.Close()
		return nil, errors.New("control socket: the node did not hand the stream over")
	}
	return newStream(rw), nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	if path == "/v1/connect" || path == "/v1/listen" {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", streamProtocol)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if hasStopped(err) {
			return nil, ErrStopped
		}
		return nil, fmt.Errorf("control socket: %w", plain(err))
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		var e Error
		body := bufio.NewReader(io.LimitReader(resp.Body, 64<<10))
		if err := json.NewDecoder(body).Decode(&e); err != nil || e.Message == "" {
			return nil, fmt.Errorf("control socket: the node answers %s", resp.Status)
		}
		return nil, &e
	}
	return resp, nil
}
