package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-p2p/causeway/internal/cli"
	"github.com/causeway-p2p/causeway/relay"
	"github.com/causeway-p2p/causeway/relay/acl"
)

// classesOf reads the tables [class.NAME], the most trusted last.
func classesOf(tables []cli.Table) ([]relay.Class, error) {
	var out []relay.Class
	var errs []error
	for _, t := range tables {
		if t.Name == relay.Anonymous {
			errs = append(errs, fmt.Errorf("class %s is that of strangers, whose limits are the settings outside of classes", t.Name))
			continue
		}
		c := relay.Class{Name: t.Name}
		for _, name := range slices.Sorted(maps.Keys(t.Values)) {
			if err := setLimit(classLimits(&c), name, t.Values[name]); err != nil {
				errs = append(errs, fmt.Errorf("class %s: %w", t.Name, err))
			}
		}
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

// setLimit sets one of the limits by name.
func setLimit(list []limit, name, value string) error {
	for _, l := range list {
		if l.is(name) {
			if err := l.Set(value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
	}
	var known []string
	for _, l := range list {
		known = append(known, strings.ReplaceAll(l.name, "_", "-"))
	}
	return fmt.Errorf("%q is no limit: there are %s", name, strings.Join(known, ", "))
}

// checkClasses tells which classes the ACL names that do not exist.
func checkClasses(l *acl.List, limits relay.Limits) error {
	known := []string{relay.Anonymous}
	for _, c := range limits.Classes {
		known = append(known, c.Name)
	}
	var errs []error
	for _, name := range l.Classes() {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("the ACL names class %q, which does not exist: there are %s", name, strings.Join(known, ", ")))
		}
	}
	return errors.Join(errs...)
}

// changes says in words what is different, one limit each.
func changes(from, to relay.Limits) (out []string) {
	out = diff("", limitsOf(&from), limitsOf(&to))
	was := make(map[string]relay.Class)
	for _, c := range from.Classes {
		was[c.Name] = c
	}
	for _, c := range to.Classes {
		old, known := was[c.Name]
		delete(was, c.Name)
		if !known {
			out = append(out, fmt.Sprintf("class %s is new", c.Name))
			continue
		}
		out = append(out, diff(c.Name+".", classLimits(&old), classLimits(&c))...)
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		out = append(out, fmt.Sprintf("class %s is gone", name))
	}
	if len(out) == 0 && !slices.EqualFunc(from.Classes, to.Classes, func(a, b relay.Class) bool { return a.Name == b.Name }) {
		out = append(out, "the classes are in another order of trust")
	}
	return out
}

func diff(prefix string, from, to []limit) (out []string) {
	for i, l := range to {
		if l.get() != from[i].get() {
			out = append(out, fmt.Sprintf("%s%s %s → %s", prefix, strings.ReplaceAll(l.name, "_", "-"), from[i].words(), l.words()))
		}
	}
	return out
}
