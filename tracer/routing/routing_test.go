// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// rule is one of IPv4 that looks a table up.
func rule(priority, table uint32, more ...func(*node.PolicyRule)) node.PolicyRule {
	r := node.PolicyRule{Family: unix.AF_INET, Priority: priority, Action: node.ActTable, Table: table, SuppressPrefixLength: -1, SuppressGroup: -1}
	for _, m := range more {
		m(&r)
	}
	return r
}

func route(to string, dev int, table int) node.Route {
	return node.Route{Dst: netip.MustParsePrefix(to), LinkIndex: dev, Table: table, Type: unix.RTN_UNICAST}
}

var (
	far  = netip.MustParseAddr("203.0.113.9")
	mark = func(r *node.PolicyRule) { r.Mark, r.Mask = 0x80, 0x80 }
)

// What is not known of a packet leaves every answer that there may be, and only
// those.
func TestUnknownMark(t *testing.T) {
	f := &FIB{Rules: append(node.DefaultRules(), rule(100, 3, mark)), Routes: []node.Route{route("0.0.0.0/0", 2, unix.RT_TABLE_MAIN), route("0.0.0.0/0", 9, 3)}}
	f.Rules = []node.PolicyRule{f.Rules[0], f.Rules[len(f.Rules)-1], f.Rules[1], f.Rules[2]}
	q := Question{Dst: far, IIF: 2}
	for _, c := range []struct {
		mark Known[uint32]
		dev  int
	}{{Of(uint32(0x80)), 9}, {Of(uint32(0xff)), 9}, {Of(uint32(0)), 2}, {Of(uint32(0x7f)), 2}} {
		q.Mark = c.mark
		if a, ok := f.Lookup(q).Sure(); !ok || !a.Leads(c.dev) {
			t.Errorf("mark %#x: %+v, want device %d", c.mark.Value, f.Lookup(q), c.dev)
		}
	}
	q.Mark = Known[uint32]{}
	r := f.Lookup(q)
	if _, sure := r.Sure(); sure || len(r.Answers) != 2 || !strings.Contains(strings.Join(r.Doubts, ";"), "rule 100 applies: it asks for mark 0x80/0x80") {
		t.Errorf("mark not known: %+v", r)
	}
	f.Routes[1].LinkIndex, f.Routes[1].Table = 2, 99 // table 3 is empty: the mark is of no matter
	if a, sure := f.Lookup(q).Sure(); !sure || !a.Leads(2) {
		t.Errorf("a mark that is of no matter: %+v", f.Lookup(q))
	}
}

// An interface of a VRF is looked up in the VRF's table, others are not.
func TestVRF(t *testing.T) {
	f := &FIB{
		Rules:  []node.PolicyRule{rule(0, unix.RT_TABLE_LOCAL), rule(1000, 0, func(r *node.PolicyRule) { r.L3MDev = true }), rule(32766, unix.RT_TABLE_MAIN)},
		Routes: []node.Route{route("0.0.0.0/0", 2, unix.RT_TABLE_MAIN), route("0.0.0.0/0", 8, 77)},
		Links:  []node.Link{{Index: 2, Name: "eth0"}, {Index: 7, Name: "red", Kind: "vrf", VRFTable: 77}, {Index: 8, Name: "eth1", Master: 7}, {Index: 9, Name: "cni0", Kind: "bridge"}, {Index: 10, Name: "veth1", Master: 9}},
	}
	for iif, dev := range map[int]int{2: 2, 7: 8, 8: 8, 10: 2} {
		if a, ok := f.Lookup(Question{Dst: far, IIF: iif}).Sure(); !ok || !a.Leads(dev) {
			t.Errorf("what comes in by %d: %+v, want device %d", iif, a, dev)
		}
	}
}

// wg-quick's rules: what main has but for its default route, then the tunnel for
// all without its mark.
func TestSuppressedDefault(t *testing.T) {
	f := &FIB{
		Rules: []node.PolicyRule{rule(0, unix.RT_TABLE_LOCAL), rule(32764, unix.RT_TABLE_MAIN, func(r *node.PolicyRule) { r.SuppressPrefixLength = 0 }),
			rule(32765, 51820, func(r *node.PolicyRule) { r.Mark, r.Mask, r.Flags = 51820, ^uint32(0), node.RuleInvert }), rule(32766, unix.RT_TABLE_MAIN)},
		Routes: []node.Route{route("0.0.0.0/0", 2, unix.RT_TABLE_MAIN), route("10.0.0.0/8", 3, unix.RT_TABLE_MAIN), route("0.0.0.0/0", 9, 51820)},
	}
	for _, c := range []struct {
		dst  string
		mark uint32
		rule uint32
		dev  int
	}{{"10.1.1.1", 0, 32764, 3}, {"203.0.113.9", 0, 32765, 9}, {"203.0.113.9", 51820, 32766, 2}} {
		a, ok := f.Lookup(Question{Dst: netip.MustParseAddr(c.dst), IIF: Loopback, Mark: Of(c.mark)}).Sure()
		if !ok || a.Rule == nil || a.Rule.Priority != c.rule || !a.Leads(c.dev) {
			t.Errorf("%s with mark %d: %+v, want rule %d, device %d", c.dst, c.mark, a, c.rule, c.dev)
		}
	}
}

// A namespace that never had other rules may keep local and main as one table.
func TestMergedTables(t *testing.T) {
	local := route("127.0.0.0/8", 1, unix.RT_TABLE_LOCAL)
	local.Type = unix.RTN_LOCAL
	f := &FIB{Rules: node.DefaultRules(), Routes: []node.Route{local, route("127.9.0.0/16", 4, unix.RT_TABLE_MAIN)}}
	if _, sure := f.Lookup(Question{Dst: netip.MustParseAddr("127.9.0.1"), IIF: Loopback}).Sure(); sure {
		t.Error("sure, though the kernel may find either")
	}
	if a, sure := f.Lookup(Question{Dst: netip.MustParseAddr("127.8.0.1"), IIF: Loopback}).Sure(); !sure || a.Route.Type != unix.RTN_LOCAL {
		t.Errorf("main has nothing longer: %+v", a)
	}
}

// IPv6 does without its first rules until another one was added.
func TestFirstRulesOfIPv6Gone(t *testing.T) {
	f := &FIB{Rules: node.DefaultRules(), Routes: []node.Route{route("2001:db8::/64", 2, unix.RT_TABLE_MAIN)}}
	q := Question{Dst: netip.MustParseAddr("2001:db8::9"), IIF: 2, Mark: Of(uint32(0))}
	if a, sure := f.Lookup(q).Sure(); !sure || !a.Leads(2) {
		t.Errorf("with its rules: %+v", f.Lookup(q))
	}
	f.Rules = f.Rules[:len(f.Rules)-1] // that of main
	if r := f.Lookup(q); len(r.Answers) != 2 || len(r.Doubts) != 1 {
		t.Errorf("without main's rule: %+v", r)
	}
	other := rule(100, 3, mark)
	other.Family = unix.AF_INET6
	f.Rules = append(f.Rules, other)
	if a, sure := f.Lookup(q).Sure(); !sure || a.Error != unix.ENETUNREACH {
		t.Errorf("without main's rule, with another: %+v", f.Lookup(q))
	}
}

// From 6.15 a port that a rule asks for comes with a mask.
func TestPortMask(t *testing.T) {
	for _, c := range []struct {
		ports      [2]uint16
		mask, port uint16
		want       bool
	}{
		{[2]uint16{}, 0, 80, true},
		{[2]uint16{80, 80}, 0xffff, 80, true},
		{[2]uint16{80, 80}, 0xffff, 81, false},
		{[2]uint16{80, 90}, 0, 85, true},
		{[2]uint16{80, 90}, 0, 91, false},
		{[2]uint16{0x1f00, 0x1f00}, 0xff00, 0x1f90, true},
		{[2]uint16{0x1f00, 0x1f00}, 0xff00, 0x2090, false},
	} {
		if got := portWithin(c.ports, c.mask, c.port); got != c.want {
			t.Errorf("%v mask %#x, port %d: %v", c.ports, c.mask, c.port, got)
		}
	}
}
