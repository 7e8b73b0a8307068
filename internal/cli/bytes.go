package cli

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// unit is a word for a number of bytes.
type unit struct {
	name string
	size int64
}

// units are what numbers of bytes are read and written in, the largest first of
// their kind.
var (
	decimal = []unit{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}}
	binary  = []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}
)

var bytesText = regexp.MustCompile(`^([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)$`)

// ParseBytes reads a number of bytes: 12500000, 100MB, 1.5 GiB. MB is a million,
// MiB is 1048576; capitals do not matter.
func ParseBytes(s string) (int64, error) {
	m := bytesText.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%.40q is not a number of bytes like 12500000 or 100MB", s)
	}
	size, err := sizeOf(m[2])
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseInt(m[1], 10, 64); err == nil {
		if n > math.MaxInt64/size {
			return 0, fmt.Errorf("%.40q is more bytes than can be counted", s)
		}
		return n * size, nil
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil || f*float64(size) >= math.MaxInt64 {
		return 0, fmt.Errorf("%.40q is more bytes than can be counted", s)
	}
	n := int64(math.Round(f * float64(size)))
	if size == 1 && float64(n) != f {
		return 0, fmt.Errorf("%.40q is no whole number of bytes", s)
	}
	return n, nil
}

func sizeOf(name string) (int64, error) {
	if name == "" || strings.EqualFold(name, "B") {
		return 1, nil
	}
	for _, u := range append(decimal, binary...) {
		if strings.EqualFold(name, u.name) {
			return u.size, nil
		}
	}
	return 0, fmt.Errorf("%.40q is no unit: kB, MB, GB, TB, KiB, MiB, GiB or TiB", name)
}

// Bytes writes a number of bytes for people: in the unit that makes it a short
// round number, or else with four digits.
func Bytes(n int64) string {
	if u, ok := round(n); ok && n/u.size <= 1024 {
		return fmt.Sprintf("%d %s", n/u.size, u.name)
	}
	for _, u := range decimal {
		if n >= u.size {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// ExactBytes writes a number of bytes as ParseBytes reads it.
func ExactBytes(n int64) string {
	if u, ok := round(n); ok {
		return fmt.Sprintf("%d%s", n/u.size, u.name)
	}
	return strconv.FormatInt(n, 10)
}

// round finds the unit of which n is a multiple.
func round(n int64) (unit, bool) {
	for _, list := range [][]unit{binary, decimal} {
		for _, u := range list {
			if n >= u.size && n%u.size == 0 {
				return u, true
			}
		}
	}
	return unit{}, false
}
