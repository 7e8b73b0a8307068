package main

import (
	"time"
)

// unit says how a figure is written.
type unit string

const (
	seconds unit = "s"
	count   unit = ""
	percent unit = "%"
)

// figure is one line of the table.
type figure struct {
	id    string // "3b", unique
	what  string
	unit  unit
	bound *float64 // what ours must not exceed; nil: for information
	// atLeast turns the bound around.
	atLeast bool
}

func bounded(v float64) *float64 { return &v }

// value is one measured number. Over tells that it had not ended at the
// horizon.
type value struct {
	V    float64 `json:"v"`
	Over bool    `json:"over,omitempty"`
}

// values are what a scenario yields, by figure id.
type values map[string]value

func (v values) took(id string, d time.Duration, ok bool) {
	v[id] = value{V: d.Seconds(), Over: !ok}
}

func (v values) number(id string, n float64) { v[id] = value{V: n} }

// scenario is one situation, arranged in the same way for every side.
type scenario struct {
	id      string // the row, "3", or a part of it, "9 crash"
	row     int
	sides   []side
	figures []figure
	run     func(w *world) values
	once    bool // one run whatever --runs says
	limit   time.Duration
}

// size scales the heavy scenarios.
type size struct {
	Crowd int `json:"crowd,omitempty"`
	Hours int `json:"hours,omitempty"`
	Nodes int `json:"nodes,omitempty"`
}

func scenarios() []*scenario {
	var all []*scenario
	for _, list := range [][]*scenario{bootRows(), lossRows(), changeRows(), dialRows(), crowdRows(), dayRows()} {
		all = append(all, list...)
	}
	return all
}

func scenarioByID(id string) *scenario {
	for _, s := range scenarios() {
		if s.id == id {
			return s
		}
	}
	return nil
}

var everySide = []side{stock, ours, mixed}

var bothSides = []side{stock, ours}
