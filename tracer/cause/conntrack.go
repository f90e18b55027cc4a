// SPDX-License-Identifier: Apache-2.0

package cause

// What conntrack makes of a packet, and what comes of it: exempted from it by a
// rule, called invalid, or taken for the first packet of a connection although it
// belongs to one. Rules that let replies pass do not know it then, and NAT does not
// translate it back. It is never mended by a policy that allows the reply.

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// exemptions are rules that keep conntrack from a packet, as iptables-save and nft
// print them.
var exemptions = regexp.MustCompile(`-j NOTRACK( |$)|-j CT .*--notrack|(^| )notrack( |$)`)

// shownExemptions is how many such rules are listed where it is not known which it was.
const shownExemptions = 3

// exempts tells a rule that keeps conntrack from a packet.
func exempts(rule string) bool { return exemptions.MatchString(quoted.ReplaceAllString(rule, `""`)) }

// outside is a packet that conntrack does not count to its connection.
type outside struct {
	state string // as conntrack said: untracked, invalid, new
	why   string // in words, for a summary
	// certain: the kernel showed all of it.
	certain                bool
	evidence, missing, fix []string
}

// outsideOf says why a packet is not known to a namespace's conntrack as part of
// its connection; ok is false if it is.
func (q *inquiry) outsideOf(netns uint32) (o outside, ok bool) {
	state, hop := q.tracked(netns)
	o = outside{state: state, certain: true}
	if hop != nil {
		o.evidence = []string{fmt.Sprintf("conntrack's state of it in hook %s at %s: %s", orElse(hop.Hook, "?"), at(hop.Place, hop.Interface), state)}
	}
	switch {
	case (state == "invalid" || state == "new" && (midway(q.p) || q.isReply())) && q.zoned(&o, netns):
	case state == "untracked":
		q.exempted(&o, netns)
	case state == "invalid":
		q.calledInvalid(&o, netns)
	case state == "new" && (midway(q.p) || q.isReply()):
		q.takenForNew(&o, netns)
	default:
		return o, false
	}
	return o, true
}

// exempted names the rule that exempts the packet from conntrack.
func (q *inquiry) exempted(o *outside, netns uint32) {
	o.why = "a rule exempts it from conntrack (NOTRACK)"
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		for j := range h.Rules {
			r := &h.Rules[j]
			if h.Netns != netns || !exempts(r.Text) {
				continue
			}
			o.why = fmt.Sprintf("%s exempts it from conntrack (NOTRACK)", namedRule(r))
			o.evidence = append(o.evidence, namedRule(r)+": "+r.Text)
			if h.RuleSource != model.RuleExact || r.Inferred {
				o.certain = false
				o.missing = append(o.missing, "the rule that exempts it was read off the rule set, this backend does not see it matching")
			}
			o.fix = append(o.fix, exemptionFix(h, r)...)
			return
		}
	}
	o.certain = false
	if q.leftOutByIPVS(o, netns) {
		return
	}
	var all []string
	sets, err := q.state.Rules(netns)
	q.gap(err)
	for r := range sets.All() {
		if exempts(r.Text) && len(all) < shownExemptions {
			all = append(all, namedRule(ruleOf(r))+": "+r.Text)
		}
	}
	o.missing = append(o.missing, "which rule exempts it; those there that do so: "+orElse(strings.Join(all, "; "), "none that could be read"))
	o.fix = append(o.fix, "see the rules that exempt packets from conntrack: iptables-save -t raw | grep -i notrack; nft list ruleset | grep notrack")
}

// exemptionFix is what to do about a NOTRACK rule.
func exemptionFix(h *model.Hop, r *model.Rule) (fix []string) {
	if remove := removal(h, r); remove != "" {
		fix = append(fix, "have conntrack see both directions: "+remove)
	}
	return append(fix, "find who wrote the rule (NodeLocal DNSCache writes such ones for its own address), or it comes back: change what that program is told")
}

// removal takes a rule away that a packet met; "" where it is not known how.
func removal(h *model.Hop, r *model.Rule) string {
	in := enter(h.Place)
	if text, ok := strings.CutPrefix(r.Text, "-A "); ok {
		if tool := toolOf(h.Backend, orElse(r.Family, h.Family), r.Table); tool != "" {
			return in + tool + " -D " + shellRule(text)
		}
	} else if r.Handle != 0 {
		return fmt.Sprintf("%snft delete rule %s %s %s handle %d", in, r.Family, shellWord(r.Table), shellWord(r.Chain), r.Handle)
	}
	return ""
}

// calledInvalid says what is known of a packet that conntrack refuses.
func (q *inquiry) calledInvalid(o *outside, netns uint32) {
	o.why = "conntrack calls it invalid"
	if q.p.Proto == "tcp" {
		if liberal, ok := q.sysctl(netns, "netfilter/nf_conntrack_tcp_be_liberal"); ok {
			o.evidence = append(o.evidence, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_be_liberal = %d", liberal))
			if liberal == 0 {
				o.fix = append(o.fix, "if such segments are outside of the window that conntrack knows (late duplicates, offloads): sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1")
			}
		}
		if c, ok := q.connection(netns); ok {
			o.evidence = append(o.evidence, "conntrack -L: "+q.p.Proto+" "+connectionWords(c)+": it knows the connection, so it is this segment that it refuses")
		}
	}
	o.fix = append(o.fix, "have what is invalid dropped rather than passed on as it is: kube-proxy does so in KUBE-FORWARD (--ctstate INVALID -j DROP)",
		"see how many there are: conntrack -S (invalid); why, in the kernel's log: sysctl -w net.netfilter.nf_conntrack_log_invalid=255")
}

// takenForNew says what is known of a packet whose connection has no entry.
func (q *inquiry) takenForNew(o *outside, netns uint32) {
	o.why = "conntrack does not know its connection, and takes it for the first packet of a new one"
	other := model.Forward
	if q.p.Direction == model.Forward {
		other = model.Return
	}
	switch {
	case q.mem.passed[other] == 0 && netns == q.state.Node():
		o.evidence = append(o.evidence, fmt.Sprintf("no packet of the %s direction was seen to pass this node's own namespace", other))
		o.fix = []string{"see that both directions of the connection pass this node: ip route get on both ends"}
	default:
		o.missing = append(o.missing, "what became of the connection's entry: it timed out, was deleted (conntrack -D, -F), or was never made")
		o.fix = []string{"see who deletes entries: conntrack -E -e DESTROY", "see how long idle connections are kept: sysctl net.netfilter.nf_conntrack_tcp_timeout_established net.netfilter.nf_conntrack_udp_timeout"}
	}
	o.fix = append(o.fix, "let the client connect again")
}

// connection asks for conntrack's entry of the packet, by its addresses as it came
// to the namespace.
func (q *inquiry) connection(netns uint32) (node.Connection, bool) {
	flow, ok := q.flow(netns)
	if !ok {
		return node.Connection{}, false
	}
	c, ok, err := q.state.Connection(netns, flow)
	q.gap(err)
	return c, ok && err == nil
}

// flow are the packet's addresses as it came to a namespace; ok is false where
// conntrack has no connection by them.
func (q *inquiry) flow(netns uint32) (f node.Flow, ok bool) {
	proto, ok := protocols[q.p.Proto]
	if !ok || q.p.ICMP != "" && !strings.HasPrefix(q.p.ICMP, "echo-") {
		return f, false
	}
	e := model.Endpoints{Src: q.p.Src, SrcPort: q.p.SrcPort, Dst: q.p.Dst, DstPort: q.p.DstPort}
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		if h.Netns == netns {
			break
		}
		if h.After != nil {
			e = *h.After
		}
	}
	if q.p.ICMPID != 0 {
		e.SrcPort, e.DstPort = q.p.ICMPID, q.p.ICMPID
	}
	return node.Flow{Proto: proto, Src: netip.AddrPortFrom(e.Src, e.SrcPort), Dst: netip.AddrPortFrom(e.Dst, e.DstPort)}, true
}

// connectionWords is an entry as `conntrack -L` prints it.
func connectionWords(c node.Connection) string {
	says := fmt.Sprintf("src=%s dst=%s sport=%d dport=%d", c.Orig.Src.Addr(), c.Orig.Dst.Addr(), c.Orig.Src.Port(), c.Orig.Dst.Port())
	if !c.Replied {
		says += " [UNREPLIED]"
	}
	return says + fmt.Sprintf(" src=%s dst=%s sport=%d dport=%d", c.Reply.Src.Addr(), c.Reply.Dst.Addr(), c.Reply.Src.Port(), c.Reply.Dst.Port()) + zoneWords(c)
}

// unknownToConntrack: a rule killed what another would have let pass as part of a
// known connection, had conntrack known it as that.
func unknownToConntrack(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok || m.Kind == meaning.Invalid || m.Kind == meaning.ReversePath || !q.isReply() && !midway(q.p) {
		return nil
	}
	o, ok := q.outsideOf(q.d.Netns)
	if !ok || !q.passesKnown() {
		return nil
	}
	c := q.byRule(m)
	c.certain = c.certain && o.certain
	what := "the reply"
	if !q.isReply() {
		what = "a segment of a connection that is under way"
	}
	c.summary = fmt.Sprintf("%s is not known to conntrack, because %s: so no rule for established connections lets it pass, and %s drops it", what, o.why, ruleName(q.d))
	c.evidence, c.missing = append(c.evidence, o.evidence...), append(c.missing, o.missing...)
	c.fix = o.fix
	if ask := q.mem.maskedAsk(q.p); ask != nil {
		if timed := q.outlived(c, ask, ask.mask()); timed != "" {
			c.summary += ": " + timed
		}
	}
	c.fix = append(c.fix, "open no policy for it: it would pass if conntrack knew it")
	return c
}

// knownPasses are rules that let established connections pass.
var knownPasses = regexp.MustCompile(`(?i)(ctstate|--state|ct state) [{a-z, ]*established.*(accept|-j RETURN|-j MARK)|established : (accept|goto|jump)`)

// passesKnown tells whether a chain that the packet went through where it died has
// a rule that lets established connections pass.
func (q *inquiry) passesKnown() bool {
	type chain struct{ table, name string }
	way := map[chain]bool{{q.d.Rule.Table, q.d.Rule.Chain}: true}
	for _, r := range meaning.WayTo(q.p) {
		way[chain{r.Table, r.Chain}] = true
	}
	sets, err := q.state.Rules(q.d.Netns)
	q.gap(err)
	for r := range sets.All() {
		if way[chain{r.Table, r.Chain}] && knownPasses.MatchString(quoted.ReplaceAllString(r.Text, `""`)) {
			return true
		}
	}
	return false
}

// unknownAway: a segment of a connection under way, which conntrack does not know,
// left as it is. Told if no answer came.
func unknownAway(q *inquiry, p *peer) *claim {
	if !midway(q.p) || q.isReply() || lastTranslation(q.p) != nil {
		return nil
	}
	o, ok := q.outsideOf(q.state.Node())
	if !ok || q.sentByIPVS() != nil { // IPVS has entries of its own
		return nil
	}
	c := &claim{summary: fmt.Sprintf("a segment of a connection that is under way is not known to conntrack, because %s: it left for %s as it is, and no answer came", o.why, farWords(p))}
	c.evidence, c.fix = o.evidence, o.fix
	c.missing = append(o.missing, "whether NAT had translated the connection before")
	if t := q.translatedBefore(); t != nil {
		c.missing = o.missing
		t.tell(c, "an earlier packet of it")
	}
	return c
}

// translatedBefore is the translation of an earlier packet from the same socket to
// the same address.
func (q *inquiry) translatedBefore() *translation {
	asked := netip.AddrPortFrom(q.p.Dst, q.p.DstPort)
	for key, t := range q.mem.dnat {
		if key.proto == q.p.Proto && t.asked == asked && t.hop.Before.Src == q.p.Src && t.hop.Before.SrcPort == q.p.SrcPort {
			return t
		}
	}
	return nil
}

// entryGone: a segment of a connection under way, whose entry is gone, went where a
// new connection would have gone, and was refused there.
func entryGone(q *inquiry) *claim {
	if !midway(q.p) || q.d.Hook != "" || !q.because("NO_SOCKET") && lastAnswer(q.p) != "tcp-reset" {
		return nil
	}
	h := lastHop(q.p, func(h *model.Hop) bool { return h.CTState == "new" })
	if h == nil {
		return nil
	}
	o, ok := q.outsideOf(h.Netns)
	if !ok {
		return nil
	}
	place, iface := q.end()
	c := &claim{certain: o.certain, summary: fmt.Sprintf("a segment of a connection that is under way reached %s, which knows no such connection: %s", place, o.why)}
	c.evidence, c.missing, c.fix = o.evidence, o.missing, o.fix
	if before := q.mem.switched(q.p); before != nil {
		before.tell(c, "an earlier packet of it")
		lastTranslation(q.p).tell(c, "this one")
	} else {
		c.evidence = append(c.evidence, q.died())
	}
	if a := lastAnswer(q.p); a != "" {
		c.evidence = append(c.evidence, fmt.Sprintf("%s answered: %s", at(place, iface), a))
	}
	return c
}

// switched gives the translation of earlier packets of the connection, if this one, in
// its midst, was translated to somebody else and reset there: it arrived, at the wrong
// one.
func (m *memory) switched(p *model.Packet) *translation {
	if p.Outcome != model.Delivered || !midway(p) || lastAnswer(p) != "tcp-reset" {
		return nil
	}
	t := lastTranslation(p)
	if t == nil {
		return nil
	}
	for key, before := range m.dnat {
		if key.proto == p.Proto && before.asked == t.asked && before.to != t.to && before.hop.Before.Src == t.hop.Before.Src && before.hop.Before.SrcPort == t.hop.Before.SrcPort {
			return before
		}
	}
	return nil
}
