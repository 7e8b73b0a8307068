package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockTimeout is how long a file may be locked: a relay that is being restarted
// lets go of it within a second.
const lockTimeout = 2 * time.Second

// maxKey bounds a peer ID, in bytes. Those in use have 34 to 39.
const maxKey = 1024

var (
	// accounts is the bucket: peer IDs and their records. Another form of
	// record gets another bucket.
	accounts = []byte("accounts-1")

	errDamaged = errors.New("damaged")
)

// disk is a bbolt file. The library panics or faults on a page that is not what
// it should be (bbolt v1.5.0, internal/common/verify.go, and since the file is
// mapped into memory): guard turns both into errors.
type disk struct {
	path string
	db   *bbolt.DB
	n    atomic.Int64 // records; written by verify and update only
}

func openDisk(path string) (*disk, error) {
	d, err := tryDisk(path)
	if !errors.Is(err, errDamaged) {
		return d, err
	}
	aside := path + ".corrupt"
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("accounts are damaged, and cannot be moved aside: %w", err)
	}
	log.Warn("accounts were damaged: moved aside, and all start from zero", "file", path, "aside", aside, "err", err)
	return tryDisk(path)
}

func tryDisk(path string) (*disk, error) {
	d := &disk{path: path}
	err := guard(func() (err error) {
		d.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("accounts in %s are in use by another process: stop it, or give this one a file of its own", path)
	case isSystem(err):
		return nil, fmt.Errorf("open accounts: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err := guard(d.verify); err != nil {
		_ = d.close() // of a file that is given up
		if isSystem(err) {
			return nil, fmt.Errorf("open accounts: %w", err)
		}
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return d, nil
}

// isSystem tells an error of the file system, which says nothing about what is
// in the file.
func isSystem(err error) bool {
	var path *fs.PathError
	var number syscall.Errno
	return errors.As(err, &path) || errors.As(err, &number)
}

// verify reads all keys and records: half a second for a million. Found now,
// damage costs the accounts; found later, it would cost those of the time
// between as well. Nothing is written before: to a page that a damaged list
// calls free, that could be anywhere. The library's own check runs where guard
// does not reach, so that damage can end the process in it.
func (d *disk) verify() error {
	err := d.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(accounts); b != nil {
			if err := d.verifyRecords(tx, b); err != nil {
				return err
			}
		}
		return d.verifyPages(tx)
	})
	if err != nil {
		return err
	}
	return d.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(accounts)
		return err
	})
}

func (d *disk) verifyRecords(tx *bbolt.Tx, b *bbolt.Bucket) error {
	file := d.db.Info()
	// Whether a key or a value lies in the file, and not in a page that is free:
	// beyond its end there may be other memory. A bucket of a few keys has no
	// page, and may be a copy.
	inUse := func(part []byte) bool {
		if b.Root() == 0 {
			return true
		}
		at := uintptr(unsafe.Pointer(unsafe.SliceData(part))) - file.Data
		if at+uintptr(len(part)) > uintptr(tx.Size()) {
			return false
		}
		p, err := tx.Page(int(at) / file.PageSize)
		return err == nil && p.Type != "free"
	}
	var n int64
	err := inOrder(b, func(k, v []byte) error {
		if len(k) > maxKey || !inUse(k) || !inUse(v) {
			return errors.New("a key that is not one")
		}
		if b.Get(k) == nil {
			return errors.New("a key that is not found")
		}
		n++
		_, err := decode(v)
		return err
	})
	d.n.Store(n)
	return err
}

// inOrder goes through a bucket, and ends where keys do not rise: pages that
// lead to one another would go on for ever.
func inOrder(b *bbolt.Bucket, f func(k, v []byte) error) error {
	var before []byte
	return b.ForEach(func(k, v []byte) error {
		if bytes.Compare(k, before) <= 0 {
			return fmt.Errorf("%w: keys out of order", errDamaged)
		}
		before = k
		return f(k, v)
	})
}

// verifyPages holds that each page is either free or in use.
func (d *disk) verifyPages(tx *bbolt.Tx) error {
	used, free, id := 0, 0, 0
	end := int(tx.Size() / int64(d.db.Info().PageSize))
	for id < end {
		p, err := tx.Page(id)
		if err != nil {
			return err
		}
		pages := 1
		switch p.Type {
		case "free":
			free++
		case "branch", "leaf":
			pages += p.OverflowCount
			used += pages
		case "freelist":
			pages += p.OverflowCount
		}
		id += pages
	}
	reached := tx.Cursor().Bucket().Stats()
	want := reached.BranchPageN + reached.BranchOverflowN + reached.LeafPageN + reached.LeafOverflowN
	if listed := d.db.Stats().FreePageN; id != end || free != listed || used != want {
		return fmt.Errorf("%d pages of %d, %d of %d in use, %d of %d free", id, end, used, want, free, listed)
	}
	return nil
}

// guard runs f and turns a panic, or an access to what is not there, into an
// error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return f()
}

func (d *disk) view(f func(b *bbolt.Bucket) error) error {
	return guard(func() error {
		return d.db.View(func(tx *bbolt.Tx) error { return f(tx.Bucket(accounts)) })
	})
}

func (d *disk) get(p peer.ID) (r record, ok bool, err error) {
	err = d.view(func(b *bbolt.Bucket) (err error) {
		if v := b.Get([]byte(p)); v != nil {
			r, err = decode(v)
			ok = err == nil
		}
		return err
	})
	return r, ok, err
}

func (d *disk) update(put []entry, remove []peer.ID) error {
	var n int64
	err := guard(func() error {
		return d.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(accounts)
			n = d.n.Load()
			for _, e := range put {
				if len(e.id) > maxKey {
					continue // libp2p lets nobody have one
				}
				if b.Get([]byte(e.id)) == nil {
					n++
				}
				if err := b.Put([]byte(e.id), e.encode()); err != nil {
					return err
				}
			}
			for _, p := range remove {
				if b.Get([]byte(p)) != nil {
					n--
				}
				if err := b.Delete([]byte(p)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err == nil {
		d.n.Store(n)
	}
	return err
}

func (d *disk) each(f func(peer.ID, record) error) error {
	return d.view(func(b *bbolt.Bucket) error {
		return inOrder(b, func(k, v []byte) error {
			r, err := decode(v)
			if err != nil {
				return err
			}
			return f(peer.ID(k), r)
		})
	})
}

func (d *disk) count() int { return int(d.n.Load()) }

func (d *disk) close() error { return guard(d.db.Close) }
