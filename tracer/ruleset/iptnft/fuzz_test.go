// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file feeds the package with rules that no kernel would hand out.

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// bytesLeft is a source of arbitrary values: 0 and nothing once it is used up.
type bytesLeft struct{ b []byte }

func (s *bytesLeft) u8() uint8 {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

// data is up to 20 bytes, nil for 0.
func (s *bytesLeft) data() []byte {
	n := min(int(s.u8()%21), len(s.b))
	v := s.b[:n:n]
	s.b = s.b[n:]
	if n == 0 {
		return nil
	}
	return v
}

// reg is a register, or none, or one that is not there.
func (s *bytesLeft) reg() nft.Reg { return nft.Reg(s.u8()%22) - 3 }

// exprs are as many expressions as the bytes give.
func (s *bytesLeft) exprs() (list []nft.Expr) {
	makers := []func() nft.Expr{
		func() nft.Expr {
			return nft.Payload{Base: uint32(s.u8() % 4), Offset: uint32(s.u8() % 26), Len: uint32(s.u8() % 20), Dst: s.reg(), Src: nft.RegNone}
		},
		func() nft.Expr { return nft.Payload{Dst: nft.RegNone, Src: s.reg()} },
		func() nft.Expr { return nft.Meta{Key: nft.MetaKey(s.u8() % 24), Dst: s.reg(), Src: s.reg()} },
		func() nft.Expr { return nft.Meta{Key: nft.MetaKey(s.u8() % 24), Dst: s.reg(), Src: nft.RegNone} },
		func() nft.Expr { return nft.Cmp{Src: s.reg(), Op: nft.Op(s.u8() % 8), Data: s.data()} },
		func() nft.Expr { return nft.Cmp{Src: s.reg(), Data: []byte{protoTCP}} },
		func() nft.Expr { return nft.Range{Src: s.reg(), Op: nft.Op(s.u8() % 3), From: s.data(), To: s.data()} },
		func() nft.Expr {
			return nft.Bitwise{Src: s.reg(), Dst: s.reg(), Len: uint32(s.u8()), Op: uint32(s.u8() % 3), Mask: s.data(), Xor: s.data()}
		},
		func() nft.Expr { return nft.Immediate{Dst: s.reg(), Data: s.data()} },
		func() nft.Expr {
			return nft.Immediate{Dst: nft.RegVerdict, Verdict: nft.Verdict{Code: int32(s.u8()%10) - 6, Chain: string(s.data())}}
		},
		func() nft.Expr { return nft.Match{Name: name(s.u8()), Rev: uint32(s.u8()) * 3, Info: s.data()} },
		func() nft.Expr { return nft.Target{Name: name(s.u8()), Rev: uint32(s.u8()) * 3, Info: s.data()} },
		func() nft.Expr {
			return nft.Limit{Rate: uint64(s.u8()), Unit: uint64(s.u8()) << (s.u8() % 64), Burst: 1}
		},
		func() nft.Expr {
			group, prefix := uint16(s.u8()), string(s.data())
			return nft.Log{Group: &group, Prefix: &prefix}
		},
		func() nft.Expr { return nft.Log{} },
		func() nft.Expr { return nft.Counter{} },
		func() nft.Expr { return nft.NAT{} },
		func() nft.Expr { return nft.Opaque{Name: "log"} },
	}
	for len(s.b) > 0 {
		list = append(list, makers[int(s.u8())%len(makers)]())
	}
	return list
}

func name(n uint8) string {
	return strings.Split("tcp udp comment mark set limit conntrack icmp DNAT LOG MARK x", " ")[n%12]
}

func FuzzText(f *testing.F) {
	f.Add([]byte{3, 16, 3, 5, 3, 0, 2, 2, 2, 3, 4, 3, 0, 2, 0, 80, 9, 6}, "a comment", false)
	f.Add([]byte{0, 1, 12, 4, 3, 7, 3, 3, 4, 0, 4, 255, 255, 0, 0, 4, 0, 0, 0, 0, 4, 3, 1, 4, 10, 1, 0, 0}, "", true)
	f.Fuzz(func(t *testing.T, b []byte, comment string, six bool) {
		table := &nft.Table{Family: nft.FamilyIP, Name: "filter"}
		if six {
			table.Family = nft.FamilyIP6
		}
		text, _, ok := Text(table, &nft.Rule{Chain: "T", Comment: comment, Exprs: (&bytesLeft{b}).exprs()})
		if ok != strings.HasPrefix(text, "-A T") {
			t.Errorf("%q, %v", text, ok)
		}
	})
}
