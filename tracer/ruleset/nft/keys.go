// SPDX-License-Identifier: Apache-2.0

package nft

// This file names the properties of a packet and of its connection that the
// meta and ct expressions load (enum nft_meta_keys, enum nft_ct_keys).

// MetaKey is a key of the meta expression.
type MetaKey uint32

// Keys of meta.
const (
	MetaLen MetaKey = iota
	MetaProtocol
	MetaPriority
	MetaMark
	MetaIif
	MetaOif
	MetaIifname
	MetaOifname
	MetaIiftype
	MetaOiftype
	MetaSkuid
	MetaSkgid
	MetaNftrace
	MetaRtclassid
	MetaSecmark
	MetaNfproto
	MetaL4proto
	MetaIbrname
	MetaObrname
	MetaPkttype
	MetaCPU
	MetaIifgroup
	MetaOifgroup
	MetaCgroup
	MetaRandom
	MetaSecpath
	MetaIifkind
	MetaOifkind
	MetaIbrpvid
	MetaIbrvproto
	MetaTime
	MetaDay
	MetaHour
	MetaSdif
	MetaSdifname
	MetaBroute
)

// CTKey is a key of the ct expression.
type CTKey uint32

// Keys of ct.
const (
	CTState CTKey = iota
	CTDirection
	CTStatus
	CTMark
	CTSecmark
	CTExpiration
	CTHelper
	CTL3proto
	CTSrc
	CTDst
	CTProtocol
	CTProtoSrc
	CTProtoDst
	CTLabels
	CTPackets
	CTBytes
	CTAvgpkt
	CTZone
	CTEventmask
	CTSrcIP
	CTDstIP
	CTSrcIP6
	CTDstIP6
	CTID
)

// base is the layer whose protocol a meta key tells; baseNone for all others.
func (k MetaKey) base() protoBase {
	switch k {
	case MetaL4proto:
		return baseNetwork
	case MetaNfproto, MetaProtocol:
		return baseLink
	}
	return baseNone
}

// link tells whether a meta key tells the protocol of a layer.
func (k MetaKey) link() bool {
	switch k {
	case MetaL4proto, MetaNfproto, MetaProtocol, MetaIiftype:
		return true
	}
	return false
}

// metaField is how nft writes a key and the type of its value.
type metaField struct {
	token string
	typ   *datatype
	bits  uint
	order order
	plain bool // written without "meta" before it
}

// metaFields are nft's own (nftables 1.0.6, src/meta.c).
var metaFields = map[MetaKey]metaField{
	MetaLen:       {token: "length", typ: typeInteger, bits: 32, order: hostOrder},
	MetaProtocol:  {token: "protocol", typ: typeEtherType, bits: 16, order: netOrder},
	MetaPriority:  {token: "priority", typ: typeClassID, bits: 32, order: hostOrder},
	MetaMark:      {token: "mark", typ: typeMark, bits: 32, order: hostOrder},
	MetaIif:       {token: "iif", typ: typeIfindex, bits: 32, order: hostOrder, plain: true},
	MetaOif:       {token: "oif", typ: typeIfindex, bits: 32, order: hostOrder, plain: true},
	MetaIifname:   {token: "iifname", typ: typeIfname, bits: 128, order: hostOrder, plain: true},
	MetaOifname:   {token: "oifname", typ: typeIfname, bits: 128, order: hostOrder, plain: true},
	MetaIiftype:   {token: "iiftype", typ: typeARPHRD, bits: 16, order: hostOrder},
	MetaOiftype:   {token: "oiftype", typ: typeARPHRD, bits: 16, order: hostOrder},
	MetaSkuid:     {token: "skuid", typ: typeUID, bits: 32, order: hostOrder},
	MetaSkgid:     {token: "skgid", typ: typeGID, bits: 32, order: hostOrder},
	MetaNftrace:   {token: "nftrace", typ: typeInteger, bits: 8, order: hostOrder},
	MetaRtclassid: {token: "rtclassid", typ: typeRealm, bits: 32, order: hostOrder},
	MetaSecmark:   {token: "secmark", typ: typeInteger, bits: 32, order: hostOrder},
	MetaNfproto:   {token: "nfproto", typ: typeNFProto, bits: 8, order: hostOrder},
	MetaL4proto:   {token: "l4proto", typ: typeInetProto, bits: 8, order: hostOrder},
	MetaIbrname:   {token: "ibrname", typ: typeIfname, bits: 128, order: hostOrder},
	MetaObrname:   {token: "obrname", typ: typeIfname, bits: 128, order: hostOrder},
	MetaPkttype:   {token: "pkttype", typ: typePktType, bits: 8, order: hostOrder},
	MetaCPU:       {token: "cpu", typ: typeInteger, bits: 32, order: hostOrder},
	MetaIifgroup:  {token: "iifgroup", typ: typeDevGroup, bits: 32, order: hostOrder, plain: true},
	MetaOifgroup:  {token: "oifgroup", typ: typeDevGroup, bits: 32, order: hostOrder, plain: true},
	MetaCgroup:    {token: "cgroup", typ: typeInteger, bits: 32, order: hostOrder},
	MetaRandom:    {token: "random", typ: typeInteger, bits: 32, order: netOrder},
	MetaSecpath:   {token: "ipsec", typ: typeBoolean, bits: 8, order: hostOrder},
	MetaIifkind:   {token: "iifkind", typ: typeIfname, bits: 128, order: hostOrder},
	MetaOifkind:   {token: "oifkind", typ: typeIfname, bits: 128, order: hostOrder},
	MetaIbrpvid:   {token: "ibrpvid", typ: typeInteger, bits: 16, order: hostOrder},
	MetaIbrvproto: {token: "ibrvproto", typ: typeEtherType, bits: 16, order: netOrder},
	MetaTime:      {token: "time", typ: typeDate, bits: 64, order: hostOrder},
	MetaDay:       {token: "day", typ: typeDay, bits: 8, order: hostOrder},
	MetaHour:      {token: "hour", typ: typeHour, bits: 32, order: hostOrder},
	MetaSdif:      {token: "sdif", typ: typeIfindex, bits: 32, order: hostOrder},
	MetaSdifname:  {token: "sdifname", typ: typeIfname, bits: 128, order: hostOrder},
	MetaBroute:    {token: "broute", typ: typeInteger, bits: 8, order: hostOrder},
}

// ctField is how nft writes a key of ct.
type ctField struct {
	token string
	typ   *datatype
	bits  uint
	order order
}

// ctFields are nft's own (nftables 1.0.6, src/ct.c). Type and length of src, dst
// and ports depend on the protocols matched before.
var ctFields = map[CTKey]ctField{
	CTState:      {"state", typeCTState, 32, hostOrder},
	CTDirection:  {"direction", typeCTDir, 8, hostOrder},
	CTStatus:     {"status", typeCTStatus, 32, hostOrder},
	CTMark:       {"mark", typeMark, 32, hostOrder},
	CTSecmark:    {"secmark", typeInteger, 32, hostOrder},
	CTExpiration: {"expiration", typeTime, 32, hostOrder},
	CTHelper:     {"helper", typeString, 128, hostOrder},
	CTL3proto:    {"l3proto", typeNFProto, 8, hostOrder},
	CTSrc:        {"saddr", typeInvalid, 0, netOrder},
	CTDst:        {"daddr", typeInvalid, 0, netOrder},
	CTProtocol:   {"protocol", typeInetProto, 8, netOrder},
	CTProtoSrc:   {"proto-src", typeInvalid, 16, netOrder},
	CTProtoDst:   {"proto-dst", typeInvalid, 16, netOrder},
	CTLabels:     {"label", typeCTLabel, 128, hostOrder},
	CTPackets:    {"packets", typeInteger, 64, hostOrder},
	CTBytes:      {"bytes", typeInteger, 64, hostOrder},
	CTAvgpkt:     {"avgpkt", typeInteger, 64, hostOrder},
	CTZone:       {"zone", typeInteger, 16, hostOrder},
	CTEventmask:  {"event", typeCTEvent, 32, hostOrder},
	CTSrcIP:      {"ip saddr", typeIPAddr, 32, netOrder},
	CTDstIP:      {"ip daddr", typeIPAddr, 32, netOrder},
	CTSrcIP6:     {"ip6 saddr", typeIP6Addr, 128, netOrder},
	CTDstIP6:     {"ip6 daddr", typeIP6Addr, 128, netOrder},
	CTID:         {"id", typeInteger, 32, netOrder},
}

// base is the layer a key of ct is about; baseNone for most.
func (k CTKey) base() protoBase {
	switch k {
	case CTSrc, CTDst, CTProtocol:
		return baseNetwork
	case CTProtoSrc, CTProtoDst:
		return baseTransport
	case CTL3proto:
		return baseLink
	}
	return baseNone
}
