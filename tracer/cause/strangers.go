// SPDX-License-Identifier: Apache-2.0

package cause

// Rules about which more is known than their text: who writes them though they bear no
// name, what a limit means, what is to be accepted under a policy.

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// writer is a program that is known by its chains.
type writer struct {
	chain, name string // chain: a prefix
	fix         []string
}

var writers = []writer{
	{"ts-", "tailscaled", []string{"Tailscale wrote it and will write it again: tell it otherwise (tailscale set --netfilter-mode=nodivert, and rules of your own), or give the hosts that are dropped addresses outside 100.64.0.0/10"}},
	{"KUBE-FIREWALL", "the kubelet", []string{"leave the rule: the bit is the kubelet's, for packets that it or kube-proxy marked to be dropped (0x8000; --iptables-drop-bit in older ones)",
		"have whoever marks the packet take a mark without that bit: a VPN's FwMark, a rule with -j MARK or meta mark set"}},
}

// strangersRule: a rule of a program that is known by its chain's name.
func strangersRule(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok || m.Kind != meaning.PlainRule {
		return nil
	}
	for _, w := range writers {
		if !strings.HasPrefix(q.d.Rule.Chain, w.chain) || w.name == "the kubelet" && !asksMark.MatchString(q.d.Rule.Text) {
			continue
		}
		c := q.byRule(m)
		c.summary = fmt.Sprintf("%s (%s) drops it: a chain of %s's", ruleName(q.d), backendWords(q.d), w.name)
		c.fix = append([]string{q.ruleFix(m)[0]}, w.fix...)
		q.tellMark(c)
		return c
	}
	return nil
}

// asksMark finds the mark that a rule asks for.
var asksMark = regexp.MustCompile(`-m mark (! )?--mark (0x[0-9a-f]+)|meta mark`)

// tellMark says with which mark the packet came to a rule that asks for one, and
// whether a rule had set it.
func (q *inquiry) tellMark(c *claim) {
	if !asksMark.MatchString(q.d.Rule.Text) {
		return
	}
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Netns == q.d.Netns })
	if h == nil || h.Mark == 0 {
		return
	}
	c.evidence = append(c.evidence, fmt.Sprintf("the packet's mark was 0x%x", h.Mark))
	if q.d.Hook != "OUTPUT" || !q.unmarked() {
		return
	}
	c.summary += fmt.Sprintf("; it came with mark 0x%x, which no rule that it met had set: the sender's own socket mostly does (SO_MARK)", h.Mark)
	c.missing = append(c.missing, "who set the mark: a socket's own is not told from a program's (tc, cgroup)")
}

// unmarked tells that the packet met no rule in this namespace that sets a mark, and
// that all that it met are known.
func (q *inquiry) unmarked() bool {
	for _, h := range q.p.Hops {
		if h.Netns != q.d.Netns {
			continue
		}
		if h.RulesUnknown != "" {
			return false
		}
		for _, r := range h.Rules {
			if strings.Contains(r.Text, "-j MARK") || strings.Contains(r.Text, "-j CONNMARK") || strings.Contains(r.Text, "mark set") {
				return false
			}
		}
	}
	return true
}

// limits are matches that let a number of packets be, and those past it not.
var limits = regexp.MustCompile(`--hashlimit-above (\S+)|--connlimit-above (\S+)|limit rate over (\S+)|ct count over (\S+)`)

// overLimit: a rule drops what is above a rate or a number.
func overLimit(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok || m.Owner != "" {
		return nil
	}
	found := limits.FindStringSubmatch(q.d.Rule.Text)
	if found == nil {
		return nil
	}
	c := q.byRule(m)
	above := strings.Join(found[1:], "")
	c.summary = fmt.Sprintf("%s (%s) drops what is above its limit of %s: what keeps to it passes", ruleName(q.d), backendWords(q.d), above)
	c.fix = []string{q.ruleFix(m)[0], "see whether the sender is meant to open so many; if it is: raise the limit, where whoever wrote the rule is told it"}
	return c
}

// hookPolicy: nothing in INPUT or OUTPUT accepts it, and what nothing accepts is dropped.
func hookPolicy(q *inquiry) *claim {
	m, ok := q.decided()
	if !ok || m.Kind != meaning.ChainPolicy || q.d.Hook != "INPUT" && q.d.Hook != "OUTPUT" {
		return nil
	}
	c := q.byRule(m)
	tool, chain := q.tool(), q.d.Rule.Chain
	c.fix = []string{q.ruleFix(m)[0]}
	e := endsAt(q.p)
	switch {
	case tool == "":
		c.fix = append(c.fix, fmt.Sprintf("accept in that chain what is to pass: nft add rule %s %s %s ...", q.d.Rule.Family, q.d.Rule.Table, chain))
	case q.p.Direction == model.Return:
		c.fix = append(c.fix, fmt.Sprintf("accept what answers: %s -I %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", tool, chain))
	case q.d.Hook == "INPUT":
		c.fix = append(c.fix, fmt.Sprintf("accept it: %s -I %s -s %s -p %s -j ACCEPT; for all pods the pods' network as source", tool, chain, e.Src, q.p.Proto))
	default:
		c.fix = append(c.fix, fmt.Sprintf("accept it: %s -I %s -d %s -p %s -j ACCEPT", tool, chain, e.Dst, q.p.Proto))
	}
	c.fix = append(c.fix, "do so by the firewall that set the policy, or it is lost with its next start: ufw allow from NET, firewall-cmd --zone=trusted --add-source=NET, /etc/nftables.conf")
	return c
}
