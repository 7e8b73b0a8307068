package portmap

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

func FuzzPCP(f *testing.F) {
	request := pcpMapRequest(pcpMapping{nonce: [12]byte{1, 2, 3}, port: quic, external: outside}, time.Hour, netip.MustParseAddr("192.168.1.10"))
	f.Add(request)
	f.Add(pcpAnswerTo(request, pcpSuccess, outside, 7))
	f.Add(pcpAnswerTo(pcpRequest(opAnnounce, 0, netip.MustParseAddr("192.168.1.10")), pcpUnsuppOpcode, outside, 7))
	f.Add([]byte{0, 0x81, 0, 1, 0, 0, 0, 9})
	f.Add(append([]byte{pcpVersion, opMap | opResponse}, make([]byte, 22)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parsePCP(b)
		if err != nil {
			if !reflect.DeepEqual(a, pcpAnswer{}) {
				t.Errorf("%v, and yet %+v", err, a)
			}
			return
		}
		if a.lifetime < 0 || a.lifetime > 24*time.Hour || a.opcode > 0x7f {
			t.Errorf("%+v", a)
		}
		if a.result.Error() == "" {
			t.Errorf("result %d has no text", a.result)
		}
	})
}

// TestPCPThereAndBack: what is asked for comes back in an honest answer.
func TestPCPThereAndBack(t *testing.T) {
	for _, p := range []Port{quic, tcp} {
		want := pcpAnswer{opcode: opMap, lifetime: time.Hour, epoch: 7, mapping: pcpMapping{nonce: [12]byte{1, 2, 3}, port: p, external: outside}}
		request := pcpMapRequest(want.mapping, time.Hour, netip.MustParseAddr("192.168.1.10"))
		if got, err := parsePCP(pcpAnswerTo(request, pcpSuccess, outside, 7)); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if got, want := len(request), pcpHeader+pcpMap; got != want {
			t.Errorf("%d bytes, want %d", got, want)
		}
	}
}

func FuzzSSDP(f *testing.F) {
	f.Add([]byte(ssdpAnswer("http://192.168.1.1:5000/desc.xml")))
	f.Add([]byte("HTTP/1.1 200 OK\r\nLocation: \x00\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 404 No\r\n\r\n"))
	f.Add(ssdpRequest(ssdpTargets[0]))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := parseSSDP(b)
		if err != nil {
			return
		}
		at, err := deviceAddr(u, netip.MustParseAddr("192.168.1.1"))
		if err == nil && (at.Addr() != netip.MustParseAddr("192.168.1.1") || at.Port() == 0) {
			t.Errorf("%q leads to %s", u, at)
		}
	})
}

// answering is a device that says one thing.
type answering string

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(a))), Request: r}, nil
}

func FuzzDescription(f *testing.F) {
	location := &url.URL{Scheme: "http", Host: "192.168.1.1:5000", Path: "/desc.xml"}
	f.Add(description("/ctl"))
	f.Add(description("http://192.168.1.2/ctl"))
	f.Add(strings.Repeat("<device>", 100))
	f.Add(`<root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>:</URLBase></root>`)
	f.Fuzz(func(t *testing.T, page string) {
		client := &http.Client{Transport: answering(page)}
		root, err := describe(context.Background(), client, location)
		if err != nil {
			return
		}
		if n := len(services(root, *client)); n > maxServices {
			t.Errorf("%d services", n)
		}
	})
}
