// SPDX-License-Identifier: Apache-2.0

package cause

// The cause masquerade-missing: what IPVS sends to a real server keeps the client's
// address, so that the answer does not come back over this node, which alone knows how
// to put the service's address back; or it goes to the client itself, which takes nothing
// that has its own address as source. kube-proxy's ipvs mode masquerades such packets by
// ipsets and rules of table nat; what is missing among them is told.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// sentBack: IPVS chose the pod that asked as real server, and nothing gave the packet
// another source: the pod does not take what comes with its own address.
func sentBack(q *inquiry) *claim {
	t := lastTranslation(q.p)
	if !q.p.Outcome.Died() || t == nil || !t.ipvs || q.d.Hook != "" || q.newSource() != nil {
		return nil
	}
	client := t.hop.Before.Src
	if t.to.Addr() != client || endsAt(q.p).Src != client || !q.holds(q.d.Netns, client) {
		return nil
	}
	c := &claim{translated: true, balanced: true, subject: "ipvs masquerade " + t.asked.String(),
		summary: fmt.Sprintf("IPVS has chosen the one who asks for service %s itself (%s), and sent it back with its own address as source, which %s refuses: nothing masquerades it", t.asked, t.to, q.place())}
	c.evidence = []string{q.died()}
	t.tell(c, "it")
	q.tellPart(c, t)
	k := q.kubeMasquerade(t, client)
	k.tellGap(c, k.hairpin())
	return c
}

// unmasqueraded: what IPVS sent to a real server left the node with the address of a
// client that is none of this node's pods, and no answer came.
func unmasqueraded(q *inquiry, p *peer) *claim {
	self, t := q.state.Node(), lastTranslation(q.p)
	if t == nil || !t.ipvs || t.hop.Netns != self || q.newSource() != nil || p.icmp != "" {
		return nil
	}
	client := t.hop.Before.Src
	if netns, pod := q.podOf(client); pod && netns != self {
		return nil // answers come back over this node
	}
	holder := q.holderOf(self, client)
	if holder != nil && holder.Name != parking {
		return nil // so do those to an address that is this node's alone
	}
	k := q.kubeMasquerade(t, client)
	gap := k.forwarded()
	if gap == nil {
		return nil
	}
	c := &claim{subject: "ipvs masquerade " + t.asked.String(),
		summary: fmt.Sprintf("packets of %s to service %s left for the real server that IPVS chose (%s) with their source as it was, so its answers go to %s past this node, which alone would put the service's address back", client, t.asked, t.to, client)}
	if holder != nil {
		c.summary = fmt.Sprintf("packets of this node to service %s left for the real server that IPVS chose (%s) with the source %s, which every node has on %s, so its answers do not come here", t.asked, t.to, client, parking)
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s has %s", holder.Name, client))
	}
	t.tell(c, "it")
	c.evidence = append(c.evidence, fmt.Sprintf("it left by %s with the source %s", q.wayOut(), endsAt(q.p).Src))
	q.tellPart(c, t)
	c.missing = append(c.missing, "whether the real server has its answers go over this node all the same, and what became of them")
	k.tellGap(c, gap)
	return c
}

// tellPart adds the service, its real servers and the entry of the connection.
func (q *inquiry) tellPart(c *claim, t *translation) {
	b := q.balancingOf(t.hop.Netns, t.asked)
	if b == nil {
		return
	}
	b.chosen, b.seen = t.to, true
	q.findEntry(b, netip.AddrPortFrom(t.hop.Before.Src, t.hop.Before.SrcPort))
	c.evidence = append(c.evidence, b.words()...)
}

// kubeMasquerade is what kube-proxy's ipvs mode has set up to masquerade, as far as a
// connection meets it (pkg/proxy/ipvs/proxier.go: writeIptablesRules, and ipset.go,
// Kubernetes 1.36).
type kubeMasquerade struct {
	q      *inquiry
	t      *translation
	client netip.Addr
	chains map[string][]meaning.Rule // of table nat
	unread bool                      // they could not be read
}

// masqueradeGap is what is missing for a connection to be masqueraded.
type masqueradeGap struct {
	says     string // in a clause
	evidence []string
	fix      []string
}

func (q *inquiry) kubeMasquerade(t *translation, client netip.Addr) *kubeMasquerade {
	k := &kubeMasquerade{q: q, t: t, client: client, chains: make(map[string][]meaning.Rule)}
	sets, err := q.state.Rules(t.hop.Netns)
	q.gap(err)
	k.unread = err != nil
	family := "ip"
	if client.Is6() {
		family = "ip6"
	}
	for r := range sets.All() {
		if r.Family == family && r.Table == "nat" && strings.HasPrefix(r.Text, "-A ") {
			k.chains[r.Chain] = append(k.chains[r.Chain], r)
		}
	}
	return k
}

// set is the name of one of kube-proxy's sets: those of IPv6 are named apart.
func (k *kubeMasquerade) set(name string) string {
	if k.client.Is6() {
		return "KUBE-6-" + name
	}
	return "KUBE-" + name
}

// rule finds a rule of a chain with all of some words.
func (k *kubeMasquerade) rule(chain string, words ...string) *meaning.Rule {
	for i := range k.chains[chain] {
		r := &k.chains[chain][i]
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.Text+" ", w+" ") }) {
			return r
		}
	}
	return nil
}

// noRule words that there is no such rule: what `iptables-save -t nat` shows.
func noRule(chain string, words ...string) string {
	return fmt.Sprintf("iptables-save -t nat: no rule of %s has %s", chain, strings.Join(words, " and "))
}

// needs gives the gap that the lack of a rule is; nil: it is there.
func (k *kubeMasquerade) needs(says, chain string, words ...string) *masqueradeGap {
	if k.rule(chain, words...) != nil {
		return nil
	}
	return &masqueradeGap{says: says, evidence: []string{noRule(chain, words...)}}
}

// inSet tells whether one of kube-proxy's sets holds an element; known is false where
// that could not be asked.
func (k *kubeMasquerade) inSet(name string, e setEntry) (h setHolding, known bool) {
	h, err := k.q.state.InSet(k.t.hop.Netns, k.set(name), e)
	k.q.gap(err)
	return h, err == nil
}

// lacks words that a set does not hold an element.
func (k *kubeMasquerade) lacks(name string, e setEntry, h setHolding) string {
	if h == setMissing {
		return "there is no ipset " + k.set(name)
	}
	return fmt.Sprintf("ipset %s does not hold %s", k.set(name), e)
}

// untracked: IPVS takes what it sends out of conntrack, without which nothing is
// masqueraded (ip_vs_notrack, include/net/ip_vs.h, 5.17 to 7.3).
func (k *kubeMasquerade) untracked() *masqueradeGap {
	if on, ok := k.q.sysctl(k.t.hop.Netns, "ipv4/vs/conntrack"); !ok || on != 0 {
		return nil
	}
	return &masqueradeGap{says: "net.ipv4.vs.conntrack is 0: IPVS takes what it sends out of conntrack, and no rule masquerades what that does not know",
		evidence: []string{"net.ipv4.vs.conntrack = 0"},
		fix:      []string{"sysctl -w net.ipv4.vs.conntrack=1 (kube-proxy sets it so in ipvs mode: see what sets it back); connections that are open stay as they are"}}
}

// first gives the first gap there is.
func first(gaps ...func() *masqueradeGap) *masqueradeGap {
	for _, look := range gaps {
		if gap := look(); gap != nil {
			return gap
		}
	}
	return nil
}

// hairpin is what is missing for what goes back to the one who asked.
func (k *kubeMasquerade) hairpin() *masqueradeGap {
	if k.unread {
		return nil
	}
	asked := setEntry{addr: k.t.to.Addr(), second: k.client, proto: k.q.p.Proto, port: k.t.to.Port()}
	set := k.set("LOOP-BACK")
	return first(k.untracked,
		k.postrouting,
		func() *masqueradeGap {
			return k.needs(fmt.Sprintf("KUBE-POSTROUTING has no rule that masquerades what %s holds", set), "KUBE-POSTROUTING", "--match-set "+set+" dst,dst,src", "-j MASQUERADE")
		},
		func() *masqueradeGap {
			h, known := k.inSet("LOOP-BACK", asked)
			if !known || h == setHolds {
				return nil
			}
			says := k.lacks("LOOP-BACK", asked, h)
			return &masqueradeGap{says: says + ", by which KUBE-POSTROUTING masquerades what a pod asks of itself", evidence: []string{says}}
		})
}

// postrouting: POSTROUTING does not come to kube-proxy's rules.
func (k *kubeMasquerade) postrouting() *masqueradeGap {
	return k.needs("POSTROUTING does not jump to kube-proxy's KUBE-POSTROUTING", "POSTROUTING", "-j KUBE-POSTROUTING")
}

// exempting is a rule for sources outside a network.
var exempting = regexp.MustCompile(` ! -s (\S+) `)

// kubeSets are kube-proxy's sets of what is masqueraded, with the set of those among them
// that are not, by their traffic policy, and the chain whose rule asks.
var kubeSets = []struct{ name, local, chain, target string }{
	{"LOAD-BALANCER", "LOAD-BALANCER-LOCAL", "KUBE-SERVICES", "KUBE-LOAD-BALANCER"},
	{"CLUSTER-IP", "", "KUBE-SERVICES", "KUBE-MARK-MASQ"},
	{"EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "KUBE-SERVICES", "KUBE-MARK-MASQ"},
}

// forwarded is what is missing for what goes to another node; nil: nothing, or it is not
// to be masqueraded, or kube-proxy has nothing to do with it.
func (k *kubeMasquerade) forwarded() *masqueradeGap {
	q, netns := k.q, k.t.hop.Netns
	if k.unread || q.linkNamed(netns, parking) == nil && k.rule("KUBE-MARK-MASQ") == nil && k.rule("KUBE-POSTROUTING") == nil {
		return nil
	}
	from := "PREROUTING"
	if q.holds(netns, k.client) {
		from = "OUTPUT"
	}
	return first(k.untracked, k.postrouting,
		func() *masqueradeGap {
			return k.needs(from+" does not jump to kube-proxy's KUBE-SERVICES", from, "-j KUBE-SERVICES")
		},
		func() *masqueradeGap {
			if k.marked() {
				return nil
			}
			return k.marking()
		},
		func() *masqueradeGap {
			return k.needs("KUBE-POSTROUTING has no rule that masquerades what bears kube-proxy's mark", "KUBE-POSTROUTING", `requiring SNAT"`, "-j MASQUERADE")
		})
}

// setsMark is the rule of KUBE-MARK-MASQ, as iptables-save prints it.
var setsMark = regexp.MustCompile(`-j MARK --(?:set-xmark|or-mark) 0x([0-9a-f]+)`)

// marked tells that the packet was seen with kube-proxy's mark.
func (k *kubeMasquerade) marked() bool {
	r := k.rule("KUBE-MARK-MASQ", "-j MARK")
	if r == nil {
		return false
	}
	m := setsMark.FindStringSubmatch(r.Text)
	if m == nil {
		return false
	}
	bits, err := strconv.ParseUint(m[1], 16, 32)
	return err == nil && lastHop(k.q.p, func(h *model.Hop) bool { return h.Netns == k.t.hop.Netns && uint64(h.Mark)&bits != 0 }) != nil
}

// marking is what is missing for kube-proxy's mark.
func (k *kubeMasquerade) marking() *masqueradeGap {
	service := setEntry{addr: k.t.asked.Addr(), proto: k.q.p.Proto, port: k.t.asked.Port()}
	var lacking []string
	for _, s := range kubeSets {
		if h, known := k.inSet(s.name, service); !known {
			return nil
		} else if h != setHolds {
			lacking = append(lacking, k.lacks(s.name, service, h))
			continue
		}
		return k.marks(s.name, s.local, s.chain, s.target, "dst,dst", service)
	}
	name, port := "NODE-PORT-"+strings.ToUpper(k.q.p.Proto), setEntry{proto: k.q.p.Proto, port: k.t.asked.Port()}
	if k.q.p.Proto == "sctp" { // its set has addresses, since bitmaps have no protocol
		return nil
	}
	h, known := k.inSet(name, port)
	switch {
	case !known:
		return nil
	case h == setHolds:
		return first(func() *masqueradeGap {
			return k.needs("KUBE-SERVICES does not jump to KUBE-NODE-PORT", "KUBE-SERVICES", "--dst-type LOCAL", "-j KUBE-NODE-PORT")
		}, func() *masqueradeGap {
			return k.marks(name, "NODE-PORT-LOCAL-"+strings.ToUpper(k.q.p.Proto), "KUBE-NODE-PORT", "KUBE-MARK-MASQ", "dst", port)
		})
	}
	lacking = append(lacking, k.lacks(name, port, h))
	return &masqueradeGap{says: fmt.Sprintf("none of the ipsets by which kube-proxy marks what is to be masqueraded names %s", k.t.asked), evidence: lacking}
}

// marks is what is missing between a set that holds the service and the mark.
func (k *kubeMasquerade) marks(name, local, chain, target, dirs string, e setEntry) *masqueradeGap {
	set := k.set(name)
	if local != "" {
		if h, known := k.inSet(local, e); !known || h == setHolds {
			return nil // of the traffic policy Local: its real servers are on this node
		}
	}
	match := "--match-set " + set + " " + dirs
	r := k.rule(chain, match, "-j "+target)
	if r == nil {
		if only := k.rule(chain, "--match-set "+set+" src,dst", "-j "+target); only != nil {
			if k.q.holds(k.t.hop.Netns, k.client) {
				return nil
			}
			return &masqueradeGap{says: "kube-proxy's rule masquerades what has a service's address as source only: it does not know which sources are pods (--cluster-cidr, detectLocalMode)",
				evidence: []string{ruleLine(only)}, fix: []string{"tell kube-proxy the pods' network: --cluster-cidr, or clusterCIDR and detectLocalMode in its configuration"}}
		}
		gap := k.needs(fmt.Sprintf("%s has no rule that marks what %s holds", chain, set), chain, match, "-j "+target)
		gap.evidence = append([]string{fmt.Sprintf("ipset %s holds %s", set, e)}, gap.evidence...)
		return gap
	}
	if m := exempting.FindStringSubmatch(r.Text); m != nil {
		if within, err := netip.ParsePrefix(m[1]); err == nil && within.Contains(k.client) {
			return &masqueradeGap{says: fmt.Sprintf("kube-proxy's rule leaves out sources in %s, which it takes for pods (--cluster-cidr), and %s is one", within, k.client),
				evidence: []string{ruleLine(r)},
				fix:      []string{fmt.Sprintf("if %s is no pod: give kube-proxy the pods' network alone (--cluster-cidr, clusterCIDR)", k.client), "if it is one, of another node: have it ask for the service on its own node"}}
		}
	}
	gaps := []func() *masqueradeGap{func() *masqueradeGap {
		return k.needs("KUBE-MARK-MASQ sets no mark", "KUBE-MARK-MASQ", "-j MARK")
	}}
	if target != "KUBE-MARK-MASQ" {
		gaps = append(gaps, func() *masqueradeGap {
			return k.needs(target+" does not jump to KUBE-MARK-MASQ", target, "-j KUBE-MARK-MASQ")
		})
	}
	return first(gaps...)
}

func ruleLine(r *meaning.Rule) string {
	return fmt.Sprintf("rule %d of %s in %s: %s", r.Number, r.Chain, r.Table, r.Text)
}

// tellGap adds what is missing; nil: nothing is by now.
func (k *kubeMasquerade) tellGap(c *claim, gap *masqueradeGap) {
	if gap == nil {
		c.missing = append(c.missing, "why it was not masqueraded: what kube-proxy keeps for that is there by now, or could not be read")
		c.fix = append(c.fix, "see kube-proxy's sets and rules: ipset list; iptables-save -t nat | grep KUBE-")
		return
	}
	c.summary += ": " + gap.says
	c.evidence = append(c.evidence, gap.evidence...)
	c.missing = append(c.missing, "that it was so when the connection began: sets, rules and sysctls were read right after")
	c.fix = append(c.fix, gap.fix...)
	if len(gap.fix) == 0 {
		c.fix = append(c.fix, "have kube-proxy write its sets and rules again: delete its pod of this node (kubectl -n kube-system get pod -l k8s-app=kube-proxy -o wide), and see its log",
			"find what takes them away, or they go again: firewalld's reload, `nft flush ruleset`, `ipset destroy`, a second kube-proxy of another mode")
	}
}
