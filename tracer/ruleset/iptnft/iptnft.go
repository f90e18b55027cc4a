// SPDX-License-Identifier: Apache-2.0

// Package iptnft prints rules that iptables-nft wrote the way iptables-nft-save
// does. To the kernel such a rule is a list of nftables expressions, some of
// them xtables matches and targets in a wrapper; nft's own listing of it is
// lossy, and not what its author typed.
//
// It goes by what iptables-nft reads back (iptables 1.8.9 to 1.8.11,
// iptables/nft-ruleparse*.c, before 1.8.10 nft-shared.c, nft-ipv4.c and
// nft-ipv6.c): a native expression becomes the xtables match or target it stands
// for, as a blob, and package xt prints all blobs alike. Where iptables takes an
// expression it does not understand for another, or passes over it, nothing is
// told here: the rule is left to nft's words.
//
// tables.go knows which tables are iptables'. line.go reads a rule's
// expressions, header.go, transport.go, meta.go and action.go what they say.
// It is added to by one function and one row in fields, metaTests or actions.
package iptnft

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// Printer prints rules. The zero value is ready to use; it is never changed and
// may be shared.
type Printer struct {
	// Sets names ipsets of the rules' network namespace; nil: they print as xt
	// prints a set without a name.
	Sets xt.SetNames
}

// Text is the zero Printer's Text: for rules that name no ipset.
func Text(t *nft.Table, r *nft.Rule) (text, comment string, ok bool) {
	return Printer{}.Text(t, r)
}

// Text is a rule as iptables-nft-save prints it, without counters: "-A FORWARD -s
// 10.0.0.0/8 -j DROP"; comment is the comments in it, joined by "; ". ok is false
// when the table is not one of iptables' (see IsIptables) or iptables has no
// words for the whole rule: it has to be printed in nft's then. An xtables
// extension that package xt does not know is printed as "-m NAME <n bytes>".
func (p Printer) Text(t *nft.Table, r *nft.Rule) (text, comment string, ok bool) {
	if !IsIptables(t) {
		return "", "", false
	}
	l := newLine(t, p.Sets)
	for _, e := range r.Exprs {
		if !l.take(e) {
			return "", "", false
		}
	}
	if r.Comment != "" {
		l.add(commentMatch(r.Comment))
	}
	return l.text(r.Chain)
}

// Policy is the line of iptables-nft-save that begins a chain, without counters:
// ":FORWARD DROP", or ":name -" for a chain that users made. ok is false when
// the table is not one of iptables'.
func Policy(t *nft.Table, c *nft.Chain) (text string, ok bool) {
	if !IsIptables(t) {
		return "", false
	}
	policy := "-"
	if c.Base() {
		policy = strings.ToUpper(c.Policy)
	}
	return fmt.Sprintf(":%s %s", c.Name, policy), true
}
