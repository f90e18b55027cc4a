// SPDX-License-Identifier: Apache-2.0

package cause

// The cause split-rulesets: both backends of iptables hold rules, the kernel
// asks both, and the half that no agent of the node keeps up to date kills.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// agents keep a node's rules; where they write is the half that counts.
var agents = []meaning.Owner{meaning.Calico, meaning.Flannel, meaning.KubeProxy, meaning.KubeRouter, meaning.Kindnet,
	meaning.Weave, meaning.Cilium, meaning.CNIPlugins, meaning.Portmap}

// half is one backend's share of a namespace's rules.
type half struct {
	backend string
	rules   int
	owners  []meaning.OwnerCount
	agents  int // rules that agents of the node wrote
	living  int // chains of pods' interfaces that exist
	dead    int // chains of pods' interfaces that are gone
}

// splitRuleSets compares the half that killed with the other.
func splitRuleSets(q *inquiry) *claim {
	if q.d.Rule == nil || q.d.Backend == "" || q.d.Backend == "nft" && !iptablesTable(q.d.Family, q.d.Table) {
		return nil // a native nft table is no half of iptables: it stands for itself
	}
	sets, err := q.state.Rules(q.d.Netns)
	if err != nil {
		q.gap(err)
		return nil
	}
	nfts := routed(sets.NFT)
	if sets.Legacy.none() || nfts.none() {
		return nil
	}
	links, err := q.state.Links(q.d.Netns)
	q.gap(err)
	killer, other := newHalf("legacy", sets.Legacy, links), newHalf("nft", nfts, links)
	if q.d.Backend == "nft" {
		killer, other = other, killer
	}
	stale := killer.agents == 0 && other.agents > 0 ||
		killer.agents > 0 && other.agents > 0 && other.living > killer.living && killer.dead > 0
	if !stale {
		return nil
	}
	m, _ := q.decided()
	c := q.byRule(m)
	c.summary = fmt.Sprintf("rules live in both backends of iptables, and one of %s, which no agent of this node keeps, kills the packet; the agents write %s", killer.words(), other.words())
	c.evidence = append(c.evidence, "iptables-legacy holds "+halfWords(killer, other, "legacy"), "nft holds "+halfWords(killer, other, "nft"))
	if m.Sentence != "" {
		c.evidence = append(c.evidence, m.Sentence)
	}
	c.fix = q.splitFix(killer)
	return c
}

// routed leaves out rules of ARP, bridges and devices, which both halves may have
// beside each other, and chains' policies.
func routed(rules Rules) Rules {
	return rules.without(func(r meaning.Rule) bool {
		return isPolicy(r) || r.Family != "ip" && r.Family != "ip6" && r.Family != "inet"
	})
}

func newHalf(backend string, rules Rules, links []node.Link) half {
	h := half{backend: backend}
	seen := map[string]bool{}
	// all is counted in one go: it is that which puts rules into words
	h.owners = meaning.CountOwners(func(yield func(meaning.Rule) bool) {
		for r := range rules.All() {
			h.rules++
			if iface, ok := podInterface(r.Chain); ok && !seen[iface] {
				seen[iface] = true
				h.pod(iface, links)
			}
			if !yield(r) {
				return
			}
		}
	})
	for _, o := range h.owners {
		if slices.Contains(agents, o.Owner) {
			h.agents += o.Rules
		}
	}
	return h
}

// pod counts the chains of a pod's interface.
func (h *half) pod(iface string, links []node.Link) {
	if slices.ContainsFunc(links, func(l node.Link) bool { return l.Name == iface }) {
		h.living++
	} else {
		h.dead++
	}
}

// podInterface is the interface that one of Felix' endpoint chains is of
// (felix/rules/rule_defs.go, 3.34).
func podInterface(chain string) (string, bool) {
	for _, prefix := range []string{"cali-tw-", "cali-fw-"} {
		if iface, ok := strings.CutPrefix(chain, prefix); ok {
			return iface, true
		}
	}
	return "", false
}

func (h half) words() string {
	if h.backend == "legacy" {
		return "iptables-legacy"
	}
	return "nft"
}

// halfWords lists whose rules one of two halves holds.
func halfWords(a, b half, backend string) string {
	h := a
	if b.backend == backend {
		h = b
	}
	var whose []string
	for _, o := range h.owners {
		name := string(o.Owner)
		if name == "" {
			name = "nobody known"
		}
		whose = append(whose, fmt.Sprintf("%d of %s", o.Rules, name))
	}
	says := fmt.Sprintf("%d rules: %s", h.rules, strings.Join(whose, ", "))
	if h.dead > 0 {
		says += fmt.Sprintf("; %d of its chains are of pods that are gone", h.dead)
	}
	return says
}

func (q *inquiry) splitFix(killer half) []string {
	fix := []string{"see the half that killed: " + saveTool(q.d.Family, killer.backend) + " -c (install that iptables if the node has none)"}
	if text, ok := strings.CutPrefix(q.d.Rule.Text, "-A "); ok {
		fix = append(fix, "take the rule away: "+q.tool()+" -D "+shellRule(text))
	}
	if q.d.Rule.Number == 0 && strings.HasPrefix(q.d.Rule.Text, ":") {
		fix = append(fix, fmt.Sprintf("set the policy back: %s -P %s ACCEPT", q.tool(), shellWord(q.d.Rule.Chain)))
	}
	return append(fix,
		"see that all programs of the node use the same backend: update-alternatives --display iptables; Calico: FELIX_IPTABLESBACKEND; kube-proxy: the iptables in its image",
		"if the whole half is left over, it goes with a reboot of the node")
}
