// SPDX-License-Identifier: Apache-2.0

package routing

// This file tells whether a rule of policy routing applies to a packet:
// fib_rule_match (net/core/fib_rules.c), fib4_rule_match (net/ipv4/fib_rules.c),
// fib6_rule_match (net/ipv6/fib6_rules.c).

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// answer to whether a rule applies.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func of(is bool) answer {
	if is {
		return yes
	}
	return no
}

// match tells whether a rule applies, and why that is not known.
func (l *lookup) match(r *node.PolicyRule) (answer, string) {
	all, why := yes, ""
	for _, ask := range conditions {
		says, unknown := ask(l, r)
		if says == no {
			all = no
			break
		}
		if says == maybe {
			all, why = maybe, unknown
		}
	}
	if r.L3MDev && l.vrf == nil {
		all = no
	}
	if r.Flags&node.RuleInvert != 0 {
		all = yes - all
	}
	if r.L3MDev && l.vrf == nil {
		all = no // it has no table to look up
	}
	return all, why
}

// conditions are all that a rule can ask.
var conditions = []func(*lookup, *node.PolicyRule) (answer, string){
	matchInterfaces, matchMark, matchAddresses, matchTOS, matchPorts, matchUID, matchFurther,
}

func matchInterfaces(l *lookup, r *node.PolicyRule) (answer, string) {
	if r.IIF != "" && (r.Flags&node.RuleIIFDetached != 0 || !l.comesBy(r.IIF)) {
		return no, ""
	}
	if r.OIF == "" {
		return yes, ""
	}
	bound := l.fib.Link(l.q.OIF)
	return of(r.Flags&node.RuleOIFDetached == 0 && bound != nil && bound.Name == r.OIF), ""
}

// comesBy tells whether the packet counts as coming in by an interface: its own,
// or the VRF that this one belongs to.
func (l *lookup) comesBy(name string) bool {
	in := l.fib.Link(l.q.IIF)
	return l.q.IIF == Loopback && name == "lo" || in != nil && (in.Name == name || l.vrf != nil && l.vrf.Name == name && in.Master == l.vrf.Index)
}

func matchMark(l *lookup, r *node.PolicyRule) (answer, string) {
	switch {
	case r.Mask == 0:
		return yes, ""
	case !l.q.Mark.Known:
		return maybe, fmt.Sprintf("it asks for mark %s, and the packet's mark is not known", MarkWords(r))
	}
	return of((r.Mark^l.q.Mark.Value)&r.Mask == 0), ""
}

// MarkWords is the mark that a rule asks for, as `ip rule` prints it.
func MarkWords(r *node.PolicyRule) string {
	if r.Mask == ^uint32(0) {
		return fmt.Sprintf("%#x", r.Mark)
	}
	return fmt.Sprintf("%#x/%#x", r.Mark, r.Mask)
}

// matchAddresses: a source that is not chosen yet is 0.0.0.0 to rules of IPv4, and
// in no prefix to those of IPv6.
func matchAddresses(l *lookup, r *node.PolicyRule) (answer, string) {
	src := l.q.Src
	if !src.IsValid() && l.family == unix.AF_INET {
		src = netip.IPv4Unspecified()
	}
	if bits(r.Dst) > 0 && !r.Dst.Contains(l.q.Dst) || bits(r.Src) > 0 && !(src.IsValid() && r.Src.Contains(src)) {
		return no, ""
	}
	return yes, ""
}

func bits(p netip.Prefix) int {
	if !p.IsValid() {
		return 0
	}
	return p.Bits()
}

func matchTOS(l *lookup, r *node.PolicyRule) (answer, string) {
	switch {
	case r.TOS == 0:
		return yes, ""
	case !l.q.TOS.Known:
		return maybe, fmt.Sprintf("it asks for type of service %#x, and the packet's is not known", r.TOS)
	}
	return of(r.TOS == l.q.TOS.Value), ""
}

func matchPorts(l *lookup, r *node.PolicyRule) (answer, string) {
	if r.Proto == 0 && r.SrcPorts == [2]uint16{} && r.DstPorts == [2]uint16{} {
		return yes, ""
	}
	if !l.q.Proto.Known {
		return maybe, "it asks for protocol or ports, and the packet's are not known"
	}
	return of((r.Proto == 0 || r.Proto == l.q.Proto.Value) && portWithin(r.SrcPorts, r.SrcMask, l.q.SrcPort) && portWithin(r.DstPorts, r.DstMask, l.q.DstPort)), ""
}

// portWithin: a port is within a range, or has the bits that a mask leaves
// (fib_rule_port_match, include/net/fib_rules.h, 6.15).
func portWithin(ports [2]uint16, mask, port uint16) bool {
	switch {
	case ports == [2]uint16{}:
		return true
	case mask != 0:
		return (port^ports[0])&mask == 0
	}
	return port >= ports[0] && port <= ports[1]
}

func matchUID(l *lookup, r *node.PolicyRule) (answer, string) {
	switch {
	case r.UIDs == nil:
		return yes, ""
	case !l.q.UID.Known:
		return maybe, "it asks for the sender's user, which is not known"
	}
	return of(l.q.UID.Value >= r.UIDs[0] && l.q.UID.Value <= r.UIDs[1]), ""
}

func matchFurther(_ *lookup, r *node.PolicyRule) (answer, string) {
	if len(r.Further) == 0 {
		return yes, ""
	}
	return maybe, fmt.Sprintf("it asks something that is not known here (attributes %v)", r.Further)
}
