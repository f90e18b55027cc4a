// SPDX-License-Identifier: Apache-2.0

package infer_test

// Rule sets that change between a packet and the question about it, and rules
// that do not explain what was seen.

import (
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// forward are tables that drop what a sends to b by a rule with a comment.
func forward(backend, comment string) (restore, rules string) {
	return map[string]string{node.BackendNFT: "iptables-nft-restore", node.BackendLegacy: "iptables-legacy-restore"}[backend],
		"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n-A FORWARD -s 10.1.0.0/24 -p udp -m comment --comment " + comment + " -j DROP\nCOMMIT\n"
}

// forwarded is a packet from a to b as FORWARD sees it.
func forwarded(r *router, src, dst string) *packet.Packet {
	l := datagram(addr(src), addr(dst))
	return &packet.Packet{
		Family: "ip", Hook: "FORWARD", Src: addr(src), Dst: addr(dst), Proto: 17,
		SrcPort: packet.Known[uint16](0x1234), DstPort: packet.Known[uint16](7), Length: packet.Known(uint32(len(l) - 2)),
		TTL: packet.Known[uint8](63), TOS: packet.Known[uint8](0), Fragment: packet.Known(false),
		In: packet.Known("ra"), Out: packet.Known("rb"), Mark: packet.Known[uint32](0),
		CT: packet.Conntrack{State: packet.Known(packet.StateNew)},
	}
}

func TestRulesThatChange(t *testing.T) {
	for _, backend := range []string{node.BackendNFT, node.BackendLegacy} {
		t.Run(backend, func(t *testing.T) {
			r := newRouter(t)
			target := infer.Target{Backend: backend, Family: "ip", Table: "filter", Chain: "FORWARD", Hook: "FORWARD"}
			p := forwarded(r, "10.1.0.2", "10.2.0.2")
			load := func(comment string) {
				restore, rules := forward(backend, comment)
				r.run(rules, restore)
			}
			b := infer.New(t.Context(), r.ns)
			tell := func(at time.Time, verdict string) infer.Ruling {
				target.At = at
				return b.Infer(r.inode(), target, p, verdict)
			}
			is := func(what string, ruling infer.Ruling, comment string) {
				t.Helper()
				if ruling.Decided == nil || ruling.Decided.Comment != comment || ruling.Verdict != "drop" {
					t.Errorf("%s: %+v, want the rule %s", what, ruling, comment)
				}
			}
			load("A")
			if err := b.Watch(r.inode(), target); err != nil {
				t.Fatal(err)
			}
			first := time.Now()
			is("no change", tell(first, "drop"), "A")

			between := time.Now()
			load("B")
			ruling := tell(between, "drop")
			if ruling.Decided != nil || len(ruling.Alternatives) != 2 || !strings.Contains(ruling.Unknown, "changed about the time") {
				t.Errorf("a change about the time of the packet: %+v, want both rules", ruling)
			}
			is("the packet came before", tell(first.Add(-time.Millisecond), "drop"), "A")
			is("the packet came after", tell(time.Now(), "drop"), "B")
			is("now", tell(time.Time{}, "drop"), "B")

			again := time.Now()
			load("B")
			is("written again as it was", tell(again, "drop"), "B")

			load("C")
			if err := b.Tick(); err != nil {
				t.Error(err)
			}
			is("the rules are looked at anew", tell(time.Now(), "drop"), "C")

			ruling = tell(time.Time{}, "accept")
			if ruling.Decided != nil || len(ruling.Alternatives) > 0 || !strings.Contains(ruling.Unknown, "drop by filter/FORWARD rule 1") {
				t.Errorf("a verdict that the rules do not explain: %+v", ruling)
			}
		})
	}
}

func TestTableThatIsGone(t *testing.T) {
	r := newRouter(t)
	r.run("table ip gone { chain c { type filter hook forward priority 0; policy drop; }; }\n", "nft", "-f", "-")
	b := infer.New(t.Context(), r.ns)
	target := infer.Target{Backend: node.BackendNFT, Family: "ip", Table: "gone", Chain: "c"}
	p := forwarded(r, "10.1.0.2", "10.2.0.2")
	if ruling := b.Infer(r.inode(), target, p, "drop"); ruling.Decided == nil || ruling.Decided.Text != "policy drop" {
		t.Errorf("%+v, want the policy", ruling)
	}
	r.run("", "nft", "delete", "table", "ip", "gone")
	ruling := b.Infer(r.inode(), target, p, "drop")
	if ruling.Decided != nil || len(ruling.Alternatives) != 1 || !strings.Contains(ruling.Unknown, "whether the rules were still those") {
		t.Errorf("%+v, want a word on the table that is gone", ruling)
	}
	if err := b.Tick(); err == nil || !strings.Contains(err.Error(), "no such table") {
		t.Errorf("tick: %v, want that the table is gone", err)
	}
	if ruling := b.Infer(r.inode(), target, p, "drop"); ruling.Decided != nil || !strings.Contains(ruling.Unknown, "no such table") {
		t.Errorf("%+v, want that the table is gone", ruling)
	}
	target.Backend, target.Table, target.Hook = node.BackendLegacy, "filter", "FORWARD"
	if ruling := b.Infer(r.inode(), target, p, "drop"); !strings.Contains(ruling.Unknown, "no such table") {
		t.Errorf("%+v, want that there is no legacy table", ruling)
	}
	if names := r.run("", "cat", "/proc/self/net/ip_tables_names"); names != "" {
		t.Errorf("asking made the legacy tables %q", names)
	}
	target.Backend = "ebtables"
	if ruling := b.Infer(r.inode(), target, p, "drop"); !strings.Contains(ruling.Unknown, `backend "ebtables"`) {
		t.Errorf("%+v, want a word on the backend", ruling)
	}
}
