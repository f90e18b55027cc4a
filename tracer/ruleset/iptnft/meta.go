// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file reads tests of properties that a packet has besides its bytes.

import (
	"encoding/binary"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// metaTests are the properties that iptables has an option or a match for. Never
// written to after start.
var metaTests = map[nft.MetaKey]func(*line, test) bool{
	nft.MetaIifname: readInterface(0),
	nft.MetaOifname: readInterface(1),
	nft.MetaL4proto: func(l *line, t test) bool { return len(t.data) == 1 && readProtocol(l, t) },
	nft.MetaMark:    readMark,
	nft.MetaPkttype: readPacketType,
}

// metaSize is how many bytes a property takes in registers: names of interfaces
// four slots, all that iptables asks for besides at most one.
func metaSize(key nft.MetaKey) uint32 {
	if key == nft.MetaIifname || key == nft.MetaOifname {
		return ifnameSize
	}
	return slotSize
}

// readMark reads struct xt_mark_mtinfo1 (xt_mark.h): mark, mask, invert.
func readMark(l *line, t test) bool {
	if !t.equality() || len(t.data) != 4 {
		return false
	}
	blob := make([]byte, 12)
	copy(blob, t.data)
	copy(blob[4:], []byte{0xff, 0xff, 0xff, 0xff})
	if t.mask != nil {
		copy(blob[4:], t.mask)
	}
	if t.op == nft.OpNeq {
		blob[8] = 1
	}
	l.add(match{name: "mark", revision: 1, blob: blob})
	return true
}

// readPacketType reads struct xt_pkttype_info (xt_pkttype.h): pkttype, invert.
func readPacketType(l *line, t test) bool {
	if !t.equality() || t.mask != nil || len(t.data) != 1 {
		return false
	}
	blob := make([]byte, 8)
	binary.NativeEndian.PutUint32(blob, uint32(t.data[0]))
	if t.op == nft.OpNeq {
		binary.NativeEndian.PutUint32(blob[4:], 1)
	}
	l.add(match{name: "pkttype", blob: blob})
	return true
}
