package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func TestLoadIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key, created, err := LoadIdentity(path)
	if err != nil || !created {
		t.Fatalf("a missing file: got created %v, %v, want it created", created, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the new file: got mode %v (%v), want 0600", st.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, created, err := LoadIdentity(path)
	if err != nil || created || !again.Equals(key) {
		t.Errorf("the same file again: got created %v, %v, same key %v", created, err, err == nil && again.Equals(key))
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("reading changed the file (%v)", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files beside the key: got %v (%v), want only the key", entries, err)
	}
}

func TestLoadIdentityReadsOtherKeys(t *testing.T) {
	for _, kind := range []int{crypto.Ed25519, crypto.Secp256k1, crypto.ECDSA, crypto.RSA} {
		key, _, err := crypto.GenerateKeyPair(kind, 2048)
		if err != nil {
			t.Fatal(err)
		}
		data, err := crypto.MarshalPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, created, err := LoadIdentity(path); err != nil || created || !got.Equals(key) {
			t.Errorf("key of type %d: got created %v, %v", kind, created, err)
		}
	}
}

func TestLoadIdentityFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "is not a libp2p private key"},
		{"junk", []byte("not a key at all"), "is not a libp2p private key"},
		{"cut short", []byte{8, 1, 18, 64, 1, 2, 3}, "is not a libp2p private key"},
		{"huge", make([]byte, 10<<20), "has 10485760 bytes, more than any key"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, created, err := LoadIdentity(path)
		if err == nil || created || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got created %v, %v, want %q and the path", c.name, created, err, c.want)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.data) {
			t.Errorf("%s: the file was changed (%v)", c.name, err)
		}
	}
	dir := t.TempDir()
	if _, created, err := LoadIdentity(dir); err == nil || created {
		t.Errorf("a directory: got created %v, %v, want an error", created, err)
	}
	missing := filepath.Join(dir, "no", "such", "dir", "key")
	if _, created, err := LoadIdentity(missing); err == nil || created {
		t.Errorf("a directory that is missing: got created %v, %v, want an error", created, err)
	}
	if os.Geteuid() != 0 { // root reads everything
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte("secret"), 0o000); err != nil {
			t.Fatal(err)
		}
		if _, created, err := LoadIdentity(path); err == nil || created || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("unreadable: got created %v, %v, want permission denied", created, err)
		}
	}
}

// TestLoadIdentityAtOnce: many processes that start at one moment in one data
// directory are one node; nobody uses a key that is not in the file.
func TestLoadIdentityAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "key")
		keys := make([]crypto.PrivKey, 16)
		var group sync.WaitGroup
		for i := range keys {
			group.Go(func() {
				key, _, err := LoadIdentity(path)
				if err != nil {
					t.Errorf("one of %d at once: %v", len(keys), err)
				}
				keys[i] = key
			})
		}
		group.Wait()
		final, created, err := LoadIdentity(path)
		if err != nil || created {
			t.Fatalf("afterwards: got created %v, %v", created, err)
		}
		for _, key := range keys {
			if key != nil && !key.Equals(final) {
				t.Fatal("somebody got another key than the one in the file")
			}
		}
	}
}
