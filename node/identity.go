package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// NewIdentity makes a new Ed25519 key.
func NewIdentity() (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("new identity: %w", err)
	}
	return key, nil
}

// maxKeyFile bounds what is read as a key, in bytes. RSA keys of 8192 bits
// take less than 5 KiB.
const maxKeyFile = 16 << 10

// LoadIdentity reads the key in a file (a protobuf-encoded libp2p private key,
// as kubo and go-libp2p write it), or creates the file, with mode 0600, if it
// is missing. A file that is there is never written to.
func LoadIdentity(path string) (key crypto.PrivKey, created bool, err error) {
	key, err = readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	key, err = NewIdentity()
	if err != nil {
		return nil, false, err
	}
	switch err := writeKeyFile(path, key); {
	case err == nil:
		return key, true, nil
	case errors.Is(err, fs.ErrExist): // somebody else was faster
		key, err := readIdentity(path)
		return key, false, err
	default:
		return nil, false, fmt.Errorf("key file: %w", err)
	}
}

func readIdentity(path string) (crypto.PrivKey, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s is not a libp2p private key: %w", path, err)
	}
	return key, nil
}

func readKeyFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s has %d bytes, more than any key", path, st.Size())
	}
	return os.ReadFile(path)
}

// writeKeyFile writes a whole file under another name and links it into
// place, which fails if somebody else was faster: no key is ever overwritten,
// and no half of one is ever read.
func writeKeyFile(path string, key crypto.PrivKey) error {
	data, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Link(tmp.Name(), path)
}
