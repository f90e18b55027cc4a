// SPDX-License-Identifier: Apache-2.0

package cause

// The cause conntrack-insert: a new connection that conntrack could not enter.

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// insertFailed: a new connection found no place in conntrack's table: when its first
// packet has come through (nf_confirm, in INPUT or POSTROUTING, behind all rules)
// another has the addresses that answers to it would bear. The kernel drops it and
// gives no reason of its own (net/netfilter/nf_conntrack_core.c:
// __nf_conntrack_confirm, 5.17 to 6.18).
func insertFailed(q *inquiry) *claim {
	if q.d.Hook != "INPUT" && q.d.Hook != "POSTROUTING" || q.d.Rule != nil || q.d.Table != "" || q.p.Outcome != model.Dropped {
		return nil
	}
	proto, ok := protocols[q.p.Proto]
	if h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == q.d.Netns && h.CTState != "" }); !ok || h == nil || h.CTState != "new" {
		return nil
	}
	e := endsAt(q.p)
	if q.p.ICMPID != 0 {
		e.SrcPort, e.DstPort = q.p.ICMPID, q.p.ICMPID
	}
	last := node.Flow{Proto: proto, Src: netip.AddrPortFrom(e.Src, e.SrcPort), Dst: netip.AddrPortFrom(e.Dst, e.DstPort)}
	holder, taken, err := q.state.Connection(q.d.Netns, last.Back())
	q.gap(err)
	if err != nil {
		return nil
	}
	if taken && holder.Reply == last.Back() {
		return q.placeTaken(last, holder)
	}
	if holder, ok := q.connection(q.d.Netns); ok {
		return q.clash(holder)
	}
	return nil
}

// place taken: NAT found no free port.
func (q *inquiry) placeTaken(last node.Flow, holder node.Connection) *claim {
	c := &claim{translated: true, summary: fmt.Sprintf("conntrack has no place for the connection: from %s to %s (%s) another one goes already, and NAT found no other port for it", last.Src, last.Dst, q.p.Proto)}
	c.evidence = []string{q.where() + ", behind all rules", fmt.Sprintf("conntrack -L: %s %s", q.p.Proto, connectionWords(holder))}
	if h := lastHop(q.p, func(h *model.Hop) bool {
		return h.Netns == q.d.Netns && h.Before != nil && h.After != nil && h.Before.Src != h.After.Src
	}); h != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("its source was translated from %s to %s in hook %s", netip.AddrPortFrom(h.Before.Src, h.Before.SrcPort), last.Src, orElse(h.Hook, "?")))
		q.sourceRule(c)
	}
	q.insertCounter(c)
	c.missing = append(c.missing, "that it died for this: the kernel gives no reason of its own")
	c.fix = []string{"give the rule more ports, or more addresses to take for the source (--to-ports, --to-source; nft: masquerade to, snat to)",
		"see how many connections share it: conntrack -L -p " + q.p.Proto + " -d " + last.Dst.Addr().String() + " | wc -l"}
	return c
}

// sourceTargets are rules that rewrite a source.
var sourceTargets = regexp.MustCompile(`-j (SNAT|MASQUERADE)( |$)|(^|[ {])(snat|masquerade)( |$)`)

func rewritesSource(rule string) bool {
	return sourceTargets.MatchString(quoted.ReplaceAllString(rule, `""`))
}

// sourceRule names the rule that rewrote the source: as it was seen, else those that
// may have.
func (q *inquiry) sourceRule(c *claim) {
	for _, h := range q.p.Hops {
		for _, r := range h.Rules {
			if h.Netns == q.d.Netns && rewritesSource(r.Text) {
				c.evidence = append(c.evidence, namedRule(&r)+": "+r.Text)
				return
			}
		}
	}
	sets, err := q.state.Rules(q.d.Netns)
	q.gap(err)
	var all []string
	for r := range sets.All() {
		if len(all) < shownExemptions && rewritesSource(r.Text) {
			all = append(all, namedRule(ruleOf(r))+": "+r.Text)
		}
	}
	c.missing = append(c.missing, "which rule rewrote it; those there that do so: "+orElse(strings.Join(all, "; "), "none that could be read"))
}

// clash: two packets of one socket at once: the other was first to be entered.
func (q *inquiry) clash(holder node.Connection) *claim {
	c := &claim{translated: true, summary: fmt.Sprintf("two packets of one socket came at once, and each was to begin its connection: conntrack entered the other one, to %s, and dropped this one, to %s", holder.Reply.Src, netip.AddrPortFrom(endsAt(q.p).Dst, endsAt(q.p).DstPort))}
	c.evidence = []string{q.where() + ", behind all rules", fmt.Sprintf("conntrack -L: %s %s", q.p.Proto, connectionWords(holder))}
	q.insertCounter(c)
	c.missing = append(c.missing, "that it died for this: the kernel gives no reason of its own")
	c.fix = []string{"a resolver that asks for A and AAAA one after the other, or by two sockets: options single-request-reopen in resolv.conf",
		"NodeLocal DNSCache, which does without NAT for the pods' questions"}
	return c
}

// insertCounter tells conntrack's counter, if it has risen since the trace began.
func (q *inquiry) insertCounter(c *claim) {
	stats, err := q.state.ConntrackStats(q.d.Netns)
	if err != nil {
		return // a kernel without these counters
	}
	if before, ok := q.mem.counted[q.d.Netns]; ok && stats.InsertFailed > before.InsertFailed {
		c.evidence = append(c.evidence, fmt.Sprintf("conntrack -S: insert_failed was %d when the trace began, and is %d", before.InsertFailed, stats.InsertFailed))
	} else if stats.InsertFailed > 0 {
		c.evidence = append(c.evidence, fmt.Sprintf("conntrack -S: insert_failed = %d", stats.InsertFailed))
	}
}
