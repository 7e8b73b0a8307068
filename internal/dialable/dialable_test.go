package dialable

import (
	"net/netip"
	"testing"
)

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"11.0.0.2":         true,
		"::ffff:11.0.0.2":  true,
		"2a00:1450::1":     true,
		"192.0.0.8":        false,
		"64:ff9b::a00:1":   false, // NAT64 to 10.0.0.1
		"64:ff9b:1::a00:1": false,
		"2002:7f00:1::1":   false, // 6to4 to 127.0.0.1
		"2001:0:a00:1::1":  false, // Teredo
		"fc00::1":          false,
		"fe80::1":          false,
	} {
		if got := Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address at all is taken for one")
	}
}
