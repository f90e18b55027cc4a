// SPDX-License-Identifier: Apache-2.0

// Wording shared by the explainers, and the meaning of rules that mean what
// they say.

package meaning

import (
	"fmt"
	"strings"
)

// verbs say what an action does to the packet.
var verbs = map[string]string{
	"drop": "drops it", "reject": "rejects it", "accept": "accepts it", "return": "returns it",
	"continue": "lets it go on", "queue": "queues it to a program", "nat": "translates it",
}

// targetVerbs say which address a target rewrites.
var targetVerbs = map[string]string{
	"dnat": "rewrites its destination", "redirect": "rewrites its destination",
	"snat": "rewrites its source", "masquerade": "rewrites its source",
}

// verb is what the deciding rule does. Jumps and maps lead on: where to is all
// that can be told.
func (r *reading) verb() string {
	l, action := r.line(), r.action()
	if v, ok := targetVerbs[strings.ToLower(l.target)]; ok && action == "nat" {
		return v
	}
	if v, ok := verbs[action]; ok {
		return v
	}
	switch {
	case action == "map" && l.target != "":
		return "looks its verdict up in map " + l.target
	case l.target != "":
		return "sends it to " + l.target
	}
	return "decides on it"
}

// elementOf reads an element of a verdict map as nft prints it.
func elementOf(text string) (comment, verdict string) {
	words := split(text)
	for i, w := range words {
		if i+1 == len(words) {
			break
		}
		switch {
		case w.is("comment"):
			comment = words[i+1].text
		case w.is(":"):
			verdict = words[i+1].text
		}
	}
	return comment, verdict
}

// place says where a rule is: "rule 3 of filter/FORWARD (iptables-legacy)", or
// "a rule of chain forward (nftables table inet filter)" if its number is not
// known.
func place(r Rule) string {
	if r.Number > 0 {
		return fmt.Sprintf("rule %d of %s", r.Number, chainPlace(r))
	}
	return "a rule of " + chainPlace(r)
}

// chainPlace says where a chain is.
func chainPlace(r Rule) string {
	tool := "iptables-"
	if r.Family == "ip6" {
		tool = "ip6tables-"
	}
	switch {
	case r.Backend == "legacy":
		return fmt.Sprintf("%s/%s (%slegacy)", r.Table, r.Chain, tool)
	case r.Backend == "nft" && isSaveLine(r.Text):
		return fmt.Sprintf("%s/%s (%snft)", r.Table, r.Chain, tool)
	case r.Backend == "nft" && r.Family != "":
		return fmt.Sprintf("chain %s (nftables table %s %s)", r.Chain, r.Family, r.Table)
	}
	return r.Table + "/" + r.Chain
}

// list joins names as people do, the first few of many.
func list(names []string) string {
	const most = 4
	switch n := len(names); {
	case n == 0:
		return ""
	case n == 1:
		return names[0]
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most-1], ", "), n-most+1)
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// in puts a qualification in brackets, nothing if there is none.
func in(what string) string {
	if what == "" {
		return ""
	}
	return " (" + what + ")"
}

// explainPlain tells of a rule that means what it says: who, what, where, and
// its comment.
func explainPlain(r *reading, m *Meaning) {
	if m.Kind == "" {
		m.Kind = PlainRule
		if r.line().action == "nat" {
			m.Kind = Translation
		}
	}
	if r.isInvalidTest() && (m.Action == "drop" || m.Action == "reject") {
		m.Kind = Invalid
	}
	m.What = r.plainReason(m)
	m.Sentence = place(r.rule()) + " " + r.verb()
	if m.Owner != "" {
		m.Sentence = string(m.Owner) + "'s " + strings.TrimPrefix(place(r.rule()), "a ") + " " + r.verb()
	}
	if m.What != "" {
		m.Sentence += ": " + m.What
	}
}

// plainReason is what is known of the reason: the comment, and the mark.
func (r *reading) plainReason(m *Meaning) string {
	var reasons []string
	if c := r.comment(); c != "" {
		reasons = append(reasons, fmt.Sprintf("its comment is %q", c))
	}
	if m.Kind == Invalid {
		reasons = append(reasons, invalidReason)
	}
	if m.Cause != nil {
		tests := r.line().tests
		reasons = append(reasons, fmt.Sprintf("the packet's mark is %s, set by %s", tests[len(tests)-1], place(*m.Cause)))
	}
	return strings.Join(reasons, "; ")
}

const invalidReason = "connection tracking calls the packet invalid"

// isInvalidTest tells whether the deciding rule matches packets that conntrack
// calls invalid, and only those.
func (r *reading) isInvalidTest() bool {
	l := r.line()
	return l.holds("--ctstate", "INVALID") && !l.holds("!", "--ctstate") ||
		l.holds("--state", "INVALID") && !l.holds("!", "--state") ||
		l.holds("ct", "state", "invalid")
}

// explainChainPolicy tells of a packet for which no rule decided.
func explainChainPolicy(r *reading, m *Meaning) {
	rule := r.rule()
	m.Kind = ChainPolicy
	m.Owner = OwnerOfChain(rule.Backend, rule.Table, rule.Chain)
	m.What = "no rule before decided otherwise"
	m.Sentence = fmt.Sprintf("the policy of %s %s: %s", chainPlace(rule), r.verb(), m.What)
}
