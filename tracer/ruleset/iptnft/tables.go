// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file tells iptables' tables from others. Nothing in a table says who made
// it; iptables-nft takes a table for its own by its name and its base chains.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// hook is where a built-in chain hangs.
type hook struct {
	kind     string
	priority int32
}

// builtin are the chains that iptables makes, by table; a chain is named after
// its hook (iptables/nft.c, xtables_ipv4; ip6tables has the same. Priorities are
// those of include/uapi/linux/netfilter_ipv4.h but for security, which the kernel
// has at 50 and iptables-nft puts at 150). Never written to after start.
var builtin = map[string]map[string]hook{
	"raw": {"PREROUTING": {"filter", -300}, "OUTPUT": {"filter", -300}},
	"mangle": {
		"PREROUTING": {"filter", -150}, "INPUT": {"filter", -150}, "FORWARD": {"filter", -150},
		"OUTPUT": {"route", -150}, "POSTROUTING": {"filter", -150},
	},
	"nat": {
		"PREROUTING": {"nat", -100}, "INPUT": {"nat", 100},
		"OUTPUT": {"nat", -100}, "POSTROUTING": {"nat", 100},
	},
	"filter":   {"INPUT": {"filter", 0}, "FORWARD": {"filter", 0}, "OUTPUT": {"filter", 0}},
	"security": {"INPUT": {"filter", 150}, "FORWARD": {"filter", 150}, "OUTPUT": {"filter", 150}},
}

// IsIptables tells whether a table is one that iptables-nft or ip6tables-nft
// manages: its name is one of theirs and it has no base chain but theirs. A
// table of that make which somebody wrote with nft is one as well: iptables
// itself cannot tell them apart.
func IsIptables(t *nft.Table) bool {
	if t.Family != nft.FamilyIP && t.Family != nft.FamilyIP6 {
		return false
	}
	chains, ok := builtin[t.Name]
	if !ok {
		return false
	}
	for _, c := range t.Chains {
		if !c.Base() {
			continue
		}
		if own, ok := chains[c.Name]; !ok || c.Hook != c.Name || own != (hook{c.Type, c.Priority}) {
			return false
		}
	}
	return true
}
