package main

import (
	"bytes"
	"compress/gzip"
	"regexp"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// message builds a protobuf message of the fields of a profile.
type message []byte

func (m message) number(num protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, num, protowire.VarintType), v)
}

func (m message) bytes(num protowire.Number, b []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, num, protowire.BytesType), b)
}

func packed(list ...uint64) (b []byte) {
	for _, v := range list {
		b = protowire.AppendVarint(b, v)
	}
	return b
}

// exampleProfile has 3 samples in main.a called by main.c, and 1 in main.b
// inlined into main.c.
func exampleProfile() []byte {
	var m message
	m = m.bytes(2, message{}.bytes(1, packed(1, 3)).bytes(2, packed(3, 30)))
	m = m.bytes(2, message{}.number(1, 2).number(2, 1).number(2, 10))
	m = m.bytes(4, message{}.number(1, 1).bytes(4, message{}.number(1, 11)))
	m = m.bytes(4, message{}.number(1, 2).bytes(4, message{}.number(1, 12)).bytes(4, message{}.number(1, 13)))
	m = m.bytes(4, message{}.number(1, 3).bytes(4, message{}.number(1, 13)))
	for id, name := range map[uint64]uint64{11: 1, 12: 2, 13: 3} {
		m = m.bytes(5, message{}.number(1, id).number(2, name))
	}
	for _, s := range []string{"", "main.a", "main.b", "main.c"} {
		m = m.bytes(6, []byte(s))
	}
	return m
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

func TestSamplesOf(t *testing.T) {
	for name, want := range map[string]int64{`main\.a$`: 3, `main\.b$`: 1, `main\.c$`: 4, `nobody`: 0} {
		got, all, err := samplesOf(zipped(exampleProfile()), regexp.MustCompile(name))
		if err != nil || got != want || all != 4 {
			t.Errorf("%s: got %d of %d, %v, want %d of 4", name, got, all, err, want)
		}
	}
	for name, data := range map[string][]byte{"not packed": []byte("x"), "cut": zipped(exampleProfile()[:20])} {
		if _, _, err := samplesOf(data, regexp.MustCompile("x")); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(exampleProfile())
	f.Add(exampleProfile()[:33])
	f.Add([]byte{0x12, 0x02, 0x0a, 0x00})
	f.Add([]byte{0x0b, 0x0c})
	name := regexp.MustCompile("main")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseProfile(data)
		if err != nil {
			return
		}
		for _, s := range p.samples {
			p.has(s, name)
		}
	})
}
