package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/internal/virtual"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/callout"
)

const somebody = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"

func decode(t *testing.T, s string) peer.ID {
	t.Helper()
	id, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// opened are the flags' defaults with some changed, opened.
func opened(t *testing.T, change func(*accessOptions)) (*access, relay.Access) {
	t.Helper()
	o := accessOptions{verifyTimeout: 2 * time.Second, verifyFail: "closed"}
	change(&o)
	a, start, err := o.open(relay.Limits{Classes: []relay.Class{{Name: "member"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.follow())
	return a, start
}

func TestVerifyURLDecides(t *testing.T) {
	asked := make(chan map[string]string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q map[string]string
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		asked <- q
		w.Write([]byte(`{"allow": true, "class": "member"}`))
	}))
	a, start := opened(t, func(o *accessOptions) { o.verifyURL = server.URL })
	from := ma.StringCast("/ip4/192.0.2.7/udp/4001/quic-v1")
	got := start.Validator(t.Context(), relay.Question{Peer: decode(t, somebody), Addr: from})
	if got != (relay.Answer{Allow: true, Class: "member"}) {
		t.Errorf("got %+v, want allowed as a member", got)
	}
	if q := <-asked; q["kind"] != "reserve" || q["peer"] != somebody || q["addr"] != "192.0.2.7" {
		t.Errorf("asked %v", q)
	}
	start.Validator(t.Context(), relay.Question{Peer: decode(t, somebody), Connect: decode(t, somebody)})
	if q := <-asked; q["kind"] != "connect" || q["destination"] != somebody || q["addr"] != "" {
		t.Errorf("asked %v", q)
	}
	server.Close()
	other := ma.StringCast("/ip4/192.0.2.8/tcp/1") // not the question that was answered a moment ago
	if got := start.Validator(t.Context(), relay.Question{Peer: decode(t, somebody), Addr: other}); got.Allow {
		t.Errorf("without an answer: got %+v, want a refusal", got)
	}
	if !a.verifyFails.Load() {
		t.Error("the failure was not noted")
	}
	reg := prometheus.NewRegistry()
	if err := a.count(reg); err != nil {
		t.Fatal(err)
	}
	all, err := reg.Gather()
	if err != nil || len(all) != 1 || len(all[0].GetMetric()) != len(callout.Outcomes()) {
		t.Fatalf("metrics: got %v, %v, want one for each outcome", all, err)
	}
	sum := 0.0
	for _, m := range all[0].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	if sum != 3 {
		t.Errorf("%v answers counted, want 3", sum)
	}
}

func TestVerifyURLFailsOpen(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, start := opened(t, func(o *accessOptions) { o.verifyURL, o.verifyFail = server.URL, "open" })
	if got := start.Validator(t.Context(), relay.Question{Peer: decode(t, somebody)}); !got.Allow {
		t.Errorf("got %+v, want allowed", got)
	}
}

func TestAccessInWords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(file, []byte("allow all member\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*accessOptions)
		want   string
	}{
		{func(*accessOptions) {}, "everybody"},
		{func(o *accessOptions) { o.issuers = []string{somebody} }, "everybody; tokens of 1 issuer count"},
		{func(o *accessOptions) { o.acl = file }, "whom " + file + " (1 rule) allows"},
		{
			func(o *accessOptions) { o.acl, o.verifyURL = file, "https://relay:secret@example.org/verify" },
			"whom " + file + " (1 rule) and https://relay:xxxxx@example.org/verify (without an answer: nobody) allow",
		},
	} {
		if a, _ := opened(t, c.change); a.String() != c.want {
			t.Errorf("got %q, want %q", a, c.want)
		}
	}
}

func TestRevocationsAreFollowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "revoked")
	write := func(s string) {
		if err := os.WriteFile(file+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	virtual.Test(t, func(t *testing.T) {
		a, start := opened(t, func(o *accessOptions) { o.issuers, o.revoked = []string{somebody}, file })
		if n := start.Trust.Revoked.Len(); n != 0 {
			t.Errorf("at the start: got %d entries", n)
		}
		write(somebody + " # lost\n")
		if n := <-a.news; n.err != nil || n.trust.Revoked.Len() != 1 || len(n.trust.Issuers) != 1 {
			t.Errorf("changed: got %+v", n)
		}
		write("nonsense\n")
		if n := <-a.news; n.err == nil || n.trust != nil || !strings.Contains(n.err.Error(), "those before stay in force") {
			t.Errorf("not in order: got %+v", n)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if n := <-a.news; n.err == nil || !strings.HasSuffix(n.err.Error(), "there is no file "+file) {
			t.Errorf("gone: got %v", n.err)
		}
		began := time.Now()
		a.reload()
		if n := <-a.news; n.err == nil || time.Since(began) != 0 {
			t.Errorf("asked for: got %v after %v, want an error at once", n.err, time.Since(began))
		}
		select {
		case n := <-a.news:
			t.Errorf("told without a change: %+v", n)
		case <-time.After(time.Minute):
		}
	})
}
