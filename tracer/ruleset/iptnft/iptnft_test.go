// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file checks what needs no kernel: which tables are iptables', and rules as
// no tool at hand writes them.

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// chainOf is a base chain of iptables.
func chainOf(table, name string) *nft.Chain {
	h := builtin[table][name]
	return &nft.Chain{Family: nft.FamilyIP, Table: table, Name: name, Type: h.kind, Hook: name, Priority: h.priority, Policy: "drop"}
}

func TestIsIptables(t *testing.T) {
	forward := func(change func(*nft.Chain)) *nft.Table {
		c := chainOf("filter", "FORWARD")
		change(c)
		return &nft.Table{Family: nft.FamilyIP, Name: "filter", Chains: []*nft.Chain{c, {Name: "f2"}}}
	}
	for _, test := range []struct {
		name  string
		table *nft.Table
		want  bool
	}{
		{"as iptables makes it", forward(func(*nft.Chain) {}), true},
		{"no chain yet", &nft.Table{Family: nft.FamilyIP6, Name: "nat"}, true},
		{"name in small letters", forward(func(c *nft.Chain) { c.Name = "forward" }), false},
		{"another priority", forward(func(c *nft.Chain) { c.Priority = 10 }), false},
		{"another hook", forward(func(c *nft.Chain) { c.Hook = "INPUT" }), false},
		{"another type", forward(func(c *nft.Chain) { c.Type = "route" }), false},
		{"a hook that the table has no chain for", forward(func(c *nft.Chain) { c.Name, c.Hook = "PREROUTING", "PREROUTING" }), false},
		{"kube-proxy's own", &nft.Table{Family: nft.FamilyIP, Name: "kube-proxy"}, false},
		{"another family", &nft.Table{Family: nft.FamilyInet, Name: "filter"}, false},
		{"ARP", &nft.Table{Family: nft.FamilyARP, Name: "filter"}, false},
	} {
		if got := IsIptables(test.table); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestPolicy(t *testing.T) {
	table := &nft.Table{Family: nft.FamilyIP, Name: "filter"}
	for _, test := range []struct {
		chain *nft.Chain
		want  string
	}{{chainOf("filter", "FORWARD"), ":FORWARD DROP"}, {&nft.Chain{Name: "cali-FORWARD"}, ":cali-FORWARD -"}} {
		if got, ok := Policy(table, test.chain); got != test.want || !ok {
			t.Errorf("%q, %v, want %q", got, ok, test.want)
		}
	}
	if got, ok := Policy(&nft.Table{Family: nft.FamilyInet, Name: "filter"}, chainOf("filter", "INPUT")); ok {
		t.Errorf("inet filter is not iptables', but got %q", got)
	}
}

// iptables 1.8.10 and later use a register for each value; what is in a register
// is what was loaded last.
func TestRegisters(t *testing.T) {
	meta := func(key nft.MetaKey, dst nft.Reg) nft.Expr { return nft.Meta{Key: key, Dst: dst, Src: nft.RegNone} }
	load := func(base, offset, size uint32, dst nft.Reg) nft.Expr {
		return nft.Payload{Base: base, Offset: offset, Len: size, Dst: dst, Src: nft.RegNone}
	}
	tcp := []nft.Expr{meta(nft.MetaL4proto, 0), nft.Cmp{Src: 0, Data: []byte{protoTCP}}}
	for _, test := range []struct {
		name  string
		exprs []nft.Expr
		want  string
	}{
		{"all loaded, then compared", []nft.Expr{
			meta(nft.MetaL4proto, 1), meta(nft.MetaIifname, 4), load(nft.BaseNetwork, 12, 4, 2),
			nft.Bitwise{Src: 2, Dst: 8, Len: 4, Mask: []byte{255, 255, 255, 0}, Xor: []byte{0, 0, 0, 0}},
			nft.Cmp{Src: 4, Op: nft.OpNeq, Data: []byte("eth")}, nft.Cmp{Src: 8, Data: []byte{10, 1, 2, 0}},
			nft.Cmp{Src: 1, Data: []byte{protoUDP}}, nft.Counter{},
			nft.Immediate{Dst: nft.RegVerdict, Verdict: nft.Verdict{Code: nft.VerdictGoto, Chain: "U"}},
		}, "-A T -s 10.1.2.0/24 ! -i eth+ -p udp -g U"},
		{"a name covers what its slots held before", []nft.Expr{
			meta(nft.MetaMark, 3), meta(nft.MetaIifname, 0), nft.Cmp{Src: 3, Data: []byte{1, 0, 0, 0}},
		}, ""},
		{"nothing loaded", []nft.Expr{nft.Cmp{Src: 0, Data: []byte{1}}}, ""},
		{"a bit is flipped", append(tcp[:2:2], load(nft.BaseTransport, 13, 1, 0),
			nft.Bitwise{Src: 0, Dst: 0, Len: 1, Mask: []byte{2}, Xor: []byte{2}}, nft.Cmp{Src: 0, Data: []byte{2}}), ""},
		{"ports of any protocol but one", []nft.Expr{
			meta(nft.MetaL4proto, 0), nft.Cmp{Src: 0, Op: nft.OpNeq, Data: []byte{protoTCP}},
			load(nft.BaseTransport, 2, 2, 0), nft.Cmp{Src: 0, Data: []byte{0, 80}},
		}, ""},
		{"a range no port is in", append(tcp[:2:2], load(nft.BaseTransport, 2, 2, 0),
			nft.Cmp{Src: 0, Op: nft.OpGte, Data: []byte{0, 9}}, nft.Cmp{Src: 0, Op: nft.OpLte, Data: []byte{0, 5}}), ""},
	} {
		text, _, ok := Text(&nft.Table{Family: nft.FamilyIP, Name: "filter"}, &nft.Rule{Chain: "T", Exprs: test.exprs})
		if text != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, %v, want %q", test.name, text, ok, test.want)
		}
	}
}

// A rule set is shared, so printing a rule may not change it.
func TestBlobsStayAsTheyAre(t *testing.T) {
	blob := make([]byte, 16)
	blob[2], blob[3], blob[6], blob[7] = 0xff, 0xff, 0xff, 0xff
	rule := &nft.Rule{Chain: "T", Exprs: []nft.Expr{
		nft.Meta{Key: nft.MetaL4proto, Dst: 0, Src: nft.RegNone}, nft.Cmp{Src: 0, Data: []byte{protoTCP}},
		nft.Match{Name: "tcp", Info: blob},
		nft.Payload{Base: nft.BaseTransport, Offset: 2, Len: 2, Dst: 0, Src: nft.RegNone}, nft.Cmp{Src: 0, Data: []byte{0, 80}},
	}}
	table := &nft.Table{Family: nft.FamilyIP, Name: "filter"}
	for range 2 {
		if text, _, ok := Text(table, rule); text != "-A T -p tcp -m tcp --dport 80" || !ok {
			t.Errorf("%q, %v", text, ok)
		}
	}
	if blob[4] != 0 {
		t.Error("the rule's own blob was changed")
	}
}

func TestComments(t *testing.T) {
	rule := &nft.Rule{Chain: "T", Exprs: []nft.Expr{nft.Match{Name: "comment", Info: commentMatch("cali:abc").blob}}, Comment: "and why"}
	text, comment, ok := Text(&nft.Table{Family: nft.FamilyIP, Name: "filter"}, rule)
	if text != `-A T -m comment --comment "cali:abc" -m comment --comment "and why"` || comment != "cali:abc; and why" || !ok {
		t.Errorf("%q, %q, %v", text, comment, ok)
	}
}
