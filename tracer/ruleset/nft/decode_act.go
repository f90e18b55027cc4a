// SPDX-License-Identifier: Apache-2.0

package nft

// This file decodes the expressions that do something: verdicts, NAT, limits,
// logs, sets filled on the way. Attribute numbers are those of
// include/uapi/linux/netfilter/nf_tables.h.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// decodeImmediate: enum nft_immediate_attributes.
func decodeImmediate(a nfnetlink.Attrs) (Expr, error) {
	const dreg, data = 1, 2
	f := fields{attrs: a}
	e := Immediate{Dst: f.reg(dreg)}
	value, verdict, err := decodeData(a, data)
	switch {
	case err != nil:
		f.fail(err)
	case e.Dst == RegNone:
		f.fail(fmt.Errorf("no destination"))
	case e.Dst == RegVerdict && verdict != nil:
		e.Verdict = *verdict
	case e.Dst != RegVerdict && len(value) > 0:
		e.Data = value
	default:
		f.fail(fmt.Errorf("no data"))
	}
	return e, f.err
}

// decodeReject: enum nft_reject_attributes.
func decodeReject(a nfnetlink.Attrs) (Expr, error) {
	const typ, code = 1, 2
	f := fields{attrs: a}
	return Reject{Type: f.u32(typ), Code: uint8(f.num(code))}, f.err
}

// decodeNAT: enum nft_nat_attributes.
func decodeNAT(a nfnetlink.Attrs) (Expr, error) {
	const typ, family, addrMin, addrMax, portMin, portMax, flags = 1, 2, 3, 4, 5, 6, 7
	f := fields{attrs: a}
	e := NAT{
		Type: f.u32(typ), Family: uint8(f.num(family)), Flags: f.u32(flags),
		AddrMin: f.reg(addrMin), AddrMax: f.reg(addrMax), PortMin: f.reg(portMin), PortMax: f.reg(portMax),
	}
	if e.Type > NATDestination {
		f.fail(fmt.Errorf("no kind %d", e.Type))
	}
	return e, f.err
}

// decodeMasq: enum nft_masq_attributes.
func decodeMasq(a nfnetlink.Attrs) (Expr, error) {
	const flags, portMin, portMax = 1, 2, 3
	f := fields{attrs: a}
	return NAT{
		Type: NATMasquerade, Flags: f.u32(flags),
		AddrMin: RegNone, AddrMax: RegNone, PortMin: f.reg(portMin), PortMax: f.reg(portMax),
	}, f.err
}

// decodeRedir: enum nft_redir_attributes.
func decodeRedir(a nfnetlink.Attrs) (Expr, error) {
	const portMin, portMax, flags = 1, 2, 3
	f := fields{attrs: a}
	return NAT{
		Type: NATRedirect, Flags: f.u32(flags),
		AddrMin: RegNone, AddrMax: RegNone, PortMin: f.reg(portMin), PortMax: f.reg(portMax),
	}, f.err
}

// decodeLimit: enum nft_limit_attributes; type 1 is NFT_LIMIT_PKT_BYTES, flag 1
// NFT_LIMIT_F_INV.
func decodeLimit(a nfnetlink.Attrs) (Expr, error) {
	const rate, unit, burst, typ, flags = 1, 2, 3, 4, 5
	f := fields{attrs: a}
	return Limit{
		Rate: f.num(rate), Unit: f.num(unit), Burst: f.u32(burst),
		Bytes: f.u32(typ) == 1, Over: f.u32(flags)&1 != 0,
	}, f.err
}

// decodeLog: enum nft_log_attributes.
func decodeLog(a nfnetlink.Attrs) (Expr, error) {
	const group, prefix, snaplen, threshold, level, flags = 1, 2, 3, 4, 5, 6
	f := fields{attrs: a}
	e := Log{Flags: f.u32(flags)}
	if a.Has(prefix) {
		s := a.Text(prefix)
		e.Prefix = &s
	}
	short := func(typ uint16) *uint16 {
		if !a.Has(typ) {
			return nil
		}
		v := uint16(f.num(typ))
		return &v
	}
	long := func(typ uint16) *uint32 {
		if !a.Has(typ) {
			return nil
		}
		v := f.u32(typ)
		return &v
	}
	e.Group, e.QueueThreshold = short(group), short(threshold)
	e.SnapLen, e.Level = long(snaplen), long(level)
	return e, f.err
}

// decodeQuota: enum nft_quota_attributes; flag 1 is NFT_QUOTA_F_INV.
func decodeQuota(a nfnetlink.Attrs) (Expr, error) {
	const size, flags = 1, 2
	f := fields{attrs: a}
	return Quota{Bytes: f.num(size), Over: f.u32(flags)&1 != 0}, f.err
}

// decodeConnlimit: enum nft_connlimit_attributes; flag 1 is
// NFT_CONNLIMIT_F_INV.
func decodeConnlimit(a nfnetlink.Attrs) (Expr, error) {
	const count, flags = 1, 2
	f := fields{attrs: a}
	return Connlimit{Count: f.u32(count), Over: f.u32(flags)&1 != 0}, f.err
}

// decodeTProxy: enum nft_tproxy_attributes.
func decodeTProxy(a nfnetlink.Attrs) (Expr, error) {
	const family, addr, port = 1, 2, 3
	f := fields{attrs: a}
	return TProxy{Family: uint8(f.num(family)), Addr: f.reg(addr), Port: f.reg(port)}, f.err
}

// decodeDup: enum nft_dup_attributes.
func decodeDup(a nfnetlink.Attrs) (Expr, error) {
	const addr, dev = 1, 2
	f := fields{attrs: a}
	return Dup{Addr: f.reg(addr), Dev: f.reg(dev)}, f.err
}

// decodeFwd: enum nft_fwd_attributes.
func decodeFwd(a nfnetlink.Attrs) (Expr, error) {
	const dev, addr, family = 1, 2, 3
	f := fields{attrs: a}
	return Fwd{Dev: f.slot(dev), Addr: f.reg(addr), Family: uint8(f.num(family))}, f.err
}

// decodeQueue: enum nft_queue_attributes.
func decodeQueue(a nfnetlink.Attrs) (Expr, error) {
	const num, total, flags, sreg = 1, 2, 3, 4
	f := fields{attrs: a}
	return Queue{Num: uint16(f.num(num)), Total: uint16(f.num(total)), Flags: uint16(f.num(flags)), Src: f.reg(sreg)}, f.err
}

// decodeObjref: enum nft_objref_attributes.
func decodeObjref(a nfnetlink.Attrs) (Expr, error) {
	const typ, name, sreg, set = 1, 2, 3, 4
	f := fields{attrs: a}
	e := Objref{Type: f.u32(typ), Name: a.Text(name), Src: f.reg(sreg), Set: a.Text(set)}
	if e.Name == "" && (e.Set == "" || e.Src < 0) {
		f.fail(fmt.Errorf("neither an object nor a map"))
	}
	return e, f.err
}

// decodeSynproxy: enum nft_synproxy_attributes.
func decodeSynproxy(a nfnetlink.Attrs) (Expr, error) {
	const mss, wscale, flags = 1, 2, 3
	f := fields{attrs: a}
	return Synproxy{MSS: uint16(f.num(mss)), Wscale: uint8(f.num(wscale)), Flags: f.u32(flags)}, f.err
}

// decodeFlowOffload: enum nft_offload_attributes.
func decodeFlowOffload(a nfnetlink.Attrs) (Expr, error) {
	const table = 1
	return FlowOffload{Table: a.Text(table)}, nil
}

// decodeDynset: enum nft_dynset_attributes; flag 1 is NFT_DYNSET_F_INV. It
// carries expressions, which carry none themselves.
func decodeDynset(b []byte) (Expr, error) {
	const set, op, key, data, timeout, expr, flags, exprs = 1, 3, 4, 5, 6, 7, 9, 10
	a, err := nfnetlink.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("expression dynset: %w", err)
	}
	f := fields{attrs: a}
	e := Dynset{
		Set: a.Text(set), Op: f.u32(op), Key: f.slot(key), Data: f.reg(data),
		Timeout: f.num(timeout), Invert: f.u32(flags)&1 != 0,
	}
	for _, item := range a {
		switch item.Type {
		case expr:
			e.Exprs = f.nested(e.Exprs, item.Value)
		case exprs:
			list, err := nfnetlink.Parse(item.Value)
			if err != nil {
				f.fail(err)
			}
			for _, i := range list {
				e.Exprs = f.nested(e.Exprs, i.Value)
			}
		}
	}
	if f.err != nil {
		return nil, fmt.Errorf("expression dynset: %w", f.err)
	}
	return e, nil
}

// nested appends an expression that is part of another one.
func (f *fields) nested(list []Expr, b []byte) []Expr {
	e, err := decodeExpr(b, 1)
	if err != nil {
		f.fail(err)
		return list
	}
	return append(list, e)
}
