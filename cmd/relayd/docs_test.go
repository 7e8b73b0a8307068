package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/acl"
)

var docBlock = regexp.MustCompile("(?s)```(toml|acl|sh)\n(.*?)```")

// TestOperatorsPages holds that what the pages for operators tell them to write is
// understood: files are read, and of commands the flags.
func TestOperatorsPages(t *testing.T) {
	var limits relay.Limits // with the classes of the last file
	seen := make(map[string]int)
	for _, page := range []string{"running-a-relay.md", "relay-policy.md"} {
		for _, m := range docBlock.FindAllStringSubmatch(read(t, "../../docs/"+page), -1) {
			kind, block := m[1], m[2]
			switch kind {
			case "toml":
				file := filepath.Join(t.TempDir(), "relay.toml")
				if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
					t.Fatal(err)
				}
				var err error
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
				for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", "")) {
					if args, ok := relaydArgs(line); ok {
						seen[page]++
						understand(t, args)
					}
				}
			}
			seen[kind]++
		}
	}
	if seen["toml"] < 2 || seen["acl"] < 1 || seen["running-a-relay.md"] < 12 || seen["relay-policy.md"] < 5 {
		t.Errorf("found %v, want more: have the pages changed their form?", seen)
	}
}

// relaydArgs are the arguments of relayd in a line for the shell, if it is called
// there, or in an image of ours.
func relaydArgs(line string) ([]string, bool) {
	fields := strings.Fields(line)
	if end := slices.IndexFunc(fields, func(f string) bool { return f == "|" || f == ">" || f == "#" }); end >= 0 {
		fields = fields[:end]
	}
	for i, f := range fields {
		if f == "relayd" && i == 0 || f == "/bin/relayd" || f == "causeway/relayd" && fields[1] == "run" {
			return fields[i+1:], true
		}
	}
	return nil, false
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

// TestPolicyPage holds that every flag for limits and access is there.
func TestPolicyPage(t *testing.T) {
	text := read(t, "../../docs/relay-policy.md")
	_, o, _ := newProgram()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	addLimits(fs, &o.limits)
	o.access.add(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		short := strings.TrimPrefix(f.Name, "max-reservations") // -per-ip
		if !strings.Contains(text, "--"+f.Name) && !strings.Contains(text, "`"+short+"`") {
			t.Errorf("the document does not name --%s", f.Name)
		}
	})
}

// TestVariables holds that every RELAYD_… that we write is a flag's.
func TestVariables(t *testing.T) {
	root, _, _ := newProgram()
	known := func(name string) bool {
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "RELAYD_"), "_", "-"))
		return root.Flags().Lookup(flag) != nil || root.PersistentFlags().Lookup(flag) != nil
	}
	found := 0
	for _, pattern := range []string{"docs/*.md", "deploy/*/*", "Dockerfile"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.IsDir() {
				continue
			}
			for _, name := range regexp.MustCompile(`RELAYD_[A-Z_]+`).FindAllString(read(t, file), -1) {
				found++
				if !known(name) {
					t.Errorf("%s: there is no flag for %s", file, name)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d, want more: have the files moved?", found)
	}
}

// TestUnit holds that systemd waits for the end of the drain.
func TestUnit(t *testing.T) {
	unit := read(t, "../../deploy/systemd/relayd.service")
	value := func(key string) time.Duration {
		_, rest, _ := strings.Cut(unit, "\n"+key+"=")
		text, _, _ := strings.Cut(rest, "\n")
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return d
	}
	drain, stop := value("Environment=RELAYD_DRAIN"), value("TimeoutStopSec")
	if stop < drain+10*time.Second {
		t.Errorf("systemd kills after %v, the drain is %v: want 10 s between them", stop, drain)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
