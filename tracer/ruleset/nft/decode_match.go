// SPDX-License-Identifier: Apache-2.0

package nft

// This file decodes the expressions that load, compute and compare. Attribute
// numbers are those of include/uapi/linux/netfilter/nf_tables.h, in the order
// of the enum each comment names.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// decodePayload: enum nft_payload_attributes.
func decodePayload(a nfnetlink.Attrs) (Expr, error) {
	const dreg, base, offset, length, sreg = 1, 2, 3, 4, 5
	f := fields{attrs: a}
	e := Payload{Base: f.u32(base), Offset: f.u32(offset), Len: f.u32(length), Dst: f.reg(dreg), Src: f.reg(sreg)}
	if e.Dst < 0 && e.Src < 0 {
		f.fail(fmt.Errorf("neither source nor destination"))
	}
	if e.Len == 0 || e.Len > maxData || e.Offset > 0xffff {
		f.fail(fmt.Errorf("%d bytes at %d", e.Len, e.Offset))
	}
	return e, f.err
}

// decodeMeta: enum nft_meta_attributes.
func decodeMeta(a nfnetlink.Attrs) (Expr, error) {
	const dreg, key, sreg = 1, 2, 3
	f := fields{attrs: a}
	e := Meta{Key: MetaKey(f.u32(key)), Dst: f.reg(dreg), Src: f.reg(sreg)}
	if e.Dst < 0 && e.Src < 0 {
		f.fail(fmt.Errorf("neither source nor destination"))
	}
	return e, f.err
}

// decodeCT: enum nft_ct_attributes.
func decodeCT(a nfnetlink.Attrs) (Expr, error) {
	const dreg, key, direction, sreg = 1, 2, 3, 4
	f := fields{attrs: a}
	e := CT{Key: CTKey(f.u32(key)), Direction: -1, Dst: f.reg(dreg), Src: f.reg(sreg)}
	if a.Has(direction) {
		e.Direction = int(f.u32(direction))
	}
	if e.Dst < 0 && e.Src < 0 {
		f.fail(fmt.Errorf("neither source nor destination"))
	}
	return e, f.err
}

// decodeCmp: enum nft_cmp_attributes.
func decodeCmp(a nfnetlink.Attrs) (Expr, error) {
	const sreg, op, data = 1, 2, 3
	f := fields{attrs: a}
	e := Cmp{Src: f.slot(sreg), Op: Op(f.u32(op)), Data: f.data(data)}
	if e.Op > OpGte {
		f.fail(fmt.Errorf("no comparison %d", e.Op))
	}
	return e, f.err
}

// decodeRange: enum nft_range_attributes.
func decodeRange(a nfnetlink.Attrs) (Expr, error) {
	const sreg, op, from, to = 1, 2, 3, 4
	f := fields{attrs: a}
	e := Range{Src: f.slot(sreg), Op: Op(f.u32(op)), From: f.data(from), To: f.data(to)}
	if e.Op > OpNeq || len(e.From) != len(e.To) {
		f.fail(fmt.Errorf("operation %d on ranges of %d and %d bytes", e.Op, len(e.From), len(e.To)))
	}
	return e, f.err
}

// decodeBitwise: enum nft_bitwise_attributes; the second source register is of
// Linux 6.13.
func decodeBitwise(a nfnetlink.Attrs) (Expr, error) {
	const sreg, dreg, length, mask, xor, op, data, sreg2 = 1, 2, 3, 4, 5, 6, 7, 8
	f := fields{attrs: a}
	e := Bitwise{Src: f.slot(sreg), Dst: f.slot(dreg), Src2: f.reg(sreg2), Len: f.u32(length), Op: f.u32(op)}
	if e.Len == 0 || e.Len > maxData {
		f.fail(fmt.Errorf("%d bytes", e.Len))
	}
	switch {
	case e.Op == BitwiseMaskXor:
		e.Mask, e.Xor = f.data(mask), f.data(xor)
		if len(e.Mask) != len(e.Xor) || len(e.Mask) != int(e.Len) {
			f.fail(fmt.Errorf("mask of %d and xor of %d bytes for %d", len(e.Mask), len(e.Xor), e.Len))
		}
	case e.Src2 == RegNone:
		e.Data = f.data(data)
		if len(e.Data) > int(e.Len) && len(e.Data) > slotSize {
			f.fail(fmt.Errorf("operand of %d bytes for %d", len(e.Data), e.Len))
		}
	}
	return e, f.err
}

// decodeByteorder: enum nft_byteorder_attributes; operation 1 is hton.
func decodeByteorder(a nfnetlink.Attrs) (Expr, error) {
	const sreg, dreg, op, length, size = 1, 2, 3, 4, 5
	f := fields{attrs: a}
	e := Byteorder{Src: f.slot(sreg), Dst: f.slot(dreg), ToNetwork: f.u32(op) == 1, Len: f.u32(length), Size: f.u32(size)}
	if e.Len == 0 || e.Len > maxData || e.Size == 0 {
		f.fail(fmt.Errorf("%d bytes in units of %d", e.Len, e.Size))
	}
	return e, f.err
}

// decodeLookup: enum nft_lookup_attributes; flag 1 is NFT_LOOKUP_F_INV.
func decodeLookup(a nfnetlink.Attrs) (Expr, error) {
	const set, sreg, dreg, flags = 1, 2, 3, 5
	f := fields{attrs: a}
	e := Lookup{Set: a.Text(set), Src: f.slot(sreg), Dst: f.reg(dreg), Invert: f.u32(flags)&1 != 0}
	if e.Set == "" {
		f.fail(fmt.Errorf("no set"))
	}
	return e, f.err
}

// decodeFIB: enum nft_fib_attributes.
func decodeFIB(a nfnetlink.Attrs) (Expr, error) {
	const dreg, result, flags = 1, 2, 3
	f := fields{attrs: a}
	e := FIB{Dst: f.slot(dreg), Result: f.u32(result), Flags: f.u32(flags)}
	return e, f.err
}

// decodeRT: enum nft_rt_attributes.
func decodeRT(a nfnetlink.Attrs) (Expr, error) {
	const dreg, key = 1, 2
	f := fields{attrs: a}
	e := RT{Dst: f.slot(dreg), Key: f.u32(key)}
	return e, f.err
}

// decodeSocket: enum nft_socket_attributes.
func decodeSocket(a nfnetlink.Attrs) (Expr, error) {
	const key, dreg, level = 1, 2, 3
	f := fields{attrs: a}
	e := Socket{Key: f.u32(key), Dst: f.slot(dreg), Level: f.u32(level)}
	return e, f.err
}

// decodeExthdr: enum nft_exthdr_attributes; flag 1 is NFT_EXTHDR_F_PRESENT.
func decodeExthdr(a nfnetlink.Attrs) (Expr, error) {
	const dreg, typ, offset, length, flags, op, sreg = 1, 2, 3, 4, 5, 6, 7
	f := fields{attrs: a}
	e := Exthdr{
		Op: f.u32(op), Type: uint8(f.num(typ)), Offset: f.u32(offset), Len: f.u32(length),
		Present: f.u32(flags)&1 != 0, Dst: f.reg(dreg), Src: f.reg(sreg),
	}
	if e.Len > maxData || e.Offset > 0xffff {
		f.fail(fmt.Errorf("%d bytes at %d", e.Len, e.Offset))
	}
	return e, f.err
}

// decodeNumgen: enum nft_ng_attributes; type 1 is NFT_NG_RANDOM.
func decodeNumgen(a nfnetlink.Attrs) (Expr, error) {
	const dreg, modulus, typ, offset = 1, 2, 3, 4
	f := fields{attrs: a}
	e := Numgen{Dst: f.slot(dreg), Modulus: f.u32(modulus), Random: f.u32(typ) == 1, Offset: f.u32(offset)}
	return e, f.err
}

// decodeHash: enum nft_hash_attributes; type 1 is NFT_HASH_SYM.
func decodeHash(a nfnetlink.Attrs) (Expr, error) {
	const sreg, dreg, length, modulus, seed, offset, typ = 1, 2, 3, 4, 5, 6, 7
	f := fields{attrs: a}
	e := Hash{
		Symmetric: f.u32(typ) == 1, Src: f.reg(sreg), Dst: f.slot(dreg),
		Len: f.u32(length), Modulus: f.u32(modulus), Offset: f.u32(offset),
	}
	if a.Has(seed) {
		s := f.u32(seed)
		e.Seed = &s
	}
	if !e.Symmetric && (e.Src < 0 || e.Len == 0 || e.Len > maxData) {
		f.fail(fmt.Errorf("nothing to hash"))
	}
	return e, f.err
}

// decodeTunnel: enum nft_tunnel_attributes.
func decodeTunnel(a nfnetlink.Attrs) (Expr, error) {
	const key, dreg, mode = 1, 2, 3
	f := fields{attrs: a}
	e := Tunnel{Key: f.u32(key), Dst: f.slot(dreg), Mode: f.u32(mode)}
	return e, f.err
}

// decodeOSF: enum nft_osf_attributes; flag 1 is NFT_OSF_F_VERSION.
func decodeOSF(a nfnetlink.Attrs) (Expr, error) {
	const dreg, ttl, flags = 1, 2, 3
	f := fields{attrs: a}
	e := OSF{Dst: f.slot(dreg), TTL: uint8(f.num(ttl)), Version: f.u32(flags)&1 != 0}
	return e, f.err
}

// decodeXFRM: enum nft_xfrm_attributes; direction 1 is XFRM_POLICY_OUT.
func decodeXFRM(a nfnetlink.Attrs) (Expr, error) {
	const dreg, key, dir, spnum = 1, 2, 3, 4
	f := fields{attrs: a}
	e := XFRM{Dst: f.slot(dreg), Key: f.u32(key), Out: f.num(dir) == 1, SPNum: f.u32(spnum)}
	return e, f.err
}

// decodeMatch: enum nft_match_attributes (linux/netfilter/nf_tables_compat.h).
func decodeMatch(a nfnetlink.Attrs) (Expr, error) {
	const name, rev, info = 1, 2, 3
	f := fields{attrs: a}
	blob, _ := a.Get(info)
	return Match{Name: a.Text(name), Rev: f.u32(rev), Info: blob}, f.err
}

// decodeTarget: enum nft_target_attributes.
func decodeTarget(a nfnetlink.Attrs) (Expr, error) {
	const name, rev, info = 1, 2, 3
	f := fields{attrs: a}
	blob, _ := a.Get(info)
	return Target{Name: a.Text(name), Rev: f.u32(rev), Info: blob}, f.err
}
