// SPDX-License-Identifier: Apache-2.0

package nft

// This file holds the types of all expressions that a rule is made of, as the
// kernel keeps them (net/netfilter/nft_*.c; attributes in
// include/uapi/linux/netfilter/nf_tables.h). They are data only.

// Expr is one expression of a rule.
type Expr interface {
	// Kind is the kernel's name of the expression: payload, cmp, lookup, ...
	Kind() string
}

// Reg is a register: the number of a 32-bit slot, 0 to 15. The old 128-bit
// registers 1 to 4 begin at slots 0, 4, 8 and 12.
type Reg int8

// Registers that are no slot.
const (
	RegVerdict Reg = -1 // NFT_REG_VERDICT
	RegNone    Reg = -2 // the attribute was not there
)

// Bases of a payload access (enum nft_payload_bases).
const (
	BaseLink      = 0
	BaseNetwork   = 1
	BaseTransport = 2
	BaseInner     = 3
)

// Payload loads bytes of the packet into Dst, or writes Src to the packet.
type Payload struct {
	Base, Offset, Len uint32 // bytes
	Dst, Src          Reg    // one of them
}

// Meta loads a property of the packet into Dst, or sets it from Src.
type Meta struct {
	Key      MetaKey
	Dst, Src Reg
}

// CT loads a property of the packet's connection, or sets it.
type CT struct {
	Key       CTKey
	Direction int // 0 original, 1 reply, -1 not given
	Dst, Src  Reg
}

// Op is the way two values are compared (enum nft_cmp_ops).
type Op uint8

// Comparisons.
const (
	OpEq Op = iota
	OpNeq
	OpLt
	OpLte
	OpGt
	OpGte
)

// Cmp ends the rule unless the register compares so to Data.
type Cmp struct {
	Src  Reg
	Op   Op
	Data []byte
}

// Range ends the rule unless the register lies within (OpEq) or without
// (OpNeq) two values.
type Range struct {
	Src      Reg
	Op       Op
	From, To []byte
}

// Operations of Bitwise (enum nft_bitwise_ops). Those with a second register or
// a plain AND, OR or XOR are of Linux 6.13.
const (
	BitwiseMaskXor = 0
	BitwiseLshift  = 1
	BitwiseRshift  = 2
	BitwiseAnd     = 3
	BitwiseOr      = 4
	BitwiseXor     = 5
)

// Bitwise computes Dst = (Src & Mask) ^ Xor, or a shift by Shift bits, or joins
// Src with Src2.
type Bitwise struct {
	Src, Dst, Src2 Reg
	Len            uint32 // bytes
	Op             uint32
	Mask, Xor      []byte
	Data           []byte // shifts: the number of bits, 4 bytes of host order
}

// Byteorder swaps the bytes of a register in units of Size.
type Byteorder struct {
	Src, Dst  Reg
	ToNetwork bool
	Len, Size uint32 // bytes
}

// Lookup searches a set for the key in Src. Without Dst it ends the rule unless
// the key is there (Invert: unless it is not); with Dst the element's data is
// loaded, a verdict when Dst is RegVerdict.
type Lookup struct {
	Set      string
	Src, Dst Reg // Dst is RegNone for a plain set
	Invert   bool
}

// Verdict codes (linux/netfilter.h, enum nft_verdicts).
const (
	VerdictDrop     = 0
	VerdictAccept   = 1
	VerdictStolen   = 2
	VerdictQueue    = 3
	VerdictRepeat   = 4
	VerdictContinue = -1
	VerdictBreak    = -2
	VerdictJump     = -3
	VerdictGoto     = -4
	VerdictReturn   = -5
)

// Verdict is what a rule or an element of a verdict map decides.
type Verdict struct {
	Code  int32
	Chain string // jump and goto
}

// Immediate loads a value into Dst, or sets the verdict when Dst is RegVerdict.
type Immediate struct {
	Dst     Reg
	Data    []byte
	Verdict Verdict
}

// Kinds of Reject (enum nft_reject_types).
const (
	RejectICMP     = 0
	RejectTCPReset = 1
	RejectICMPX    = 2
)

// Reject answers the sender and drops the packet.
type Reject struct {
	Type uint32
	Code uint8
}

// Kinds of NAT.
const (
	NATSource      = 0 // NFT_NAT_SNAT
	NATDestination = 1 // NFT_NAT_DNAT
	NATMasquerade  = 2 // expression masq
	NATRedirect    = 3 // expression redir
)

// NAT translates addresses: expressions nat, masq and redir.
type NAT struct {
	Type             uint32
	Family           uint8 // NFPROTO_*, nat only
	AddrMin, AddrMax Reg
	PortMin, PortMax Reg
	Flags            uint32 // NF_NAT_RANGE_* (linux/netfilter/nf_nat.h)
}

// Limit matches up to a rate (Over: beyond it).
type Limit struct {
	Rate  uint64 // packets or bytes per Unit
	Unit  uint64 // seconds
	Burst uint32
	Bytes bool
	Over  bool
}

// Log writes to the kernel log or a netlink group.
type Log struct {
	Prefix                *string
	Group, QueueThreshold *uint16
	SnapLen, Level        *uint32
	Flags                 uint32 // NF_LOG_* (linux/netfilter/nf_log.h)
}

// Counter counts. Its values are not kept: they differ at each look.
type Counter struct{}

// Last remembers when it was passed.
type Last struct{}

// Quota matches until Bytes have passed (Over: afterwards).
type Quota struct {
	Bytes uint64
	Over  bool
}

// Connlimit matches up to Count connections (Over: beyond).
type Connlimit struct {
	Count uint32
	Over  bool
}

// Results of FIB (enum nft_fib_result) and its flags (enum nft_fib_flags).
const (
	FIBOif      = 1
	FIBOifname  = 2
	FIBAddrType = 3

	FIBSaddr   = 1 << 0
	FIBDaddr   = 1 << 1
	FIBMark    = 1 << 2
	FIBIif     = 1 << 3
	FIBOifFlag = 1 << 4
	FIBPresent = 1 << 5
)

// FIB loads the result of a route look-up.
type FIB struct {
	Result, Flags uint32
	Dst           Reg
}

// RT loads a property of the packet's route (enum nft_rt_keys).
type RT struct {
	Key uint32
	Dst Reg
}

// Socket loads a property of the packet's socket (enum nft_socket_keys).
type Socket struct {
	Key, Level uint32
	Dst        Reg
}

// Operations of Exthdr (enum nft_exthdr_op).
const (
	ExthdrIPv6   = 0
	ExthdrTCPOpt = 1
	ExthdrIPv4   = 2
	ExthdrSCTP   = 3
	ExthdrDCCP   = 4
)

// Exthdr loads from (Dst) or writes to (Src) an IPv6 extension header, an IPv4
// or TCP option or an SCTP chunk; with neither it strips a TCP option.
type Exthdr struct {
	Op          uint32
	Type        uint8
	Offset, Len uint32 // bytes
	Present     bool   // loads whether it is there
	Dst, Src    Reg
}

// Numgen loads a number below Modulus, counted or random, plus Offset.
type Numgen struct {
	Random          bool
	Modulus, Offset uint32
	Dst             Reg
}

// Hash loads the Jenkins hash of Len bytes from Src, or the symmetric hash of
// the packet (Symmetric), modulo Modulus, plus Offset.
type Hash struct {
	Symmetric       bool
	Modulus, Offset uint32
	Seed            *uint32
	Src, Dst        Reg
	Len             uint32 // bytes
}

// Notrack keeps the packet from connection tracking.
type Notrack struct{}

// TProxy hands the packet to a local socket.
type TProxy struct {
	Family     uint8
	Addr, Port Reg
}

// Dup sends a copy elsewhere.
type Dup struct{ Addr, Dev Reg }

// Fwd sends the packet out of another device.
type Fwd struct {
	Dev, Addr Reg
	Family    uint8
}

// Queue hands the packet to a program in user space.
type Queue struct {
	Num, Total uint16
	Flags      uint16
	Src        Reg // the number is in a register
}

// Objref uses a named object, or the one a map has for the key in Src.
type Objref struct {
	Type uint32 // NFT_OBJECT_*
	Name string
	Src  Reg
	Set  string
}

// Synproxy answers connection attempts in the receiver's stead.
type Synproxy struct {
	MSS    uint16
	Wscale uint8
	Flags  uint32 // NF_SYNPROXY_OPT_*
}

// Operations of Dynset (enum nft_dynset_ops).
const (
	DynsetAdd    = 0
	DynsetUpdate = 1
	DynsetDelete = 2
)

// Dynset puts the key in Key into a set, or takes it out.
type Dynset struct {
	Set       string
	Op        uint32
	Key, Data Reg
	Timeout   uint64 // ms; 0: the set's
	Invert    bool
	Exprs     []Expr
}

// Tunnel loads tunnel metadata (enum nft_tunnel_keys).
type Tunnel struct {
	Key, Mode uint32
	Dst       Reg
}

// OSF loads the name of the sender's operating system.
type OSF struct {
	TTL     uint8
	Version bool
	Dst     Reg
}

// XFRM loads a property of the IPsec state (enum nft_xfrm_keys).
type XFRM struct {
	Key, SPNum uint32
	Out        bool
	Dst        Reg
}

// FlowOffload hands the connection to a flowtable.
type FlowOffload struct{ Table string }

// Match is a match of xtables inside an nft rule (net/netfilter/nft_compat.c):
// the decoders of package xt understand its blob.
type Match struct {
	Name string
	Rev  uint32
	Info []byte // padded to 8 bytes by the kernel
}

// Target is a target of xtables.
type Target struct {
	Name string
	Rev  uint32
	Info []byte
}

// Opaque is an expression this package does not know.
type Opaque struct {
	Name string
	Data []byte // its attributes
}
