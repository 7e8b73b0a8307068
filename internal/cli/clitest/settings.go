// Package clitest holds what the tests of both commands have in common.
package clitest

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// samples are values that are no flag's default, by the type of the flag.
var samples = map[string]struct{ env, toml, want string }{
	"string":      {"something", `"something"`, "something"},
	"stringSlice": {"one, two", `["one", "two"]`, "[one,two]"},
	"int":         {"77", "77", "77"},
	"duration":    {"77s", `"77s"`, "1m17s"},
	"number":      {"77", "77", "77"},
	"bytes":       {"77MB", `"77MB"`, "77MB"},
	"bytes/s":     {"77MB", `"77MB"`, "77MB/s"},
}

// Settings holds that every flag of every command can also be set by the
// environment and, but for those named, by a file.
func Settings(t *testing.T, prefix string, newRoot func() *cobra.Command, notInFile ...string) {
	each(newRoot(), func(path []string, flag *pflag.Flag) {
		kind := flag.Value.Type()
		sample, ok := samples[kind]
		if kind == "bool" {
			v := strconv.FormatBool(flag.DefValue != "true")
			sample.env, sample.toml, sample.want, ok = v, v, v, true
		}
		name := strings.Join(append(path, "--"+flag.Name), " ")
		if !ok {
			t.Errorf("%s: is a %s, for which there is no sample here", name, kind)
			return
		}
		check := func(from string) {
			cmd, _, err := newRoot().Find(path)
			if err == nil {
				err = cmd.ParseFlags(nil)
			}
			if err == nil {
				err = cmd.Root().PersistentPreRunE(cmd, nil)
			}
			got := cmd.Flags().Lookup(flag.Name)
			if err != nil || got.Value.String() != sample.want || !got.Changed {
				t.Errorf("%s: got %s from %s (error %v), want %s", name, got.Value, from, err, sample.want)
			}
		}
		key := prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		t.Setenv(key, sample.env)
		check("the environment")
		t.Setenv(key, "")
		if slices.Contains(notInFile, flag.Name) {
			return
		}
		file := filepath.Join(t.TempDir(), "settings.toml")
		if err := os.WriteFile(file, []byte(flag.Name+" = "+sample.toml), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(prefix+"_CONFIG", file)
		check("a file")
		t.Setenv(prefix+"_CONFIG", "")
	})
}

// each calls f with all flags of a command and of those below it.
func each(cmd *cobra.Command, f func(path []string, flag *pflag.Flag), path ...string) {
	seen := func(flag *pflag.Flag) {
		if !slices.Contains([]string{"help", "version", "config"}, flag.Name) {
			f(path, flag)
		}
	}
	cmd.NonInheritedFlags().VisitAll(seen)
	for _, sub := range cmd.Commands() {
		each(sub, f, append(slices.Clone(path), sub.Name())...)
	}
}
