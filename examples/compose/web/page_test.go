package main

import (
	"bufio"
	"bytes"
	"context"
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
		{"GET", "/clock", http.StatusOK, "4 of 4\n", clockTicks * time.Second},
		{"GET", "/nothing", http.StatusNotFound, "There are / and /clock", 0},
		{"POST", "/", http.StatusMethodNotAllowed, "GET is all", 0},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			virtual.Test(t, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				began := time.Now()
				if err := (page{host: "12D3host", visitor: admin.Connected{}}).answer(t.Context(), &out, req); err != nil {
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
		r := clock(ctx)
		text, err := io.ReadAll(r)
		if err == nil || string(text) != "1 of 4\n2 of 4\n" {
			t.Errorf("got %q, %v, want two lines and why there are no more", text, err)
		}
	})
}
