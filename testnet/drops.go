package testnet

// DropReason says why a packet did not arrive.
type DropReason int

const (
	DropNoRoute    DropReason = iota // nobody has the destination address
	DropNoSocket                     // the machine has no socket on that port
	DropNoMapping                    // the NAT box has no mapping for that port
	DropFiltered                     // the NAT box knows the port, but its filter refuses the sender
	DropNoHairpin                    // the NAT box does not turn packets back to its own LAN
	DropNoPort                       // the NAT box has no free port left
	DropKilled                       // sender or receiver was killed
	DropIncoming                     // the receiver drops incoming packets
	DropOutgoing                     // the sender drops outgoing packets
	DropCut                          // the path between the two is cut
	DropLoss                         // bad luck, as Config.Loss asks for
	DropLinkFull                     // the machine's line has too much queued
	DropSocketFull                   // the reader does not keep up
	DropNetFull                      // too many packets under way in the whole network
	DropNetClosed                    // the network is closed
	numDropReasons
)

var dropNames = [numDropReasons]string{
	DropNoRoute:    "no-route",
	DropNoSocket:   "no-socket",
	DropNoMapping:  "no-mapping",
	DropFiltered:   "filtered",
	DropNoHairpin:  "no-hairpin",
	DropNoPort:     "no-port",
	DropKilled:     "killed",
	DropIncoming:   "incoming",
	DropOutgoing:   "outgoing",
	DropCut:        "cut",
	DropLoss:       "loss",
	DropLinkFull:   "link-full",
	DropSocketFull: "socket-full",
	DropNetFull:    "net-full",
	DropNetClosed:  "net-closed",
}

func (r DropReason) String() string {
	if r < 0 || r >= numDropReasons {
		return "unknown"
	}
	return dropNames[r]
}

// Drops returns how many packets were dropped so far, by reason; every reason
// has an entry.
func (n *Net) Drops() map[DropReason]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := make(map[DropReason]uint64, numDropReasons)
	for r, count := range n.drops {
		m[DropReason(r)] = count
	}
	return m
}
