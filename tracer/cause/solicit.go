// SPDX-License-Identifier: Apache-2.0

package cause

// Rules that drop neighbour discovery. IPv6 asks for MAC addresses by ICMPv6, which
// rules see as they see any packet: a bridge hands it to ip6tables with
// bridge-nf-call-ip6tables. Which rule would drop a question is found by going through
// the chains with it.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// discovery is a question, or its answer, on its way through a hook.
type discovery struct {
	what     string // neighbour solicitation, neighbour advertisement
	kind     string // its ICMPv6 type as rules name it
	number   string
	src, dst netip.Addr
	in, out  []string // the interfaces that rules may ask for: a bridge and its port
}

// solicited is the multicast address that a question for an address goes to (RFC 4291,
// 2.7.1).
func solicited(addr netip.Addr) netip.Addr {
	group, a := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}

// solicitationDropped: a rule drops the question, or its answer, between two ports of a
// bridge.
func solicitationDropped(q *inquiry, u *unheard) bool {
	self := q.state.Node()
	mine := q.link(u.at.Netns, int(u.at.IfIndex))
	pod, ok := q.podOf(u.addr)
	if !u.addr.Is6() || !ok || u.at.Netns == self || mine == nil {
		return false
	}
	host, other := q.pairEnd(mine), q.hostLink(pod)
	if host == nil || other == nil || host.Master == 0 || host.Master != other.Master {
		return false
	}
	bridge := q.link(self, host.Master)
	if on, ok := q.sysctl(self, "bridge/bridge-nf-call-ip6tables"); !ok || on == 0 || bridge == nil {
		return false
	}
	sets, err := q.state.Rules(self)
	q.gap(err)
	ask := discovery{"neighbour solicitation", "neighbour-solicitation", "135", endsAt(q.p).Src, solicited(u.addr), bridgeAnd(bridge, host), bridgeAnd(bridge, other)}
	answer := discovery{"neighbour advertisement", "neighbour-advertisement", "136", u.addr, endsAt(q.p).Src, bridgeAnd(bridge, other), bridgeAnd(bridge, host)}
	for _, d := range []discovery{ask, answer} {
		for i, rules := range []Rules{sets.Legacy, sets.NFT} {
			backend, w := []string{"legacy", "nft"}[i], walker{d: d, chains: chainsOf(rules)}
			rule := w.through("FORWARD", 0)
			if rule == nil {
				continue
			}
			c := u.claim
			c.summary = fmt.Sprintf("a rule of this node drops neighbour discovery on the bridge %s: the %s for %s to %s dies by rule %d of filter/%s (ip6tables-%s), so nobody answers for it",
				bridge.Name, d.what, u.addr, d.dst, rule.Number, rule.Chain, backend)
			c.evidence = append(c.evidence, fmt.Sprintf("rule %d of %s in filter: %s", rule.Number, rule.Chain, rule.Text), "net.bridge.bridge-nf-call-ip6tables = 1")
			c.missing = append(c.missing, "the rule was read off the rule set: neighbour discovery itself is not traced")
			c.fix = []string{fmt.Sprintf("see it count: ip6tables-%s -nvL %s --line-numbers", backend, shellWord(rule.Chain)),
				fmt.Sprintf("let neighbour discovery pass before it: ip6tables-%s -I FORWARD -i %s -o %s -p icmpv6 --icmpv6-type %s -j ACCEPT, and likewise %s", backend, bridge.Name, bridge.Name, ask.kind, answer.kind)}
			return true
		}
	}
	return false
}

func bridgeAnd(bridge, port *node.Link) []string { return []string{bridge.Name, port.Name} }

// chainsOf are the rules of ip6 filter by chain, in their order; a chain's policy comes
// as the rule without a number.
func chainsOf(rules Rules) map[string][]meaning.Rule {
	chains := map[string][]meaning.Rule{}
	for r := range rules.All() {
		if r.Family == "ip6" && r.Table == "filter" && strings.HasPrefix(r.Text, "-A ") {
			chains[r.Chain] = append(chains[r.Chain], r)
		}
	}
	return chains
}

// walker goes through chains with a packet of neighbour discovery.
type walker struct {
	d      discovery
	chains map[string][]meaning.Rule
	passed bool // something accepted it, or may have
}

// maxDepth bounds the chains in each other; the kernel allows no loops.
const maxDepth = 16

// through finds the rule that drops it; nil: none, or one that asks what is not known
// comes before.
func (w *walker) through(chain string, depth int) *meaning.Rule {
	for i := range w.chains[chain] {
		r := &w.chains[chain][i]
		fits, known, target := w.d.meets(r.Text)
		switch {
		case known && !fits, target == "", target == "LOG", target == "NFLOG", target == "MARK":
		case !known:
			// one that may drop it is no more than that; what may take it elsewhere
			// leaves open what comes after
			w.passed = w.passed || target != "DROP" && target != "REJECT"
		case target == "DROP" || target == "REJECT":
			if w.passed {
				return nil
			}
			return r
		case target == "ACCEPT":
			w.passed = true
			return nil
		case target == "RETURN":
			return nil
		case depth < maxDepth:
			if found := w.through(target, depth+1); found != nil || w.passed {
				return found
			}
		}
	}
	return nil
}

// meets tells whether a rule as ip6tables-save prints it fits the packet; known is
// false where it asks anything else than addresses, interfaces, protocol and ICMP type.
func (d *discovery) meets(text string) (fits, known bool, target string) {
	words := ruleWords6(text)
	fits, known = true, true
	for i := 0; i < len(words); i++ {
		not := words[i] == "!"
		if not {
			i++
		}
		if i+1 >= len(words) {
			return fits, known, target
		}
		value := words[i+1]
		is, about := d.asked(words[i], value)
		switch {
		case words[i] == "-j" || words[i] == "-g":
			target = value
			return fits, known, target // what follows are the target's options
		case words[i] == "-m" || words[i] == "--comment" || words[i] == "-A":
		case !about:
			known = false
		default:
			fits = fits && is != not
		}
		i++
	}
	return fits, known, target
}

// asked answers one question of a rule; about is false for one that is not known.
func (d *discovery) asked(option, value string) (is, about bool) {
	switch option {
	case "-s", "-d":
		p, err := netip.ParsePrefix(value)
		if a, bare := netip.ParseAddr(value); err != nil && bare == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		addr := d.src
		if option == "-d" {
			addr = d.dst
		}
		return p.Contains(addr), err == nil
	case "-i":
		return anyInterface(d.in[:1], value), true
	case "-o":
		return anyInterface(d.out[:1], value), true
	case "--physdev-in":
		return anyInterface(d.in[1:], value), true
	case "--physdev-out":
		return anyInterface(d.out[1:], value), true
	case "-p":
		return value == "ipv6-icmp" || value == "icmpv6" || value == "58", true
	case "--icmpv6-type":
		return value == d.number || value == d.kind || value == d.number+"/0", true
	}
	return false, false
}

func anyInterface(names []string, pattern string) bool {
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(pattern, "+"); n == pattern || ok && strings.HasPrefix(n, prefix) {
			return true
		}
	}
	return false
}

// ruleWords6 splits a rule into words, comments as one.
func ruleWords6(text string) []string {
	quoted := false
	return strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}
