// SPDX-License-Identifier: Apache-2.0

package cause

// A port of a node's address that the node's NAT rules translate, but for others of its
// addresses only: kube-proxy's --nodeport-addresses, a hostPort with a hostIP.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// portElsewhere is a rule that translates the port asked for, and the addresses it does so
// for.
type portElsewhere struct {
	rule meaning.Rule
	jump *meaning.Rule // that leads to its chain, where that one asks for the address
	on   []netip.Prefix
}

// portsElsewhere finds the first such rule of a namespace, where the packet's address is
// none of those; nil: there is none that is understood.
func (q *inquiry) portsElsewhere(netns uint32, e model.Endpoints) *portElsewhere {
	sets, err := q.state.Rules(netns)
	q.gap(err)
	if err != nil {
		return nil
	}
	for r := range sets.All() {
		if r.Table != "nat" || e.Dst.Is4() != (r.Family == "ip") || !strings.HasPrefix(r.Text, "-A ") {
			continue
		}
		f := fieldsOf(r.Text)
		if f.more || len(f.sets) > 0 || len(f.dports) == 0 || !toBackend(f.target) || !f.takesProto(q.p.Proto) || !f.takesPort(e.DstPort) || !f.takesSource(e.Src) {
			continue
		}
		p := &portElsewhere{rule: r, on: f.dst}
		if f.takesDestination(e.Dst) {
			p = jumpsElsewhere(sets, r, e.Dst)
		}
		// a port of a cluster IP or of a balancer's address is none of the node's
		if p != nil && !slices.ContainsFunc(p.on, func(a netip.Prefix) bool { return q.holderIn(netns, a) == nil }) {
			return p
		}
	}
	return nil
}

// jumpsElsewhere: the rule asks for no address, but each that leads to its chain does,
// and for another one.
func jumpsElsewhere(sets RuleSets, r meaning.Rule, dst netip.Addr) *portElsewhere {
	p := &portElsewhere{rule: r}
	for j := range sets.All() {
		f := fieldsOf(j.Text)
		if j.Family != r.Family || j.Table != r.Table || f.target != r.Chain {
			continue
		}
		if f.more || len(f.dst) == 0 || f.takesDestination(dst) {
			return nil
		}
		p.jump, p.on = &j, append(p.on, f.dst...)
	}
	if p.jump == nil {
		return nil // no rule leads there
	}
	return p
}

// tellPortElsewhere adds to a claim of a node's port that nobody listens on that its rules
// translate it for another address.
func (q *inquiry) tellPortElsewhere(c *claim, e model.Endpoints) {
	p := q.portsElsewhere(q.d.Netns, e)
	if p == nil {
		return
	}
	rule, whose := namedRule(ruleOf(p.rule)), "a port that its NAT rules translate"
	if n := commentNames.FindStringSubmatch(p.rule.Text); n != nil {
		whose = "the port of " + n[1] + " on this node"
	}
	var on []string
	for _, a := range p.on {
		if words := hostOrPrefix(a); !slices.Contains(on, words) {
			on = append(on, words)
		}
	}
	addresses := strings.Join(on, ", ")
	c.summary += fmt.Sprintf("; %d is %s (%s), which is translated for %s only", e.DstPort, whose, rule, addresses)
	c.evidence = append(c.evidence, rule+": "+p.rule.Text)
	if p.jump != nil {
		c.evidence = append(c.evidence, namedRule(ruleOf(*p.jump))+": "+p.jump.Text)
	}
	c.missing = append(c.missing, "that the rules stood so when it came: they were read right after that")
	c.fix = append([]string{fmt.Sprintf("ask %s, or have the port taken on %s as well: kube-proxy: --nodeport-addresses (nodePortAddresses; in nftables mode its default is the node's first address); a hostPort: its hostIP", addresses, e.Dst)}, c.fix...)
}
