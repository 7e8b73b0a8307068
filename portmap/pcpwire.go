package portmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The messages of RFC 6887 that a client needs to map its own ports.

const (
	pcpPort    = 5351 // section 19.1
	pcpVersion = 2

	opAnnounce = 0    // section 14.1
	opMap      = 1    // section 11
	opResponse = 0x80 // the R bit, section 7.2

	pcpHeader = 24        // sections 7.1 and 7.2
	pcpMap    = 36        // figures 9 and 10
	pcpMax    = 1100      // section 7: no message is longer
	protoTCP  = 6         // IANA protocol numbers
	protoUDP  = 17        //
	maxLease  = 24 * 3600 // seconds; a gateway that grants more is asked again sooner
)

// pcpResult is a result code, section 7.4.
type pcpResult byte

const (
	pcpSuccess         pcpResult = 0
	pcpUnsuppVersion   pcpResult = 1
	pcpNotAuthorized   pcpResult = 2
	pcpUnsuppOpcode    pcpResult = 4
	pcpNoResources     pcpResult = 8
	pcpUserExQuota     pcpResult = 10
	pcpAddressMismatch pcpResult = 12
)

func (r pcpResult) Error() string {
	switch r {
	case pcpUnsuppVersion:
		return "the gateway does not speak this version of PCP"
	case pcpNotAuthorized:
		return "the gateway does not allow it, or the port is another's"
	case pcpUnsuppOpcode:
		return "the gateway does not map ports over PCP"
	case pcpNoResources:
		return "the gateway says that it lacks resources"
	case pcpUserExQuota:
		return "the gateway allows this machine no more mappings"
	case pcpAddressMismatch:
		return "another NAT is between this machine and the gateway"
	}
	return fmt.Sprintf("PCP result code %d", byte(r))
}

var protoNumber = map[Protocol]byte{TCP: protoTCP, UDP: protoUDP}

// pcpMapping is what a MAP request asks for, and its answer tells.
type pcpMapping struct {
	nonce    [12]byte
	port     Port
	external netip.AddrPort // in a request: what we would like, or had
}

// pcpAnswer is an answer to any request.
type pcpAnswer struct {
	opcode   byte
	result   pcpResult
	lifetime time.Duration
	epoch    uint32
	mapping  pcpMapping // of opMap
}

func pcpRequest(opcode byte, lifetime time.Duration, client netip.Addr) []byte {
	b := make([]byte, 4, pcpHeader+pcpMap)
	b[0], b[1] = pcpVersion, opcode
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
	ip := client.As16()
	return append(b, ip[:]...)
}

func pcpMapRequest(m pcpMapping, lifetime time.Duration, client netip.Addr) []byte {
	b := pcpRequest(opMap, lifetime, client)
	b = append(b, m.nonce[:]...)
	b = append(b, protoNumber[m.port.Protocol], 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.port.Number)
	b = binary.BigEndian.AppendUint16(b, m.external.Port())
	ip := netip.AddrFrom4([4]byte{}).As16() // any IPv4 address, section 11.1
	if m.external.Addr().Is4() {
		ip = m.external.Addr().As16()
	}
	return append(b, ip[:]...)
}

var errNotPCP = errors.New("not an answer in PCP")

// parsePCP reads an answer. Options are left alone: we ask for none.
func parsePCP(b []byte) (a pcpAnswer, err error) {
	// A NAT-PMP server answers in its own version, with 8 bytes (RFC 6886
	// section 3.5).
	if len(b) >= 4 && b[0] != pcpVersion && b[1]&opResponse != 0 {
		return pcpAnswer{opcode: b[1] &^ opResponse, result: pcpUnsuppVersion}, nil
	}
	if len(b) < pcpHeader || len(b) > pcpMax || len(b)%4 != 0 || b[1]&opResponse == 0 {
		return a, errNotPCP
	}
	a.opcode, a.result = b[1]&^opResponse, pcpResult(b[3])
	a.lifetime = time.Duration(min(binary.BigEndian.Uint32(b[4:]), maxLease)) * time.Second
	a.epoch = binary.BigEndian.Uint32(b[8:])
	if a.opcode != opMap {
		return a, nil
	}
	if len(b) < pcpHeader+pcpMap {
		return pcpAnswer{}, errNotPCP
	}
	b = b[pcpHeader:]
	copy(a.mapping.nonce[:], b)
	switch b[12] {
	case protoTCP:
		a.mapping.port.Protocol = TCP
	case protoUDP:
		a.mapping.port.Protocol = UDP
	}
	a.mapping.port.Number = binary.BigEndian.Uint16(b[16:])
	a.mapping.external = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[20:36])).Unmap(), binary.BigEndian.Uint16(b[18:]))
	return a, nil
}
