package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"regexp"

	"google.golang.org/protobuf/encoding/protowire"
)

// Of a CPU profile (github.com/google/pprof/blob/main/proto/profile.proto) one
// thing is wanted here: how many of the samples are under some function. That
// needs five of its fields.

// maxProfile bounds an unpacked profile; a few seconds' is well below 1 MiB.
const maxProfile = 64 << 20

// profile is what is read of one.
type profile struct {
	samples   []sample
	functions map[uint64][]uint64 // by location
	names     map[uint64]uint64   // by function, into strings
	strings   []string
}

type sample struct {
	locations []uint64
	count     int64
}

// samplesOf counts the samples, and those whose stack has a function that
// matches.
func samplesOf(zipped []byte, name *regexp.Regexp) (matching, all int64, err error) {
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return 0, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(z, maxProfile))
	if err != nil {
		return 0, 0, err
	}
	p, err := parseProfile(data)
	if err != nil {
		return 0, 0, err
	}
	for _, s := range p.samples {
		all += s.count
		if p.has(s, name) {
			matching += s.count
		}
	}
	return matching, all, nil
}

func (p *profile) has(s sample, name *regexp.Regexp) bool {
	for _, l := range s.locations {
		for _, f := range p.functions[l] {
			if i := p.names[f]; i < uint64(len(p.strings)) && name.MatchString(p.strings[i]) {
				return true
			}
		}
	}
	return false
}

func parseProfile(data []byte) (*profile, error) {
	p := &profile{functions: make(map[uint64][]uint64), names: make(map[uint64]uint64)}
	err := fields(data, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 2: // sample
			var s sample
			var values []uint64
			err := fields(b, func(num protowire.Number, v uint64, b []byte) (err error) {
				switch num {
				case 1:
					s.locations, err = numbers(s.locations, v, b)
				case 2:
					values, err = numbers(values, v, b)
				}
				return err
			})
			if len(values) > 0 {
				s.count = int64(values[0])
			}
			p.samples = append(p.samples, s)
			return err
		case 4: // location
			var id uint64
			var list []uint64
			err := fields(b, func(num protowire.Number, v uint64, b []byte) error {
				switch num {
				case 1:
					id = v
				case 4: // line, one for each function that was inlined here
					return fields(b, func(num protowire.Number, v uint64, _ []byte) error {
						if num == 1 {
							list = append(list, v)
						}
						return nil
					})
				}
				return nil
			})
			p.functions[id] = list
			return err
		case 5: // function
			var id, name uint64
			err := fields(b, func(num protowire.Number, v uint64, _ []byte) error {
				switch num {
				case 1:
					id = v
				case 2:
					name = v
				}
				return nil
			})
			p.names[id] = name
			return err
		case 6: // string_table
			p.strings = append(p.strings, string(b))
		}
		return nil
	})
	return p, err
}

// fields calls f for each field of a message, with its number or its bytes.
func fields(data []byte, f func(num protowire.Number, v uint64, b []byte) error) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(num, typ, data)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		data = data[n:]
		if err := f(num, v, b); err != nil {
			return err
		}
	}
	return nil
}

// numbers appends a repeated number, packed or not.
func numbers(list []uint64, v uint64, packed []byte) ([]uint64, error) {
	if packed == nil {
		return append(list, v), nil
	}
	for len(packed) > 0 {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return list, protowire.ParseError(n)
		}
		list, packed = append(list, v), packed[n:]
	}
	return list, nil
}
