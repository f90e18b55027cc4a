// SPDX-License-Identifier: Apache-2.0

package legacy

// This file prints entries the way iptables-save (1.8) does, without counters.
// What is in a rule's conditions and extensions is xt's business; the standard
// targets, policies and chains are told here.

import (
	"fmt"
	"iter"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Rule is an entry as people know it.
type Rule struct {
	Family   string // IPv4 or IPv6
	Table    string
	Chain    string
	Number   int      // from 1 within its chain; 0: the chain's policy or end
	Text     string   // the line of iptables-save; see Table.Text
	Comments []string // comments in the rule, in order
}

// Comment is all comments of the rule in one.
func (r Rule) Comment() string { return strings.Join(r.Comments, "; ") }

// Rule tells what an ordinal stands for. It fails if the table has no such entry.
func (t *Table) Rule(ordinal int) (Rule, error) {
	if ordinal < 0 || ordinal >= len(t.Entries) {
		return Rule{}, fmt.Errorf("%s table %s: no entry %d, it has %d", t.Family, t.Name, ordinal, len(t.Entries))
	}
	e := &t.Entries[ordinal]
	r := Rule{Family: t.Family, Table: t.Name, Chain: e.Chain, Number: int(e.Number), Text: t.Text(ordinal)}
	for ext := range t.matches(ordinal) {
		if c := t.match(ext).Comment(); c != "" {
			r.Comments = append(r.Comments, c)
		}
	}
	return r, nil
}

// Text is an entry as iptables-save prints it, without counters: "-A FORWARD -s
// 10.0.0.0/8 -j DROP" for a rule, ":FORWARD DROP" for a policy, ":chain -" for
// the head of a user-defined chain, "-A chain -j RETURN" for the end of one,
// which iptables-save leaves out. What is not understood is printed as
// "-m NAME <n bytes>". The ordinal must be one of the table's.
func (t *Table) Text(ordinal int) string {
	e := &t.Entries[ordinal]
	switch e.Kind {
	case KindPolicy:
		return fmt.Sprintf(":%s %s", e.Chain, actionName(e.Action))
	case KindHead:
		return fmt.Sprintf(":%s -", e.Chain)
	case KindEnd:
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-A %s", e.Chain)
	b.WriteString(spaced(t.header(ordinal).Text()))
	for ext := range t.matches(ordinal) {
		b.WriteString(spaced(t.match(ext).Text()))
	}
	b.WriteString(spaced(t.targetText(ordinal)))
	return b.String()
}

// spaced puts a blank before a piece of a line, if there is any.
func spaced(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
}

// targetText is what a rule does: "-j DROP", "-g chain", "" for nothing.
func (t *Table) targetText(ordinal int) string {
	e := &t.Entries[ordinal]
	switch e.Action {
	case Extend:
		return t.target(ordinal).Text()
	case Jump:
		return "-j " + t.Entries[e.Target].Chain
	case Goto:
		return "-g " + t.Entries[e.Target].Chain
	case Next:
		return ""
	}
	return "-j " + actionName(e.Action)
}

// actionName is a standard target's name. STOLEN and STOP cannot be asked for
// with iptables, only by other means.
func actionName(a Action) string {
	names := [...]string{Accept: "ACCEPT", Drop: "DROP", Queue: "QUEUE", Stolen: "STOLEN", Stop: "STOP", Return: "RETURN"}
	if int(a) >= len(names) {
		return ""
	}
	return names[a]
}

// actionVerdict is a standard target's verdict in the words of model.Hop.
func actionVerdict(a Action) string { return strings.ToLower(actionName(a)) }

// Save is the whole table as iptables-save prints it, without counters and
// comment lines.
func (t *Table) Save() string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", t.Name)
	for _, c := range t.Chains() {
		policy := c.Policy
		if policy == "" {
			policy = "-"
		}
		fmt.Fprintf(&b, ":%s %s\n", c.Name, policy)
	}
	for i := range t.Entries {
		if t.Entries[i].Kind == KindRule {
			fmt.Fprintln(&b, t.Text(i))
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// context is what xt needs to know besides a blob.
func (t *Table) context() xt.Context { return xt.Context{Family: t.Family, Sets: t.Sets} }

// matches are the matches of an entry, not decoded yet.
func (t *Table) matches(ordinal int) iter.Seq[extension] {
	return func(yield func(extension) bool) {
		head, _ := t.entry(ordinal)
		for offset := t.layout.header; offset < len(head); {
			ext := extensionAt(head[offset:])
			if !yield(ext) {
				return
			}
			offset += extHeader + len(ext.data)
		}
	}
}

func (t *Table) match(ext extension) xt.Match {
	return xt.DecodeMatch(t.context(), ext.name, ext.revision, ext.data)
}

// target decodes the target of an entry whose action is Extend.
func (t *Table) target(ordinal int) xt.Target {
	_, target := t.entry(ordinal)
	ext := extensionAt(target)
	return xt.DecodeTarget(t.context(), ext.name, ext.revision, ext.data)
}

// targetName is the name of an extension's target; "" for the standard ones.
func (t *Table) targetName(ordinal int) string {
	_, target := t.entry(ordinal)
	return extensionAt(target).name
}
