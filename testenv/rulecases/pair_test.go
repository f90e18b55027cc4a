// SPDX-License-Identifier: Apache-2.0

// Two rule sets of the same shape, A and B, that take each other's place, and
// which of them a rule that was told is of.

package rulecases

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// restoreCommand is the process that replaces rules as it reads them.
func restoreCommand(tool string) []string {
	if tool == "nft" {
		return []string{"nft", "-i"}
	}
	return []string{tool + "-restore", "-w"}
}

// What differs between A and B.
const (
	byComment = "comment" // nothing but the comments
	byChain   = "chain"   // where the first rule leads: the same rules stand in both chains
)

// pairPort is the port whose packets one of the rules drops, pairGroup NFLOG's
// group that hears of it beforehand.
const (
	pairPort  = 7979
	pairGroup = 79
)

// pair is A and B.
type pair struct {
	tool    string // nft, iptables-nft, ip6tables-legacy, ...
	differs string
	logged  bool // the kernel tells which stood, by NFLOG
}

func (p pair) v6() bool { return strings.HasPrefix(p.tool, "ip6") }

// pairRule is a rule of a set; the base chain has one.
type pairRule struct{ chain, does, comment string }

// rules are those of a set: the base chain leads to the chain that drops.
func (p pair) rules(set string) []pairRule {
	chains, to, comment := []string{"SUB1"}, "SUB1", "rules-"+set
	if p.differs == byChain {
		chains, comment = []string{"SUB1", "SUB2"}, ""
		to = chainOf(set)
	}
	all := []pairRule{{"", "jump " + to, comment}}
	for _, c := range chains {
		if p.logged {
			prefix := set
			if p.differs == byChain {
				prefix = setOfChain(c)
			}
			all = append(all, pairRule{c, "log " + prefix, comment})
		}
		all = append(all, pairRule{c, "drop", comment})
	}
	return all
}

func chainOf(set string) string { return map[string]string{"A": "SUB1", "B": "SUB2"}[set] }

func setOfChain(chain string) string { return map[string]string{"SUB1": "A", "SUB2": "B"}[chain] }

// text is what the tool reads to put a set there.
func (p pair) text(set string) string {
	var rules []string
	for _, r := range p.rules(set) {
		if p.tool == "nft" {
			rules = append(rules, r.nft())
		} else {
			rules = append(rules, r.iptables())
		}
	}
	if p.tool == "nft" {
		return "add table ip pair; delete table ip pair; add table ip pair; add chain ip pair SUB1; add chain ip pair SUB2; " +
			"add chain ip pair base { type filter hook forward priority 0; }; " + strings.Join(rules, "; ") + "\n"
	}
	return "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:SUB1 - [0:0]\n:SUB2 - [0:0]\n" + strings.Join(rules, "\n") + "\nCOMMIT\n"
}

func (r pairRule) nft() string {
	verb, what, _ := strings.Cut(r.does, " ")
	text := map[string]string{"jump": fmt.Sprintf("base udp dport %d counter jump %s", pairPort, what),
		"log": fmt.Sprintf("%s log group %d prefix \"%s\"", r.chain, pairGroup, what), "drop": r.chain + " counter drop"}[verb]
	if r.comment != "" {
		text += fmt.Sprintf(" comment \"%s\"", r.comment)
	}
	return "add rule ip pair " + text
}

func (r pairRule) iptables() string {
	verb, what, _ := strings.Cut(r.does, " ")
	chain, match := r.chain, ""
	if verb == "jump" {
		chain, match = "FORWARD", fmt.Sprintf("-p udp -m udp --dport %d ", pairPort)
	}
	if r.comment != "" {
		match += fmt.Sprintf("-m comment --comment %s ", r.comment)
	}
	return fmt.Sprintf("-A %s %s-j %s", chain, match, map[string]string{"jump": what,
		"log": fmt.Sprintf("NFLOG --nflog-prefix %s --nflog-group %d", what, pairGroup), "drop": "DROP"}[verb])
}

var ledTo = regexp.MustCompile(`(?:jump|-j) (SUB[12])\b`)

// setOf is the set that a rule is of; "": of none.
func (p pair) setOf(r *model.Rule) string {
	if p.differs == byComment {
		return strings.TrimPrefix(r.Comment, "rules-")
	}
	if set := setOfChain(r.Chain); set != "" {
		return set
	}
	if m := ledTo.FindStringSubmatch(r.Text); m != nil {
		return setOfChain(m[1])
	}
	return ""
}

// stands tells from a listing of the tool with counters which set stands, and how
// many packets it has dropped.
func (p pair) stands(listing string) (set string, dropped int) {
	for line := range strings.Lines(listing) {
		m := pairCounter.FindStringSubmatch(line)
		switch {
		case m == nil || strings.HasPrefix(line, ":"):
		case strings.Contains(line, "DROP") || strings.Contains(line, " drop"):
			var n int
			_, _ = fmt.Sscan(m[1]+m[2], &n)
			dropped += n
		case p.differs == byComment:
			if _, after, ok := strings.Cut(line, "rules-"); ok {
				set = after[:1]
			}
		case ledTo.MatchString(line):
			set = setOfChain(ledTo.FindStringSubmatch(line)[1])
		}
	}
	return set, dropped
}

var pairCounter = regexp.MustCompile(`^\[(\d+):|counter packets (\d+) `)

// list is the command whose listing has counters.
func (p pair) list() []string {
	if p.tool == "nft" {
		return []string{"nft", "list", "table", "ip", "pair"}
	}
	return []string{p.tool + "-save", "-c", "-t", "filter"}
}

// How it begins what is told of a wrong rule, or of rules of which one is said to
// have done it and none did: .ci/test does not run again what says so.
const (
	wrongRule       = "wrong rule told"
	wrongCandidates = "wrong candidates told"
)

// told is what comes of holding a packet that was told against the set that
// dropped it: why its rule is not known, and what is wrong with it.
func (p pair) told(packet *model.Packet, truth string) (unknown, problem string) {
	for i := range packet.Hops {
		for j := range packet.Hops[i].Rules {
			rule := &packet.Hops[i].Rules[j]
			if rule.Number == 0 && packet.Hops[i].Verdict == "accept" {
				// while one nft table takes another's place the base chains of both are
				// there, and the old one has no rules any more: its policy lets packets on
				continue
			}
			if got := p.setOf(rule); got != truth {
				return "", fmt.Sprintf("%s: %+v on its way, of set %q, it was %s's", wrongRule, *rule, got, truth)
			}
		}
	}
	d := packet.Drop
	switch {
	case packet.Outcome == model.Unknown:
		return "the packet's end was not seen", ""
	case packet.Outcome != model.Dropped || d == nil:
		return "", "not told dropped"
	case d.Rule == nil && d.RuleUnknown == "":
		return "", "no rule told, and not why"
	case d.Rule != nil && (p.setOf(d.Rule) != truth || !strings.Contains(strings.ToLower(d.Rule.Text), "drop")):
		return "", fmt.Sprintf("%s: %+v dropped it, it was %s's", wrongRule, *d.Rule, truth)
	case d.Rule == nil && len(d.RuleCandidates) > 0 && !p.among(d.RuleCandidates, truth):
		return "", fmt.Sprintf("%s: one of %+v dropped it, it was %s's", wrongCandidates, d.RuleCandidates, truth)
	case d.Rule == nil:
		return reasonOf(packet), ""
	}
	return "", ""
}

func (p pair) among(rules []model.Rule, set string) bool {
	for i := range rules {
		if p.setOf(&rules[i]) == set {
			return true
		}
	}
	return false
}
