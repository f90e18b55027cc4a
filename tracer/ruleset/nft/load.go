// SPDX-License-Identifier: Apache-2.0

package nft

// This file makes nodes of the expressions that load something into a register.

import (
	"fmt"
	"strings"
)

// load makes the node of a load and tells where it goes; nil for anything else.
func load(e Expr) (*node, Reg) {
	switch e := e.(type) {
	case Payload:
		if e.Dst < 0 {
			return nil, RegNone
		}
		return payloadNode(e), e.Dst
	case Meta:
		return metaNode(e), e.Dst
	case CT:
		return ctNode(e), e.Dst
	case Exthdr:
		if e.Dst < 0 {
			return nil, RegNone
		}
		return optionNode(e), e.Dst
	case FIB:
		return fibNode(e), e.Dst
	case RT:
		return rtNode(e), e.Dst
	case Socket:
		return socketNode(e), e.Dst
	case Numgen:
		return numgenNode(e), e.Dst
	case Hash:
		return hashNode(e), e.Dst
	case OSF:
		return osfNode(e), e.Dst
	case XFRM:
		return xfrmNode(e), e.Dst
	case Tunnel:
		return tunnelNode(e), e.Dst
	}
	return nil, RegNone
}

// payloadNode is raw until the protocol is known, but for ports, which every
// transport protocol has at the same place.
func payloadNode(e Payload) *node {
	n := &node{
		kind: nodePayload, typ: typeHex, layer: layerOf(e.Base),
		offset: uint(e.Offset) * bitsPerByte, bits: uint(e.Len) * bitsPerByte,
	}
	n.guessPort()
	return n
}

// guessPort names a raw load th sport or th dport if it is one.
func (n *node) guessPort() {
	if n.layer != baseTransport || n.bits != 16 || n.offset > 16 || n.offset%16 != 0 {
		return
	}
	f := &protocols[protoTH].fields[n.offset/16]
	n.proto, n.field, n.typ = protoTH, f, f.typ
}

func metaNode(e Meta) *node {
	f, ok := metaFields[e.Key]
	if e.Dst < 0 || !ok {
		return nil
	}
	return &node{kind: nodeMeta, meta: e.Key, typ: f.typ, bits: f.bits, order: f.order}
}

func ctNode(e CT) *node {
	f, ok := ctFields[e.Key]
	if e.Dst < 0 || !ok {
		return nil
	}
	return &node{kind: nodeCT, ct: e, typ: f.typ, bits: f.bits, order: f.order}
}

// optionNode finds the option's name and field.
func optionNode(e Exthdr) *node {
	n := &node{kind: nodeOption, ext: e, typ: typeHex, offset: uint(e.Offset) * bitsPerByte, bits: uint(e.Len) * bitsPerByte}
	n.findOption(n.offset, n.bits)
	if e.Present {
		n.typ = typeBoolean
	}
	return n
}

// findOption names the option and the field at a place, if there is one.
func (n *node) findOption(offset, bits uint) bool {
	_, table := optionsOf(n.ext.Op)
	for i := range table {
		o := &table[i]
		if o.number != n.ext.Type {
			continue
		}
		if n.extName == "" {
			n.extName = o.name
		}
		at := offset
		if n.ext.Op == ExthdrTCPOpt && o.number == tcpSack && at >= sackFirstBlock+sackBlock {
			at = sackFirstBlock + (at-sackFirstBlock)%sackBlock
		}
		if f := o.find(at, bits); f != nil {
			n.extName, n.field, n.typ, n.offset, n.bits = o.name, f, f.typ, offset, bits
			return true
		}
	}
	return false
}

// fibNode: the flags in front of the result, joined by dots.
func fibNode(e FIB) *node {
	var words []string
	for i, word := range []string{"saddr", "daddr", "mark", "iif", "oif"} {
		if e.Flags&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	n := &node{kind: nodeLoad, order: hostOrder, bits: 32}
	result := "unknown"
	switch e.Result {
	case FIBOif:
		result, n.typ = "oif", typeIfindex
	case FIBOifname:
		result, n.typ, n.bits = "oifname", typeIfname, 128
	case FIBAddrType:
		result, n.typ = "type", typeFIBAddr
	default:
		n.typ = typeInteger
	}
	if e.Flags&FIBPresent != 0 {
		n.typ, n.bits, n.order = typeBoolean, 8, netOrder
	}
	n.text = "fib " + strings.Join(words, " . ") + " " + result
	return n
}

// rtNode: enum nft_rt_keys.
func rtNode(e RT) *node {
	keys := []struct {
		word  string
		typ   *datatype
		bits  uint
		order order
	}{
		{"classid", typeRealm, 32, hostOrder},
		{"ip nexthop", typeIPAddr, 32, netOrder},
		{"ip6 nexthop", typeIP6Addr, 128, netOrder},
		{"mtu", typeInteger, 16, hostOrder},
		{"ipsec", typeBoolean, 8, netOrder},
	}
	if int(e.Key) >= len(keys) {
		return nil
	}
	k := keys[e.Key]
	return &node{kind: nodeLoad, text: "rt " + k.word, typ: k.typ, bits: k.bits, order: k.order}
}

// socketNode: enum nft_socket_keys.
func socketNode(e Socket) *node {
	switch e.Key {
	case 0:
		return &node{kind: nodeLoad, text: "socket transparent", typ: typeInteger, bits: 8, order: hostOrder}
	case 1:
		return &node{kind: nodeLoad, text: "socket mark", typ: typeMark, bits: 32, order: hostOrder}
	case 2:
		return &node{kind: nodeLoad, text: "socket wildcard", typ: typeInteger, bits: 8, order: hostOrder}
	case 3:
		return &node{kind: nodeLoad, text: fmt.Sprintf("socket cgroupv2 level %d", e.Level), typ: typeCgroup2, bits: 64, order: hostOrder}
	}
	return nil
}

func numgenNode(e Numgen) *node {
	how := "inc"
	if e.Random {
		how = "random"
	}
	return &node{
		kind: nodeLoad, typ: typeInteger, bits: 32, order: hostOrder,
		text: fmt.Sprintf("numgen %s mod %d%s", how, e.Modulus, offsetText(e.Offset)),
	}
}

func offsetText(offset uint32) string {
	if offset == 0 {
		return ""
	}
	return fmt.Sprintf(" offset %d", offset)
}

func hashNode(e Hash) *node {
	n := &node{kind: nodeLoad, typ: typeInteger, bits: 32, order: hostOrder}
	if e.Symmetric {
		n.text = fmt.Sprintf("symhash mod %d%s", e.Modulus, offsetText(e.Offset))
		return n
	}
	n.text, n.suffix = "jhash ", fmt.Sprintf(" mod %d", e.Modulus)
	if e.Seed != nil {
		n.suffix += fmt.Sprintf(" seed 0x%x", *e.Seed)
	}
	n.suffix += offsetText(e.Offset)
	return n
}

func osfNode(e OSF) *node {
	word := map[uint8]string{1: "ttl loose ", 2: "ttl skip "}[e.TTL]
	what := "name"
	if e.Version {
		what = "version"
	}
	return &node{kind: nodeLoad, text: "osf " + word + what, typ: typeString, bits: 128, order: hostOrder}
}

// xfrmNode: enum nft_xfrm_keys.
func xfrmNode(e XFRM) *node {
	keys := map[uint32]node{
		1: {text: "ip daddr", typ: typeIPAddr, bits: 32},
		2: {text: "ip6 daddr", typ: typeIP6Addr, bits: 128},
		3: {text: "ip saddr", typ: typeIPAddr, bits: 32},
		4: {text: "ip6 saddr", typ: typeIP6Addr, bits: 128},
		5: {text: "reqid", typ: typeInteger, bits: 32, order: hostOrder},
		6: {text: "spi", typ: typeInteger, bits: 32},
	}
	n, ok := keys[e.Key]
	if !ok {
		return nil
	}
	where := "ipsec in "
	if e.Out {
		where = "ipsec out "
	}
	if e.SPNum > 0 {
		where += fmt.Sprintf("spnum %d ", e.SPNum)
	}
	n.kind, n.text = nodeLoad, where+n.text
	return &n
}

// tunnelNode: enum nft_tunnel_keys. nft has no text for it.
func tunnelNode(e Tunnel) *node {
	switch e.Key {
	case 0:
		return &node{kind: nodeLoad, text: "tunnel path", typ: typeBoolean, bits: 8}
	case 1:
		return &node{kind: nodeLoad, text: "tunnel id", typ: typeInteger, bits: 32, order: hostOrder}
	}
	return nil
}
