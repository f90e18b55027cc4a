// SPDX-License-Identifier: Apache-2.0

package nft

// Texts of what the kernel the tests run on may not have, so that nft cannot be
// asked: the forms are those of its manual and of its own test suite.

import "testing"

func TestTextsTheKernelCannotShow(t *testing.T) {
	n := func(v uint16) *uint16 { return &v }
	const slot = Reg(0)
	number := func(v ...byte) Immediate { return Immediate{Dst: slot, Data: v} }
	tests := []struct {
		family, want string
		exprs        []Expr
	}{
		{FamilyIP, "queue to 0", []Expr{Queue{Total: 1, Src: RegNone}}},
		{FamilyIP, "queue flags bypass to 1-3", []Expr{Queue{Num: 1, Total: 3, Flags: 1, Src: RegNone}}},
		{FamilyIP, "queue flags bypass,fanout to 1-3", []Expr{Queue{Num: 1, Total: 3, Flags: 3, Src: RegNone}}},
		{FamilyIP, "queue to symhash mod 4", []Expr{Hash{Symmetric: true, Modulus: 4, Dst: slot, Src: RegNone}, Queue{Src: slot}}},
		{FamilyIP, "flow add @ft", []Expr{FlowOffload{Table: "ft"}}},
		{FamilyIP, "last", []Expr{Last{}}},
		{FamilyIP, "log group 0 queue-threshold 1", []Expr{Log{Group: n(0), QueueThreshold: n(1)}}},
		{FamilyIP, `synproxy name "syn"`, []Expr{Objref{Type: 10, Name: "syn", Src: RegNone}}},
		{FamilyBridge, "reject", []Expr{Reject{Type: RejectICMPX, Code: 1}}},
		{FamilyBridge, "reject with icmpx admin-prohibited", []Expr{Reject{Type: RejectICMPX, Code: 3}}},
		{FamilyBridge, "reject with icmp host-unreachable", []Expr{
			Payload{Base: BaseLink, Offset: 12, Len: 2, Dst: slot, Src: RegNone}, Cmp{Src: slot, Data: []byte{8, 0}}, Reject{Type: RejectICMP, Code: 1},
		}},
		{FamilyBridge, `meta ibrname "br0"`, []Expr{
			Meta{Key: MetaIbrname, Dst: slot, Src: RegNone}, Cmp{Src: slot, Data: append([]byte("br0"), make([]byte, 13)...)},
		}},
		{FamilyBridge, "meta ibrpvid 5", []Expr{Meta{Key: MetaIbrpvid, Dst: slot, Src: RegNone}, Cmp{Src: slot, Data: []byte{5, 0}}}},
		{FamilyIP, "meta mark set meta mark | 0x00000010", []Expr{
			Meta{Key: MetaMark, Dst: slot, Src: RegNone},
			Bitwise{Src: slot, Dst: slot, Src2: RegNone, Len: 4, Op: BitwiseOr, Data: []byte{0x10, 0, 0, 0}}, // Linux 6.13
			Meta{Key: MetaMark, Src: slot, Dst: RegNone},
		}},
		{FamilyIP, "tproxy to :80", []Expr{number(0, 80), TProxy{Family: protoIPv4, Addr: RegNone, Port: slot}}},
		{FamilyIP, "[ wobble <3 bytes> ]", []Expr{Opaque{Name: "wobble", Data: []byte{1, 2, 3}}}},
		{FamilyIP, `xt match "comment"`, []Expr{Match{Name: "comment"}}},
		{FamilyIP, `xt target "MARK"`, []Expr{Target{Name: "MARK"}}},
		{FamilyIP, "[ lookup ]", []Expr{Lookup{Set: "gone", Dst: RegNone}}},
		{FamilyIP, "[ cmp ] accept", []Expr{Cmp{Src: 5, Data: []byte{1}}, Immediate{Dst: RegVerdict, Verdict: Verdict{Code: VerdictAccept}}}},
	}
	for _, tt := range tests {
		rs := &Ruleset{Tables: []*Table{{Family: tt.family, Name: "t"}}}
		if got := rs.Text(&Rule{Family: tt.family, Table: "t", Exprs: tt.exprs}); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestInlineChains(t *testing.T) {
	s := newSpace(t, "table inet t { chain c { jump { ip saddr 10.0.0.1 accept; counter drop; }; goto { counter accept; }; }\n}\n")
	rs := s.read()
	var got []string
	for _, r := range rs.Chain("inet", "t", "c").Rules {
		got = append(got, rs.Text(r))
	}
	want := []string{"jump { ip saddr 10.0.0.1 accept; counter drop }", "goto { counter accept }"}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %q, want %q", got, want)
	}
}
