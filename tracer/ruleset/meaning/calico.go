// SPDX-License-Identifier: Apache-2.0

// What Calico's rules mean: whose traffic, which policy, why.

package meaning

import (
	"fmt"
	"strings"
)

// calicoReading is a path that one of Calico's rules decided.
type calicoReading struct {
	*reading
	chain caliChain // of the deciding rule
}

// calicoCauses are tried in order; the first that knows the rule has told it.
var calicoCauses = [...]func(calicoReading, *Meaning) bool{
	calicoUnknownInterface,
	calicoAllowed,
	calicoReversePath,
	calicoTierEnd,
	calicoNoProfile,
	calicoStatic,
	calicoInvalid,
	calicoDenied,
}

func explainCalico(r *reading, m *Meaning) bool {
	c := calicoReading{reading: r, chain: caliChainOf(r.rule())}
	m.Direction = c.chain.direction
	c.endpoint(m)
	for _, tell := range calicoCauses {
		if tell(c, m) {
			return true
		}
	}
	return false
}

// endpoint fills in whose chain the packet was in last: that of the deciding
// rule or the one that led there.
func (c calicoReading) endpoint(m *Meaning) {
	if i := c.endpointRule(c.last()); i >= 0 {
		chain := caliChainOf(c.path.Rules[i])
		m.Direction = chain.direction
		c.setInterface(m, chain)
	}
	if c.chain.role == arpRole {
		c.setInterface(m, c.chain)
	}
}

func (c calicoReading) setInterface(m *Meaning, chain caliChain) {
	if chain.isAnyInterface() || strings.HasPrefix(chain.tail, caliShortened) {
		return
	}
	m.Interface = chain.tail
	m.Endpoint = c.book.known.Endpoints[chain.tail]
}

// endpointRule is the last rule up to the i-th that is in an endpoint's chain,
// if the i-th belongs to that endpoint: it is in such a chain itself, or in a
// policy's, a profile's or a group's for the same direction. -1: none.
func (c calicoReading) endpointRule(i int) int {
	chain := caliChainOf(c.path.Rules[i])
	switch chain.role {
	case workloadRole, hostRole, hostForwardRole:
		return i
	case policyRole, groupRole, profileRole:
	default:
		return -1
	}
	for j := i - 1; j >= 0; j-- {
		switch at := caliChainOf(c.path.Rules[j]); at.role {
		case workloadRole, hostRole, hostForwardRole:
			if at.direction == chain.direction {
				return j
			}
			return -1
		case policyRole, groupRole, profileRole:
		default:
			return -1
		}
	}
	return -1
}

// whose is "ingress of pod default/web behind cali1234", as much of it as is
// known of the chain's endpoint.
func (c calicoReading) whose(m *Meaning) string {
	role := c.chain.role
	if i := c.endpointRule(c.last()); i >= 0 {
		role = caliChainOf(c.path.Rules[i]).role
	}
	return whose(m, role)
}

func whose(m *Meaning, role role) string {
	switch {
	case role == hostForwardRole && m.Interface != "":
		return fmt.Sprintf("%s of forwarded packets at host interface %s", m.Direction, m.Interface)
	case role == hostForwardRole:
		return m.Direction + " of forwarded packets at the host's interfaces"
	case role == hostRole && m.Interface != "":
		return fmt.Sprintf("%s of host interface %s", m.Direction, m.Interface)
	case role == hostRole:
		return m.Direction + " of the host's interfaces"
	case m.Endpoint != "":
		return fmt.Sprintf("%s of pod %s behind %s", m.Direction, m.Endpoint, m.Interface)
	case m.Interface != "":
		return fmt.Sprintf("%s of the pod behind %s", m.Direction, m.Interface)
	}
	return m.Direction
}

// policyOf names the policy or profile of a chain: by the comment in its first
// rule, by undoing the hash, by the chain's own name. ok is false if none tells.
func (c calicoReading) policyOf(r Rule) (p policy, ok bool) {
	for _, rule := range c.reading.chain(r) {
		if p, ok = policyOfComments(parseLine(rule).comments); ok {
			return p, true
		}
	}
	chain := caliChainOf(r)
	if p, ok = c.book.policies[chain.tail]; ok && chain.role == policyRole {
		return p, true
	}
	if strings.HasPrefix(chain.tail, caliShortened) {
		return policy{}, false
	}
	if chain.role == profileRole {
		return policy{kind: profileKind, name: chain.tail}, true
	}
	return policyOfID(chain.tail), chain.role == policyRole
}

// called is the policy of a chain as a sentence calls it, if need be by the
// chain's name, which is at least what the rule set shows.
func (c calicoReading) called(r Rule) string {
	if p, ok := c.policyOf(r); ok {
		return p.String()
	}
	chain := caliChainOf(r)
	if chain.role == profileRole {
		return "the Calico profile of chain " + chain.name
	}
	return "the Calico policy of chain " + chain.name
}

// setPolicy fills in the policy of a chain.
func (c calicoReading) setPolicy(m *Meaning, r Rule) {
	if p, ok := c.policyOf(r); ok {
		m.Policy, m.PolicyKind = p.name, p.kind
	}
}

// calicoUnknownInterface tells of the end of a dispatch chain: there is no
// endpoint of that name (felix/rules/dispatch.go).
func calicoUnknownInterface(c calicoReading, m *Meaning) bool {
	ends := c.chain.role == dispatchRole && c.comment() == "" && c.line().bare && (m.Action == "drop" || m.Action == "reject")
	if !c.has("Unknown interface") && !c.has("Unknown endpoint") && !ends {
		return false
	}
	m.Kind, m.Interface = UnknownInterface, c.path.In
	side := "the interface the packet came in by"
	if c.chain.direction == ingress {
		m.Interface, side = c.path.Out, "the interface the packet was to leave by"
	}
	if m.Interface != "" {
		side = "interface " + m.Interface
		if m.Endpoint = c.book.known.Endpoints[m.Interface]; m.Endpoint != "" {
			side += in("pod " + m.Endpoint)
		}
	}
	m.What = "Calico has no endpoint for " + side
	m.Sentence = fmt.Sprintf("%s: %s %s", m.What, c.chain.name, c.verb())
	return true
}

// calicoReversePath tells of the check in the raw table that a packet from a pod
// has a source whose way back leads to that pod (felix/rules/static.go).
func calicoReversePath(c calicoReading, m *Meaning) bool {
	l := c.line()
	if c.chain.table != "raw" || !l.holds("rpfilter") && !l.holds("fib", "saddr", ".", "mark", ".", "iif") {
		return false
	}
	m.Kind, m.Direction, m.Interface = ReversePath, egress, c.path.In
	m.Endpoint = c.book.known.Endpoints[m.Interface]
	from := "the interface it came in by"
	if m.Interface != "" {
		from = m.Interface
		if m.Endpoint != "" {
			from += in("pod " + m.Endpoint)
		}
	}
	m.What = "the way back to its source address does not lead out of " + from
	m.Sentence = fmt.Sprintf("Calico's reverse path check (raw %s) %s: %s", c.chain.name, c.verb(), m.What)
	return true
}

// calicoInvalid tells of packets without a valid connection.
func calicoInvalid(c calicoReading, m *Meaning) bool {
	if !c.isInvalidTest() {
		return false
	}
	m.Kind, m.What = Invalid, invalidReason
	m.Sentence = fmt.Sprintf("Calico%s %s: %s", in(c.whose(m)), c.verb(), m.What)
	return true
}

// calicoDenied tells of a drop within a policy's or profile's own chain: one of
// its rules denies. The dropping rule mostly tests the mark that the policy's
// rule has set.
func calicoDenied(c calicoReading, m *Meaning) bool {
	if c.chain.role != policyRole && c.chain.role != profileRole || m.Action != "drop" && m.Action != "reject" {
		return false
	}
	c.setPolicy(m, c.rule())
	m.Kind, m.What = PolicyDeny, "one of its rules denies it"
	m.Sentence = fmt.Sprintf("%s%s denies it", c.called(c.rule()), in(c.whose(m)))
	return true
}

// calicoAllowed tells which policy or profile set the mark that a later rule
// accepts.
func calicoAllowed(c calicoReading, m *Meaning) bool {
	if m.Action != "accept" || m.Cause == nil {
		return false
	}
	cause := c.cause()
	by := c.path.Rules[cause]
	chain := caliChainOf(by)
	if chain.role != policyRole && chain.role != profileRole {
		return false
	}
	m.Kind, m.Direction = PolicyAllow, chain.direction
	role := chain.role
	if i := c.endpointRule(cause); i >= 0 {
		at := caliChainOf(c.path.Rules[i])
		role = at.role
		c.setInterface(m, at)
	}
	c.setPolicy(m, by)
	m.What = "one of its rules allows it"
	m.Sentence = fmt.Sprintf("%s%s allows it", c.called(by), in(whose(m, role)))
	return true
}
