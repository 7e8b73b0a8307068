// Package report is what the client programs tell the test: one JSON object a
// line on standard output. It needs nothing but the standard library, because
// programs built with several versions of libp2p share it.
package report

import "time"

// Echo is the protocol that peers serve: they send back what they get.
const Echo = "/causeway/interop/echo/1"

// Report is one line. What does not apply is left out.
type Report struct {
	ID      string   `json:"id"`
	Libp2p  string   `json:"libp2p"` // the version that runs, as built
	Addrs   []string `json:"addrs,omitempty"`
	Error   string   `json:"error,omitempty"`
	Refused string   `json:"refused,omitempty"` // circuit v2's status for it

	Reservation *Reservation `json:"reservation,omitempty"`
	Circuit     *Circuit     `json:"circuit,omitempty"`
	// Protocols are those of the relay, as identify told.
	Protocols []string `json:"protocols,omitempty"`
}

// Reservation is what the relay promised.
type Reservation struct {
	Expires      time.Time `json:"expires"`
	LimitSeconds int64     `json:"limit_seconds"`
	LimitBytes   int64     `json:"limit_bytes"`
	Addrs        []string  `json:"addrs"`
	// Voucher says whether a voucher came that the relay had signed for this
	// peer and this time.
	Voucher bool `json:"voucher"`
}

// Circuit is a connection over the relay, and what became of it.
type Circuit struct {
	Limited bool   `json:"limited"`
	Remote  string `json:"remote"`
	// Sent and Received count the bytes of the echo. Equal says whether what
	// came back was what had been sent.
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	Equal    bool  `json:"equal"`
	// Pinged says whether the ping protocol was answered.
	Pinged bool `json:"pinged"`
	// Ended says whether the connection ended by itself.
	Ended bool `json:"ended"`
}
