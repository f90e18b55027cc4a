// SPDX-License-Identifier: Apache-2.0

package cause

// A policy that denies, held against what it allows: often one thing of the packet is
// other than its author thought, for policies are asked after a service's address was
// translated.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// policyDenied: a policy denies it, or none of those that apply allows it.
func policyDenied(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok {
		return nil
	}
	c := ofKind(policyFix, meaning.PolicyDeny, meaning.TierEnd, meaning.NoProfile, meaning.AdminDown)(q)
	if c != nil && m.Kind == meaning.TierEnd && !q.isReply() {
		q.tellNearMiss(c, m)
	}
	return c
}

// A set that lacks the packet tells least: most sets are for others.
const (
	rankOfSetHeld   = 7
	rankOfSetMissed = 8
)

// nearMiss is a rule that allows all of the packet but one thing.
type nearMiss struct {
	rule meaning.Rule
	rank int // of several the lowest is told
	says string
	fix  string
	// without is the set that lacks the packet, and all else of the rule takes it.
	without *askedSet
	lacks   setEntry
}

// tellNearMiss adds what the policies that were asked do allow, where that is the packet
// but for one thing.
func (q *inquiry) tellNearMiss(c *claim, m meaning.Meaning) {
	var best *nearMiss
	var others []string // further sets that lack the same
	for _, r := range q.allowing(m.Direction) {
		n := q.missed(r)
		switch {
		case n == nil:
		case best == nil || n.rank < best.rank:
			best = n
		case n.without != nil && best.without != nil && n.lacks == best.lacks && n.without.name != best.without.name && !slices.Contains(others, n.without.name):
			others = append(others, n.without.name)
		}
	}
	if best == nil {
		return
	}
	rule := namedRule(ruleOf(best.rule))
	switch {
	case best.without != nil: // that the policy itself does not allow it is not known
		why := fmt.Sprintf("%s%s allows %s, and %s is not in the set %s", rule, policyIn(best.rule.Text), best.says, best.lacks, best.without)
		shown := append([]string{best.without.name}, others[:min(len(others), alsoShown)]...)
		if len(others) > 0 {
			why = fmt.Sprintf("those that allow %s and nothing else ask for what %d sets hold (%s), and %s is in none of them", q.service(), len(others)+1, strings.Join(shown, ", "), best.lacks)
		}
		c.summary = fmt.Sprintf("%s do not let it pass: %s; so it came to the %s", rulesOf(m), why, m.What)
		for _, name := range shown {
			c.evidence = append(c.evidence, fmt.Sprintf("ipset %s does not hold %s", name, best.lacks))
		}
		c.missing = append(c.missing, "whether the set is as the policy wants it: the policy does not choose that pod, or who writes the set is behind")
	default:
		c.summary += fmt.Sprintf("; %s%s allows %s", rule, policyIn(best.rule.Text), best.says)
	}
	c.evidence = append(c.evidence, rule+": "+best.rule.Text)
	c.missing = append(c.missing, "that the rules stood so when it died: those that allow were read right after that")
	c.fix = slices.DeleteFunc(c.fix, func(fix string) bool { return strings.HasPrefix(fix, "if it should pass already: compare the labels") })
	c.fix = append([]string{best.fix}, c.fix...)
}

// rulesOf words whose rules they are that a tier's end speaks for: "the rules of
// Kubernetes NetworkPolicy prod/allow-web (pod prod/db, by kube-router)".
func rulesOf(m meaning.Meaning) string {
	whose, by := "the rules of the policies that apply", []string{}
	if len(m.Policies) > 0 {
		whose = "the rules of " + strings.Join(m.Policies, ", ")
	}
	if m.Endpoint != "" {
		by = append(by, "pod "+m.Endpoint)
	}
	if m.Owner != "" && !strings.Contains(whose, string(m.Owner)) {
		by = append(by, "by "+string(m.Owner))
	}
	if len(by) == 0 {
		return whose
	}
	return whose + " (" + strings.Join(by, ", ") + ")"
}

// policyIn is a policy's name in a rule's comment, in brackets.
func policyIn(text string) string {
	for _, m := range quoted.FindAllString(text, -1) {
		if f := strings.Fields(strings.Trim(m, `"`)); len(f) == 3 && strings.HasSuffix(f[0], "olicy") {
			return " (" + f[0] + " " + f[1] + ")"
		}
	}
	return ""
}

// marks are the bits that a rule sets, as iptables-save and nft print them; tested is
// the bit that the end of a tier asks to be clear: the one for "pass to the next tier".
var (
	marksSet = regexp.MustCompile(`--set-x?mark (0x[0-9a-f]+)|mark set (?:meta )?mark (?:or|\|) (0x[0-9a-f]+)`)
	tested   = regexp.MustCompile(`--mark 0x0/(0x[0-9a-f]+)|mark (?:and|&) (0x[0-9a-f]+) == (?:0x0+|0)`)
)

func bits(re *regexp.Regexp, text string) uint64 {
	m := re.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.Join(m[1:], ""), 0, 32)
	if err != nil {
		return 0
	}
	return n
}

// allowing lists the rules that allow something, of the policies that the packet was
// asked of before the end of its tier (felix/rules/policy.go: allow sets the accept bit,
// pass the one that the tier's end asks for).
// Those of the other direction are of another endpoint, whose policies had let it pass.
func (q *inquiry) allowing(direction string) (all []meaning.Rule) {
	asked := map[string]bool{}
	for _, r := range meaning.WayTo(q.p) {
		if to := fieldsOf(r.Text).target; r.Table == q.d.Rule.Table && isPolicyChain(to, direction) && (direction != "" || r.Chain == q.d.Rule.Chain) {
			asked[to] = true
		}
	}
	sets, err := q.state.Rules(q.d.Netns)
	q.gap(err)
	pass := bits(tested, q.d.Rule.Text)
	for r := range sets.of(q.d.Backend).All() {
		if !asked[r.Chain] || r.Family != q.d.Rule.Family || r.Table != q.d.Rule.Table {
			continue
		}
		if set := bits(marksSet, quoted.ReplaceAllString(r.Text, `""`)); set != 0 && set&pass == 0 {
			all = append(all, r)
		}
	}
	return all
}

// isPolicyChain tells the chain of a policy's rules: into a pod, or out of one.
func isPolicyChain(name, direction string) bool {
	switch direction {
	case "ingress":
		return strings.Contains(name, "cali-pi-")
	case "egress":
		return strings.Contains(name, "cali-po-")
	}
	return strings.HasPrefix(name, "KUBE-NWPLCY-")
}

// missed tells what of the packet a rule does not take, if that is one thing.
func (q *inquiry) missed(r meaning.Rule) *nearMiss {
	f, e := fieldsOf(r.Text), endsAt(q.p)
	if f.more {
		return nil
	}
	translated := q.p.Dst != e.Dst || q.p.DstPort != e.DstPort
	asked := netip.AddrPortFrom(q.p.Dst, q.p.DstPort)
	proto, port := f.takesProto(q.p.Proto), f.takesPort(e.DstPort)
	src, dst := f.takesSource(e.Src), f.takesDestination(e.Dst)
	n := &nearMiss{rule: r}
	var outer *model.Tunnel
	if proto && port && dst && !src {
		outer = q.sentByNode(f)
	}
	switch {
	case proto && port && src && dst:
		return q.missedBySet(r, f.sets)
	case proto && !port && src && dst && translated && q.p.DstPort != e.DstPort && f.takesPort(q.p.DstPort):
		n.rank = 1
		n.says = fmt.Sprintf("%s port %d, the service's port, which was asked for (%s): policies are asked after the translation, when the port is the pod's, %d", q.p.Proto, q.p.DstPort, asked, e.DstPort)
		n.fix = fmt.Sprintf("write the pod's own port (targetPort), %d, into the policy in place of the service's port %d", e.DstPort, q.p.DstPort)
	case proto && port && src && !dst && translated && f.takesDestination(q.p.Dst), proto && !port && src && !dst && translated && f.takesPort(q.p.DstPort) && f.takesDestination(q.p.Dst):
		n.rank = 2
		n.says = fmt.Sprintf("the service's address %s, which was asked for (%s): policies are asked after the translation, when it is the pod's, %s:%d", q.p.Dst, asked, e.Dst, e.DstPort)
		n.fix = fmt.Sprintf("allow the pods behind the service (a selector, or their network) and their own port, %d, in place of the service's address %s", e.DstPort, q.p.Dst)
	case !proto && src && dst && len(f.dports) > 0 && port:
		n.rank = 3
		n.says = fmt.Sprintf("port %d of %s, and this is %s", e.DstPort, f.proto, q.p.Proto)
		n.fix = fmt.Sprintf("allow %s port %d as well: a policy's port is of TCP unless it says otherwise (protocol: UDP)", q.p.Proto, e.DstPort)
	case proto && port && dst && !src && q.p.Src != e.Src && f.takesSource(q.p.Src):
		n.rank = 4
		n.says = fmt.Sprintf("it from %s, which sent it: the source was rewritten to %s before the policy was asked", q.p.Src, e.Src)
		n.fix = fmt.Sprintf("keep the source (externalTrafficPolicy: Local; no masquerade between pods), or allow %s, too", e.Src)
	case outer != nil:
		n.rank = 4
		n.says = fmt.Sprintf("it from %s, the node that sent it, and this comes from %s: what a node sends into the tunnel itself has the address of its tunnel interface as source", outer.Src, e.Src)
		n.fix = fmt.Sprintf("allow the nodes' tunnel addresses as well: %s (kubectl get node -o yaml | grep -i -e tunnel -e public-ip; Calico: the first address of a block of that node's), or the nodes by a selector (Calico: HostEndpoints, which hold their tunnel addresses)", e.Src)
	case proto && port && dst && !src && len(f.dports) > 0:
		n.rank = 6
		n.says = fmt.Sprintf("%s port %d from %s, and this comes from %s", q.p.Proto, e.DstPort, prefixWords(f.src), e.Src)
		n.fix = fmt.Sprintf("see whether %s is the sender's own address, or that of a node which masquerades it; then allow it", e.Src)
	case proto && !port && src && dst && beside(f.dports, e.DstPort):
		n.rank = 5
		n.says = fmt.Sprintf("%s ports %s, and this is port %d, the next one", q.p.Proto, portsWords(f.dports), e.DstPort)
		n.fix = fmt.Sprintf("have the policy's range of ports (port, endPort) take %d: both its ends are within", e.DstPort)
	case proto && !port && src && dst && len(f.sets) > 0:
		n.rank = rankOfSetHeld
		n.says = fmt.Sprintf("%s ports %s to what is in its sets, as this is, and this is port %d", q.p.Proto, portsWords(f.dports), e.DstPort)
		n.fix = fmt.Sprintf("see which port is meant: let the policy allow %s as well, or ask one of %s", q.service(), portsWords(f.dports))
	default:
		return nil
	}
	without, _, unread := q.notIn(f.sets, e)
	switch {
	case without != nil || n.rank == rankOfSetHeld && len(unread) > 0:
		return nil // two things are other than it wants, or may be
	case len(unread) > 0:
		n.rank += 10
		n.says += fmt.Sprintf("; it asks the set %s, too", strings.Join(unread, ", "))
	}
	return n
}

// missedBySet tells the set that lacks the packet, where all else of a rule takes it.
func (q *inquiry) missedBySet(r meaning.Rule, sets []askedSet) *nearMiss {
	without, lacks, _ := q.notIn(sets, endsAt(q.p))
	if without == nil {
		return nil
	}
	n := &nearMiss{rule: r, rank: rankOfSetMissed, without: without, lacks: lacks}
	n.says = q.service() + " " + map[bool]string{true: "from", false: "to"}[without.of == "src"] + " what that holds"
	if sent := q.p.Src; without.of == "src" && sent != lacks.addr {
		if h, err := q.state.InSet(q.d.Netns, without.name, setEntry{addr: sent}); err == nil && h == setHolds {
			n.says += fmt.Sprintf(", as it does %s, which sent it: the source was rewritten to %s before the policy was asked", sent, lacks.addr)
			n.fix = fmt.Sprintf("keep the source: no masquerade between pods (kube-proxy's --cluster-cidr, natOutgoing, ip-masq-agent), externalTrafficPolicy: Local; %s is not what the policy means", lacks.addr)
			return n
		}
	}
	if without.of == "src" && (q.holds(q.state.Node(), lacks.addr) || q.gateway(lacks.addr)) {
		n.says += fmt.Sprintf("; %s is a node's address: that node sent it itself, or masqueraded what a pod sent, whom no policy knows then", lacks.addr)
		n.fix = fmt.Sprintf("see who sent it, on that node; if a pod did: keep its source (kube-proxy's --cluster-cidr, natOutgoing, ip-masq-agent); if the node did: let the policy allow %s", lacks.addr)
		return n
	}
	n.fix = fmt.Sprintf("see what the set holds, and what the policy chooses: ipset list %s; kubectl get pod -A -o wide --show-labels; if the policy chooses %s, the set is behind: see the log of who writes it (%s), and have its pod of this node made anew", shellWord(without.name), lacks.addr, orElse(string(meaning.OwnerOf(r)), "the policy's agent"))
	return n
}

// sentByNode is the outer header of a packet that came through a tunnel, where a rule takes
// the outer source and the inner one is that node's own: a route to its pods leads by it.
func (q *inquiry) sentByNode(f fields) *model.Tunnel {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageDecapsulate && h.Tunnel != nil })
	if h == nil || !f.takesSource(h.Tunnel.Src) || !q.gateway(endsAt(q.p).Src) {
		return nil
	}
	return h.Tunnel
}

// gateway tells an address by which a route to pods of another node leads, through a tunnel
// or written by BIRD: that node's own, or its tunnel's. Others may be a router's.
func (q *inquiry) gateway(addr netip.Addr) bool {
	routes, err := q.state.Routes(q.state.Node())
	q.gap(err)
	return slices.ContainsFunc(routes, func(r node.Route) bool {
		return slices.ContainsFunc(r.Hops(), func(hop node.NextHop) bool {
			return hop.Gateway == addr && r.Dst.Bits() > 0 && (r.Protocol == protoBIRD || tunnelKindOf(q.link(q.state.Node(), hop.LinkIndex)) != nil)
		})
	})
}

// notIn looks whether the sets that a rule asks hold what they are asked about: the first
// that does not, with what it lacks; unread are those that cannot be asked.
func (q *inquiry) notIn(sets []askedSet, e model.Endpoints) (without *askedSet, lacks setEntry, unread []string) {
	entries := map[string]setEntry{
		"src":     {addr: e.Src},
		"dst":     {addr: e.Dst},
		"dst,dst": {addr: e.Dst, proto: q.p.Proto, port: e.DstPort},
	}
	for i := range sets {
		entry, can := entries[sets[i].of]
		if !can {
			unread = append(unread, sets[i].name)
			continue
		}
		switch h, err := q.state.InSet(q.d.Netns, sets[i].name, entry); {
		case err != nil || h == setMissing:
			unread = append(unread, sets[i].name)
		case h == setWithout && without == nil:
			without, lacks = &sets[i], entry
		}
	}
	return without, lacks, unread
}

func prefixWords(all []netip.Prefix) string {
	var words []string
	for _, p := range all {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}

func portsWords(all [][2]uint16) string {
	var words []string
	for _, r := range all {
		words = append(words, portWords(r))
	}
	return strings.Join(words, ", ")
}

// beside tells a port that is the next one to a range.
func beside(all [][2]uint16, port uint16) bool {
	return slices.ContainsFunc(all, func(r [2]uint16) bool {
		return r[0] != r[1] && (uint32(port) == uint32(r[1])+1 || uint32(port)+1 == uint32(r[0]))
	})
}
