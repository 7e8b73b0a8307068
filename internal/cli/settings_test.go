package cli

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// apply reads a file's settings and tables of the kind "class".
func apply(t *testing.T, text string) (rate string, tables []Table, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{Use: "test"}
	cmd.Flags().StringVar(&rate, "rate", "", "")
	s := AddSettings(cmd, "CLI_TEST")
	s.Tables("class", func(l []Table) error {
		tables = l
		if l[0].Name == "bad" {
			return errors.New("class bad is bad")
		}
		return nil
	})
	if err := cmd.ParseFlags([]string{"--config", file}); err != nil {
		t.Fatal(err)
	}
	err = s.Apply(cmd)
	return rate, tables, err
}

func TestTablesOfAFile(t *testing.T) {
	const text = `
rate = 5
[class.zebra]
rate = "1MB"
on = true
[class]
ape.rate = 7
[class."a b"]
`
	want := []Table{
		{"zebra", map[string]string{"rate": "1MB", "on": "true"}},
		{"ape", map[string]string{"rate": "7"}},
		{"a b", map[string]string{}},
	}
	rate, tables, err := apply(t, text)
	if err != nil || rate != "5" || !reflect.DeepEqual(tables, want) {
		t.Errorf("got %q, %+v, %v, want \"5\", %+v", rate, tables, err, want)
	}
}

func TestBadTables(t *testing.T) {
	for text, want := range map[string]string{
		"class = 1":                 `"class" is a value, want tables`,
		"[[class]]\nrate = 1":       `"class" is a value, want tables`,
		"[class]\nmember = 1":       `class.member is a value, want a table [class.member]`,
		"[class.a]\nrate = [1, 2]":  "class.a.rate: want one value",
		"[class.a.b]\nrate = 1":     "class.a.b: want one value",
		"[class.bad]":               "class bad is bad",
		"[other.member]\nrate = 1":  `unknown setting "other"`,
		"[rate]\nx = 1":             `"rate" is a table, want a value`,
		"[class.a]\n[class.a]\n":    "settings.toml: ",
		"[class.member\nrate = 'x'": "settings.toml: ",
	} {
		if _, _, err := apply(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
