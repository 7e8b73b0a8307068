package main

import (
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDemoKept looks around on a stage that was left, as somebody would who was
// told what to try.
func TestDemoKept(t *testing.T) {
	requireAll(t)
	d := startDemo(t, "--keep")
	<-d.ended
	if code := d.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, d.stdout, d.stderr)
	}
	commands := regexp.MustCompile(`(?m)^  (docker|printf|curl) .*$`).FindAllString(d.stdout.String(), -1)
	if len(commands) < 6 {
		t.Fatalf("it says to try %q, and no more", commands)
	}
	for _, c := range commands {
		c = strings.Replace(c, "logs -f", "logs", 1)
		if strings.Contains(c, "curl") {
			continue // not everywhere; see below
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", c).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c, err, out)
		}
	}
	for _, s := range services {
		if strings.HasPrefix(s, "router") || s == "web" {
			continue
		}
		addr, err := exec.CommandContext(t.Context(), "docker", "port", "causeway-test-"+s, "9464/tcp").Output()
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if !strings.HasPrefix(string(addr), "127.0.0.1:") {
			t.Errorf("%s: metrics at %s, want them on loopback only", s, addr)
		}
		holdsMetrics(t, s, "http://"+strings.TrimSpace(string(addr))+"/metrics")
	}
}

func holdsMetrics(t *testing.T, service, url string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Errorf("%s: %v", service, err)
		return
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || !slices.ContainsFunc(strings.Split(string(page), "\n"), func(l string) bool { return strings.HasPrefix(l, "causeway_") }) {
		t.Errorf("%s: %s: %s, %v, without metrics of ours in %d bytes", service, url, resp.Status, err, len(page))
	}
}
