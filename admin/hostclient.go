package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/usage"
)

// Reservations lists those that the relay has given, the oldest first.
func (c *Client) Reservations(ctx context.Context) ([]relay.ReservationInfo, error) {
	return ask[[]relay.ReservationInfo](ctx, c, http.MethodGet, "/v1/relay/reservations", nil, nil)
}

// Circuits lists those that are open, the oldest first.
func (c *Client) Circuits(ctx context.Context) ([]relay.CircuitInfo, error) {
	return ask[[]relay.CircuitInfo](ctx, c, http.MethodGet, "/v1/relay/circuits", nil, nil)
}

// Top lists the n peers with the most of something.
func (c *Client) Top(ctx context.Context, n int, by usage.By) ([]usage.Usage, error) {
	return ask[[]usage.Usage](ctx, c, http.MethodGet, "/v1/relay/top", url.Values{"n": {strconv.Itoa(n)}, "by": {string(by)}}, nil)
}

// Limits are those in force.
func (c *Client) Limits(ctx context.Context) (relay.Limits, error) {
	return ask[relay.Limits](ctx, c, http.MethodGet, "/v1/relay/limits", nil, nil)
}

// SetLimits replaces them, and returns what is in force then.
func (c *Client) SetLimits(ctx context.Context, l relay.Limits) (relay.Limits, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return l, err
	}
	return ask[relay.Limits](ctx, c, http.MethodPut, "/v1/relay/limits", nil, body)
}

// Kick ends what a peer has at the relay. It may come back.
func (c *Client) Kick(ctx context.Context, peer string) (Kicked, error) {
	return ask[Kicked](ctx, c, http.MethodPost, "/v1/relay/kick", url.Values{"peer": {peer}}, nil)
}

// Ban is Kick for a peer that may not come back for a time; if that is 0, until
// the relay's process ends.
func (c *Client) Ban(ctx context.Context, peer string, d time.Duration) (Banned, error) {
	q := url.Values{"peer": {peer}}
	if d > 0 {
		q.Set("for", d.String())
	}
	return ask[Banned](ctx, c, http.MethodPost, "/v1/relay/ban", q, nil)
}

// Unban lifts a ban.
func (c *Client) Unban(ctx context.Context, peer string) (Banned, error) {
	return ask[Banned](ctx, c, http.MethodPost, "/v1/relay/unban", url.Values{"peer": {peer}}, nil)
}

// Dump is all that the relay knows.
func (c *Client) Dump(ctx context.Context) (relay.State, error) {
	return ask[relay.State](ctx, c, http.MethodGet, "/v1/relay/dump", nil, nil)
}

// Drain makes the relay drain for a time, or if that is 0 for as long as it
// would by itself, and stop. It calls begun when that has begun, and returns
// when the relay has stopped or ctx ends.
func (c *Client) Drain(ctx context.Context, d time.Duration, begun func()) error {
	q := url.Values{}
	if d > 0 {
		q.Set("for", d.String())
	}
	resp, err := c.do(ctx, http.MethodPost, "/v1/relay/drain", q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	begun()
	// However this ends, nobody answers any more.
	_, _ = io.Copy(io.Discard, resp.Body)
	return ctx.Err()
}

// ask makes a request that is answered at once, with one JSON value. A ctx with
// a deadline may be more patient than we are.
func ask[T any](ctx context.Context, c *Client, method, path string, q url.Values, body []byte) (v T, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, c.patience, ErrSilent)
		defer cancel()
	}
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), ErrSilent) {
			err = ErrSilent
		}
	}()
	resp, err := c.do(ctx, method, path, q, bytes.NewReader(body))
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("control socket: %w", err)
	}
	return v, nil
}
