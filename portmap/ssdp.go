package portmap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/huin/goupnp"
)

// The search for UPnP devices (UPnP Device Architecture 1.1, section 1.3).
// goupnp v1.3.0 has one too, which fetches whatever URL an answer names, with
// the program's default client (goupnp.go, DiscoverDevicesCtx).

const (
	ssdpPort = 1900
	// ssdpAgain is when the search is sent a second time: it is UDP.
	ssdpAgain = 500 * time.Millisecond
	// maxDevices bounds the descriptions that are fetched, maxAnswers the
	// answers that are read, per search.
	maxDevices, maxAnswers = 8, 64
)

var (
	ssdpGroup = netip.AddrFrom4([4]byte{239, 255, 255, 250})
	// ssdpTargets are what gateways answer to, of both versions.
	ssdpTargets = []string{
		"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
		"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
	}
)

func ssdpRequest(target string) []byte {
	return fmt.Appendf(nil, "M-SEARCH * HTTP/1.1\r\nHOST: %s:%d\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n", ssdpGroup, ssdpPort, target)
}

// parseSSDP reads an answer, and returns where the device describes itself.
func parseSSDP(b []byte) (*url.URL, error) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return url.Parse(resp.Header.Get("Location"))
}

// search calls found, once for each, with the descriptions' URLs and the
// addresses that they came from, until ctx ends. The gateway is asked besides
// the group: some networks lose multicast.
func search(ctx context.Context, r route, found func(*url.URL, netip.Addr)) error {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.local.Addr(), 0)))
	if err != nil {
		return err
	}
	defer c.Close()
	send := func() {
		for _, target := range ssdpTargets {
			for _, to := range []netip.Addr{ssdpGroup, r.gateway} {
				if to.IsValid() {
					// What is not sent is not answered either.
					_, _ = c.WriteToUDPAddrPort(ssdpRequest(target), netip.AddrPortFrom(to, ssdpPort))
				}
			}
		}
	}
	send()
	again := time.AfterFunc(ssdpAgain, send)
	defer again.Stop()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	seen := make(map[string]bool)
	buf := make([]byte, 2048) // an answer is one packet
	for range maxAnswers {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		location, err := parseSSDP(buf[:n])
		if err != nil || !r.onLink(from.Addr()) || seen[location.String()] || len(seen) == maxDevices {
			continue
		}
		seen[location.String()] = true
		found(location, from.Addr())
	}
	return nil
}

// describe fetches a device's description.
func describe(ctx context.Context, client *http.Client, location *url.URL) (*goupnp.RootDevice, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	root := new(goupnp.RootDevice)
	dec := xml.NewDecoder(resp.Body)
	dec.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := dec.Decode(root); err != nil {
		return nil, err
	}
	base := location
	if root.URLBaseStr != "" {
		if base, err = url.Parse(root.URLBaseStr); err != nil {
			return nil, err
		}
	}
	root.SetURLBase(base)
	return root, nil
}
