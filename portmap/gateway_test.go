package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var outside = netip.MustParseAddrPort("8.1.1.1:4001")

func TestPCP(t *testing.T) {
	g := newFakeGateway(t)
	flip := func(at int) func([]byte) [][]byte {
		return func(r []byte) [][]byte {
			lie, truth := pcpAnswerTo(r, pcpSuccess, netip.MustParseAddrPort("8.6.6.6:6"), 1), pcpAnswerTo(r, pcpSuccess, outside, 1)
			lie[at] ^= 0xff
			return [][]byte{lie, truth}
		}
	}
	for _, c := range []struct {
		name   string
		answer func([]byte) [][]byte
		want   netip.AddrPort
		fault  string
	}{
		{"honest", func(r []byte) [][]byte { return [][]byte{pcpAnswerTo(r, pcpSuccess, outside, 1)} }, outside, ""},
		{"another's nonce", flip(pcpHeader), outside, ""},
		{"another's protocol", flip(pcpHeader + 12), outside, ""},
		{"another's port", flip(pcpHeader + 17), outside, ""},
		{"a request", flip(1), outside, ""},
		{"garbage first", func(r []byte) [][]byte {
			return [][]byte{nil, {1}, make([]byte, 2000), []byte(strings.Repeat("x", 59)), pcpAnswerTo(r, pcpSuccess, outside, 1)}
		}, outside, ""},
		{"refused", func(r []byte) [][]byte { return [][]byte{pcpAnswerTo(r, pcpNotAuthorized, outside, 1)} }, netip.AddrPort{}, "does not allow it"},
		{"NAT-PMP only", func([]byte) [][]byte { return [][]byte{{0, 0x81, 0, 1, 0, 0, 0, 9}} }, netip.AddrPort{}, "does not speak"},
		{"no port", func(r []byte) [][]byte {
			return [][]byte{pcpAnswerTo(r, pcpSuccess, netip.AddrPortFrom(outside.Addr(), 0), 1)}
		}, netip.AddrPort{}, "mapped to"},
		{"IPv6", func(r []byte) [][]byte {
			return [][]byte{pcpAnswerTo(r, pcpSuccess, netip.MustParseAddrPort("[2001:db8::1]:4001"), 1)}
		}, netip.AddrPort{}, "mapped to"},
		{"no time", func(r []byte) [][]byte {
			b := pcpAnswerTo(r, pcpSuccess, outside, 1)
			clear(b[4:8])
			return [][]byte{b}
		}, netip.AddrPort{}, "mapped to"},
		{"silent", func([]byte) [][]byte { return nil }, netip.AddrPort{}, errSilent.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.set(func() { g.pcp = c.answer })
			p := &pcp{route: g.route, name: newNamer([]byte("secret"))}
			got, err := p.add(t.Context(), quic, 4001, time.Hour)
			if got.external != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("got %v, %v, want %v, %q", got.external, err, c.want, c.fault)
			}
		})
	}
}

// TestPCPCheck finds a gateway that has lost its state, by epoch, by answer.
func TestPCPCheck(t *testing.T) {
	g := newFakeGateway(t)
	epoch, at, result := uint32(1000), outside, pcpSuccess
	set := func(e uint32, a netip.AddrPort, r pcpResult) { g.set(func() { epoch, at, result = e, a, r }) }
	g.set(func() { g.pcp = func(r []byte) [][]byte { return [][]byte{pcpAnswerTo(r, result, at, epoch)} } })
	p := &pcp{route: g.route, name: newNamer(nil)}
	l := &lease{Mapping: Mapping{Port: quic, External: outside}, lifetime: time.Hour}
	other := netip.MustParseAddrPort("8.1.1.1:5")
	for _, c := range []struct {
		name string
		set  func()
		lost bool
	}{
		{"first", func() {}, false},
		{"same", func() { set(1000, outside, pcpSuccess) }, false},
		{"restarted", func() { set(3, outside, pcpSuccess) }, true},
		{"since then", func() { set(3, outside, pcpSuccess) }, false},
		{"another port", func() { set(3, other, pcpSuccess) }, true},
		{"refused", func() { set(3, outside, pcpNoResources) }, true},
	} {
		c.set()
		if a, lost, err := p.check(t.Context(), l); lost != c.lost || err != nil || a != outside.Addr() {
			t.Errorf("%s: got %v, lost %t, %v, want lost %t", c.name, a, lost, err, c.lost)
		}
	}
	g.set(func() { g.pcp = nil })
	if _, _, err := p.check(t.Context(), l); !errors.Is(err, errSilent) {
		t.Errorf("silence: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.add(ctx, quic, 1, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNATPMP(t *testing.T) {
	g := newFakeGateway(t)
	var port, granted uint16 = 4001, 4005
	lifetime, epoch := uint32(3600), uint32(100)
	answer := func(r []byte) [][]byte {
		if r[0] != 0 {
			return nil
		}
		b := binary.BigEndian.AppendUint32([]byte{0, r[1] | 0x80, 0, 0}, epoch)
		if r[1] == 0 {
			return [][]byte{append(b, 8, 1, 1, 1)}
		}
		b = binary.BigEndian.AppendUint16(b, port)
		b = binary.BigEndian.AppendUint16(b, granted)
		return [][]byte{binary.BigEndian.AppendUint32(b, lifetime)}
	}
	g.set(func() { g.pcp = answer })
	found := make(chan gateway, 1)
	findNATPMP(t.Context(), g.route, found)
	n := <-found
	got, err := n.add(t.Context(), quic, 4001, 2*time.Hour)
	if want := (grant{netip.MustParseAddrPort("8.1.1.1:4005"), time.Hour}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	g.set(func() { epoch = 1 })
	if _, err := n.add(t.Context(), quic, 4001, time.Hour); err != nil {
		t.Error(err)
	}
	for _, lost := range []bool{true, false} { // also if a renewal heard of it first
		if _, got, err := n.check(t.Context(), nil); got != lost || err != nil {
			t.Errorf("lost: got %t, %v, want %t", got, err, lost)
		}
	}
	for what, lie := range map[string]func(){
		"another's port": func() { port = 1 },
		"no port":        func() { port, granted = 4001, 0 },
		"no time":        func() { granted, lifetime = 4005, 0 },
	} {
		g.set(func() {
			port, granted, lifetime = 4001, 4005, 3600
			lie()
		})
		if got, err := n.add(t.Context(), quic, 4001, time.Hour); err == nil {
			t.Errorf("%s: got %v", what, got)
		}
	}
}

// device is an honest UPnP gateway's table.
type device struct {
	mu        sync.Mutex        // guards the fields below
	table     map[string]string // external port and protocol to description
	permanent bool
	taken     string // a port that is another's
}

func (d *device) soap(action, body string) (int, string) {
	arg := func(name string) string {
		_, rest, _ := strings.Cut(body, "<"+name+">")
		v, _, _ := strings.Cut(rest, "<")
		return v
	}
	key := arg("NewExternalPort") + arg("NewProtocol")
	d.mu.Lock()
	defer d.mu.Unlock()
	switch action {
	case "GetExternalIPAddress":
		return soapOK(action, "<NewExternalIPAddress>8.1.1.1</NewExternalIPAddress>")
	case "AddPortMapping":
		switch {
		case arg("NewExternalPort") == d.taken:
			return soapFault(errConflict, "ConflictInMappingEntry")
		case d.permanent && arg("NewLeaseDuration") != "0":
			return soapFault(errPermanentOnly, "OnlyPermanentLeasesSupported")
		}
		d.table[key] = arg("NewPortMappingDescription")
		return soapOK(action, "")
	case "DeletePortMapping":
		if _, ok := d.table[key]; !ok {
			return soapFault(errNoSuchEntry, "NoSuchEntryInArray")
		}
		delete(d.table, key)
		return soapOK(action, "")
	case "GetSpecificPortMappingEntry":
		desc, ok := d.table[key]
		if !ok {
			return soapFault(errNoSuchEntry, "NoSuchEntryInArray")
		}
		return soapOK(action, "<NewInternalPort>4001</NewInternalPort><NewInternalClient>127.0.0.1</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>"+
			desc+"</NewPortMappingDescription><NewLeaseDuration>0</NewLeaseDuration>")
	case "GetGenericPortMappingEntry":
		list := make([]string, 0, len(d.table))
		for k := range d.table {
			list = append(list, k)
		}
		slices.Sort(list)
		var i int
		fmt.Sscan(arg("NewPortMappingIndex"), &i)
		if i >= len(list) {
			return soapFault(713, "SpecifiedArrayIndexInvalid")
		}
		port := strings.TrimRight(list[i], "UDTCP")
		return soapOK(action, fmt.Sprintf("<NewRemoteHost></NewRemoteHost><NewExternalPort>%s</NewExternalPort><NewProtocol>%s</NewProtocol><NewInternalPort>%s</NewInternalPort>"+
			"<NewInternalClient>127.0.0.1</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>%s</NewPortMappingDescription><NewLeaseDuration>0</NewLeaseDuration>",
			port, list[i][len(port):], port, d.table[list[i]]))
	}
	return soapFault(401, "Invalid Action")
}

// upnpOnly is findGateways with that method alone, until it has found one.
func upnpOnly(ctx context.Context, r route, name namer) (list []gateway) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan gateway)
	go func() {
		defer close(found)
		findUPnP(ctx, r, name, found)
	}()
	for g := range found {
		list = append(list, g)
		cancel()
	}
	return list
}

// TestFindGateways: whoever answers is found, the best is first.
func TestFindGateways(t *testing.T) {
	g := newFakeGateway(t)
	d := &device{table: make(map[string]string)}
	g.set(func() {
		g.ssdp, g.soap = answerSSDP, d.soap
		g.pcp = func(r []byte) [][]byte {
			if r[0] == 0 {
				return [][]byte{{0, 0x80, 0, 0, 0, 0, 0, 9, 8, 1, 1, 1}}
			}
			return [][]byte{pcpAnswerTo(r, pcpSuccess, outside, 1)}
		}
	})
	var got []Method
	for _, g := range findGateways(t.Context(), g.route, newNamer(nil)) {
		got = append(got, g.method())
	}
	sorted := slices.IsSortedFunc(got, func(a, b Method) int { return slices.Index(preference, a) - slices.Index(preference, b) })
	if len(got) == 0 || !sorted {
		t.Errorf("got %q, want some of %q", got, preference)
	}
}

func TestUPnP(t *testing.T) {
	g := newFakeGateway(t)
	d := &device{table: make(map[string]string)}
	g.set(func() { g.ssdp, g.soap = answerSSDP, d.soap })
	name := newNamer([]byte("secret"))
	list := upnpOnly(t.Context(), g.route, name)
	if len(list) != 1 || list[0].method() != UPnP || list[0].addr() != g.gateway {
		t.Fatalf("found %v", list)
	}
	u := list[0]
	got, err := u.add(t.Context(), quic, 4001, time.Hour)
	if want := (grant{outside, time.Hour}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	l := &lease{Mapping: Mapping{Port: quic, External: outside}}
	for _, lost := range []bool{false, true} {
		if a, gone, err := u.check(t.Context(), l); a != outside.Addr() || gone != lost || err != nil {
			t.Errorf("got %v, lost %t, %v, want lost %t", a, gone, err, lost)
		}
		if err := u.remove(t.Context(), quic, 4001); (err == nil) == lost {
			t.Errorf("remove: %v", err)
		}
	}
	// A router of the old kind, where another has the port.
	d.mu.Lock()
	d.permanent, d.taken = true, "4001"
	d.mu.Unlock()
	got, err = u.add(t.Context(), quic, 4001, time.Hour)
	if err != nil || got.external.Port() == 4001 || got.lifetime != 0 {
		t.Errorf("got %v, %v, want another port, for ever", got, err)
	}
	// What a crash left there is removed, and what others have is not.
	d.mu.Lock()
	d.table = map[string]string{"4001UDP": name.description(), "5001UDP": name.description(), "5002TCP": name.description(), "6001UDP": "game console", "6002UDP": newNamer(nil).description()}
	d.mu.Unlock()
	u.tidy(t.Context(), []Port{quic})
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, gone := range []string{"5001UDP", "5002TCP"} {
		if _, there := d.table[gone]; there || len(d.table) != 3 {
			t.Errorf("after tidying: %v", d.table)
		}
	}
}

// TestHostileUPnP: nobody makes us talk to another host, read much, or wait
// long.
func TestHostileUPnP(t *testing.T) {
	victim := newFakeGateway(t)
	elsewhere := fmt.Sprintf("http://%s:5000/", victim.gateway)
	page := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/desc.xml" {
				io.WriteString(w, s)
			}
		}
	}
	for _, c := range []struct {
		name string
		ssdp func(string) []string
		http http.HandlerFunc
	}{
		{"location elsewhere", func(string) []string { return []string{ssdpAnswer(elsewhere + "desc.xml")} }, nil},
		{"location by name", func(string) []string { return []string{ssdpAnswer("http://localhost:5000/desc.xml")} }, nil},
		{"location of a file", func(string) []string { return []string{ssdpAnswer("file:///etc/passwd")} }, nil},
		{"location with a user", func(u string) []string {
			return []string{ssdpAnswer(strings.Replace(elsewhere, "http://", "http://"+strings.TrimPrefix(u, "http://")+"@", 1))}
		}, nil},
		{"redirection", answerSSDP, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere+"desc.xml", http.StatusTemporaryRedirect)
		}},
		{"control URL elsewhere", answerSSDP, page(description(elsewhere + "ctl"))},
		{"base URL elsewhere", answerSSDP, page(strings.Replace(description("/ctl"), "<device>", "<URLBase>"+elsewhere+"</URLBase><device>", 1))},
		{"garbage", func(u string) []string {
			return []string{"", "HTTP/1.1", "HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 2000), ssdpAnswer(u)}
		}, page("<root><device><serviceList>\x00")},
		{"a flood of devices", func(u string) (list []string) {
			for i := range 50 {
				list = append(list, ssdpAnswer(fmt.Sprint(u, "?", i)))
			}
			return list
		}, page("")},
		{"endless description", answerSSDP, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `<root xmlns="urn:schemas-upnp-org:device-1-0"><device><friendlyName>`)
			chunk := []byte(strings.Repeat("x", 1<<16))
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}},
		{"deep description", answerSSDP, page(`<root xmlns="urn:schemas-upnp-org:device-1-0">` + strings.Repeat("<device><deviceList>", 10000))},
		{"silence", answerSSDP, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newFakeGateway(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			// A moment after the lie, whatever comes of it has come.
			told := sync.OnceFunc(func() { time.AfterFunc(300*time.Millisecond, cancel) })
			g.set(func() {
				g.ssdp, g.http = c.ssdp, c.http
				g.asked = func(http bool) {
					if http || c.http == nil {
						told()
					}
				}
			})
			if list := upnpOnly(ctx, g.route, newNamer(nil)); len(list) > 0 {
				t.Errorf("found %v", list)
			}
			g.mu.Lock()
			hits := g.hits
			g.mu.Unlock()
			victim.mu.Lock()
			defer victim.mu.Unlock()
			if victim.hits > 0 || hits > maxDevices {
				t.Errorf("%d requests to another host, %d to the device", victim.hits, hits)
			}
			if c.http != nil && hits == 0 {
				t.Error("the device was not asked")
			}
		})
	}
}

// TestBoundedReads: the client hands on no more than maxBody.
func TestBoundedReads(t *testing.T) {
	g := newFakeGateway(t)
	g.set(func() {
		g.http = func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 4*maxBody)) }
	})
	client := deviceClient(g.gateway, g.local.Addr())
	resp, err := client.Get(fmt.Sprintf("http://%s:5000/", g.gateway))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != maxBody || err != nil {
		t.Errorf("read %d bytes, %v, want %d", n, err, maxBody)
	}
}

// TestLongErrors: what a device says is cut off before it gets to a log.
func TestLongErrors(t *testing.T) {
	g := newFakeGateway(t)
	long := strings.Repeat("very ", 10000)
	g.set(func() {
		g.ssdp = answerSSDP
		g.soap = func(action, _ string) (int, string) {
			if action == "AddPortMapping" {
				return soapFault(501, long)
			}
			return soapOK(action, "<NewExternalIPAddress>8.1.1.1</NewExternalIPAddress>")
		}
	})
	list := upnpOnly(t.Context(), g.route, newNamer(nil))
	if len(list) != 1 {
		t.Fatalf("found %v", list)
	}
	if _, err := list[0].add(t.Context(), quic, 4001, time.Hour); err == nil || len(err.Error()) > 3*maxText {
		t.Errorf("%.300v", err)
	}
	if err := short(errors.New(long)); len(err.Error()) > 3*maxText {
		t.Errorf("%d bytes", len(err.Error()))
	}
}

func TestDeviceAddr(t *testing.T) {
	from := netip.MustParseAddr("192.168.1.1")
	for location, want := range map[string]string{
		"http://192.168.1.1:5000/x":   "192.168.1.1:5000",
		"http://192.168.1.1/x":        "192.168.1.1:80",
		"https://192.168.1.1/x":       "",
		"http://192.168.1.2:5000/x":   "",
		"http://192.168.1.1:0/x":      "",
		"http://192.168.1.1:99999/x":  "",
		"http://[::ffff:c0a8:101]/x":  "",
		"http://router.local/x":       "",
		"http://192.168.1.1@8.8.8.8/": "",
		"//192.168.1.1/x":             "",
		"":                            "",
	} {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		got, err := deviceAddr(u, from)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: got %v, %v, want %q", location, got, err, want)
		}
	}
}
