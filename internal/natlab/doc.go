// Package natlab builds small internets out of network namespaces on the real
// kernel, so that go test can run the real binaries behind real NATs.
//
//	          core: "the internet", a router
//	11.1.1.0/24 |        | 21.1.1.0/24     | 22.1.1.0/24
//	         relay1    relay2             natA (wan)
//	                                      natA (lan bridge)
//	                             192.168.1.0/24 |   | 100.64.1.0/24
//	                                            a   natB (a NAT behind a NAT)
//
// A test says what it needs and gets it, or is skipped with one sentence that
// says what is missing (root, iproute2, nftables, a kernel that has them).
// NATLAB=require turns the skip into a failure, for CI:
//
//	lab := natlab.New(t)
//	relay := lab.Public("relay1")
//	natA := lab.NAT("natA", natlab.PortRestricted)
//	a := natA.Host("a")
//	proc := relay.Start("relayd", bin, "-listen", relay.IP().String())
//	_, _, err := proc.WaitLine(ctx, regexp.MustCompile(`listening`))
//
// Addresses of public machines look public to go-libp2p (manet.IsPublicAddr),
// each in its own /16; only public machines have IPv6. Private addresses do
// not travel: the core drops them silently, as the internet does.
//
// Everything happens in namespaces the lab made; the machine's own routes and
// rules are never touched. Cleanup kills every process in the lab's
// namespaces and removes them. What a crashed run left behind is removed by
// the next New on the same machine: a lab holds a file lock for as long as its
// process lives, so a lab without one is dead.
//
// Without root, a user namespace does as well:
//
//	unshare -Urnm sh -c 'mount -t tmpfs tmpfs /run && exec go test ./internal/natlab'
//
// The internet takes no time and loses nothing, until [Lab.Delay] and
// [Lab.Loss]. A box may be told to [Box.Restrict] its network, or made with
// [Hairpin]. Programs that are no tests build labs by [Use].
//
// What it does not do: UPnP, and NATs for IPv6.
//
// Traps for those who write tests with it:
//   - Two programs behind one NAT need different listen ports. Linux keeps the
//     source port only while nobody else has it; with a clash the mapping stops
//     being endpoint-independent.
//   - Code in [Machine.Do] is in the namespace only on its own goroutine. What
//     it starts with go is not, and neither is an http.Transport: give that
//     [Machine.DialContext].
//   - In Do, /proc/net is the namespace of the process's first thread; read
//     /proc/thread-self/net. /proc/sys/net is the calling thread's.
//   - Programs have the machine's own /etc/resolv.conf and no way to that
//     server: a DNS query is lost silently and takes its full timeout.
package natlab
