package reachability

// Behavior is how a NAT treats a protocol, in the words of RFC 4787 and RFC
// 5780 section 4.3 and 4.4: which destinations share one external port
// (mapping), and who may send to it (filtering).
type Behavior string

const (
	NotKnown                Behavior = "unknown"
	EndpointIndependent     Behavior = "endpoint-independent"       // all destinations; anyone
	AddressDependent        Behavior = "address-dependent"          // per destination address
	AddressAndPortDependent Behavior = "address-and-port-dependent" // per destination address and port
	NoNAT                   Behavior = "none"                       // the address is the interface's own
)

// Fact is a yes or no that may be not known yet.
type Fact string

const (
	NotTold Fact = "unknown"
	Yes     Fact = "yes"
	No      Fact = "no"
)

// NAT is what is known of the translation between this node and the internet,
// per transport protocol. Every field says "unknown" until something shows it.
type NAT struct {
	UDP Translation `json:"udp"`
	TCP Translation `json:"tcp"`
	// UDPBlocked: TCP gets out of this network, and UDP does not.
	UDPBlocked Fact `json:"udp_blocked"`
	// Hairpin: the node reaches itself through its external address.
	Hairpin Fact `json:"hairpin"`
}

// Translation is what a NAT does to the packets of one transport protocol,
// over IPv4.
type Translation struct {
	Mapping   Behavior `json:"mapping"`
	Filtering Behavior `json:"filtering"`
	// External are the addresses, as IP:port, at which others saw our
	// listening socket; more than one with a mapping that depends on the
	// destination.
	External []string `json:"external,omitempty"`
}

// Confidence says what a verdict rests on.
type Confidence string

const (
	// NoEvidence: nobody has tried.
	NoEvidence Confidence = "none"
	// Hint: somebody said so who could not prove it (AutoNAT v1).
	Hint Confidence = "hint"
	// Weak: one server's word.
	Weak Confidence = "weak"
	// Strong: two servers or more agree. For "public", all of them are hosts
	// that we have talked to, which an address-restricted NAT lets in too.
	Strong Confidence = "strong"
	// Proven: a host that we never sent anything to got through; or, for
	// "private", as Strong.
	Proven Confidence = "proven"
)
