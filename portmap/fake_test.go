package portmap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeGateway listens on a loopback address of its own, where routers do.
type fakeGateway struct {
	route

	mu    sync.Mutex // guards the fields below
	pcp   func(request []byte) [][]byte
	ssdp  func(url string) []string
	soap  func(action, body string) (status int, answer string)
	http  http.HandlerFunc // instead of everything else, if not nil
	hits  int              // HTTP requests
	asked func(http bool)  // called with every search and request, if not nil
}

// set changes what it does.
func (g *fakeGateway) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// newFakeGateway skips the test where 127.0.0.0/8 is not all ours.
func newFakeGateway(t *testing.T) *fakeGateway {
	t.Helper()
	for range 10 {
		ip := netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(250)), byte(2 + rand.IntN(250))})
		g := &fakeGateway{route: route{gateway: ip, local: netip.MustParsePrefix("127.0.0.1/8")}}
		if g.listen(t) == nil {
			return g
		}
	}
	t.Skip("no loopback address to put a gateway at")
	return nil
}

func (g *fakeGateway) listen(t *testing.T) error {
	var closers []io.Closer
	var running sync.WaitGroup
	closeAll := func() {
		for _, c := range closers {
			c.Close()
		}
		running.Wait()
	}
	for port, serve := range map[uint16]func([]byte) [][]byte{
		pcpPort: func(b []byte) [][]byte {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.pcp == nil {
				return nil
			}
			return g.pcp(b)
		},
		ssdpPort: func([]byte) (out [][]byte) {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.ssdp == nil {
				return nil
			}
			if g.asked != nil {
				g.asked(false)
			}
			for _, s := range g.ssdp(fmt.Sprintf("http://%s:5000/desc.xml", g.gateway)) {
				out = append(out, []byte(s))
			}
			return out
		},
	} {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.gateway, port)))
		if err != nil {
			closeAll()
			return err
		}
		closers = append(closers, c)
		running.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				for _, answer := range serve(bytes.Clone(buf[:n])) {
					c.WriteToUDPAddrPort(answer, from)
				}
			}
		})
	}
	l, err := net.Listen("tcp4", netip.AddrPortFrom(g.gateway, 5000).String())
	if err != nil {
		closeAll()
		return err
	}
	server := &http.Server{Handler: g, ReadHeaderTimeout: time.Second}
	closers = append(closers, server)
	running.Go(func() { server.Serve(l) })
	t.Cleanup(closeAll)
	return nil
}

func (g *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.hits++
	special, soap := g.http, g.soap
	if g.asked != nil {
		g.asked(true)
	}
	g.mu.Unlock()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	switch {
	case special != nil:
		special(w, r)
	case r.URL.Path == "/desc.xml":
		io.WriteString(w, description("/ctl"))
	case soap != nil:
		_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPACTION"), `"`), "#")
		status, answer := soap(action, string(body))
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`, answer)
	}
}

func description(control string) string {
	return `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
		<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
		<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
		<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
		<controlURL>` + control + `</controlURL></service></serviceList></device></deviceList></device></root>`
}

func ssdpAnswer(location string) string {
	return "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: " + location + "\r\n\r\n"
}

func answerSSDP(url string) []string { return []string{ssdpAnswer(url)} }

func soapOK(action, inner string) (int, string) {
	return http.StatusOK, fmt.Sprintf(`<u:%sResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">%s</u:%sResponse>`, action, inner, action)
}

func soapFault(code int, text string) (int, string) {
	return http.StatusInternalServerError, fmt.Sprintf(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring>
		<detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>%s</errorDescription></UPnPError></detail></s:Fault>`, code, text)
}

// pcpAnswerTo answers a request as an honest gateway would.
func pcpAnswerTo(request []byte, result pcpResult, external netip.AddrPort, epoch uint32) []byte {
	b := bytes.Clone(request)
	b[1] |= opResponse
	b[3] = byte(result)
	binary.BigEndian.PutUint32(b[8:], epoch)
	clear(b[12:24])
	if request[1] == opMap {
		binary.BigEndian.PutUint16(b[pcpHeader+18:], external.Port())
		ip := external.Addr().As16()
		copy(b[pcpHeader+20:], ip[:])
	}
	return b
}
