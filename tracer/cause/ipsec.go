// SPDX-License-Identifier: Apache-2.0

package cause

// The cause ipsec-policy: a policy of IPsec (xfrm) wants packets of a kind encrypted,
// or blocked, and this one did not come so, or cannot go so.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// ipsecPolicy: the kernel's own check said no (XFRM_POLICY): of what came in,
// __xfrm_policy_check by the policies of direction in, or fwd where it is for others;
// of what ip_forward sends on, also __xfrm_route_forward by those of direction out
// (net/xfrm/xfrm_policy.c, net/ipv4/ip_forward.c, net/ipv6/ip6_output.c, 6.12).
func ipsecPolicy(q *inquiry) *claim {
	if !q.because("XFRM_POLICY") {
		return q.unkeyed()
	}
	forwarded := q.in("ip_forward*", "ip6_forward*")
	dirs := []string{"in"}
	if forwarded {
		dirs = []string{"fwd", "out"}
	}
	c := &claim{certain: true, evidence: []string{q.died()}}
	all, err := q.state.IPsec(q.d.Netns)
	q.gap(err)
	for _, dir := range dirs {
		p := q.policyOf(all.Policies, dir)
		if p == nil || !p.Block && !demands(p) {
			continue
		}
		q.refusedBy(c, p, all.States)
		return c
	}
	c.summary = fmt.Sprintf("the IPsec policies (xfrm) of %s do not let it pass", q.place())
	if err == nil {
		c.evidence = append(c.evidence, fmt.Sprintf("ip xfrm policy: none of direction %s that demands anything of this packet is there by now", strings.Join(dirs, " or ")))
		c.missing = []string{"which policy it was: it is gone, it is one of a socket or an xfrm interface, or none is set to block (ip xfrm policy getdefault); or a state has decrypted the packet, maybe in another namespace, and no policy here is for such"}
		for _, n := range q.xfrmCounted(q.d.Netns, "In") {
			c.evidence = append(c.evidence, n.words())
		}
	}
	c.fix = ipsecFix(dirs[0])
	return c
}

func ipsecFix(dir string) []string {
	return []string{"see the policies and what they counted: ip -s xfrm policy; ip -s xfrm state; cat /proc/net/xfrm_stat (policies of direction " + dir + ")"}
}

// policyOf is the policy that the kernel finds for the packet in one direction. Those
// of xfrm interfaces are left out: which of them a packet belongs to is not seen.
func (q *inquiry) policyOf(all []node.IPsecPolicy, dir string) (found *node.IPsecPolicy) {
	for i := range all {
		p := &all[i]
		if p.Dir != dir || p.Interface != 0 || p.Mask != 0 || !q.selected(p) {
			continue
		}
		if found == nil || p.Priority < found.Priority || p.Priority == found.Priority && p.Index < found.Index {
			found = p
		}
	}
	return found
}

// selected tells whether a policy is about the packet.
func (q *inquiry) selected(p *node.IPsecPolicy) bool {
	e := endsAt(q.p)
	port := func(want, is uint16) bool { return want == 0 || want == is }
	return p.Src.Contains(e.Src) && p.Dst.Contains(e.Dst) && port(p.SrcPort, e.SrcPort) && port(p.DstPort, e.DstPort) &&
		(p.Proto == 0 || p.Proto == int(protocols[q.p.Proto]))
}

// demands tells whether a policy wants a state that may not be missing.
func demands(p *node.IPsecPolicy) bool {
	return slices.ContainsFunc(p.Templates, func(t node.IPsecTemplate) bool { return !t.Optional })
}

// refusedBy words the claim of a policy that was found.
func (q *inquiry) refusedBy(c *claim, p *node.IPsecPolicy, states []node.IPsecState) {
	text, way := policyText(p), p.Src.String()+" to "+p.Dst.String()
	c.subject = text
	c.evidence = append(c.evidence, "ip xfrm policy: "+text)
	if p.Block {
		c.summary = fmt.Sprintf("an IPsec policy of %s (ip xfrm policy, dir %s) blocks all from %s", q.place(), p.Dir, way)
		c.fix = append([]string{"see who wrote the policy: an IPsec daemon (strongSwan, libreswan), a CNI plugin's IPsec backend, a script"}, ipsecFix(p.Dir)...)
		return
	}
	wants := templateWords(p.Templates)
	fitting := q.statesFor(p, states)
	if fitting == 0 {
		c.evidence = append(c.evidence, fmt.Sprintf("ip xfrm state: none of %d fits %s", len(states), wants))
	} else {
		c.evidence = append(c.evidence, fmt.Sprintf("ip xfrm state: %d of %d fit %s", fitting, len(states), wants))
	}
	if p.Dir == "out" {
		c.summary = fmt.Sprintf("an IPsec policy of %s (ip xfrm policy, dir out) wants packets from %s sent by %s, and it cannot", q.place(), way, wants)
		c.certain = fitting == 0
		if fitting == 0 {
			c.summary = fmt.Sprintf("an IPsec policy of %s (ip xfrm policy, dir out) wants packets from %s sent by %s, and there is no such state (ip xfrm state)", q.place(), way, wants)
		}
		c.fix = append([]string{"see why the daemon has no keys for it: its log, and whether UDP ports 500 and 4500 and ESP pass to the other end"}, ipsecFix(p.Dir)...)
		return
	}
	c.summary = fmt.Sprintf("an IPsec policy of %s (ip xfrm policy, dir %s) takes packets from %s only if they came by %s, and this one came unencrypted, or by another state", q.place(), p.Dir, way, wants)
	if len(states) == 0 {
		c.summary = strings.Replace(c.summary, ", or by another state", "", 1) // nothing could have decrypted it
	}
	c.fix = append([]string{"have the sender's policy cover these packets too: ip xfrm policy (dir out) on the node that has " + endsAt(q.p).Src.String(),
		"or narrow this policy, where whoever wrote it (flannel's IPsec backend, strongSwan, libreswan) is told what it is for: what it is not for has no need to come encrypted"}, ipsecFix(p.Dir)...)
}

// statesFor counts the states that fit all that a policy demands: by protocol, mode,
// id and, where the template gives them, ends.
func (q *inquiry) statesFor(p *node.IPsecPolicy, states []node.IPsecState) (n int) {
	fits := func(want, is netip.Addr) bool { return !want.IsValid() || want.IsUnspecified() || want == is }
	for _, s := range states {
		if slices.ContainsFunc(p.Templates, func(t node.IPsecTemplate) bool {
			return t.Proto == s.Proto && t.Mode == s.Mode && (t.ReqID == 0 || t.ReqID == s.ReqID) && fits(t.Src, s.Src) && fits(t.Dst, s.Dst)
		}) {
			n++
		}
	}
	return n
}

// templateWords are what a policy demands: "esp (tunnel 10.0.0.2 to 10.0.0.1, reqid 11)".
func templateWords(all []node.IPsecTemplate) string {
	var says []string
	for _, t := range all {
		about := []string{t.Mode}
		if t.Dst.IsValid() && !t.Dst.IsUnspecified() {
			about[0] += fmt.Sprintf(" %s to %s", t.Src, t.Dst)
		}
		if t.ReqID != 0 {
			about = append(about, fmt.Sprintf("reqid %d", t.ReqID))
		}
		says = append(says, fmt.Sprintf("%s (%s)", t.Proto, strings.Join(about, ", ")))
	}
	return strings.Join(says, " in ")
}

// policyText is a policy as `ip xfrm policy` prints it, on one line.
func policyText(p *node.IPsecPolicy) string {
	text := fmt.Sprintf("src %s dst %s", p.Src, p.Dst)
	if p.Proto != 0 {
		text += fmt.Sprintf(" proto %d", p.Proto)
	}
	text += " dir " + p.Dir
	if p.Block {
		text += " action block"
	}
	text += fmt.Sprintf(" priority %d", p.Priority)
	for _, t := range p.Templates {
		text += fmt.Sprintf(" tmpl src %s dst %s proto %s reqid %d mode %s", t.Src, t.Dst, t.Proto, t.ReqID, t.Mode)
	}
	return text
}
