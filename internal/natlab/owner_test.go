//go:build linux

package natlab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program that is no test has labs too, told by errors what a test would
// fail for.
func TestUse(t *testing.T) {
	New(t) // skips
	fault := errors.New("the program's own")
	for _, tc := range []struct {
		name string
		f    func(*Lab) error
		want string // part of the error; empty is none
	}{
		{"well", func(lab *Lab) error {
			p := lab.NAT("nat", PortRestricted).Host("a").Start("true", "true")
			_, err := p.Wait(t.Context())
			return err
		}, ""},
		{"its own fault", func(*Lab) error { return fault }, fault.Error()},
		{"a fault of the lab", func(lab *Lab) error {
			lab.Public("a")
			lab.Public("a")
			t.Error("a second machine of the same name")
			return nil
		}, "two machines"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var netns string
			err := Use("", func(lab *Lab) error {
				netns = lab.core.netns
				return tc.f(lab)
			})
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want an error that says %q", err, tc.want)
			}
			if _, err := os.Lstat(filepath.Join(netnsDir, netns)); err == nil {
				t.Errorf("%s is still there", netns)
			}
		})
	}
}
