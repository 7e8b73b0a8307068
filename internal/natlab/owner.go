//go:build linux

package natlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

// TB is the part of a testing.TB that a lab needs of who owns it: somebody to
// tell, and an end at which to clean up.
type TB interface {
	Helper()
	Log(args ...any)
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(f func())
	ArtifactDir() string
}

// UnmetError is what Use returns where a lab cannot be built: what is missing,
// and how to get it.
type UnmetError struct{ Needs string }

func (e *UnmetError) Error() string { return "natlab needs " + e.Needs }

// Use is New for a program that is no test: it makes a lab, hands it to f and
// removes it when f has returned. What a test would fail for is returned,
// joined to the error of f. Like a test, f must use the lab from the goroutine
// that it is called on. What programs in the lab print is kept in files in dir;
// if that is empty, nowhere but in memory.
func Use(dir string, f func(*Lab) error) error {
	if dir == "" {
		temp, err := os.MkdirTemp("", "natlab")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(temp) }()
		dir = temp
	}
	o := &owner{dir: dir}
	done := make(chan error, 1)
	go func() { // Fatalf ends it, as it ends a test
		result := errors.New("the lab's goroutine ended early") // it did, if nobody sets another
		defer func() {
			o.cleanUp()
			done <- result
		}()
		if err := f(New(o)); err != nil {
			o.fail(err)
		}
		result = nil
	}()
	err := <-done
	if faults := o.faults(); faults != nil {
		return faults
	}
	return err
}

// owner is the TB of a lab that belongs to a program. What is logged goes
// nowhere: the errors say what there is to say.
type owner struct {
	dir string

	mu       sync.Mutex // guards the fields below
	errs     []error
	cleanups []func()
}

func (*owner) Helper() {}

func (*owner) Log(...any) {}

func (*owner) Logf(string, ...any) {}

func (o *owner) Errorf(format string, args ...any) { o.fail(fmt.Errorf(format, args...)) }

func (o *owner) Fatalf(format string, args ...any) {
	o.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

func (o *owner) Skipf(format string, args ...any) {
	o.fail(&UnmetError{Needs: strings.TrimPrefix(fmt.Sprintf(format, args...), "natlab needs ")})
	runtime.Goexit()
}

func (o *owner) Failed() bool { return o.faults() != nil }

func (o *owner) Cleanup(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cleanups = append(o.cleanups, f)
}

func (o *owner) ArtifactDir() string { return o.dir }

func (o *owner) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func (o *owner) faults() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(o.errs...)
}

// cleanUp runs what Cleanup was given, the last first.
func (o *owner) cleanUp() {
	for {
		o.mu.Lock()
		n := len(o.cleanups)
		if n == 0 {
			o.mu.Unlock()
			return
		}
		f := o.cleanups[n-1]
		o.cleanups = o.cleanups[:n-1]
		o.mu.Unlock()
		f()
	}
}
