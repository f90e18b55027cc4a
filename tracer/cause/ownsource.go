// SPDX-License-Identifier: Apache-2.0

package cause

// Packets that leave by the uplink with a pod's own private address: whoever gets them
// has to know a way back to it, which outside the cluster nobody does.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var (
	// letsBy are rules that end a packet's way through a chain without rewriting it.
	letsBy = regexp.MustCompile(`-j (RETURN|ACCEPT)( |$)|(^|[ {])(return|accept)$`)
	// onlyBy is the interface that a rule asks for on the way out; "!" before it: any other.
	onlyBy = regexp.MustCompile(`(! )?(?:-o |oifname (!= )?"?)([^ "]+)`)
)

// bareSource is a packet that left with a pod's own address.
type bareSource struct {
	src netip.Addr
	by  *model.Hop // by which it left
	// exempt is a rule of the way through the nat chains that let it by; nil: none did, or
	// it was not seen.
	exempt *model.Rule
	source model.RuleSource // of exempt
	// rewrites is a rule that rewrites sources and did not take it; nil: the node has none.
	rewrites *meaning.Rule
	read     bool // the rules could be read
}

// bareSource looks whether a packet left for somebody outside the cluster with a pod's
// own private address; nil: it did not, or the network is known to route it. Where a
// route of its own leads to a gateway, that is known for a network that was told of the
// pods (BGP, host-gw); so are the nodes themselves, and hosts of a subnet that the pods'
// addresses are of.
func (q *inquiry) bareSource(p *peer) *bareSource {
	e := endsAt(q.p)
	at := q.sentOut()
	if in, _ := q.encapsulated(); in || at == nil || at.Netns != q.state.Node() || p.icmp != "" || q.newSource() != nil || q.sentByIPVS() != nil {
		return nil
	}
	pod, ok := q.podOf(e.Src)
	if !ok || pod == q.state.Node() || !privateAddr(e.Src) || q.holds(q.state.Node(), e.Src) {
		return nil
	}
	w := q.wayOf(at.Netns)
	a, sure := w.sure()
	out := q.link(at.Netns, int(at.IfIndex))
	if !sure || a.Route == nil || a.Error != 0 || out == nil || tunnelKindOf(out) != nil || out.PeerNetns != 0 && q.isMember(out.PeerNetns) {
		return nil
	}
	if a.Route.Dst.Bits() != 0 && (a.Route.Gateway.IsValid() || len(a.Route.NextHops) > 0) || q.knownNode(e.Dst) || q.onLink(a.Route.LinkIndex, e.Src) {
		return nil
	}
	b := &bareSource{src: e.Src, by: at}
	rewriters, read := q.rewriters(e.Src.Is6())
	tables := make(map[string]bool)
	for _, r := range rewriters {
		tables[r.Table] = true
	}
	met := q.metForSource(b, tables)
	b.rewrites, b.read = b.missed(rewriters, met), read
	return b
}

// sharedNetwork is that of carriers' and clouds' own (RFC 6598).
var sharedNetwork = netip.MustParsePrefix("100.64.0.0/10")

func privateAddr(a netip.Addr) bool { return a.IsPrivate() || sharedNetwork.Contains(a) }

// isMember tells the namespace of a pod of this node.
func (q *inquiry) isMember(netns uint32) bool { return slices.Contains(q.state.Members(), netns) }

// knownNode tells an address that the node's own entries name as another node's: the
// gateway of a route to a network, or the far end of a tunnel.
func (q *inquiry) knownNode(addr netip.Addr) bool {
	self := q.state.Node()
	routes, err := q.state.Routes(self)
	q.gap(err)
	for _, r := range routes {
		for _, h := range r.Hops() {
			if r.Dst.Bits() != 0 && h.Gateway == addr {
				return true
			}
		}
	}
	entries, err := q.state.Neighbors(self)
	q.gap(err)
	for _, n := range entries {
		if n.Bridge && n.Addr == addr {
			return true
		}
	}
	return q.findLink(self, func(l *node.Link) bool { return l.Tunnel.Remote == addr }) != nil
}

// onLink tells whether an address is of a subnet of an interface's.
func (q *inquiry) onLink(index int, addr netip.Addr) bool {
	l := q.link(q.state.Node(), index)
	if l == nil {
		return false
	}
	for _, p := range l.Addrs {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// metForSource finds the rule that let the packet by in the tables that rewrite sources,
// and lists those that it met behind the routing.
func (q *inquiry) metForSource(b *bareSource, tables map[string]bool) (met []model.Rule) {
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		if h.Netns != q.state.Node() || h.Hook != "POSTROUTING" {
			continue
		}
		for k := range h.Rules {
			r := &h.Rules[k]
			met = append(met, *r)
			if (r.Table == "nat" || tables[r.Table]) && (r.Number != 0 || r.Handle != 0) && letsBy.MatchString(quoted.ReplaceAllString(r.Text, `""`)) {
				b.exempt, b.source = r, h.RuleSource
				if r.Inferred {
					b.source = model.RuleInferred
				}
			}
		}
	}
	return met
}

// rewriters are the rules of the packet's family that rewrite sources; ok is false where
// the rules cannot be read.
func (q *inquiry) rewriters(v6 bool) (all []meaning.Rule, ok bool) {
	sets, err := q.state.Rules(q.state.Node())
	q.gap(err)
	if err != nil {
		return nil, false
	}
	for r := range sets.All() {
		other := r.Family == "ip6" && !v6 || r.Family == "ip" && v6
		if !other && len(all) < maxRewriters && rewritesSource(r.Text) {
			all = append(all, r)
		}
	}
	return all, true
}

// maxRewriters bounds the rules that are looked at.
const maxRewriters = 64

// missed picks of rules that rewrite sources one that the packet did not meet: of the
// exempting rule's own chain, else the first; nil: there is none.
func (b *bareSource) missed(all []meaning.Rule, met []model.Rule) (found *meaning.Rule) {
	for i := range all {
		r := &all[i]
		if wasMet(*r, met) {
			continue
		}
		if b.exempt != nil && r.Table == b.exempt.Table && r.Chain == b.exempt.Chain {
			return r
		}
		if found == nil {
			found = r
		}
	}
	return found
}

func wasMet(r meaning.Rule, met []model.Rule) bool {
	for _, m := range met {
		if m.Table == r.Table && m.Chain == r.Chain && m.Number == r.Number && m.Text == r.Text {
			return true
		}
	}
	return false
}

// leftBare words what left with a pod's own address.
func (q *inquiry) leftBare(c *claim, b *bareSource, p *peer) {
	by := b.by.Interface
	c.certain = false
	c.subject = by + " bare"
	c.summary = fmt.Sprintf("packets to %s left this node by %s with the pod's own address %s, which nothing rewrote, and no answer came back while it was traced", farWords(p), by, b.src)
	c.evidence = append(c.evidence, "a pod of this node has "+b.src.String())
	switch {
	case b.exempt != nil:
		c.summary += fmt.Sprintf(": %s exempts them from masquerading", namedRule(b.exempt))
		c.evidence = append(c.evidence, namedRule(b.exempt)+": "+b.exempt.Text)
	case b.rewrites != nil:
		if iface, other := otherInterface(b.rewrites.Text, by); other {
			c.summary += ": the rule that rewrites sources is for what leaves by " + iface
		} else {
			c.summary += ": no rule that rewrites sources took them"
		}
	case b.read:
		family := "IPv4"
		if b.src.Is6() {
			family = "IPv6"
		}
		c.summary += fmt.Sprintf(": this node has no rule that rewrites %s sources", family)
		c.evidence = append(c.evidence, fmt.Sprintf("no rule of this node rewrites %s sources (MASQUERADE, SNAT)", family))
	}
	if b.rewrites != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("%s (it did not take them): %s", namedRule(ruleOf(*b.rewrites)), b.rewrites.Text))
	}
	c.summary += fmt.Sprintf("; whoever is there needs a route back to %s", b.src)
	if b.exempt != nil && b.source != model.RuleExact {
		c.missing = append(c.missing, "the rule that exempts it was read off the rule set, this backend does not see it matching")
	}
	c.missing = append(c.missing, fmt.Sprintf("whether %s, or a router before it, knows a way back to %s: where pods' addresses are routed (BGP, a cloud's own), nothing has to rewrite them", endsAt(q.p).Dst, b.src))
	c.fix = append(c.fix, fmt.Sprintf("see there whether it arrives, and where its answer goes: tcpdump -ni any host %s; ip route get %s", b.src, b.src))
	switch {
	case b.exempt != nil:
		c.fix = append(c.fix, "if that network does not know the pods: take it out of what is exempt (ip-masq-agent: nonMasqueradeCIDRs; Calico: an IP pool that holds it, natOutgoing; the CNI plugin's or kubelet's non-masquerade CIDR)")
	case b.rewrites != nil:
		c.fix = append(c.fix, "if that network does not know the pods: see what the rule asks for and the packet is not: the interface it leaves by, its source or its destination")
	default:
		c.fix = append(c.fix, "if that network does not know the pods: have sources rewritten (Calico: natOutgoing of the IP pool; flannel: --ip-masq; ip-masq-agent), and see what took the rules away")
	}
	c.fix = append(c.fix, "or let it know them: a route there to the pods' addresses by this node")
}

// otherInterface is the interface that a rule is for, if that is not the one at hand.
func otherInterface(rule, by string) (iface string, other bool) {
	m := onlyBy.FindStringSubmatch(quoted.ReplaceAllStringFunc(rule, func(s string) string { return strings.ReplaceAll(s, " ", "_") }))
	if m == nil || m[1] != "" || m[2] != "" {
		return "", false
	}
	iface = strings.Trim(m[3], `"`)
	prefix, any := strings.CutSuffix(strings.ReplaceAll(iface, "*", "+"), "+")
	return iface, !(iface == by || any && strings.HasPrefix(by, prefix))
}
