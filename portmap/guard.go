package portmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// What a UPnP device says about itself are URLs, to be fetched and posted to. A
// hostile one on the network could have us send requests to machines that
// trust us. So: one client per device, which connects to that device alone,
// whatever a URL or a redirection says, and reads little.

const (
	// maxBody bounds an answer: descriptions of large routers have 20 KB.
	maxBody = 128 << 10
	// maxHeader bounds its header.
	maxHeader = 16 << 10
	// httpTime bounds an exchange with a device: cheap routers need a second.
	httpTime = 3 * time.Second
)

var errOtherHost = errors.New("the device points to another host")

// deviceAddr takes the device's address out of the URL that its answer to the
// search named, which must be the address that the answer came from.
func deviceAddr(location *url.URL, from netip.Addr) (netip.AddrPort, error) {
	host, err := netip.ParseAddr(location.Hostname())
	if location.Scheme != "http" || err != nil || host != from {
		return netip.AddrPort{}, fmt.Errorf("%w: %q, of %s", errOtherHost, location.Redacted(), from)
	}
	port := uint64(80)
	if p := location.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return netip.AddrPort{}, fmt.Errorf("device at port %q", p)
		}
	}
	return netip.AddrPortFrom(host, uint16(port)), nil
}

// deviceClient is a client for one device. Control URLs may name other ports of
// it.
func deviceClient(device, local netip.Addr) http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: local.AsSlice()}, KeepAlive: -1}
	return http.Client{
		Timeout:       httpTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: bounded{&http.Transport{
			Proxy: nil, // whatever the environment says
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(addr)
				if err != nil || to.Addr() != device {
					return nil, fmt.Errorf("%w: %s, not %s", errOtherHost, addr, device)
				}
				return dialer.DialContext(ctx, "tcp4", addr)
			},
			DisableKeepAlives:      true, // requests are a minute apart
			DisableCompression:     true, // or maxBody would bound what is compressed
			MaxResponseHeaderBytes: maxHeader,
		}},
	}
}

// bounded cuts off what is longer than maxBody.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}
