// SPDX-License-Identifier: Apache-2.0

package cause

// The cause service-untranslated: a service's address leaves the node as it is, since
// no rule translates it.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// serviceUntranslated: packets to it were translated before, or it was given as a service;
// now they leave for it, and no rule of the node names it.
func serviceUntranslated(q *inquiry, p *peer) *claim {
	if lastHop(q.p, func(h *model.Hop) bool { return h.Before != nil && h.After != nil && h.Before.Dst != h.After.Dst }) != nil {
		return nil
	}
	self, addr := q.state.Node(), p.far.Addr()
	before := q.mem.translatedBefore(p.far)
	named := q.start.Dst.Kind == "service" && q.isEnd(addr)
	if before == nil && !named || q.holds(self, addr) || q.ruleNames(self, addr) || q.sentByIPVS() != nil {
		return nil
	}
	c := &claim{subject: p.far.String(), summary: fmt.Sprintf("no NAT rule translates the service's address %s, so packets to it leave by %s as they are, where nobody has it", p.far, q.wayOut())}
	if before != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("an earlier packet was translated from %s to %s", before.asked, before.to))
		c.summary = strings.Replace(c.summary, "no NAT rule translates", "no NAT rule translates any more", 1)
	} else {
		c.evidence = append(c.evidence, fmt.Sprintf("%s was asked for as %s", addr, q.start.Dst.Given))
	}
	c.evidence = append(c.evidence, fmt.Sprintf("no rule of this node names %s", addr))
	if e := q.mem.history.last(diedAt(q.p), func(e *model.NodeEvent) bool {
		return e.What == model.RulesetChanged && e.Netns == self
	}); e != nil {
		c.evidence = append(c.evidence, clocked(e))
		if e.By != nil {
			c.summary += fmt.Sprintf("; %s (pid %d) changed the rules at %s", e.By.Comm, e.By.PID, clock(e.Time))
		}
	}
	if r, ok := q.routeTo(self, addr); ok {
		c.evidence = append(c.evidence, "the way to it now: "+q.routeWords(self, r))
	}
	if p.icmp != "" {
		c.evidence = append(c.evidence, "an ICMP error came back: "+p.icmp)
	}
	c.missing = []string{"that something other than rules was to translate it: a program of tc or of a cgroup"}
	c.fix = []string{"have kube-proxy write its rules again: delete its pod of this node (kubectl -n kube-system get pod -l k8s-app=kube-proxy -o wide); then the CNI plugin's (calico-node, kube-flannel): what flushed these may have taken theirs too",
		"find what flushes them, or it comes back: firewalld's reload (FlushAllOnReload=no), `nft flush ruleset` at the head of /etc/nftables.conf, a script"}
	return c
}

// translatedBefore is a translation that this node made of what was sent to an address
// and port; nil: none was seen.
func (m *memory) translatedBefore(asked netip.AddrPort) *translation {
	for _, t := range m.dnat {
		if t.asked == asked && t.hop.Place == "node" {
			return t
		}
	}
	return nil
}

// isEnd tells whether an address is one of the destination's that was asked for.
func (q *inquiry) isEnd(addr netip.Addr) bool {
	for _, p := range q.start.Dst.Addresses {
		if p.IsSingleIP() && p.Addr() == addr {
			return true
		}
	}
	return false
}

// ruleNames tells whether a rule, or the element of a set in it, names an address; also
// where they cannot be read.
func (q *inquiry) ruleNames(netns uint32, addr netip.Addr) bool {
	sets, err := q.state.Rules(netns)
	q.gap(err)
	if err != nil {
		return true
	}
	for r := range sets.All() {
		if names(r.Text, addr) || names(r.Element, addr) {
			return true
		}
	}
	return false
}

// names tells whether a text has an address as a word of its own.
func names(text string, addr netip.Addr) bool {
	for rest, a := text, addr.String(); ; {
		_, after, ok := strings.Cut(rest, a)
		if !ok {
			return false
		}
		if after == "" || !strings.ContainsAny(after[:1], "0123456789abcdef.") {
			return true
		}
		rest = after
	}
}
