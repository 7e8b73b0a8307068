package certfile

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-p2p/causeway/internal/certfile/certtest"
	"github.com/causeway-p2p/causeway/internal/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "relay.example.org"

// write puts another file there: in virtual time two versions of one may be written
// within what the kernel's clock for files can tell apart.
func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	ca := certtest.NewCA(t)
	cert, key := ca.Issue(t, certtest.For(host, "www.example.org"))
	other, otherKey := ca.Issue(t, certtest.For("other.example.org"))
	wild, wildKey := ca.Issue(t, certtest.For("*.example.org"))
	nameless, namelessKey := ca.Issue(t, certtest.For())
	old, oldKey := ca.Issue(t, certtest.For(host), certtest.From(time.Now().Add(-60*24*time.Hour), 30*24*time.Hour))
	early, earlyKey := ca.Issue(t, certtest.For(host), certtest.From(time.Now().Add(time.Hour), time.Hour))
	broken := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	brokenKey := []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	secret := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for _, c := range []struct {
		name      string
		cert, key []byte // nil: no such file
		want      string // the name asked for
		got       string // the name in use
		fault     Fault
		text      string
	}{
		{name: "in order", cert: cert, key: key, got: host},
		{name: "its second name", cert: cert, key: key, want: "www.example.org", got: "www.example.org"},
		{name: "both in one file", cert: append(key[:len(key):len(key)], cert...), key: append(key[:len(key):len(key)], cert...), got: host},
		{name: "a wildcard, and the name given", cert: wild, key: wildKey, want: host, got: host},
		{name: "no certificate file", key: key, fault: Missing, text: "there is no file CERT"},
		{name: "no key file", cert: cert, fault: Missing, text: "there is no file KEY"},
		{name: "empty", cert: []byte{}, key: key, fault: NotPEM, text: "CERT has no certificate in PEM"},
		{name: "the files exchanged", cert: key, key: cert, fault: NotPEM, text: "CERT has no certificate in PEM"},
		{name: "no key in it", cert: cert, key: []byte("hello"), fault: NotPEM, text: "KEY has no private key in PEM"},
		{name: "a broken certificate", cert: broken, key: key, fault: NotPEM, text: "the certificate in CERT is broken: "},
		{name: "a broken key", cert: cert, key: brokenKey, fault: NotPEM, text: "the private key in KEY is broken: "},
		{name: "an encrypted key", cert: cert, key: secret, fault: NotPEM, text: "the private key in KEY is encrypted: nobody is there to type the password"},
		{name: "another's key", cert: cert, key: otherKey, fault: WrongKey, text: "the private key in KEY is not that of the certificate in CERT"},
		{name: "expired", cert: old, key: oldKey, fault: Expired, text: "the certificate in CERT expired on "},
		{name: "not valid yet", cert: early, key: earlyKey, fault: Expired, text: "the certificate in CERT is not valid before "},
		{name: "another's name", cert: other, key: otherKey, want: host, fault: WrongName, text: "the certificate in CERT is for other.example.org, not for " + host},
		{name: "a wildcard, and no name given", cert: wild, key: wildKey, fault: NoName, text: "the certificate is for *.example.org, which says not under which name"},
		{name: "no name", cert: nameless, key: namelessKey, fault: NoName, text: "the certificate is for no DNS name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := Config{Cert: filepath.Join(dir, "CERT"), Key: filepath.Join(dir, "KEY"), Name: c.want}
			if c.cert != nil {
				write(t, cfg.Cert, c.cert)
			}
			if c.key != nil {
				write(t, cfg.Key, c.key)
			}
			f, err := Open(cfg)
			if c.fault != 0 {
				var e *Error
				text := strings.ReplaceAll(errorText(err), dir+string(filepath.Separator), "")
				if !errors.As(err, &e) || e.Fault != c.fault || !strings.HasPrefix(text, c.text) || strings.Contains(text, "\n") {
					t.Errorf("got %v, want fault %d, %q", err, c.fault, c.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.Name() != c.got || time.Until(f.Expires()) <= 0 {
				t.Errorf("got name %s until %v, want %s", f.Name(), f.Expires(), c.got)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestOpenNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Config{Cert: dir, Key: dir})
	var e *Error
	if !errors.As(err, &e) || e.Fault != Unreadable || e.Error() != dir+" is no regular file" {
		t.Errorf("a directory: got %v", err)
	}
	_, err = Open(Config{Cert: "/dev/null/cert.pem", Key: dir})
	if !errors.As(err, &e) || e.Fault != Unreadable || e.Error() != "/dev/null/cert.pem cannot be read: not a directory" {
		t.Errorf("a file below a file: got %v", err)
	}
}

// TestRenewal: a new pair is used from then on, written one after the other as
// ACME clients do; one that is not in order is refused in one sentence.
func TestRenewal(t *testing.T) {
	ca := certtest.NewCA(t)
	virtual.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		said := make(chan string, 10)
		cfg := Config{
			Cert: filepath.Join(dir, "CERT"), Key: filepath.Join(dir, "KEY"), Every: 10 * time.Minute,
			Changed: func(expires time.Time) { said <- "until " + day(expires) },
			Failed:  func(err error) { said <- strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "") },
		}
		issue := func(days int, opts ...certtest.Option) (cert, key []byte) {
			return ca.Issue(t, append(opts, certtest.From(time.Now(), time.Duration(days)*24*time.Hour))...)
		}
		cert, key := issue(90, certtest.For(host))
		write(t, cfg.Cert, cert)
		write(t, cfg.Key, key)
		f, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		following(t, f)
		first := f.Expires()
		// What is told within an hour.
		expect := func(step string, want ...string) {
			t.Helper()
			time.Sleep(time.Hour)
			synctest.Wait()
			var told []string
			for len(said) > 0 {
				told = append(told, <-said)
			}
			if len(told) != len(want) {
				t.Errorf("%s: got %q, want %q", step, told, want)
				return
			}
			for i := range want {
				if !strings.HasPrefix(told[i], want[i]) {
					t.Errorf("%s: got %q, want %q", step, told[i], want[i])
				}
			}
		}
		expect("nothing changed")

		time.Sleep(60 * 24 * time.Hour)
		stays := "the certificate before stays in use, until " + day(first) + ": "
		cert, key = issue(91, certtest.For(host))
		write(t, cfg.Cert, cert)
		expect("the certificate is new, the key is not", stays+"the private key in KEY is not that of the certificate in CERT")
		if f.Expires() != first {
			t.Errorf("after half a renewal: valid until %v, want %v", f.Expires(), first)
		}
		write(t, cfg.Key, key)
		expect("both are new", "until "+day(time.Now().Add(91*24*time.Hour)))
		second := f.Expires()
		if second == first || f.pair.Load() == nil {
			t.Errorf("after the renewal: valid until %v, want later than %v", second, first)
		}

		stays = "the certificate before stays in use, until " + day(second) + ": "
		other, otherKey := issue(95, certtest.For("other.example.org"))
		write(t, cfg.Cert, other)
		write(t, cfg.Key, otherKey)
		expect("for another name", stays+"the certificate in CERT is for other.example.org, not for "+host)
		if err := os.Remove(cfg.Key); err != nil {
			t.Fatal(err)
		}
		expect("gone", stays+"there is no file KEY")
		f.Reload()
		expect("still gone, and asked to look", stays+"there is no file KEY")
		time.Sleep(time.Until(second) - remindBefore - 3*time.Hour)
		expect("long before the end")
		time.Sleep(time.Hour)
		expect("close to the end", "the certificate in CERT expires on ")
		expect("told once")
	})
}

// TestShortLived: of a certificate for a day it is no news that it ends within two.
func TestShortLived(t *testing.T) {
	ca := certtest.NewCA(t)
	virtual.Test(t, func(t *testing.T) {
		said := make(chan string, 10)
		dir := t.TempDir()
		cfg := Config{
			Cert: filepath.Join(dir, "CERT"), Key: filepath.Join(dir, "KEY"), Every: time.Minute,
			Failed: func(err error) { said <- err.Error() },
		}
		cert, key := ca.Issue(t, certtest.For(host), certtest.From(time.Now(), 24*time.Hour))
		write(t, cfg.Cert, cert)
		write(t, cfg.Key, key)
		f, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		following(t, f)
		time.Sleep(17 * time.Hour)
		synctest.Wait()
		if len(said) > 0 {
			t.Errorf("7 h before the end: got %q, want nothing", <-said)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(said) != 1 {
			t.Errorf("5 h before the end: told %d times, want once", len(said))
		}
	})
}

// TestFaultThatPasses: a pair that could not be used is, as soon as it can,
// although the files are the same. The fault is told once.
func TestFaultThatPasses(t *testing.T) {
	ca := certtest.NewCA(t)
	virtual.Test(t, func(t *testing.T) {
		said := make(chan string, 10)
		dir := t.TempDir()
		cfg := Config{
			Cert: filepath.Join(dir, "CERT"), Key: filepath.Join(dir, "KEY"), Every: time.Minute,
			Changed: func(time.Time) { said <- "taken" },
			Failed:  func(err error) { said <- err.Error() },
		}
		cert, key := ca.Issue(t, certtest.For(host), certtest.From(time.Now(), 90*24*time.Hour))
		write(t, cfg.Cert, cert)
		write(t, cfg.Key, key)
		f, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		following(t, f)
		// By a clock that is two hours ahead of ours.
		cert, key = ca.Issue(t, certtest.For(host), certtest.From(time.Now().Add(2*time.Hour), 90*24*time.Hour))
		write(t, cfg.Cert, cert)
		write(t, cfg.Key, key)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(said) != 1 || !strings.Contains(<-said, " is not valid before ") {
			t.Errorf("an hour early: told %d times more, want once that it is not valid yet", len(said))
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(said) != 1 || <-said != "taken" {
			t.Errorf("when it is valid: told %d times more, want that it was taken", len(said))
		}
		// Nor is half a renewal read in between.
		cert, key = ca.Issue(t, certtest.For(host), certtest.From(time.Now().Add(2*time.Hour), 90*24*time.Hour))
		write(t, cfg.Cert, cert)
		write(t, cfg.Key, key)
		time.Sleep(time.Hour + cfg.Every/2)
		synctest.Wait()
		<-said // not valid yet
		cert, key = ca.Issue(t, certtest.For(host), certtest.From(time.Now(), 90*24*time.Hour))
		write(t, cfg.Cert, cert)
		time.Sleep(cfg.Every)
		write(t, cfg.Key, key)
		time.Sleep(time.Hour)
		synctest.Wait()
		if text := <-said; text != "taken" || len(said) > 0 {
			t.Errorf("written one after the other: got %q and %d more, want that it was taken", text, len(said))
		}
	})
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&Error{Fault: Unreadable}, true}, // permissions change neither size nor time
		{&Error{Fault: Expired}, true},
		{&Error{Fault: Missing}, false}, // a file that comes is a change
		{&Error{Fault: WrongKey}, false},
		{&Error{Fault: WrongName}, false},
	} {
		if got := mayPass(c.err); got != c.want {
			t.Errorf("%+v may pass: got %v, want %v", c.err, got, c.want)
		}
	}
}

// following runs f until the test ends.
func following(t *testing.T, f *File) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSwap: Kubernetes and certbot leave links, and turn them to other files.
func TestSwap(t *testing.T) {
	ca := certtest.NewCA(t)
	virtual.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		version := func(name string) {
			t.Helper()
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			cert, key := ca.Issue(t, certtest.For(host), certtest.From(time.Now(), 90*24*time.Hour))
			write(t, filepath.Join(dir, name, "tls.crt"), cert)
			write(t, filepath.Join(dir, name, "tls.key"), key)
			// As the kubelet does: a new link in the place of the old one.
			if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		version("..one")
		for _, file := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
		taken := make(chan time.Time, 10)
		f, err := Open(Config{
			Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"),
			Changed: func(end time.Time) { taken <- end }, Failed: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		following(t, f)
		time.Sleep(time.Hour)
		version("..two")
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(taken) != 1 {
			t.Errorf("taken %d times after the links were turned, want once", len(taken))
		}
	})
}

// TestTLS: connections that stand outlive a renewal, and new ones see it.
func TestTLS(t *testing.T) {
	ca := certtest.NewCA(t)
	dir := t.TempDir()
	cfg := Config{Cert: filepath.Join(dir, "CERT"), Key: filepath.Join(dir, "KEY")}
	renew := func() {
		cert, key := ca.Issue(t, certtest.For(host))
		write(t, cfg.Cert, cert)
		write(t, cfg.Key, key)
	}
	renew()
	f, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", f.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	echo := func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write(b)
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	dial := func() (*tls.Conn, string) {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: host, RootCAs: ca.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		return c, c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	standing, first := dial()
	defer standing.Close()
	renew()
	f.take()
	c, second := dial()
	c.Close()
	if first == second {
		t.Errorf("certificate after the renewal: got %s again", second)
	}
	if _, err := standing.Write([]byte{1}); err != nil {
		t.Error(err)
	}
	if _, err := standing.Read(make([]byte, 1)); err != nil {
		t.Errorf("the connection that stood: %v", err)
	}
}
