package callout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func decodeID(t testing.TB, s string) peer.ID {
	t.Helper()
	p, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// transport answers without a network, so that time can be virtual.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func says(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// TestDocumented holds that what is sent is what the page shows.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/verify-url.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want a question and an answer", len(blocks))
	}
	var want bytes.Buffer
	if err := json.Compact(&want, blocks[0][1]); err != nil {
		t.Fatal(err)
	}
	var got []byte
	c := newClient(t, Config{URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s of %s", r.Method, r.Header.Get("Content-Type"))
		}
		w.Write(blocks[1][1])
	})})
	a, err := c.Ask(t.Context(), Question{
		Kind: Connect, Peer: decodeID(t, "12D3KooWGzhMJz5xE6qP7YhTw2mqUYgCMBAyWk6fYdSjnvNQGGz8"),
		Addr:        netip.MustParseAddr("::ffff:192.0.2.7"),
		Destination: decodeID(t, "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"),
	})
	if string(got) != want.String() {
		t.Errorf("got %s, want %s", got, want.String())
	}
	if want := (Answer{Allow: true, Class: "member", Reason: "paid until May", Outcome: Allowed, Asked: true}); a != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", a, err, want)
	}
	for _, o := range Outcomes()[2:] {
		if !bytes.Contains(page, []byte("| `"+string(o)+"` |")) {
			t.Errorf("the page does not have %q", o)
		}
	}
}

func TestAnswers(t *testing.T) {
	body := func(status int, s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, s)
		}
	}
	for _, c := range []struct {
		name   string
		h      http.HandlerFunc
		want   Outcome
		class  string
		reason string
	}{
		{"allowed", body(200, `{"allow":true}`), Allowed, "", ""},
		{"with all", body(200, `{"allow":true,"class":"a-1","reason":"x","more":[1]}`), Allowed, "a-1", "x"},
		{"refused", body(200, `{"allow":false,"class":"NOT ONE","reason":"no"}`), Refused, "", "no"},
		{"reason of many lines", body(200, `{"allow":false,"reason":"a\nb\u0000\u001b[31mc `+strings.Repeat("d", 300)+`"}`), Refused, "", "a b [31mc " + strings.Repeat("d", 190) + "…"},
		{"403", body(403, ""), Refused, "", ""},
		{"403 with a reason", body(403, `{"allow":true,"reason":"no"}`), Refused, "", "no"},
		{"403 with a page", body(403, "<html>"), Refused, "", ""},
		{"403 with much", body(403, strings.Repeat("x", 2*maxBody)), Refused, "", ""},
		{"204", body(204, ""), BadStatus, "", ""},
		{"401", body(401, `{"allow":true}`), BadStatus, "", ""},
		{"404", body(404, `{"allow":true}`), BadStatus, "", ""},
		{"500", body(500, `{"allow":true}`), BadStatus, "", ""},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				t.Error("redirect followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, Redirected, "", ""},
		{"oversize", body(200, `{"allow":true,"reason":"`+strings.Repeat("x", maxBody)+`"}`), Oversize, "", ""},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		}, Oversize, "", ""},
		{"empty", body(200, ""), Garbage, "", ""},
		{"page", body(200, "<html>"), Garbage, "", ""},
		{"without allow", body(200, `{"class":"a"}`), Garbage, "", ""},
		{"null", body(200, `{"allow":null}`), Garbage, "", ""},
		{"text", body(200, `{"allow":"true"}`), Garbage, "", ""},
		{"two", body(200, `{"allow":true}{"allow":true}`), Garbage, "", ""},
		{"list", body(200, `[{"allow":true}]`), Garbage, "", ""},
		{"class", body(200, `{"allow":true,"class":"Member"}`), Garbage, "", ""},
		{"long class", body(200, `{"allow":true,"class":"`+strings.Repeat("x", 33)+`"}`), Garbage, "", ""},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"allow":true}`)
		}, Unreachable, "", ""},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Unreachable, "", ""},
	} {
		for _, open := range []bool{false, true} {
			client := newClient(t, Config{URL: serve(t, c.h), FailOpen: open, Timeout: time.Minute})
			a, err := client.Ask(t.Context(), Question{Kind: Reserve, Peer: "p"})
			clear := c.want == Allowed || c.want == Refused
			want := Answer{Allow: c.want == Allowed || !clear && open, Class: c.class, Reason: c.reason, Outcome: c.want, Asked: true}
			if a != want || (err == nil) != clear {
				t.Errorf("%s, fail open %v: got %+v, %v, want %+v", c.name, open, a, err, want)
			}
		}
	}
}

func TestDown(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c := newClient(t, Config{URL: strings.Replace(s.URL, "http://", "http://user:secret@", 1), Timeout: time.Minute})
	a, err := c.Ask(t.Context(), Question{Kind: Reserve, Peer: "p"})
	if a.Allow || a.Outcome != Unreachable || err == nil {
		t.Errorf("got %+v, %v", a, err)
	}
	if strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("the password is told: %v", err)
	}
}

func TestSlow(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		c := newClient(t, Config{URL: "https://x", FailOpen: true, Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}})
		began := time.Now()
		a, err := c.Ask(t.Context(), Question{Kind: Reserve, Peer: "p"})
		if !a.Allow || a.Outcome != Timeout || err == nil || time.Since(began) != defaultTimeout {
			t.Errorf("got %+v, %v after %v", a, err, time.Since(began))
		}
		// Whoever asks need not wait for it.
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began = time.Now()
		a, err = c.Ask(ctx, Question{Kind: Reserve, Peer: "other"})
		if a.Outcome != Canceled || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
			t.Errorf("got %+v, %v after %v", a, err, time.Since(began))
		}
		// Nor does Close.
		began = time.Now()
		answered := make(chan Answer, 1)
		go func() {
			a, _ := c.Ask(t.Context(), Question{Kind: Reserve, Peer: "third"})
			answered <- a
		}()
		synctest.Wait()
		c.Close()
		c.Close()
		if a := <-answered; a.Outcome != Canceled || time.Since(began) != 0 {
			t.Errorf("got %+v after %v, want canceled at once", a, time.Since(began))
		}
		if a, err := c.Ask(t.Context(), Question{Kind: Reserve, Peer: "p4"}); a.Outcome != Canceled || err == nil {
			t.Errorf("closed: got %+v, %v", a, err)
		}
	})
}

// TestKeep: answers are good for 5 seconds, failures for one.
func TestKeep(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		answer := `{"allow":true}`
		client := &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			return says(answer), nil
		})}
		c := newClient(t, Config{URL: "https://x", Client: client})
		ask := func(q Question, want Outcome, wantAsked int32) {
			t.Helper()
			a, _ := c.Ask(t.Context(), q)
			if a.Outcome != want || asked.Load() != wantAsked {
				t.Errorf("%+v: got %s after %d requests, want %s after %d", q, a.Outcome, asked.Load(), want, wantAsked)
			}
		}
		q := Question{Kind: Reserve, Peer: "p", Addr: netip.MustParseAddr("192.0.2.1")}
		ask(q, Allowed, 1)
		ask(q, Allowed, 1)
		answer = `{"allow":false}`
		time.Sleep(defaultKeep - time.Millisecond)
		ask(q, Allowed, 1)
		time.Sleep(time.Millisecond)
		ask(q, Refused, 2)
		ask(q, Refused, 2)
		mapped := q
		mapped.Addr = netip.MustParseAddr("::ffff:192.0.2.1")
		ask(mapped, Refused, 2)
		other := q
		other.Kind = Connect
		ask(other, Refused, 3)
		other.Destination = "d"
		ask(other, Refused, 4)
		answer = "garbage"
		time.Sleep(defaultKeep)
		ask(q, Garbage, 5)
		ask(q, Garbage, 5)
		time.Sleep(keepFailure)
		ask(q, Garbage, 6)

		c = newClient(t, Config{URL: "https://x", Client: client, Keep: -1})
		ask(q, Garbage, 7)
		ask(q, Garbage, 8)
		if len(c.entries) != 0 {
			t.Errorf("%d are kept", len(c.entries))
		}
	})
}

// TestStorm of one peer costs one request.
func TestStorm(t *testing.T) {
	var asked atomic.Int32
	c := newClient(t, Config{Timeout: time.Minute, Keep: time.Minute, URL: serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		io.WriteString(w, `{"allow":true}`)
	})})
	var wg sync.WaitGroup
	var first atomic.Int32
	for range 1000 {
		wg.Go(func() {
			a, err := c.Ask(t.Context(), Question{Kind: Reserve, Peer: "p"})
			if !a.Allow || err != nil {
				t.Errorf("got %+v, %v", a, err)
			}
			if a.Asked {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	if asked.Load() != 1 || first.Load() != 1 {
		t.Errorf("%d requests, %d say that they made one, want 1", asked.Load(), first.Load())
	}
}

// TestFlood of many peers: 64 requests at a time, more wait up to the time-out,
// and what is beyond the bound is answered at once.
func TestFlood(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		var open, most atomic.Int32
		c := newClient(t, Config{URL: "https://x", Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			n := open.Add(1)
			defer open.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			select {
			case <-time.After(300 * time.Millisecond):
				return says(`{"allow":true}`), nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})}})
		const flood = maxEntries + 100
		var wg sync.WaitGroup
		var mu sync.Mutex // guards the map below
		got := make(map[Outcome]int)
		began := time.Now()
		for i := range flood {
			wg.Go(func() {
				a, _ := c.Ask(t.Context(), Question{Kind: Reserve, Peer: peer.ID(fmt.Sprint(i))})
				mu.Lock()
				defer mu.Unlock()
				got[a.Outcome]++
			})
		}
		wg.Wait()
		if took := time.Since(began); took > defaultTimeout {
			t.Errorf("took %v, want at most %v", took, defaultTimeout)
		}
		if most.Load() != maxRequests || got[Allowed] != 6*maxRequests || got[Allowed]+got[Busy]+got[Timeout] != flood {
			t.Errorf("at most %d at a time, %v", most.Load(), got)
		}
		if len(c.entries) > maxEntries {
			t.Errorf("%d entries", len(c.entries))
		}
		// And it recovers.
		if a, err := c.Ask(t.Context(), Question{Kind: Reserve, Peer: "late"}); !a.Allow || err != nil {
			t.Errorf("got %+v, %v", a, err)
		}
		if len(c.entries) > maxEntries {
			t.Errorf("%d entries", len(c.entries))
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		url  string
		want string // in the error, or empty
	}{
		{"https://example.org/verify", ""},
		{"https://user:pw@example.org:8443", ""},
		{"http://localhost:8080/x", ""},
		{"http://127.0.0.1:8080", ""},
		{"http://[::1]:8080", ""},
		{"http://10.1.2.3", ""},
		{"http://[fd00::1]", ""},
		{"http://[::ffff:10.1.2.3]", ""},
		{"http://example.org", "use https"},
		{"http://user:secret@192.0.2.1", "use https"},
		{"http://localhost.example", "use https"},
		{"", "is not of the web"},
		{"example.org", "is not of the web"},
		{"ftp://example.org", "is not of the web"},
		{"https://", "is not of the web"},
		{"https:opaque", "is not of the web"},
		{"https://user:secret@[", "is none"},
	} {
		_, err := New(Config{URL: c.url})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.url, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v", c.url, err)
		}
	}
	if _, err := New(Config{URL: "http://example.org", AllowHTTP: true}); err != nil {
		t.Error(err)
	}
}

// FuzzDecode holds that nothing allows but a clear answer, and that what comes
// of it is fit for a log.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"allow":true,"class":"member","reason":"x"}`, `{"allow":false}`, `{"allow":null}`, `{}`, "", "null", "<html>",
		`{"allow":true,"class":"É"}`, `{"allow":true,"reason":"\u0000\n\ud800"}`,
	} {
		f.Add(200, []byte(s))
		f.Add(403, []byte(s))
		f.Add(301, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a, err := decode(status, body)
		if a.Allow && (status != 200 || err != nil || a.Outcome != Allowed) || err != nil && a != (Answer{}) {
			t.Errorf("%d: got %+v, %v", status, a, err)
		}
		if strings.ContainsAny(a.Reason, "\n\r\x00\x1b") || len([]rune(a.Reason)) > maxReason+1 || len(a.Class) > 32 {
			t.Errorf("got %+v", a)
		}
	})
}

func BenchmarkAskKept(b *testing.B) {
	c := newClient(b, Config{URL: "https://x", Keep: time.Hour, Client: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
		return says(`{"allow":true}`), nil
	})}})
	q := Question{Kind: Connect, Peer: "p", Addr: netip.MustParseAddr("192.0.2.1"), Destination: "d"}
	b.ReportAllocs()
	for b.Loop() {
		c.Ask(b.Context(), q)
	}
}
