// SPDX-License-Identifier: Apache-2.0

package nft

// What was not seen is not guessed: a walk gives all ways that are open.

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// world is a node that knows address types.
type world struct{ local netip.Addr }

func (w world) AddrType(a netip.Addr, kind, _ string) packet.Answer {
	return packet.Of(a == w.local && kind == "local" || a != w.local && kind == "unicast")
}
func (world) IPSet(string, []bool, *packet.Packet) packet.Answer { return packet.Unknown }
func (world) ReversePath(*packet.Packet, bool, bool) packet.Answer {
	return packet.Yes
}

// verdicts lists how a walk can end, with the rule or map that decides.
func verdicts(rs *Ruleset, w Walk) []string {
	var all []string
	for _, o := range w.Outcomes {
		by := "policy"
		if d := o.Deciding(); d.Rule != nil {
			by = rs.Text(d.Rule)
		}
		all = append(all, o.Verdict+" by "+by)
	}
	slices.Sort(all)
	return all
}

func TestWalkGivesAlternatives(t *testing.T) {
	tcp := packet.Packet{
		Family: "ip", Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: 6,
		DstPort: packet.Known(uint16(80)), Fragment: packet.Known(false),
		World: world{local: netip.MustParseAddr("10.0.0.2")},
	}
	tests := []struct {
		name, rules string
		want        []string
		unknown     string
	}{
		{"nothing matches", "tcp dport 81 accept", []string{"drop by policy"}, ""},
		{"a limit", "limit rate 1/second accept", []string{"accept by limit rate 1/second accept", "drop by policy"}, "limit"},
		{"a limit that decides nothing", "limit rate 1/second counter\naccept", []string{"accept by accept"}, "limit"},
		{"a named limit", `limit name "slow" accept`, []string{`accept by limit name "slow" accept`, "drop by policy"}, "limit name slow"},
		{"both ways the same", "meta skuid 0 accept\naccept", []string{"accept by accept", "accept by meta skuid 0 accept"}, "comparison"},
		{"a mark not known", "meta mark 5 accept", []string{"accept by meta mark 0x00000005 accept", "drop by policy"}, "comparison"},
		{"a mark set before", "meta mark set 5\nmeta mark 5 accept", []string{"accept by meta mark 0x00000005 accept"}, ""},
		{"bits set before", "meta mark set meta mark | 0x10\nmeta mark & 0x10 == 0x10 accept", []string{"accept by meta mark & 0x00000010 == 0x00000010 accept"}, ""},
		{"numbers", "numgen inc mod 2 vmap { 0 : jump other, 1 : drop }", []string{"accept by accept", "drop by numgen inc mod 2 vmap { 0 : jump other, 1 : drop }"}, "numgen"},
		{"numbers in part", "numgen random mod 3 vmap { 0 : accept }", []string{"accept by numgen random mod 3 vmap { 0 : accept }", "drop by policy"}, "numgen"},
		{"a map and a port not known", "tcp sport vmap { 1 : accept, 2 : continue }", []string{"accept by tcp sport vmap { 1 : accept, 2 : continue }", "drop by policy"}, "look-up in"},
		{"a map that rules the packet out", "ip daddr . tcp sport vmap { 10.0.0.9 . 1 : accept }", []string{"drop by policy"}, ""},
		{"the catch-all element", "ip saddr vmap { 10.0.0.9 : drop, * : accept }", []string{"accept by ip saddr vmap { 10.0.0.9 : drop, * : accept }"}, ""},
		{"address types", "fib daddr type local accept", []string{"accept by fib daddr type local accept"}, ""},
		{"address types of a set", "fib saddr type { local, broadcast } accept\nfib saddr type != local reject", []string{"reject by fib saddr type != local reject"}, ""},
		{"the way back", "fib saddr . iif oif missing drop\naccept", []string{"accept by accept"}, ""},
		{"return from a base chain", "return\naccept", []string{"drop by policy"}, ""},
		{"a field that the packet lacks", "ct state invalid counter\nct mark 1 accept", []string{"accept by ct mark 0x00000001 accept", "drop by policy"}, "comparison"},
	}
	script := "table ip t {\n limit slow { rate 1/second; }\n chain other { accept; }\n"
	for i, tt := range tests {
		script += fmt.Sprintf("chain c%d { type filter hook forward priority %d; policy drop;\n%s\n}\n", i, i, tt.rules)
	}
	s := newSpace(t, script+"}\n")
	rs := s.read()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, err := rs.Walk(&tcp, nil, FamilyIP, "t", fmt.Sprintf("c%d", i))
			if err != nil || !w.Complete {
				t.Fatalf("complete %v: %v", w.Complete, err)
			}
			if got := verdicts(rs, w); !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q\nnot known: %q", got, tt.want, w.Unknown)
			}
			var unknown string
			if len(w.Unknown) > 0 {
				unknown, _, _ = strings.Cut(w.Unknown[0], " of ip t ")
			}
			if !strings.HasPrefix(unknown, tt.unknown) || (unknown == "") != (tt.unknown == "") {
				t.Errorf("not known: %q, want %q", w.Unknown, tt.unknown)
			}
		})
	}
}

func TestWalkStopsAtSixteenForks(t *testing.T) {
	var rules strings.Builder
	for i := range 40 {
		rules.WriteString("meta skuid " + string(rune('0'+i%10)) + " meta mark set meta mark | " + string(rune('1'+i%8)) + "\n")
	}
	s := newSpace(t, "table ip t { chain c { type filter hook forward priority 0;\n"+rules.String()+"}\n}\n")
	w, err := s.read().Walk(&packet.Packet{Family: "ip", Mark: packet.Known(uint32(0))}, nil, FamilyIP, "t", "c")
	if err != nil {
		t.Fatal(err)
	}
	if _, certain := w.Certain(); w.Complete || certain {
		t.Errorf("40 open rules: complete %v, certain %v", w.Complete, certain)
	}
}

func TestWalkNeedsABaseChain(t *testing.T) {
	s := newSpace(t, "table ip t { chain c { accept; }\n}\n")
	rs := s.read()
	for chain, want := range map[string]string{"c": "has no hook", "none": "no such table or chain"} {
		_, err := rs.Walk(&packet.Packet{Family: "ip"}, nil, FamilyIP, "t", chain)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", chain, err, want)
		}
	}
	if _, err := rs.Walk(&packet.Packet{}, nil, FamilyIP6, "t", "c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("table of another family: %v", err)
	}
}

func TestWalkThroughKubeProxy(t *testing.T) {
	script, err := os.ReadFile("testdata/rulesets/kube-proxy-nftables.nft")
	if err != nil {
		t.Fatal(err)
	}
	s := newSpace(t, string(script))
	rs := s.read()
	to := func(addr string, port uint16) packet.Packet {
		return packet.Packet{
			Family: "ip", Hook: "FORWARD", Src: netip.MustParseAddr("10.244.1.100"), Dst: netip.MustParseAddr(addr), Proto: 6,
			DstPort: packet.Known(port), Fragment: packet.Known(false), In: packet.Known("cali1"), Out: packet.Known("eth0"),
			CT: packet.Conntrack{State: packet.Known(packet.StateNew)}, Mark: packet.Known(uint32(0)),
		}
	}
	// demo/empty has no endpoints: the map sends it to the chain that rejects.
	p := to("10.96.10.4", 80)
	w, err := rs.Walk(&p, nil, FamilyIP, "kube-proxy", "filter-forward")
	if err != nil {
		t.Fatal(err)
	}
	o, certain := w.Certain()
	if !certain || o.Verdict != "reject" || o.Deciding().Rule.Chain != "reject-chain" {
		t.Fatalf("service without endpoints: %+v", w)
	}
	at := slices.IndexFunc(o.Steps, func(s Step) bool { return s.Match.Element != nil })
	if at < 0 || o.Steps[at].Match.Map.Name != "no-endpoint-services" || o.Steps[at].Match.Element.Comment != "demo/empty" {
		t.Errorf("the map's element is not named: %+v", o.Steps)
	}
	if got, want := rs.ElementText(o.Steps[at].Match.Map, o.Steps[at].Match.Element), `10.96.10.4 . tcp . 80 comment "demo/empty" : goto reject-chain`; got != want {
		t.Errorf("element %q, want %q", got, want)
	}
	// demo/two has two endpoints: either may be taken, both translate.
	p = to("10.96.10.2", 80)
	if w, err = rs.Walk(&p, nil, FamilyIP, "kube-proxy", "nat-prerouting"); err != nil {
		t.Fatal(err)
	}
	if got := verdicts(rs, w); len(got) != 2 || !strings.HasPrefix(got[0], "accept by ") || !strings.Contains(got[0], "dnat ip to") {
		t.Errorf("service of two endpoints: %q, not known %q", got, w.Unknown)
	}
}
