// SPDX-License-Identifier: Apache-2.0

package nft

// This file lists the types of values and the words nft has for them
// (nftables 1.0.6, man 8 nft, DATA TYPES; `nft describe TYPE` prints the same
// tables). The numbers of types are those nft stores with sets.

import "math/big"

// order is the byte order of a value.
type order uint8

const (
	netOrder order = iota
	hostOrder
)

// class is what a type comes down to.
type class uint8

const (
	classInteger class = iota
	classBitmask
	classString
	classAddress
)

// datatype is a type of values.
type datatype struct {
	id      uint32
	name    string
	class   class
	order   order
	bits    uint   // 0: depends on where it is used
	format  string // of a number without a word; "" is decimal
	symbols []symbol
	table   symbolTable // words that files of the node give
	quoted  bool        // words are in quotes
	prefix  bool        // written as value/length where a mask is a prefix
	print   func(v *big.Int, bits uint, ctx printContext) string
}

// symbol is a word for a number.
type symbol struct {
	word  string
	value uint64
}

// symbolTable names a file of words that iproute2 and nft share.
type symbolTable uint8

const (
	tableNone symbolTable = iota
	tableMarks
	tableGroups
	tableRealms
	tableLabels
)

const (
	formatHex   = "0x%x"
	formatHex1  = "0x%.1x"
	formatHex2  = "0x%.2x"
	formatHex4  = "0x%.4x"
	formatHex8  = "0x%.8x"
	typeIDBits  = 6
	typeIDMask  = 1<<typeIDBits - 1
	maxConcat   = 5 // parts whose types fit into 32 bits
	bitsPerByte = 8
)

// The types.
var (
	typeInvalid   = &datatype{id: 0, name: "invalid", print: printInvalid}
	typeNFProto   = &datatype{id: 2, name: "nf_proto", order: hostOrder, bits: 8, symbols: symbolsNFProto}
	typeBitmask   = &datatype{id: 3, name: "bitmask", class: classBitmask, format: formatHex}
	typeInteger   = &datatype{id: 4, name: "integer"}
	typeHex       = &datatype{id: 4, name: "integer", format: formatHex} // raw payload
	typeString    = &datatype{id: 5, name: "string", class: classString, order: hostOrder}
	typeLLAddr    = &datatype{id: 6, name: "ll_addr", class: classAddress, print: printLinkAddr}
	typeIPAddr    = &datatype{id: 7, name: "ipv4_addr", class: classAddress, bits: 32, prefix: true, print: printAddr}
	typeIP6Addr   = &datatype{id: 8, name: "ipv6_addr", class: classAddress, bits: 128, prefix: true, print: printAddr}
	typeEther     = &datatype{id: 9, name: "ether_addr", class: classAddress, bits: 48, print: printLinkAddr}
	typeEtherType = &datatype{id: 10, name: "ether_type", bits: 16, format: formatHex4, symbols: symbolsEtherType}
	typeARPOp     = &datatype{id: 11, name: "arp_op", bits: 16, symbols: symbolsARPOp}
	typeInetProto = &datatype{id: 12, name: "inet_proto", bits: 8, symbols: symbolsInetProto}
	typeService   = &datatype{id: 13, name: "inet_service", bits: 16}
	typeICMPType  = &datatype{id: 14, name: "icmp_type", bits: 8, symbols: symbolsICMPType}
	typeTCPFlag   = &datatype{id: 15, name: "tcp_flag", class: classBitmask, bits: 8, format: formatHex, symbols: symbolsTCPFlag}
	typeDCCPType  = &datatype{id: 16, name: "dccp_pkttype", bits: 4, symbols: symbolsDCCPType}
	typeMHType    = &datatype{id: 17, name: "mh_type", bits: 8, symbols: symbolsMHType}
	typeTime      = &datatype{id: 18, name: "time", order: hostOrder, bits: 32, print: printDuration}
	typeMark      = &datatype{id: 19, name: "mark", order: hostOrder, bits: 32, format: formatHex8, table: tableMarks, prefix: true}
	typeIfindex   = &datatype{id: 20, name: "iface_index", order: hostOrder, bits: 32, print: printIfindex}
	typeARPHRD    = &datatype{id: 21, name: "iface_type", order: hostOrder, bits: 16, symbols: symbolsARPHRD}
	typeRealm     = &datatype{id: 22, name: "realm", order: hostOrder, bits: 32, table: tableRealms, prefix: true}
	typeClassID   = &datatype{id: 23, name: "classid", order: hostOrder, bits: 32, print: printClassID}
	typeUID       = &datatype{id: 24, name: "uid", order: hostOrder, bits: 32}
	typeGID       = &datatype{id: 25, name: "gid", order: hostOrder, bits: 32}
	typeCTState   = &datatype{id: 26, name: "ct_state", class: classBitmask, order: hostOrder, bits: 32, format: formatHex, symbols: symbolsCTState}
	typeCTDir     = &datatype{id: 27, name: "ct_dir", bits: 8, symbols: symbolsCTDir}
	typeCTStatus  = &datatype{id: 28, name: "ct_status", class: classBitmask, order: hostOrder, bits: 32, format: formatHex, symbols: symbolsCTStatus}
	typeICMP6Type = &datatype{id: 29, name: "icmpv6_type", bits: 8, symbols: symbolsICMP6Type}
	typeCTLabel   = &datatype{id: 30, name: "ct_label", class: classBitmask, order: hostOrder, bits: 128, print: printCTLabel}
	typePktType   = &datatype{id: 31, name: "pkt_type", order: hostOrder, bits: 8, symbols: symbolsPktType}
	typeICMPCode  = &datatype{id: 32, name: "icmp_code", bits: 8, symbols: symbolsICMPCode}
	typeICMP6Code = &datatype{id: 33, name: "icmpv6_code", bits: 8, symbols: symbolsICMP6Code}
	typeICMPXCode = &datatype{id: 34, name: "icmpx_code", bits: 8, symbols: symbolsICMPXCode}
	typeDevGroup  = &datatype{id: 35, name: "devgroup", order: hostOrder, bits: 32, table: tableGroups, prefix: true}
	typeDSCP      = &datatype{id: 36, name: "dscp", bits: 6, format: formatHex2, symbols: symbolsDSCP}
	typeECN       = &datatype{id: 37, name: "ecn", bits: 2, format: formatHex1, symbols: symbolsECN}
	typeFIBAddr   = &datatype{id: 38, name: "fib_addrtype", order: hostOrder, bits: 32, symbols: symbolsFIBAddr}
	typeBoolean   = &datatype{id: 39, name: "boolean", bits: 1, symbols: symbolsBoolean}
	typeCTEvent   = &datatype{id: 40, name: "ct_event", class: classBitmask, order: hostOrder, bits: 32, format: formatHex, symbols: symbolsCTEvent}
	typeIfname    = &datatype{id: 41, name: "ifname", class: classString, order: hostOrder, bits: 128}
	typeIGMPType  = &datatype{id: 42, name: "igmp_type", bits: 8, symbols: symbolsIGMPType}
	typeDate      = &datatype{id: 43, name: "time", order: hostOrder, bits: 64, print: printDate}
	typeHour      = &datatype{id: 44, name: "hour", order: hostOrder, bits: 32, print: printHour}
	typeDay       = &datatype{id: 45, name: "day", order: hostOrder, bits: 8, symbols: symbolsDay, quoted: true}
	typeCgroup2   = &datatype{id: 46, name: "cgroupsv2", order: hostOrder, bits: 64}
)

// typesByID finds a type by the number stored with a set.
var typesByID = func() map[uint32]*datatype {
	all := map[uint32]*datatype{}
	for _, t := range []*datatype{
		typeInvalid, typeNFProto, typeBitmask, typeInteger, typeString, typeLLAddr, typeIPAddr, typeIP6Addr,
		typeEther, typeEtherType, typeARPOp, typeInetProto, typeService, typeICMPType, typeTCPFlag, typeDCCPType,
		typeMHType, typeTime, typeMark, typeIfindex, typeARPHRD, typeRealm, typeClassID, typeUID, typeGID,
		typeCTState, typeCTDir, typeCTStatus, typeICMP6Type, typeCTLabel, typePktType, typeICMPCode,
		typeICMP6Code, typeICMPXCode, typeDevGroup, typeDSCP, typeECN, typeFIBAddr, typeBoolean, typeCTEvent,
		typeIfname, typeIGMPType, typeDate, typeHour, typeDay, typeCgroup2,
	} {
		all[t.id] = t
	}
	return all
}()

// concatTypes splits the number of a concatenation into the types of its parts;
// a plain type gives one.
func concatTypes(id uint32) []*datatype {
	var parts []*datatype
	for ; id != 0; id >>= typeIDBits {
		t, ok := typesByID[id&typeIDMask]
		if !ok {
			t = typeInvalid
		}
		parts = append([]*datatype{t}, parts...)
	}
	if parts == nil {
		parts = []*datatype{typeInvalid}
	}
	return parts
}
