package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/acl"
)

var docBlock = regexp.MustCompile("(?s)```(toml|acl|sh)\n(.*?)```")

// TestRunningARelay holds that what docs/running-a-relay.md tells operators to
// write is understood: files are read, and of commands the flags.
func TestRunningARelay(t *testing.T) {
	text, err := os.ReadFile("../../docs/running-a-relay.md")
	if err != nil {
		t.Fatal(err)
	}
	var limits relay.Limits // with the classes of the last file
	seen := make(map[string]int)
	for _, m := range docBlock.FindAllStringSubmatch(string(text), -1) {
		kind, block := m[1], m[2]
		seen[kind]++
		switch kind {
		case "toml":
			file := filepath.Join(t.TempDir(), "relay.toml")
			if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if limits, err = limitsAgain([]string{"--config", file}); err != nil {
				t.Errorf("%s\n%v", block, err)
			}
		case "acl":
			list, err := acl.Parse(strings.NewReader(block), "acl.txt")
			if err == nil {
				err = checkClasses(list, limits)
			}
			if err != nil {
				t.Errorf("%s\n%v", block, err)
			}
		case "sh":
			for line := range strings.Lines(block) {
				if args := strings.Fields(line); args[0] == "relayd" {
					understand(t, args[1:])
				}
			}
		}
	}
	if seen["toml"] < 2 || seen["acl"] < 1 || seen["sh"] < 5 {
		t.Errorf("found %v, want more: has the document changed its form?", seen)
	}
	// Every flag for limits and access is there.
	_, o, _ := newProgram()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	addLimits(fs, &o.limits)
	o.access.add(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		short := strings.TrimPrefix(f.Name, "max-reservations") // -per-ip
		if !strings.Contains(string(text), "--"+f.Name) && !strings.Contains(string(text), "`"+short+"`") {
			t.Errorf("the document does not name --%s", f.Name)
		}
	})
}

// understand fails unless a command line is one.
func understand(t *testing.T, args []string) {
	t.Helper()
	root, _, _ := newProgram()
	cmd, rest, err := root.Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("relayd %s: %v", strings.Join(args, " "), err)
	}
}
