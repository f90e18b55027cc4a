// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that are rules of a packet filter: Calico's policies and checks, a
// chain's policy, and any other rule. What a rule means is package meaning's
// knowledge; here it becomes a code, evidence and a way out.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// decided says what the rule that killed the packet means; ok is false if no
// rule is known to have done it.
func (q *inquiry) decided() (m meaning.Meaning, ok bool) {
	if q.d.Rule == nil {
		return m, false
	}
	path := meaning.Path{Rules: meaning.WayTo(q.p), Verdict: "drop", In: q.d.Interface, Out: q.route().Interface}
	if q.p.Outcome == model.Rejected {
		path.Verdict = "reject"
	}
	return meaning.NewBook(meaning.Known{}).Explain(path), true
}

// byRule begins a claim about the deciding rule.
func (q *inquiry) byRule(m meaning.Meaning) *claim {
	c := &claim{certain: q.d.RuleSource == model.RuleExact, summary: q.d.Rule.Meaning}
	if c.summary == "" {
		c.summary = m.Sentence
	}
	c.evidence = []string{q.where(), ruleName(q.d) + ": " + q.d.Rule.Text}
	if q.d.Rule.Element != "" {
		c.evidence = append(c.evidence, "the element that matched: "+q.d.Rule.Element)
	}
	q.changedBy(c, q.rulesChanged)
	if !c.certain {
		c.missing = []string{"the rule was read off the rule set, this backend does not see it matching"}
	}
	return c
}

// changedOfLate is how long before a packet's death a change of the rules is
// worth a word: agents write theirs all the time.
const changedOfLate = 10 * time.Second

// rulesChanged fits changes of the rules that the one which decided is among.
func (q *inquiry) rulesChanged(e *model.NodeEvent) bool {
	table := q.d.Rule.Family + " " + q.d.Rule.Table
	return e.What == model.RulesetChanged && e.Netns == q.d.Netns && diedAt(q.p).Sub(e.Time) < changedOfLate &&
		strings.HasPrefix(e.Object, q.d.Backend) && strings.Contains(e.Object+",", " "+table+",")
}

// where is the evidence of a death in netfilter.
func (q *inquiry) where() string {
	hook := "hook " + q.d.Hook
	if q.d.Family == "bridge" {
		hook += " of the bridge family" // IP's hooks have the same names
	}
	return strings.TrimSpace(fmt.Sprintf("it died in %s at %s", strings.Join(nonEmpty(hook, q.d.Backend), ", "), at(q.d.Place, q.d.Interface)))
}

func nonEmpty(words ...string) (out []string) {
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

// ruleName names a rule without its text: "rule 7 of cali-tw-… in filter".
func ruleName(d *model.Drop) string {
	r := d.Rule
	table := r.Table
	if r.Family != "" && r.Family != "ip" && r.Family != "ip6" {
		table = r.Family + " " + table
	}
	switch {
	case r.Number > 0:
		return fmt.Sprintf("rule %d of %s in %s", r.Number, r.Chain, table)
	case r.Handle > 0:
		return fmt.Sprintf("rule with handle %d of %s in %s", r.Handle, r.Chain, table)
	}
	return fmt.Sprintf("policy of %s in %s", r.Chain, table)
}

// ofKind makes a cause of rules that mean one of some things.
func ofKind(fix func(q *inquiry, m meaning.Meaning) []string, kinds ...meaning.Kind) func(q *inquiry) *claim {
	return func(q *inquiry) *claim {
		m, ok := q.decided()
		if !ok {
			return nil
		}
		for _, k := range kinds {
			if m.Kind == k {
				c := q.byRule(m)
				c.fix = fix(q, m)
				return c
			}
		}
		return nil
	}
}

// invalid adds to a rule that drops invalid packets why they may be so.
func invalid(q *inquiry) *claim {
	c := ofKind(invalidFix, meaning.Invalid)(q)
	if c == nil {
		return nil
	}
	if h := lastHop(q.p, func(h *model.Hop) bool { return strings.HasPrefix(h.CTState, "invalid") }); h != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("conntrack called it %s in %s", h.CTState, h.Hook))
	}
	if o := (outside{certain: c.certain}); q.zoned(&o, q.d.Netns) {
		c.summary += ": " + o.why
		c.certain, c.evidence, c.missing, c.fix = o.certain, append(c.evidence, o.evidence...), append(c.missing, o.missing...), o.fix
		return c
	}
	if q.begins() {
		q.invalidByItself(c)
		return c
	}
	other := model.Forward
	if q.p.Direction == model.Forward {
		other = model.Return
	}
	switch {
	case q.mem.packets[other] == 0:
		c.evidence = append(c.evidence, fmt.Sprintf("no packet of the %s direction was seen on this node: the way may be asymmetric", other))
	case q.mem.passed[other] == 0:
		c.evidence = append(c.evidence, fmt.Sprintf("the packets of the %s direction passed the node's own conntrack by: the way is asymmetric", other))
	}
	return c
}

// anyRule: a rule that means nothing special; or a table that killed by a rule
// that could not be named.
func anyRule(q *inquiry) *claim {
	m, ok := q.decided()
	if ok {
		c := q.byRule(m)
		if c.fix = q.ruleFix(m); m.Owner == "" {
			q.tellSet(c)
		}
		return c
	}
	if q.d.Hook == "" || q.d.Table == "" && len(q.d.Candidates) == 0 && q.d.RuleUnknown == "" {
		return nil
	}
	c := &claim{evidence: []string{q.where()}, summary: fmt.Sprintf("a rule of %s in hook %s drops it", tableWords(q.d), q.d.Hook)}
	which := "which of these tables it was: "
	if slices.ContainsFunc(q.d.Candidates, func(c model.Candidate) bool { return c.Table == "" }) {
		c.summary = fmt.Sprintf("something in hook %s drops it: a rule of a table, or what else stands in that hook", q.d.Hook)
		which = "which of these it was: "
	}
	if len(q.d.Candidates) > 0 {
		c.missing = append(c.missing, which+strings.Join(q.d.Candidates.Strings(), "; "))
	}
	why := q.d.RuleUnknown
	if why == "" {
		why = "this backend does not see rules there"
	}
	c.missing = append(c.missing, "which rule: "+why)
	if q.d.Backend == "nft" {
		c.fix = []string{"see its rules: nft -a list ruleset"}
	} else {
		c.fix = []string{"see the rules and their counters: " + saveTool(q.d.Family, q.d.Backend) + " -c"}
	}
	return c
}

func tableWords(d *model.Drop) string {
	switch {
	case d.Table == "" && len(d.Candidates) == 0:
		return "a table that is not known"
	case d.Table == "":
		return "one of several tables"
	}
	return "table " + d.Table + " (" + backendWords(d) + ")"
}

// backendWords is the backend as people call it.
func backendWords(d *model.Drop) string {
	switch {
	case d.Backend == "legacy":
		return "iptables-legacy"
	case d.Backend == "nft" && iptablesTable(d.Family, d.Table):
		return "iptables-nft"
	case d.Backend == "nft":
		return "nftables"
	}
	return "backend not known"
}

// iptablesTable tells the tables that iptables-nft makes.
func iptablesTable(family, table string) bool {
	if family != "ip" && family != "ip6" {
		return false
	}
	switch table {
	case "raw", "mangle", "nat", "filter", "security":
		return true
	}
	return false
}

// tool is the iptables command of the table that killed; "" for native nft.
func (q *inquiry) tool() string { return toolOf(q.d.Backend, q.d.Family, q.d.Table) }

// toolOf is the iptables command of a table; "" for native nft.
func toolOf(backend, family, table string) string {
	name, of := "iptables", ""
	if family == "ip6" {
		name = "ip6tables"
	}
	if table != "filter" {
		of = " -t " + table
	}
	switch {
	case backend == "legacy":
		return name + "-legacy" + of
	case backend == "nft" && iptablesTable(family, table):
		return name + "-nft" + of
	}
	return ""
}

func saveTool(family, backend string) string {
	name := "iptables"
	if family == "ip6" {
		name = "ip6tables"
	}
	if backend != "" {
		name += "-" + backend
	}
	return name + "-save"
}

// enter says where a command is to be run, in front of it; "" on the node itself.
func enter(place string) string {
	if place == "node" || place == "" {
		return ""
	}
	return "in " + place + "'s network namespace (nsenter -t PID -n): "
}

// ruleFix shows the rule, and how to take it away if nobody will put it back.
func (q *inquiry) ruleFix(m meaning.Meaning) (fix []string) {
	in := enter(q.d.Place)
	tool, r := q.tool(), q.d.Rule
	show, remove := "", ""
	switch {
	case tool != "":
		show = fmt.Sprintf("%s -nvL %s --line-numbers", tool, shellWord(r.Chain))
		if text, ok := strings.CutPrefix(r.Text, "-A "); ok {
			remove = tool + " -D " + shellRule(text)
		}
	default:
		show = fmt.Sprintf("nft -a list chain %s %s %s", r.Family, shellWord(r.Table), shellWord(r.Chain))
		if r.Handle != 0 {
			remove = fmt.Sprintf("nft delete rule %s %s %s handle %d", r.Family, shellWord(r.Table), shellWord(r.Chain), r.Handle)
		}
	}
	fix = append(fix, "see it: "+in+show)
	if m.Owner != "" {
		return append(fix, fmt.Sprintf("%s wrote it and will write it again: change what %s is told, not the rule", m.Owner, m.Owner))
	}
	switch {
	case r.Element != "" && strings.Contains(r.Text, " vmap "):
		fix = append(fix, fmt.Sprintf("if nobody needs it: take that element (%s) out of the map, and leave the rule, which asks it of all packets: %snft delete element", r.Element, in))
	case remove != "":
		fix = append(fix, "if nobody needs it: "+in+remove)
	}
	return append(fix, "find who wrote it, or it comes back: a script, configuration management, a firewall service")
}
