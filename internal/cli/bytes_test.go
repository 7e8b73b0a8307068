package cli

import (
	"math"
	"strings"
	"testing"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		text  string
		n     int64
		words string
	}{
		{"0", 0, "0 B"},
		{"999", 999, "999 B"},
		{"4096", 4096, "4 KiB"},
		{"12500000", 12_500_000, "12.5 MB"},
		{"100MB", 100_000_000, "100 MB"},
		{"100 mb", 100_000_000, "100 MB"},
		{"256MiB", 256 << 20, "256 MiB"},
		{"1.5GiB", 3 << 29, "1.611 GB"},
		{"1.5B", 0, ""},
		{"1024MiB", 1 << 30, "1 GiB"},
		{"12345678", 12_345_678, "12.35 MB"},
		{"9223372036854775807", math.MaxInt64, "9.223e+06 TB"},
		{"9223372036854775808", 0, ""},
		{"8388608TiB", 0, ""},
		{"99999999999999999.5TB", 0, ""},
		{"-1", 0, ""},
		{"", 0, ""},
		{"MB", 0, ""},
		{"1 parsec", 0, ""},
		{"0x10", 0, ""},
		{"1e9", 0, ""},
	} {
		n, err := ParseBytes(c.text)
		if n != c.n || (err != nil) != (c.words == "") {
			t.Errorf("ParseBytes(%q): got %d, %v, want %d", c.text, n, err, c.n)
		}
		if c.words != "" && Bytes(n) != c.words {
			t.Errorf("Bytes(%d): got %q, want %q", n, Bytes(n), c.words)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"0", "100MB", "1.5 GiB", "9223372036854775807", "-1", "1kB ", "1.000000001tib", "٣MB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Errorf("ParseBytes(%q): got %d", s, n)
		}
		if back, err := ParseBytes(ExactBytes(n)); back != n || err != nil {
			t.Errorf("ParseBytes(%q) is %d, written as %q and read as %d, %v", s, n, ExactBytes(n), back, err)
		}
		if strings.TrimSpace(Bytes(n)) == "" {
			t.Errorf("Bytes(%d) is empty", n)
		}
	})
}
