// SPDX-License-Identifier: Apache-2.0

package cause

// Addresses that NAT rewrote: what was asked, what it became, and the rule that
// said so. A finding about a translated packet tells all three: nobody has asked
// for the address that it died with.

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// translation is a destination that was rewritten.
type translation struct {
	asked, to netip.AddrPort
	hop       model.Hop // where
	// rule made it; nil: not seen, since the packet asked no rule: its connection was
	// translated before.
	rule    *model.Rule
	source  model.RuleSource
	backend string // of the rule
	ipvs    bool   // IPVS made it: no rule has a part in it
	fresh   bool   // conntrack met the connection with this packet, or no answer to it yet
}

// dnatKey is a translated connection as it goes on: who asks, and whom in truth.
type dnatKey struct {
	proto   string
	src, to netip.AddrPort
}

// lastTranslation is the last rewriting of a packet's destination, nil if none was
// seen.
func lastTranslation(p *model.Packet) *translation {
	for i := len(p.Hops) - 1; i >= 0; i-- {
		h := &p.Hops[i]
		if !redirected(h) {
			continue
		}
		t := &translation{asked: netip.AddrPortFrom(h.Before.Dst, h.Before.DstPort), to: netip.AddrPortFrom(h.After.Dst, h.After.DstPort), hop: *h, fresh: h.CTState == "new"}
		if t.ipvs = h.NATBy == model.ByIPVS; !t.ipvs {
			t.rule, t.source, t.backend = natRule(p, i)
		}
		return t
	}
	return nil
}

// redirected tells a hop that rewrites the destination of what it is asked for: of
// an answer, that is a masquerade undone.
func redirected(h *model.Hop) bool {
	return h.Before != nil && h.After != nil && !strings.HasSuffix(h.CTState, "-reply") &&
		(h.Before.Dst != h.After.Dst || h.Before.DstPort != h.After.DstPort)
}

// targets are rules that rewrite a destination, as iptables-save and nft print them.
var targets = regexp.MustCompile(`-j (DNAT|REDIRECT|NETMAP)( |$)|(^|[ {])(dnat|redirect)( |$)`)

// quoted are comments, which may hold any word.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

func translates(rule string) bool { return targets.MatchString(quoted.ReplaceAllString(rule, `""`)) }

// natRule finds the rule behind the translation of hop i: among those of the same
// hook in the same namespace, which may be told before or after it.
func natRule(p *model.Packet, i int) (rule *model.Rule, source model.RuleSource, backend string) {
	at := &p.Hops[i]
	for j := range p.Hops {
		h := &p.Hops[j]
		if h.Netns != at.Netns || h.Hook != at.Hook || h.Copy != at.Copy {
			continue
		}
		for k := range h.Rules {
			if r := &h.Rules[k]; translates(r.Text) {
				source := h.RuleSource
				if r.Inferred {
					source = model.RuleInferred
				}
				return r, source, h.Backend
			}
		}
	}
	return nil, "", ""
}

// seeTranslation notes a packet's translation.
func (m *memory) seeTranslation(p *model.Packet) {
	t := lastTranslation(p)
	if t == nil {
		return
	}
	e := endsAt(p)
	key := dnatKey{p.Proto, netip.AddrPortFrom(e.Src, e.SrcPort), t.to}
	if old := m.dnat[key]; old != nil {
		if old.asked == t.asked && t.rule == nil {
			return // the connection's first packet told the rule
		}
	} else if len(m.dnat) >= maxTranslations {
		return
	}
	m.dnat[key] = t
}

// translationOf is the translation of the connection that a packet to dst from
// from answers, nil where it was not seen.
func (m *memory) translationOf(proto string, from, dst netip.AddrPort) *translation {
	return m.dnat[dnatKey{proto, dst, from}]
}

// owner is whose rules made it: "this node", "default/client".
func (t *translation) owner() string {
	if t.hop.Place == "node" {
		return "this node"
	}
	return orElse(t.hop.Place, "a namespace that is not known")
}

// tell adds the translation to a cause: "it" was translated, or "the request".
func (t *translation) tell(c *claim, what string) {
	c.translated = true
	line := fmt.Sprintf("%s was translated from %s to %s in hook %s at %s", what, t.asked, t.to, orElse(t.hop.Hook, "?"), at(t.hop.Place, t.hop.Interface))
	if t.ipvs {
		c.evidence = append(c.evidence, line+", by IPVS")
		return
	}
	if t.rule == nil && t.fresh {
		c.evidence = append(c.evidence, line)
		c.missing = append(c.missing, "the NAT rule that translated "+what+" so")
		return
	}
	if t.rule == nil {
		c.evidence = append(c.evidence, line+", by conntrack's entry of its connection: the packet itself asked no NAT rule")
		return
	}
	c.evidence = append(c.evidence, line, namedRule(t.rule)+": "+t.rule.Text)
	if t.source != model.RuleExact {
		c.missing = append(c.missing, "the rule that translated it was read off the rule set, this backend does not see it matching")
	}
}

// namedRule names a rule as findings do.
func namedRule(r *model.Rule) string { return ruleName(&model.Drop{Rule: r}) }

// tellTranslation adds to a cause what the packet was translated from, unless the
// cause itself is about that.
func (q *inquiry) tellTranslation(c *claim) {
	t := lastTranslation(q.p)
	if t == nil || c.translated {
		return
	}
	q.knownRule(t)
	t.tell(c, "it")
}

// knownRule adds the rule that the first packet of the connection was seen to ask.
func (q *inquiry) knownRule(t *translation) {
	e := endsAt(q.p)
	known := q.mem.dnat[dnatKey{q.p.Proto, netip.AddrPortFrom(e.Src, e.SrcPort), t.to}]
	if t.rule == nil && !t.ipvs && known != nil && known.asked == t.asked {
		t.rule, t.source, t.backend = known.rule, known.source, known.backend
	}
}

// by says what made it, for a summary: "default/client's own nat rule (rule 1 of
// ISTIO_REDIRECT in nat)".
func (t *translation) by() string {
	switch {
	case t.ipvs:
		return "IPVS of " + t.owner()
	case t.rule == nil && t.fresh:
		return "a nat rule of " + t.owner() + " (not known which)"
	case t.rule == nil:
		return "conntrack's entry of its connection in " + t.owner()
	case t.hop.Place == "node":
		return "this node's nat rule (" + namedRule(t.rule) + ")"
	}
	return t.owner() + "'s own nat rule (" + namedRule(t.rule) + ")"
}

// sidecarFix is for a pod whose own rules send what it asks, or is asked, to a
// program beside it.
func (t *translation) sidecarFix(proto string, port uint16) []string {
	in := "in " + t.owner() + "'s network namespace (nsenter -t PID -n): "
	fix := []string{fmt.Sprintf("see whether the proxy that is to listen on %s port %d runs (a service mesh's sidecar): its container's state and log; %sss -ln%s", proto, port, in, proto[:1])}
	if t.rule != nil {
		if text, ok := strings.CutPrefix(t.rule.Text, "-A "); ok && t.tool() != "" {
			fix = append(fix, "if no proxy is to be there any more: "+in+t.tool()+" -D "+shellRule(text))
		}
	}
	return append(fix, "the rules are written when the pod starts (istio-init, istio-cni, linkerd-init): make the pod again with, or without, the mesh")
}

// tool is the iptables command of the rule's table; "" for native nft.
func (t *translation) tool() string {
	return toolOf(t.backend, orElse(t.rule.Family, "ip"), t.rule.Table)
}
