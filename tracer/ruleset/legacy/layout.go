// SPDX-License-Identifier: Apache-2.0

package legacy

// This file knows how the kernel lays a table out: struct ipt_entry and
// ip6t_entry (uapi linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/
// ip6_tables.h), struct xt_entry_match, xt_entry_target and
// xt_standard_target (linux/netfilter/x_tables.h), and ipt_getinfo. All
// unchanged since 2.6 and the same on every 64-bit machine; numbers are in
// host order.

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// layout is what differs between the two families.
type layout struct {
	ip       int  // bytes of struct ipt_ip or ip6t_ip6, which the entry begins with
	addr     int  // bytes of an address; the struct begins with two and their masks
	protocol int  // offset of the protocol (u16); flags are among the eight bytes from there
	target   int  // offset of target_offset (u16); next_offset (u16) lies behind it
	counts   int  // offset of struct xt_counters: packets, bytes (u64 each)
	header   int  // bytes of the entry before its first match
	flags    int  // offset of flags (u8); invflags (u8) lies behind it
	gotoed   byte // flag: the jump is a goto
	proto    byte // flag: a protocol is asked for (ip6 only: looking for it may drop the packet)
}

// layouts gives the layout of a family.
func layouts(family string) (layout, bool) {
	switch family {
	case IPv4: // IPT_F_GOTO
		return layout{ip: 84, addr: 4, protocol: 80, target: 88, counts: 96, header: 112, flags: 82, gotoed: 0x02}, true
	case IPv6: // IP6T_F_GOTO, IP6T_F_PROTO
		return layout{ip: 136, addr: 16, protocol: 128, target: 140, counts: 152, header: 168, flags: 131, gotoed: 0x04, proto: 0x01}, true
	}
	return layout{}, false
}

// Sizes and offsets that both families share.
const (
	tableNameLen = 32 // XT_TABLE_MAXNAMELEN

	// struct ipt_getinfo
	infoHooks     = tableNameLen
	infoEntry     = infoHooks + 4
	infoUnderflow = infoEntry + 4*Hooks
	infoNumber    = infoUnderflow + 4*Hooks
	infoSize      = infoNumber + 4
	infoLen       = infoSize + 4

	// struct ipt_get_entries: name, size, and the entries aligned to 8
	entriesSize  = tableNameLen
	entriesStart = 40

	countsLen  = 16 // struct xt_counters
	entryAlign = 8  // of struct ipt_entry and ip6t_entry: every entry begins so (x_tables.c)

	// invflags: what is asked for must not be so (IPT_INV_*, IP6T_INV_*)
	invertSrc   = 0x08
	invertDst   = 0x10
	invertProto = 0x40

	// struct xt_entry_match and xt_entry_target: size (u16), name, revision (u8)
	extName     = 2
	extNameLen  = 29 // XT_EXTENSION_MAXNAMELEN
	extRevision = extName + extNameLen
	extHeader   = 32

	standardLen  = extHeader + 4            // struct xt_standard_target without padding
	errorNameLen = 30                       // XT_FUNCTION_MAXNAMELEN
	errorTarget  = "ERROR"                  // XT_ERROR_TARGET
	errorLen     = extHeader + errorNameLen // struct xt_error_target without padding
)

// Verdicts of a standard target: -1 minus the NF_* verdict
// (linux/netfilter.h), and XT_RETURN; 0 and up are offsets to jump to.
const (
	verdictDrop   = -1
	verdictAccept = -2
	verdictStolen = -3
	verdictQueue  = -4
	verdictReturn = -5
	verdictStop   = -6
)

func u16(b []byte) int    { return int(binary.NativeEndian.Uint16(b)) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// extension is a match or a target as it lies in an entry.
type extension struct {
	name     string
	revision uint8
	data     []byte // the private part, padding included
}

// extensionAt takes the extension that begins a piece of an entry. Its size
// must have been checked.
func extensionAt(b []byte) extension {
	return extension{
		name:     unix.ByteSliceToString(b[extName : extName+extNameLen]),
		revision: b[extRevision],
		data:     b[extHeader:u16(b)],
	}
}

// named tells whether the extension that begins a piece of an entry has a name.
func named(b []byte, name string) bool {
	return string(b[extName:extName+len(name)]) == name && b[extName+len(name)] == 0
}
