package main

// rows are all measurements, in the order of the table.
func rows() []*row {
	var list []*row
	for _, w := range []wire{overTLS, overNoise, overQUIC, overWS} {
		for _, circuits := range []int{1, 16, 100} {
			list = append(list, bulkRow(w, circuits))
		}
	}
	list = append(list,
		smallRow(overTLS, ratioAtMost(0.42)),
		smallRow(overNoise, ratioAtMost(0.55)),
		pingRow(overTLS, atMost(bulkPing)),
		pingRow(overQUIC, nil),
		connectRow(1),
		connectRow(16),
		connectRow(64),
		// None held would be none to refresh.
		reserveRow("few", 64, nil),
		reserveRow("10k", 10_000, atMost(5)),
		reserveRow("100k", 100_000, nil),
		reservationMemoryRow(10_000),
		circuitMemoryRow(10_000),
		fairnessRow(),
		proxiedRow("copy", "TCP proxy, 64 KiB buffer", proxySpec{}),
		proxiedRow("splice", "TCP proxy, splice", proxySpec{Splice: true}),
		proxiedRow("tls", "TLS proxy, 64 KiB buffer", proxySpec{TLS: true}),
	)
	return list
}
