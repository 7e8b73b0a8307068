package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/causeway-p2p/causeway/admin"
	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		code         int
		says         string
		takes        time.Duration
	}{
		{"GET", "/", http.StatusOK, "This page is at 12D3host", 0},
		{"GET", "/clock", http.StatusOK, "tick 3\n3 in all\n", 2500 * time.Millisecond},
		{"GET", "/nothing", http.StatusNotFound, "There are / and /clock", 0},
		{"POST", "/", http.StatusMethodNotAllowed, "GET is all", 0},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				enough := make(chan struct{})
				time.AfterFunc(2500*time.Millisecond, func() { close(enough) })
				var out bytes.Buffer
				began := time.Now()
				if err := (page{host: "12D3host", visitor: admin.Connected{}, enough: enough}).answer(t.Context(), &out, req); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tt.takes {
					t.Errorf("it took %v, want %v", took, tt.takes)
				}
				resp, err := http.ReadResponse(bufio.NewReader(&out), req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != tt.code || !strings.Contains(string(body), tt.says) {
					t.Errorf("got %s, %q, %v; want %d and %q", resp.Status, body, err, tt.code, tt.says)
				}
			})
		})
	}
}

// TestClockStops: the clock ends with whoever serves it, in the middle.
func TestClockStops(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		r := clock(ctx, nil)
		text, err := io.ReadAll(r)
		if err == nil || string(text) != "tick 1\ntick 2\n" {
			t.Errorf("got %q, %v, want two lines and why there are no more", text, err)
		}
	})
}

// TestClockIsBounded: it ends by itself although the visitor never does.
func TestClockIsBounded(t *testing.T) {
	virtual.Test(t, func(t *testing.T) {
		text, err := io.ReadAll(clock(t.Context(), nil))
		if want := fmt.Sprintf("tick %d\n%[1]d in all\n", maxTicks); err != nil || !strings.HasSuffix(string(text), want) {
			t.Errorf("got %q, %v, want it to end with %q", text, err, want)
		}
	})
}
