package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-p2p/causeway/internal/certfile"
	"github.com/causeway-p2p/causeway/internal/certfile/certtest"
	"github.com/causeway-p2p/causeway/node"
)

// copied runs the hook as certbot does, and returns where it has put the copies.
func copied(t *testing.T, lineage string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	hook := exec.CommandContext(t.Context(), "sh", "../../deploy/systemd/relayd-certificate")
	hook.Env = append(os.Environ(), "RENEWED_LINEAGE="+lineage, "TLS_DIR="+dir, "TLS_OWNER="+strconv.Itoa(os.Getuid()))
	if out, err := hook.CombinedOutput(); err != nil {
		t.Fatalf("relayd-certificate: %v\n%s", err, out)
	}
	return dir
}

// TestCertificate: what an ACME client leaves, and its hook copies, is what the node
// gets; and the panel says so.
func TestCertificate(t *testing.T) {
	cert, key := certtest.NewCA(t).Issue(t, certtest.For("relay.example.org"))
	lineage := t.TempDir()
	for name, data := range map[string][]byte{"fullchain.pem": cert, "privkey.pem": key} {
		// As certbot does: a link to the version in force.
		if err := os.WriteFile(filepath.Join(lineage, name+".1"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name+".1", filepath.Join(lineage, name)); err != nil {
			t.Fatal(err)
		}
	}
	copies := copied(t, lineage)
	for _, dir := range []string{lineage, copies} {
		var cfg node.Config
		o := tlsOptions{cert: filepath.Join(dir, "fullchain.pem"), key: filepath.Join(dir, "privkey.pem")}
		c, err := o.open(t.Context(), &cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.follow()()
		if cfg.TLS == nil || cfg.TLSName != "relay.example.org" {
			t.Errorf("%s: got name %q, TLS %v", dir, cfg.TLSName, cfg.TLS)
		}
		const named = "/dns4/relay.example.org/tcp/443/tls/ws"
		if text := c.words(node.Status{Addrs: []string{named}}); !strings.HasPrefix(text, "as relay.example.org, with a certificate until 20") || strings.Contains(text, "announce") {
			t.Errorf("announced: got %q", text)
		}
		if text := c.words(node.Status{Addrs: []string{"/ip4/11.0.0.1/tcp/4001"}}); !strings.HasSuffix(text, "--announce "+named+" besides") {
			t.Errorf("not announced: got %q, want that it says so", text)
		}
	}
	key2, err := os.Stat(filepath.Join(copies, "privkey.pem"))
	if err != nil || key2.Mode().Perm() != 0o400 {
		t.Errorf("copy of the key: got %v, %v, want mode 0400", key2.Mode(), err)
	}
}

// TestCertificateMetric: the end of the certificate is there for alarms, also of the
// one that was taken in later.
func TestCertificateMetric(t *testing.T) {
	const name = "causeway_relayd_certificate_expiry_timestamp_seconds"
	ca, dir := certtest.NewCA(t), t.TempDir()
	o := tlsOptions{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	renew := func(life time.Duration) (end time.Time) {
		start := time.Now().Truncate(time.Second)
		cert, key := ca.Issue(t, certtest.For("relay.example.org"), certtest.From(start, life))
		for file, data := range map[string][]byte{o.cert: cert, o.key: key} {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return start.Add(life)
	}
	end := renew(90 * 24 * time.Hour)
	c, err := o.open(t.Context(), new(node.Config))
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	if err := c.count(reg); err != nil {
		t.Fatal(err)
	}
	if err := c.count(nil); err != nil {
		t.Errorf("nobody to count for: %v", err)
	}
	expect := func(want time.Time) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != name {
			t.Fatalf("got %v, %v, want %s alone", families, err, name)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got != float64(want.Unix()) {
			t.Errorf("got %.0f, want %d", got, want.Unix())
		}
	}
	expect(end)
	stop := c.follow()
	defer stop()
	end = renew(91 * 24 * time.Hour)
	c.reload()
	<-c.told()
	expect(end)
	if !strings.Contains(read(t, "../../docs/metrics.md"), "`"+name+"`") {
		t.Errorf("docs/metrics.md has no %s", name)
	}
}

func TestNoCertificate(t *testing.T) {
	var cfg node.Config
	c, err := tlsOptions{}.open(context.Background(), &cfg)
	if c != nil || err != nil || cfg.TLS != nil {
		t.Errorf("got %v, %v, TLS %v, want nothing", c, err, cfg.TLS)
	}
	if err := c.count(prometheus.NewRegistry()); err != nil {
		t.Error(err)
	}
	c.reload()
	c.follow()()
	if c.told() != nil {
		t.Error("without a certificate there is news")
	}
}

func TestTLSOptions(t *testing.T) {
	secure, plain := []string{"/ip4/0.0.0.0/tcp/443/tls/ws"}, []string{"/ip4/0.0.0.0/tcp/4001/ws"}
	for _, c := range []struct {
		opts   tlsOptions
		listen []string
		want   string // empty: no fault
	}{
		{tlsOptions{}, plain, ""},
		{tlsOptions{cert: "c", key: "k"}, secure, ""},
		{tlsOptions{cert: "c", key: "k"}, []string{"/ip4/0.0.0.0/tcp/443/wss"}, ""},
		{tlsOptions{cert: "c", key: "k"}, []string{"/ip4/0.0.0.0/tcp/443/tls/sni/x.example/ws"}, ""},
		{tlsOptions{cert: "c", key: "k"}, plain, "--tls-cert, and no address with /tls/ws to listen on"},
		{tlsOptions{cert: "c"}, secure, "--tls-cert without --tls-key"},
		{tlsOptions{key: "k"}, plain, "--tls-key or --tls-name without --tls-cert"},
		{tlsOptions{name: "n"}, plain, "--tls-key or --tls-name without --tls-cert"},
		{tlsOptions{}, secure, "--listen with /tls/ws, and no certificate for it"},
	} {
		got := ""
		if err := c.opts.check(c.listen); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v, listening on %s: got %q, want %q", c.opts, c.listen, got, c.want)
		}
	}
}

// TestTryFor holds that there is something to try for every fault.
func TestTryFor(t *testing.T) {
	for f := certfile.Missing; f <= certfile.WrongName; f++ {
		if tryFor(&certfile.Error{Fault: f}) == "" {
			t.Errorf("fault %d: nothing to try", f)
		}
	}
	if tryFor(errors.New("x")) == "" {
		t.Error("another fault: nothing to try")
	}
}
