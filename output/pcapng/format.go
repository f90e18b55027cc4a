// SPDX-License-Identifier: Apache-2.0

// Package pcapng writes a trace as an annotated capture that wireshark and
// tshark open, and reads it back whole. It follows draft-ietf-opsawg-pcapng-03;
// what other programs make of such a file, and what travels in it for us alone,
// is told in docs/pcapng.md.
package pcapng

// This file holds the numbers of the format. Sections (§) are those of
// draft-ietf-opsawg-pcapng-03.

// Types of blocks (§11.1).
const (
	blockSection   = 0x0A0D0D0A // Section Header Block, §4.1; reads the same in both byte orders
	blockInterface = 0x00000001 // Interface Description Block, §4.2
	blockNames     = 0x00000004 // Name Resolution Block, §4.5
	blockStats     = 0x00000005 // Interface Statistics Block, §4.6
	blockPacket    = 0x00000006 // Enhanced Packet Block, §4.3
	// blockObject holds an object of the trace as JSON. Types with the highest
	// bit set are for local use (§3.1, §11.1): readers that do not know one skip
	// it. A Custom Block (§4.7) would want a Private Enterprise Number, which this
	// project has none of (the one set aside for documentation is not for use),
	// and wireshark lists Custom Blocks among the packets.
	blockObject = 0x80007074
)

// byteOrderMagic tells a section's byte order (§4.1).
const byteOrderMagic = 0x1A2B3C4D

// versionMajor and versionMinor of the format (§4.1).
const (
	versionMajor = 1
	versionMinor = 0
)

// Sizes in bytes.
const (
	blockOverhead = 12        // type, length, and the length again (§3.1)
	maxOption     = 1<<16 - 1 // of an option's value, whose length has 16 bits (§3.5)
)

// Codes of options (§3.5 for all blocks, then those of each block).
const (
	optEnd     = 0 // opt_endofopt
	optComment = 1 // opt_comment, UTF-8

	optSectionOS   = 3 // shb_os, §4.1
	optSectionAppl = 4 // shb_userappl

	optInterfaceName        = 2 // if_name, §4.2
	optInterfaceDescription = 3 // if_description
	optInterfaceResolution  = 9 // if_tsresol: 9 is 10^-9 s

	optPacketFlags     = 2 // epb_flags, 32 bits, §4.3
	optPacketDropCount = 4 // epb_dropcount, 64 bits
	optPacketID        = 5 // epb_packetid, 64 bits
	optPacketVerdict   = 7 // epb_verdict, a type of 8 bits and its value

	optStatsStart   = 2 // isb_starttime, 64 bits, §4.6
	optStatsEnd     = 3 // isb_endtime, 64 bits
	optStatsOSDrop  = 7 // isb_osdrop, 64 bits
	optStatsDeliver = 8 // isb_usrdeliv, 64 bits

	// optRoom is room for a comment that is known only at the end: a finding's,
	// the verdict's. Codes with the highest bit set are for local use (§3.5).
	optRoom = 0x8072
)

// Values of epb_flags (§4.3.1): bits 0 and 1 say which way a packet went
// through the interface.
const (
	flagInbound  = 1
	flagOutbound = 2
)

// verdictTC is epb_verdict's type for a verdict of tc (Linux_eBPF_TC, §4.3);
// its value is a TC_ACT_ number of include/uapi/linux/pkt_cls.h.
const (
	verdictTC = 1
	tcActShot = 2
)

// Types of records of names (§4.5).
const (
	nameEnd  = 0 // nrb_record_end
	nameIPv4 = 1 // nrb_record_ipv4: 4 bytes, then names each ended by a 0
	nameIPv6 = 2 // nrb_record_ipv6: 16 bytes, then the same
)

// Link types (draft-ietf-opsawg-pcaplinktype).
const (
	linkEthernet = 1   // LINKTYPE_ETHERNET
	linkRaw      = 101 // LINKTYPE_RAW: an IP packet without link-layer header
)

// A blockObject's body is objectMagic, a version, flags of 16 bits, the length
// of the JSON text in this block in 32 bits, and the text, padded to 32 bits.
// The magic tells it from what others put into blocks of the same type.
const (
	objectMagic   = "pathtrace"
	objectVersion = 1
	objectHead    = len(objectMagic) + 1 + 2 + 4
	objectGoesOn  = 1       // flag: the object's text goes on in the next blockObject
	objectChunk   = 1 << 20 // bytes of text in one block at most: wireshark takes blocks up to 16 MiB
	maxObject     = 64 << 20
)

// pad gives how many bytes are missing to a multiple of 4.
func pad(n int) int { return -n & 3 }
