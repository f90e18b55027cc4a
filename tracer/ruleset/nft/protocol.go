// SPDX-License-Identifier: Apache-2.0

package nft

// This file describes the headers whose fields nft has names for: where each
// field lies, its type, and which protocol a number in it leads to. Layouts are
// the protocols' own; names are nft's (man 8 nft, PAYLOAD EXPRESSIONS).

// protoBase is the layer of a header. 0 is none.
type protoBase uint8

const (
	baseNone protoBase = iota
	baseLink
	baseNetwork
	baseTransport
	baseInner
	baseCount
)

// layerOf turns the base of a payload expression into a layer.
func layerOf(base uint32) protoBase {
	if base >= uint32(baseCount)-1 {
		return baseNone
	}
	return protoBase(base + 1)
}

// layerTokens are what raw payload is written with.
var layerTokens = [baseCount]string{"invalid", "ll", "nh", "th", "ih"}

// protoID names a protocol.
type protoID uint8

const (
	protoNone    protoID = iota // not known yet
	protoUnknown                // known to be none of these
	protoMixed                  // inet tables: ip or ip6
	protoDev                    // netdev tables
	protoService                // any protocol over ip or ip6
	protoEth
	protoVLAN
	protoARPHdr
	protoIP
	protoIP6
	protoTCP
	protoUDP
	protoUDPLite
	protoSCTP
	protoDCCP
	protoICMP
	protoICMP6
	protoIGMP
	protoAH
	protoESP
	protoComp
	protoTH // ports of any transport protocol
)

// field is one field of a header, in bits from its beginning.
type field struct {
	name         string
	typ          *datatype
	offset, bits uint
	// key: the field tells the protocol of the layer above.
	key bool
	// icmp is the ICMP type the field is there for; noICMP for all.
	icmp int
}

const noICMP = -1

// protocol is one header.
type protocol struct {
	name   string
	layer  protoBase
	length uint // bits; link layer only
	fields []field
	upper  []link
}

// link leads to the protocol above.
type link struct {
	number uint64
	id     protoID
}

// at finds the protocol above by its number.
func (p *protocol) at(number uint64) protoID {
	if p != nil {
		for _, l := range p.upper {
			if l.number == number {
				return l.id
			}
		}
	}
	return protoNone
}

// plain makes a field of a number.
func plain(name string, offset, bits uint) field {
	return field{name: name, typ: typeInteger, offset: offset, bits: bits, icmp: noICMP}
}

// typed makes a field of a type.
func typed(name string, t *datatype, offset, bits uint) field {
	return field{name: name, typ: t, offset: offset, bits: bits, icmp: noICMP}
}

// keyed makes a field that tells the protocol above.
func keyed(name string, t *datatype, offset, bits uint) field {
	return field{name: name, typ: t, offset: offset, bits: bits, key: true, icmp: noICMP}
}

// ofICMP makes a field that one ICMP type has.
func ofICMP(name string, offset, bits uint, icmp int, t *datatype) field {
	return field{name: name, typ: t, offset: offset, bits: bits, icmp: icmp}
}

// ports are the first two fields of most transport headers.
func ports(more ...field) []field {
	return append([]field{typed("sport", typeService, 0, 16), typed("dport", typeService, 16, 16)}, more...)
}

// Links of the headers that can stand below a transport protocol.
var (
	linksIPsec = []link{
		{50, protoESP}, {51, protoAH}, {108, protoComp}, {17, protoUDP}, {136, protoUDPLite}, {6, protoTCP},
		{33, protoDCCP}, {132, protoSCTP},
	}
	linksIP    = append([]link{{1, protoICMP}, {2, protoIGMP}, {58, protoICMP6}}, linksIPsec...)
	linksMixed = []link{{protoIPv4, protoIP}, {protoIPv6, protoIP6}}
	linksEther = []link{
		{0x0800, protoIP}, {0x0806, protoARPHdr}, {0x86dd, protoIP6}, {0x8100, protoVLAN}, {0x88a8, protoVLAN},
	}
)

// ICMP types that fields depend on.
const (
	icmpEcho, icmpUnreachable, icmpRedirect                  = 8, 3, 5
	icmp6Echo, icmp6TooBig, icmp6ParamProblem, icmp6Listener = 128, 2, 4, 130
	icmpEchoReply, icmp6EchoReply                            = 0, 129
)

// protocols by their id. Fields are in ascending order of their place, which
// the splitting of merged loads relies on.
var protocols = [...]*protocol{
	protoUnknown: {name: "unknown"},
	protoMixed:   {name: "inet", layer: baseLink, upper: linksMixed},
	protoDev:     {name: "netdev", layer: baseLink, upper: linksEther},
	protoService: {name: "inet-service", layer: baseTransport, upper: linksIP},
	protoEth: {name: "ether", layer: baseLink, length: 14 * 8, upper: linksEther, fields: []field{
		typed("daddr", typeEther, 0, 48), typed("saddr", typeEther, 48, 48), keyed("type", typeEtherType, 96, 16),
	}},
	protoVLAN: {name: "vlan", layer: baseLink, length: 4 * 8, upper: linksEther, fields: []field{
		plain("pcp", 0, 3), plain("dei", 3, 1), plain("id", 4, 12), keyed("type", typeEtherType, 16, 16),
	}},
	protoARPHdr: {name: "arp", layer: baseNetwork, fields: []field{
		plain("htype", 0, 16), typed("ptype", typeEtherType, 16, 16), plain("hlen", 32, 8), plain("plen", 40, 8),
		typed("operation", typeARPOp, 48, 16), typed("saddr ether", typeEther, 64, 48), typed("saddr ip", typeIPAddr, 112, 32),
		typed("daddr ether", typeEther, 144, 48), typed("daddr ip", typeIPAddr, 192, 32),
	}},
	protoIP: {name: "ip", layer: baseNetwork, upper: linksIP, fields: []field{
		plain("version", 0, 4), plain("hdrlength", 4, 4), typed("dscp", typeDSCP, 8, 6), typed("ecn", typeECN, 14, 2),
		plain("length", 16, 16), plain("id", 32, 16), plain("frag-off", 48, 16), plain("ttl", 64, 8),
		keyed("protocol", typeInetProto, 72, 8), plain("checksum", 80, 16),
		typed("saddr", typeIPAddr, 96, 32), typed("daddr", typeIPAddr, 128, 32),
	}},
	protoIP6: {name: "ip6", layer: baseNetwork, upper: linksIP, fields: []field{
		plain("version", 0, 4), typed("dscp", typeDSCP, 4, 6), typed("ecn", typeECN, 10, 2), plain("flowlabel", 12, 20),
		plain("length", 32, 16), keyed("nexthdr", typeInetProto, 48, 8), plain("hoplimit", 56, 8),
		typed("saddr", typeIP6Addr, 64, 128), typed("daddr", typeIP6Addr, 192, 128),
	}},
	protoTCP: {name: "tcp", layer: baseTransport, fields: ports(
		plain("sequence", 32, 32), plain("ackseq", 64, 32), plain("doff", 96, 4), plain("reserved", 100, 4),
		typed("flags", typeTCPFlag, 104, 8), plain("window", 112, 16), plain("checksum", 128, 16), plain("urgptr", 144, 16),
	)},
	protoUDP:     {name: "udp", layer: baseTransport, fields: ports(plain("length", 32, 16), plain("checksum", 48, 16))},
	protoUDPLite: {name: "udplite", layer: baseTransport, fields: ports(plain("csumcov", 32, 16), plain("checksum", 48, 16))},
	protoSCTP:    {name: "sctp", layer: baseTransport, fields: ports(plain("vtag", 32, 32), plain("checksum", 64, 32))},
	protoDCCP:    {name: "dccp", layer: baseTransport, fields: ports(typed("type", typeDCCPType, 67, 4))},
	protoICMP: {name: "icmp", layer: baseTransport, fields: []field{
		keyed("type", typeICMPType, 0, 8), typed("code", typeICMPCode, 8, 8), plain("checksum", 16, 16),
		ofICMP("id", 32, 16, icmpEcho, typeInteger), ofICMP("sequence", 48, 16, icmpEcho, typeInteger),
		ofICMP("gateway", 32, 32, icmpRedirect, typeInteger), ofICMP("mtu", 48, 16, icmpUnreachable, typeInteger),
	}},
	protoICMP6: {name: "icmpv6", layer: baseTransport, fields: []field{
		keyed("type", typeICMP6Type, 0, 8), typed("code", typeICMP6Code, 8, 8), plain("checksum", 16, 16),
		ofICMP("parameter-problem", 32, 32, icmp6ParamProblem, typeInteger), ofICMP("mtu", 32, 32, icmp6TooBig, typeInteger),
		ofICMP("id", 32, 16, icmp6Echo, typeInteger), ofICMP("sequence", 48, 16, icmp6Echo, typeInteger),
		ofICMP("max-delay", 32, 16, icmp6Listener, typeInteger),
	}},
	protoIGMP: {name: "igmp", layer: baseTransport, fields: []field{
		typed("type", typeIGMPType, 0, 8), plain("mrt", 8, 8), plain("checksum", 16, 16), plain("group", 32, 32),
	}},
	protoAH: {name: "ah", layer: baseTransport, upper: linksIPsec, fields: []field{
		keyed("nexthdr", typeInetProto, 0, 8), plain("hdrlength", 8, 8), plain("reserved", 16, 16), plain("spi", 32, 32),
		plain("sequence", 64, 32),
	}},
	protoESP: {name: "esp", layer: baseTransport, fields: []field{plain("spi", 0, 32), plain("sequence", 32, 32)}},
	protoComp: {name: "comp", layer: baseTransport, upper: linksIPsec, fields: []field{
		keyed("nexthdr", typeInetProto, 0, 8), typed("flags", typeBitmask, 8, 8), plain("cpi", 16, 16),
	}},
	protoTH: {name: "th", layer: baseTransport, fields: ports()},
}

// homeProtocol is the protocol that a family's chains start with.
func homeProtocol(family string) (protoBase, protoID) {
	switch family {
	case FamilyInet:
		return baseLink, protoMixed
	case FamilyBridge:
		return baseLink, protoEth
	case FamilyNetdev:
		return baseLink, protoDev
	case FamilyIP:
		return baseNetwork, protoIP
	case FamilyIP6:
		return baseNetwork, protoIP6
	case FamilyARP:
		return baseNetwork, protoARPHdr
	}
	return baseNone, protoNone
}
