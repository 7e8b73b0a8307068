package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Settings lets every flag of a command also be set by the environment
// (PREFIX_FLAG_NAME) and by a TOML file (flag-name = value), in this order:
// flag, environment, file, default. Lists have commas or blanks between their
// parts in the environment.
type Settings struct {
	prefix string
	file   string
	tables map[string]func([]Table) error
}

// Table is one of several tables of a kind in the file: [kind.name].
type Table struct {
	Name   string
	Values map[string]string
}

// AddSettings adds the --config flag and reads all sources before the command
// runs. The prefix is that of the environment variables.
func AddSettings(root *cobra.Command, prefix string) *Settings {
	s := &Settings{prefix: prefix, tables: make(map[string]func([]Table) error)}
	root.PersistentFlags().StringVar(&s.file, "config", "", "TOML file with settings, named like the flags")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return s.Apply(cmd) }
	return s
}

// Tables makes the file take tables of a kind, which take gets in their order
// there. It is not called if there are none.
func (s *Settings) Tables(kind string, take func([]Table) error) { s.tables[kind] = take }

// EnvName is the environment variable of a flag.
func (s *Settings) envName(flag string) string {
	return s.prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// notSettings are flags that only make sense on the command line.
var notSettings = []string{"help", "version", "config"}

// Apply reads all sources. Flags that were given to the command stay as they
// are.
func (s *Settings) Apply(cmd *cobra.Command) error {
	flags := cmd.Flags()
	file := s.file
	if v := os.Getenv(s.envName("config")); file == "" && v != "" {
		file = v
	}
	values, err := s.read(file, cmd)
	if err != nil {
		return err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || slices.Contains(notSettings, f.Name) {
			return
		}
		// An empty one is what docker compose makes of ${NOT_SET}.
		if v := os.Getenv(s.envName(f.Name)); v != "" {
			if err := setAll(f, splitList(f, v)); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", s.envName(f.Name), err))
			}
			return
		}
		if v, ok := values[f.Name]; ok {
			if err := setAll(f, v); err != nil {
				errs = append(errs, fmt.Errorf("%s in %s: %w", f.Name, file, err))
			}
		}
	})
	if len(errs) > 0 {
		return Usage(errors.Join(errs...), "%s --help", cmd.CommandPath())
	}
	return nil
}

// setAll sets a flag to one value, or to each of a list.
func setAll(f *pflag.Flag, values []string) error {
	if sv, ok := f.Value.(pflag.SliceValue); ok {
		f.Changed = true
		return sv.Replace(values)
	}
	if len(values) != 1 {
		return fmt.Errorf("want one value, got %d", len(values))
	}
	f.Changed = true
	return f.Value.Set(values[0])
}

func splitList(f *pflag.Flag, v string) []string {
	if _, ok := f.Value.(pflag.SliceValue); !ok {
		return []string{v}
	}
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
}

// read reads the file: flag names with strings, numbers, booleans or lists.
func (s *Settings) read(path string, cmd *cobra.Command) (map[string][]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("config file %s does not exist", path)
		}
		return nil, Usage(err, "another --config, or none")
	}
	var raw map[string]any
	meta, err := toml.Decode(string(data), &raw)
	if err != nil {
		return nil, Usage(fmt.Errorf("config file %s: %w", path, err), `lines like  network = "demo"`)
	}
	out := make(map[string][]string)
	for name, v := range raw {
		table, isTable := v.(map[string]any)
		take := s.tables[name]
		switch {
		case isTable && take != nil:
			tables, err := tablesOf(name, table, meta)
			if err == nil {
				err = take(tables)
			}
			if err != nil {
				return nil, Usage(fmt.Errorf("config file %s: %w", path, err), "%s --help", cmd.CommandPath())
			}
		case take != nil:
			return nil, Usage(fmt.Errorf("config file %s: %q is a value, want tables", path, name), "a line like  [%s.member]", name)
		case !s.known(cmd.Root(), name):
			return nil, Usage(fmt.Errorf("config file %s: unknown setting %q", path, name), "%s --help lists the settings", cmd.CommandPath())
		case isTable:
			return nil, Usage(fmt.Errorf("config file %s: %q is a table, want a value", path, name), `lines like  network = "demo"`)
		default:
			out[name] = texts(v)
		}
	}
	return out, nil
}

// texts is a value, or each of a list, as on the command line.
func texts(v any) (out []string) {
	list, isList := v.([]any)
	if !isList {
		return []string{fmt.Sprint(v)}
	}
	for _, e := range list {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// tablesOf are the tables of a kind in their order, which only the keys have.
func tablesOf(kind string, all map[string]any, meta toml.MetaData) (out []Table, err error) {
	for _, key := range meta.Keys() {
		if len(key) < 2 || key[0] != kind || slices.ContainsFunc(out, func(t Table) bool { return t.Name == key[1] }) {
			continue
		}
		values, ok := all[key[1]].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s is a value, want a table [%s.%s]", key, kind, key[1])
		}
		t := Table{Name: key[1], Values: make(map[string]string)}
		for name, v := range values {
			switch v.(type) {
			case map[string]any, []any, []map[string]any:
				return nil, fmt.Errorf("%s.%s.%s: want one value", kind, t.Name, name)
			}
			t.Values[name] = fmt.Sprint(v)
		}
		out = append(out, t)
	}
	return out, nil
}

// known reports whether any command of the program has the flag: one file
// serves them all.
func (s *Settings) known(root *cobra.Command, name string) bool {
	if slices.Contains(notSettings, name) {
		return false
	}
	return has(root, name)
}

func has(cmd *cobra.Command, flag string) bool {
	return cmd.PersistentFlags().Lookup(flag) != nil || cmd.Flags().Lookup(flag) != nil ||
		slices.ContainsFunc(cmd.Commands(), func(c *cobra.Command) bool { return has(c, flag) })
}
