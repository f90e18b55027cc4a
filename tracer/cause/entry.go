// SPDX-License-Identifier: Apache-2.0

package cause

// The cause stale-conntrack: NAT asks its rules about the first packet of a
// connection only, and translates what follows by conntrack's entry, whatever the
// rules say by then. A UDP flow that never rests keeps its entry for ever.

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// stale: the packet went where no rule would send it any more.
func stale(q *inquiry) *claim {
	t := lastTranslation(q.p)
	if t == nil || t.rule != nil || t.ipvs || t.hop.Hook != "PREROUTING" && t.hop.Hook != "OUTPUT" || q.balanced(t.hop.Netns) {
		return nil
	}
	proto, ok := protocols[q.p.Proto]
	if !ok {
		return nil
	}
	flow := node.Flow{Proto: proto, Src: netip.AddrPortFrom(t.hop.Before.Src, t.hop.Before.SrcPort), Dst: t.asked}
	entry, ok, err := q.state.Connection(t.hop.Netns, flow)
	q.gap(err)
	if err != nil || !ok || entry.Reply.Src != t.to {
		return nil
	}
	named, now := q.targetsOf(t)
	if named {
		return nil
	}
	c := &claim{certain: t.hop.CTState == "established", subject: fmt.Sprint(t.asked, t.to),
		summary: fmt.Sprintf("stale conntrack entry: %s still goes to %s, no rule does", t.asked, t.to)}
	c.evidence = []string{fmt.Sprintf("conntrack -L in %s: %s %s", q.spaceWords(t), q.p.Proto, connectionWords(entry))}
	t.tell(c, "it")
	c.evidence = append(c.evidence, fmt.Sprintf("no rule of %s that translates names %s (read right after that)", q.spaceWords(t), t.to))
	if now != "" {
		c.evidence = append(c.evidence, now)
	}
	if q.p.Outcome.Died() {
		c.evidence = append(c.evidence, q.died())
	}
	if !c.certain {
		c.missing = append(c.missing, "when the entry was made: no answer to it has been seen")
	}
	c.fix = q.entryFix(flow)
	return c
}

// spaceWords is the namespace that translated.
func (q *inquiry) spaceWords(t *translation) string {
	if t.hop.Netns == q.state.Node() {
		return "this node"
	}
	return t.owner()
}

// balanced tells a namespace where IPVS may have chosen the backend: no rule names
// it there. kube-proxy's ipvs mode keeps the services' addresses on kube-ipvs0.
func (q *inquiry) balanced(netns uint32) bool {
	return q.linkNamed(netns, "kube-ipvs0") != nil
}

// namedMaps are verdict or data maps that a rule looks into by name: what they hold
// the rule's text does not say.
var namedMaps = regexp.MustCompile(`(^| )(dnat|redirect)\b.*\bmap @`)

// targetsOf tells whether some rule may send to where the entry does; and the first
// rule that says of the asked address where it goes instead, "" if none does.
func (q *inquiry) targetsOf(t *translation) (named bool, now string) {
	if q.holds(t.hop.Netns, t.to.Addr()) || t.to.Addr().IsLoopback() {
		return true, "" // REDIRECT and its like name no address
	}
	sets, err := q.state.Rules(t.hop.Netns)
	if err != nil {
		q.gap(err)
		return true, ""
	}
	for r := range sets.All() {
		text := quoted.ReplaceAllString(r.Text, `""`)
		if !targets.MatchString(text) {
			continue
		}
		if namedMaps.MatchString(text) || sendsTo(text, t.to) {
			return true, ""
		}
		if now == "" && mentions(text, t.asked.Addr()) {
			now = namedRule(ruleOf(r)) + ": " + r.Text
		}
	}
	return false, now
}

// ruleOf is a rule of a rule set as packets have it.
func ruleOf(r meaning.Rule) *model.Rule {
	return &model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text}
}

// sendsTo tells whether the target of a rule may be an address and port.
func sendsTo(rule string, to netip.AddrPort) bool {
	_, target, ok := cutTarget(rule)
	if !ok {
		return false
	}
	for _, word := range strings.FieldsFunc(target, func(r rune) bool { return strings.ContainsRune(" ,{}", r) }) {
		if reaches(word, to) {
			return true
		}
	}
	return false
}

// cutTarget cuts a rule before what it translates to.
func cutTarget(rule string) (before, target string, ok bool) {
	for _, at := range []string{"--to-destination ", "--to ", "dnat "} {
		if before, target, ok = strings.Cut(rule, at); ok {
			return before, target, true
		}
	}
	return rule, "", false
}

// reaches tells whether a word of a target (10.1.2.3:80, [fd00::1]:80, a range, a
// prefix; nft's maps have the port as a word of its own) covers an address, and the
// port where the word has one.
func reaches(word string, to netip.AddrPort) bool {
	if p, err := netip.ParsePrefix(word); err == nil {
		return p.Contains(to.Addr())
	}
	first, last, isRange := strings.Cut(word, "-")
	if at, err := netip.ParseAddrPort(first); err == nil && !isRange {
		return at.Addr() == to.Addr() && at.Port() == to.Port()
	}
	from, fromPort := addressOf(first)
	if !isRange {
		return from == to.Addr() && (fromPort == 0 || fromPort == to.Port())
	}
	upto, _ := addressOf(last)
	if !upto.IsValid() { // a range of ports: 10.1.2.3:80-90
		return from == to.Addr()
	}
	return from.IsValid() && from.Compare(to.Addr()) <= 0 && to.Addr().Compare(upto) <= 0
}

// addressOf reads an address with or without brackets and port.
func addressOf(word string) (netip.Addr, uint16) {
	if at, err := netip.ParseAddrPort(word); err == nil {
		return at.Addr(), at.Port()
	}
	a, err := netip.ParseAddr(strings.Trim(word, "[]"))
	if err != nil {
		return netip.Addr{}, 0
	}
	return a, 0
}

// mentions tells whether a rule names an address, alone or as a full-length prefix.
func mentions(rule string, a netip.Addr) bool {
	for word := range strings.FieldsSeq(rule) {
		if word == a.String() || word == netip.PrefixFrom(a, a.BitLen()).String() {
			return true
		}
	}
	return false
}

// overtaken: conntrack's entry is older than the rule that would translate the
// packet now, so that it goes on as it is. It is told only of a rule that asks for
// nothing but the address, protocol and port.
func overtaken(q *inquiry) *claim {
	proto, ok := protocols[q.p.Proto]
	if !ok || q.p.DstPort == 0 || lastTranslation(q.p) != nil || q.isReply() {
		return nil
	}
	h := lastHop(q.p, func(h *model.Hop) bool {
		return h.Netns == q.state.Node() && (h.CTState == "new" || h.CTState == "established")
	})
	if h == nil {
		return nil
	}
	flow := node.Flow{Proto: proto, Src: netip.AddrPortFrom(q.p.Src, q.p.SrcPort), Dst: netip.AddrPortFrom(q.p.Dst, q.p.DstPort)}
	entry, ok, err := q.state.Connection(h.Netns, flow)
	q.gap(err)
	if err != nil || !ok || entry.Orig != flow || entry.Reply.Src != flow.Dst {
		return nil
	}
	sets, err := q.state.Rules(h.Netns)
	q.gap(err)
	for r := range sets.All() {
		if r.Table != "nat" || r.Chain != "PREROUTING" && r.Chain != "KUBE-SERVICES" || !plainlyFor(r.Text, q.p) {
			continue
		}
		c := &claim{subject: fmt.Sprint(flow.Dst), summary: fmt.Sprintf("stale conntrack entry: %s goes on untranslated, though %s would translate it: the entry is older than the rule", flow.Dst, namedRule(ruleOf(r)))}
		c.evidence = []string{fmt.Sprintf("conntrack -L in this node: %s %s", q.p.Proto, connectionWords(entry)), namedRule(ruleOf(r)) + ": " + r.Text}
		if q.p.Outcome.Died() {
			c.evidence = append(c.evidence, q.died())
		}
		c.missing = []string{"when the entry was made, and when the rule"}
		c.fix = q.entryFix(flow)
		return c
	}
	return nil
}

// plainly are the words that a rule may have to be sure that it takes a packet, as
// iptables-save prints them.
var plainly = regexp.MustCompile(`^-A \S+ -d (\S+) -p (\w+)(?: -m comment --comment "")?(?: -m (?:tcp|udp|sctp))? --dport (\d+)(?: -m comment --comment "")? -j (?:DNAT|KUBE-SVC-|KUBE-EXT-)`)

// plainlyFor tells whether a rule sends a packet to a backend and asks for nothing
// but its address, protocol and port.
func plainlyFor(rule string, p *model.Packet) bool {
	m := plainly.FindStringSubmatch(quoted.ReplaceAllString(rule, `""`))
	return m != nil && m[1] == netip.PrefixFrom(p.Dst, p.Dst.BitLen()).String() && m[2] == p.Proto && m[3] == itoa(uint64(p.DstPort))
}

// entryFix is what to do about an entry that is there still.
func (q *inquiry) entryFix(flow node.Flow) []string {
	return []string{fmt.Sprintf("delete the entry, so that the next packet asks the rules: conntrack -D -p %s --orig-src %s --orig-dst %s --sport %d --dport %d", q.p.Proto, flow.Src.Addr(), flow.Dst.Addr(), flow.Src.Port(), flow.Dst.Port()),
		"have the client use a fresh socket: another source port is another connection",
		"see why nobody deleted it when the service changed: kube-proxy does so for UDP (its log, with -v=4), older ones miss some"}
}

// staleAway: a packet that left in good order left for a backend that no rule names.
func staleAway(q *inquiry, _ *peer) *claim {
	if c := stale(q); c != nil {
		return c
	}
	return overtaken(q)
}
