// SPDX-License-Identifier: Apache-2.0

package nft

// This file makes expressions of their attributes. A new one is a function in a
// decode_*.go file and a row in the table below.

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// maxExprs bounds the expressions of one rule (NFT_RULE_MAXEXPRS,
// net/netfilter/nf_tables_api.c).
const maxExprs = 128

// decoder makes an expression of the attributes nested in it.
type decoder func(nfnetlink.Attrs) (Expr, error)

// decoders are the expressions known, by the kernel's name.
var decoders = map[string]decoder{
	"payload":      decodePayload,
	"meta":         decodeMeta,
	"ct":           decodeCT,
	"cmp":          decodeCmp,
	"range":        decodeRange,
	"bitwise":      decodeBitwise,
	"byteorder":    decodeByteorder,
	"lookup":       decodeLookup,
	"immediate":    decodeImmediate,
	"reject":       decodeReject,
	"nat":          decodeNAT,
	"masq":         decodeMasq,
	"redir":        decodeRedir,
	"limit":        decodeLimit,
	"log":          decodeLog,
	"counter":      func(nfnetlink.Attrs) (Expr, error) { return Counter{}, nil },
	"last":         func(nfnetlink.Attrs) (Expr, error) { return Last{}, nil },
	"quota":        decodeQuota,
	"connlimit":    decodeConnlimit,
	"fib":          decodeFIB,
	"rt":           decodeRT,
	"socket":       decodeSocket,
	"exthdr":       decodeExthdr,
	"numgen":       decodeNumgen,
	"hash":         decodeHash,
	"notrack":      func(nfnetlink.Attrs) (Expr, error) { return Notrack{}, nil },
	"tproxy":       decodeTProxy,
	"dup":          decodeDup,
	"fwd":          decodeFwd,
	"queue":        decodeQueue,
	"objref":       decodeObjref,
	"synproxy":     decodeSynproxy,
	"tunnel":       decodeTunnel,
	"osf":          decodeOSF,
	"xfrm":         decodeXFRM,
	"flow_offload": decodeFlowOffload,
	"match":        decodeMatch,
	"target":       decodeTarget,
}

// Attributes of a list and of an expression (enum nft_list_attributes,
// nft_expr_attributes).
const (
	attrListElem = 1 // NFTA_LIST_ELEM
	attrExprName = 1 // NFTA_EXPR_NAME
	attrExprData = 2 // NFTA_EXPR_DATA
)

// decodeExprs decodes a list of expressions.
func decodeExprs(b []byte) ([]Expr, error) {
	list, err := nfnetlink.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("expressions: %w", err)
	}
	if len(list) > maxExprs {
		return nil, fmt.Errorf("%d expressions where %d are allowed", len(list), maxExprs)
	}
	exprs := make([]Expr, 0, len(list))
	for _, item := range list {
		if item.Type != attrListElem {
			continue
		}
		e, err := decodeExpr(item.Value, 0)
		if err != nil {
			return nil, err
		}
		exprs = append(exprs, e)
	}
	return exprs, nil
}

// decodeExpr decodes one expression; depth counts those it is nested in.
func decodeExpr(b []byte, depth int) (Expr, error) {
	attrs, err := nfnetlink.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	name := attrs.Text(attrExprName)
	if name == "" {
		return nil, fmt.Errorf("expression without a name")
	}
	data, _ := attrs.Get(attrExprData)
	if name == "dynset" && depth == 0 {
		return decodeDynset(data)
	}
	decode, known := decoders[name]
	if !known {
		return Opaque{Name: name, Data: data}, nil
	}
	inner, err := nfnetlink.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("expression %s: %w", name, err)
	}
	e, err := decode(inner)
	if err != nil {
		return nil, fmt.Errorf("expression %s: %w", name, err)
	}
	return e, nil
}

// Numbers of registers (enum nft_registers).
const (
	nftReg1     = 1
	nftReg4     = 4
	nftReg32    = 8
	regSlots    = 16
	slotSize    = 4
	slotsPerReg = 4
)

// register reads a register's number.
func register(a nfnetlink.Attrs, typ uint16) (Reg, error) {
	n, ok := a.Uint32(typ)
	switch {
	case !ok:
		return RegNone, nil
	case n == 0:
		return RegVerdict, nil
	case n >= nftReg1 && n <= nftReg4:
		return Reg((n - nftReg1) * slotsPerReg), nil
	case n >= nftReg32 && n < nftReg32+regSlots:
		return Reg(n - nftReg32), nil
	}
	return RegNone, fmt.Errorf("no register %d", n)
}

// fields reads attributes and remembers the first thing wrong.
type fields struct {
	attrs nfnetlink.Attrs
	err   error
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// reg reads a register that may be missing.
func (f *fields) reg(typ uint16) Reg {
	r, err := register(f.attrs, typ)
	if err != nil {
		f.fail(err)
	}
	return r
}

// slot reads a register that has to be there and to be no verdict.
func (f *fields) slot(typ uint16) Reg {
	r := f.reg(typ)
	if r < 0 {
		f.fail(fmt.Errorf("attribute %d: no register", typ))
	}
	return r
}

// num reads a number of any size; 0 when it is not there.
func (f *fields) num(typ uint16) uint64 {
	v, ok := f.attrs.Number(typ)
	if !ok && f.attrs.Has(typ) {
		f.fail(fmt.Errorf("attribute %d: no number", typ))
	}
	return v
}

func (f *fields) u32(typ uint16) uint32 { return uint32(f.num(typ)) }

// Attributes of a value (enum nft_data_attributes, nft_verdict_attributes).
const (
	attrDataValue    = 1
	attrDataVerdict  = 2
	attrVerdictCode  = 1
	attrVerdictChain = 2
)

// maxData is NFT_DATA_VALUE_MAXLEN.
const maxData = 64

// data reads a value that has to be there.
func (f *fields) data(typ uint16) []byte {
	v, verdict, err := decodeData(f.attrs, typ)
	switch {
	case err != nil:
		f.fail(err)
	case verdict != nil:
		f.fail(fmt.Errorf("attribute %d: a verdict where a value is due", typ))
	case len(v) == 0:
		f.fail(fmt.Errorf("attribute %d: no value", typ))
	}
	return v
}

// decodeData reads a value or a verdict; both are nil when it is not there.
func decodeData(a nfnetlink.Attrs, typ uint16) ([]byte, *Verdict, error) {
	nest, err := a.Nest(typ)
	if err != nil {
		return nil, nil, fmt.Errorf("attribute %d: %w", typ, err)
	}
	if nest.Has(attrDataVerdict) {
		v, err := nest.Nest(attrDataVerdict)
		if err != nil {
			return nil, nil, fmt.Errorf("attribute %d: verdict: %w", typ, err)
		}
		code, ok := v.Uint32(attrVerdictCode)
		if !ok {
			return nil, nil, fmt.Errorf("attribute %d: verdict without a code", typ)
		}
		return nil, &Verdict{Code: int32(code), Chain: v.Text(attrVerdictChain)}, nil
	}
	value, _ := nest.Get(attrDataValue)
	if len(value) > maxData {
		return nil, nil, fmt.Errorf("attribute %d: value of %d bytes", typ, len(value))
	}
	return value, nil, nil
}
