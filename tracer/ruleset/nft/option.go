// SPDX-License-Identifier: Apache-2.0

package nft

// This file describes what the exthdr expression loads from: IPv6 extension
// headers, TCP and IPv4 options and SCTP chunks, with nft's names (man 8 nft,
// EXTENSION HEADER EXPRESSIONS). Places are in bits from the header's or
// option's beginning.

// option is one extension header, option or chunk.
type option struct {
	number uint8
	name   string
	fields []field
}

// find gives the field at a place.
func (o *option) find(offset, bits uint) *field {
	for i := range o.fields {
		if f := &o.fields[i]; f.offset == offset && f.bits == bits {
			return f
		}
	}
	return nil
}

// ipv6Options are by next-header number; the routing header has names for
// several of its types.
var ipv6Options = []option{
	{0, "hbh", []field{typed("nexthdr", typeInetProto, 0, 8), plain("hdrlength", 8, 8)}},
	{43, "rt", []field{typed("nexthdr", typeInetProto, 0, 8), plain("hdrlength", 8, 8), plain("type", 16, 8), plain("seg-left", 24, 8)}},
	{43, "srh", []field{plain("last-entry", 32, 8), plain("flags", 40, 8), plain("tag", 48, 16), typed("sid[1]", typeIP6Addr, 64, 128), typed("sid[2]", typeIP6Addr, 192, 128)}},
	{43, "rt0", []field{plain("reserved", 32, 32)}},
	{44, "frag", []field{
		typed("nexthdr", typeInetProto, 0, 8), plain("reserved", 8, 8), plain("frag-off", 16, 13), plain("reserved2", 29, 2),
		plain("more-fragments", 31, 1), plain("id", 32, 32),
	}},
	{60, "dst", []field{typed("nexthdr", typeInetProto, 0, 8), plain("hdrlength", 8, 8)}},
	{135, "mh", []field{
		typed("nexthdr", typeInetProto, 0, 8), plain("hdrlength", 8, 8), typed("type", typeMHType, 16, 8), plain("reserved", 24, 8),
		plain("checksum", 32, 16),
	}},
}

// tcpOptions are by kind.
var tcpOptions = []option{
	{0, "eol", []field{plain("kind", 0, 8)}},
	{1, "nop", []field{plain("kind", 0, 8)}},
	{2, "maxseg", []field{plain("kind", 0, 8), plain("length", 8, 8), plain("size", 16, 16)}},
	{3, "window", []field{plain("kind", 0, 8), plain("length", 8, 8), plain("count", 16, 8)}},
	{4, "sack-perm", []field{plain("kind", 0, 8), plain("length", 8, 8)}},
	{5, "sack", []field{plain("kind", 0, 8), plain("length", 8, 8), plain("left", 16, 32), plain("right", 48, 32)}},
	{8, "timestamp", []field{plain("kind", 0, 8), plain("length", 8, 8), plain("tsval", 16, 32), plain("tsecr", 48, 32)}},
	{19, "md5sig", []field{plain("kind", 0, 8), plain("length", 8, 8)}},
	{30, "mptcp", []field{plain("kind", 0, 8), plain("length", 8, 8), plain("subtype", 16, 4)}},
	{34, "fastopen", []field{plain("kind", 0, 8), plain("length", 8, 8)}},
}

// tcpSack is the option whose blocks are numbered, each sackBlock bits long.
const (
	tcpSack        = 5
	sackBlock      = 64
	sackFirstBlock = 16
)

// ipv4Options are by type.
var ipv4Options = []option{
	{131, "lsrr", ipv4Route()},
	{148, "ra", []field{plain("type", 0, 8), plain("length", 8, 8), plain("value", 16, 16)}},
	{7, "rr", ipv4Route()},
	{137, "ssrr", ipv4Route()},
}

func ipv4Route() []field {
	return []field{plain("type", 0, 8), plain("length", 8, 8), plain("ptr", 16, 8), plain("addr", 24, 32)}
}

// chunk makes the fields every SCTP chunk begins with.
func chunk(more ...field) []field {
	return append([]field{plain("type", 0, 8), plain("flags", 8, 8), plain("length", 16, 16)}, more...)
}

// sctpChunks are by chunk type.
var sctpChunks = []option{
	{0, "data", chunk(plain("tsn", 32, 32), plain("stream", 64, 16), plain("ssn", 80, 16), plain("ppid", 96, 32))},
	{1, "init", chunk(sctpInit()...)},
	{2, "init-ack", chunk(sctpInit()...)},
	{3, "sack", chunk(plain("cum-tsn-ack", 32, 32), plain("a-rwnd", 64, 32), plain("num-gap-ack-blocks", 96, 16), plain("num-dup-tsns", 112, 16))},
	{4, "heartbeat", chunk()},
	{5, "heartbeat-ack", chunk()},
	{6, "abort", chunk()},
	{7, "shutdown", chunk(plain("cum-tsn-ack", 32, 32))},
	{8, "shutdown-ack", chunk()},
	{9, "error", chunk()},
	{10, "cookie-echo", chunk()},
	{11, "cookie-ack", chunk()},
	{12, "ecne", chunk(plain("lowest-tsn", 32, 32))},
	{13, "cwr", chunk(plain("lowest-tsn", 32, 32))},
	{14, "shutdown-complete", chunk()},
	{0x80, "asconf-ack", chunk(plain("seqno", 32, 32))},
	{0xc0, "forward-tsn", chunk(plain("new-cum-tsn", 32, 32))},
	{0xc1, "asconf", chunk(plain("seqno", 32, 32))},
}

func sctpInit() []field {
	return []field{
		plain("init-tag", 32, 32), plain("a-rwnd", 64, 32), plain("num-outbound-streams", 96, 16),
		plain("num-inbound-streams", 112, 16), plain("initial-tsn", 128, 32),
	}
}

// optionsOf are the options of an operation and what stands before their names.
func optionsOf(op uint32) (word string, table []option) {
	switch op {
	case ExthdrTCPOpt:
		return "tcp option ", tcpOptions
	case ExthdrIPv4:
		return "ip option ", ipv4Options
	case ExthdrSCTP:
		return "sctp chunk ", sctpChunks
	}
	return "", ipv6Options
}
