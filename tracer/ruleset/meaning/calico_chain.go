// SPDX-License-Identifier: Apache-2.0

// What a chain of Calico's is for, by its name (felix/rules/rule_defs.go, 3.34).

package meaning

import "strings"

// role is what a chain of Calico's is for.
type role int

const (
	otherRole role = iota
	workloadRole
	hostRole
	hostForwardRole
	policyRole
	groupRole
	profileRole
	dispatchRole
	arpRole
)

const (
	ingress = "ingress"
	egress  = "egress"

	ingressPolicyPrefix = "cali-pi-"
)

// caliPrefixes tell chains apart. Directions are seen from the endpoint: what is
// sent to a pod ("tw") is its ingress, what leaves by a host interface ("th") is
// the host's egress.
var caliPrefixes = [...]struct {
	prefix    string
	role      role
	direction string
}{
	{"cali-tw-", workloadRole, ingress},
	{"cali-fw-", workloadRole, egress},
	{"cali-th-", hostRole, egress},
	{"cali-fh-", hostRole, ingress},
	{"cali-thfw-", hostForwardRole, egress},
	{"cali-fhfw-", hostForwardRole, ingress},
	{ingressPolicyPrefix, policyRole, ingress},
	{"cali-po-", policyRole, egress},
	{"cali-gi-", groupRole, ingress},
	{"cali-go-", groupRole, egress},
	{"cali-pri-", profileRole, ingress},
	{"cali-pro-", profileRole, egress},
	{"cali-from-wl-dispatch", dispatchRole, egress},
	{"cali-to-wl-dispatch", dispatchRole, ingress},
	{"cali-from-endpoint-mark", dispatchRole, egress},
	{"cali-set-endpoint-mark", dispatchRole, egress},
	{"cali-arp-", arpRole, ingress},
}

// caliChain is a chain of Calico's.
type caliChain struct {
	table     string // raw, mangle, nat, filter, in native mode too
	name      string // without native mode's prefix
	role      role
	direction string
	tail      string // what follows the prefix: an interface, a policy's id
}

// caliChainOf reads a chain's name. Native nftables mode has one table and the
// iptables table before each name: "filter-cali-tw-cali1234".
func caliChainOf(r Rule) caliChain { return caliChainNamed(r, r.Chain) }

// caliChainNamed reads the name of a chain that r refers to.
func caliChainNamed(r Rule, name string) caliChain {
	c := caliChain{table: r.Table, name: name}
	if r.Table == "calico" || r.Table == "calico-arp" {
		for _, table := range [...]string{"raw", "mangle", "nat", "filter"} {
			if rest, ok := strings.CutPrefix(name, table+"-"); ok {
				c.table, c.name = table, rest
				break
			}
		}
	}
	for _, p := range caliPrefixes {
		if tail, ok := strings.CutPrefix(c.name, p.prefix); ok {
			c.role, c.direction, c.tail = p.role, p.direction, tail
			return c
		}
	}
	return c
}

// anyInterface is Felix' name of the wildcard host endpoint
// (felix/dataplane/linux/endpoint_mgr.go, 3.34).
const anyInterface = "any-interface-at-all"

// isAnyInterface tells whether a host endpoint's chain is the wildcard's.
func (c caliChain) isAnyInterface() bool {
	prefix := strings.TrimSuffix(c.name, c.tail)
	return c.tail == anyInterface || c.name == CalicoChain(prefix, anyInterface)
}
