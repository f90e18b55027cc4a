// SPDX-License-Identifier: Apache-2.0

package cause

// NAT that is done by half: a pod asks for itself by another address, the destination is
// translated to its own, and the source is left, which is its own as well. It takes that
// for a forgery, or a packet of its own that came back, and drops it.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// masquerader is who sees to it that a pod may reach itself, by the chain of the rule
// that translates; and how.
type masquerader struct {
	chain, name, mark string // chain: a prefix; mark: the chain that marks what is to be masqueraded
	fix               string
}

var masqueraders = []masquerader{
	{"KUBE-", "kube-proxy", "KUBE-MARK-MASQ", "have kube-proxy write its rules again: delete its pod of this node; the rule that is to mark such a packet is -s POD -j KUBE-MARK-MASQ in the endpoint's KUBE-SEP- chain (at a balancer's address: in KUBE-EXT-), and KUBE-POSTROUTING masquerades what is marked"},
	{"CNI-", "the portmap plugin", "CNI-HOSTPORT-SETMARK", "have the portmap plugin write its rules again: make the pod again; its configuration is not to have snat: false; the rule that is to mark such a packet is -s POD -j CNI-HOSTPORT-SETMARK in the pod's CNI-DN- chain, and CNI-HOSTPORT-MASQ masquerades what is marked"},
	{"DOCKER", "Docker", "", "have Docker write its rules again: restart the container; what it writes is -s CONTAINER -d CONTAINER -j MASQUERADE in POSTROUTING, or it needs its userland-proxy"},
}

// hairpinned: a rule translated the packet to the very one that sent it. What IPVS sends
// back is masquerade-missing (sentBack).
func (q *inquiry) hairpinned() *translation {
	t, e := lastTranslation(q.p), endsAt(q.p)
	if t == nil || t.ipvs || t.hop.After == nil || t.to.Addr() != e.Dst || q.newSource() != nil || !q.holds(q.d.Netns, e.Dst) || firstNetns(q.p) != q.d.Netns || t.hop.Netns == q.d.Netns {
		return nil
	}
	return t
}

// hairpin says of a source that is refused as the receiver's own what is behind it: the
// destination was translated, the source was not.
func (q *inquiry) hairpin(c *claim) bool {
	t := q.hairpinned()
	if t == nil {
		return false
	}
	q.knownRule(t)
	e, place := endsAt(q.p), q.place()
	c.subject = t.asked.String()
	c.summary = fmt.Sprintf("%s asked %s, which %s translated to itself (%s), and its source was not rewritten (masqueraded): so it got a packet from its own address %s, and refuses that (martian source)", place, t.asked, t.by(), t.to, e.Src)
	t.tell(c, "it")
	c.evidence = append(c.evidence, fmt.Sprintf("its source was %s all the way: no rule rewrote it", e.Src))
	who := t.masquerader()
	q.tellMasquerade(c, t, who)
	c.fix = []string{fmt.Sprintf("have what %s sends to itself by %s masqueraded, so that its answers go the same way back: -s %s -d %s -j MASQUERADE in POSTROUTING, as whoever writes the service's rules does", place, t.asked.Addr(), e.Src, e.Dst)}
	switch {
	case who != nil:
		c.fix = append(c.fix, who.fix)
	default:
		c.fix = append(c.fix, "find who took the rule away: a flush of table nat, a firewall's reload")
	}
	c.fix = append(c.fix, "leave the source checks of the pod as they are: they do not put the service's address back into its answers")
	return true
}

// masquerader is who wrote the rule that translates; nil: not known by its name.
func (t *translation) masquerader() *masquerader {
	for i := range masqueraders {
		if w := &masqueraders[i]; t.rule != nil && strings.HasPrefix(t.rule.Chain, w.chain) {
			return w
		}
	}
	return nil
}

// tellMasquerade says which rules there are that could have rewritten the source, and
// whether the packet was marked for them.
func (q *inquiry) tellMasquerade(c *claim, t *translation, who *masquerader) {
	marked, sure := false, true
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		if h.Netns != t.hop.Netns {
			continue
		}
		sure = sure && h.RulesUnknown == ""
		for _, r := range h.Rules {
			marked = marked || who != nil && who.mark != "" && strings.HasSuffix(r.Text, "-j "+who.mark)
		}
	}
	if who != nil && who.mark != "" && !marked && sure {
		c.evidence = append(c.evidence, fmt.Sprintf("it met no rule with -j %s, by which %s marks what is to be masqueraded", who.mark, who.name))
	}
	sets, err := q.state.Rules(t.hop.Netns)
	q.gap(err)
	if err != nil {
		return
	}
	var all []meaning.Rule
	for r := range sets.All() {
		if len(all) < shownExemptions && rewritesSource(r.Text) {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		c.evidence = append(c.evidence, "no rule of this node rewrites sources (MASQUERADE, SNAT)")
		return
	}
	for _, r := range all {
		c.evidence = append(c.evidence, "did not take it: "+namedRule(ruleOf(r))+": "+r.Text)
	}
}
