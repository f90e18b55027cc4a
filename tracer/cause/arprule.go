// SPDX-License-Identifier: Apache-2.0

package cause

// Rules of the arp family, which iptables does not show: one that drops the questions or
// the answers makes a neighbour that does not answer.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// arpMessage is a question or its answer as rules of nft's arp family see it.
type arpMessage struct {
	what         string // request, reply
	iface        string // that it comes in by, or goes out by
	out          bool
	sender, asks netip.Addr
}

// arpDropped: a rule of this node's arp tables drops the question, or the answer to it.
func arpDropped(q *inquiry, u *unheard) bool {
	self := q.state.Node()
	if !u.addr.Is4() {
		return false
	}
	iface, mine := u.at.Interface, u.at.Netns == self
	if !mine { // it is asked from a pod: what the node has of it is the other end, or the bridge
		l := q.link(u.at.Netns, int(u.at.IfIndex))
		if l == nil {
			return false
		}
		host := q.pairEnd(l)
		if host == nil {
			return false
		}
		if bridge := q.bridgeOf(host); bridge != nil {
			host = bridge
		}
		iface = host.Name
		if owner, ok := q.podOf(u.addr); ok && owner != self {
			return false // the answer is a pod's: the node's rules of arp do not see it
		}
	}
	src := endsAt(q.p).Src
	messages := []arpMessage{{"request", iface, mine, src, u.addr}, {"reply", iface, !mine, u.addr, src}}
	sets, err := q.state.Rules(self)
	q.gap(err)
	for rule := range sets.NFT.All() {
		if rule.Family != "arp" || rule.Number == 0 {
			continue
		}
		for _, m := range messages {
			if !m.droppedBy(rule) {
				continue
			}
			c := u.claim
			c.summary = fmt.Sprintf("rule %d of %s in table arp %s of this node drops the ARP %s for %s, so that nobody answers for it", rule.Number, rule.Chain, rule.Table, m.what, u.addr)
			c.evidence = append(c.evidence, fmt.Sprintf("rule %d of %s in arp %s: %s", rule.Number, rule.Chain, rule.Table, rule.Text))
			c.missing = slices.DeleteFunc(c.missing, func(m string) bool { return strings.HasPrefix(m, "why it does not answer") })
			c.missing = append(c.missing, "the rule was read off the rule set: ARP itself is not traced")
			c.fix = []string{fmt.Sprintf("see it count: nft list table arp %s (arptables -nvL, where that wrote it)", shellWord(rule.Table)),
				fmt.Sprintf("if nobody needs it: nft -a list chain arp %s %s, then nft delete rule arp %s %s handle NUMBER; find who wrote it, or it comes back", shellWord(rule.Table), shellWord(rule.Chain), shellWord(rule.Table), shellWord(rule.Chain))}
			return true
		}
	}
	return false
}

// droppedBy tells that a rule is known to drop the message: one that asks what is not
// known here is not.
func (m *arpMessage) droppedBy(rule meaning.Rule) bool {
	words := strings.Fields(quoted.ReplaceAllStringFunc(rule.Text, func(s string) string { return strings.ReplaceAll(s, " ", "_") }))
	for i := 0; i < len(words); {
		next := func(n int) string {
			if i+n < len(words) {
				return strings.Trim(words[i+n], `"`)
			}
			return ""
		}
		switch w := words[i]; {
		case w == "drop":
			return true
		case (w == "iifname" || w == "iif") && !m.out && matchesName(next(1), m.iface), (w == "oifname" || w == "oif") && m.out && matchesName(next(1), m.iface):
			i += 2
		case w == "arp" && next(1) == "operation" && next(2) == m.what,
			w == "arp" && next(1) == "htype" && next(2) == "1", w == "arp" && next(1) == "ptype" && next(2) == "ip", w == "arp" && next(1) == "hlen" && next(2) == "6", w == "arp" && next(1) == "plen" && next(2) == "4":
			i += 3
		case w == "arp" && next(1) == "saddr" && next(2) == "ip" && inPrefix(next(3), m.sender), w == "arp" && next(1) == "daddr" && next(2) == "ip" && inPrefix(next(3), m.asks):
			i += 4
		case w == "counter":
			i++
			for i+1 < len(words) && (words[i] == "packets" || words[i] == "bytes") {
				i += 2
			}
		case w == "comment":
			i += 2
		default:
			return false
		}
	}
	return false
}

func matchesName(pattern, name string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	return pattern == name || wild && strings.HasPrefix(name, prefix)
}

func inPrefix(text string, addr netip.Addr) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return a == addr
	}
	p, err := netip.ParsePrefix(text)
	return err == nil && p.Contains(addr)
}

// unasked: questions go to all (ARP) or to a group (neighbour discovery), and the port
// that they are to leave by gets no such frames of other ports (br_flood, net/bridge/
// br_forward.c, 6.12).
func (x *crossing) unasked(q *inquiry) *block {
	if !x.answered || x.back || x.in == nil || x.out == nil {
		return nil
	}
	flag, off, what := "bcast_flood", x.outPort.NoBroadcast, "what is for all, as ARP's questions are"
	if q.ipv6() {
		flag, off, what = "mcast_flood", x.outPort.NoMulticast, "what is for a group, as questions of neighbour discovery are"
	}
	if !off {
		return nil
	}
	return &block{subject: x.out.Name, summary: fmt.Sprintf("port %s of bridge %s gets nothing of %s (%s off)", x.out.Name, x.bridge.Name, what, flag),
		evidence: []string{fmt.Sprintf("bridge -d link: %s %s off", x.out.Name, flag)},
		fix:      []string{fmt.Sprintf("bridge link set dev %s %s on", x.out.Name, flag)}}
}
