// SPDX-License-Identifier: Apache-2.0

package cause

// The cause bgp-blocked: Calico's BIRD learns the routes to other nodes' pods
// over BGP. Where TCP port 179 does not pass between nodes they are missing, and
// packets for those pods find no route, or leave bare by the default route.

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

const bgpPort = 179

// bgpNoRoute: no route at all, and a BGP session that does not come about.
func bgpNoRoute(q *inquiry) *claim {
	if q.d.Netns != q.state.Node() || noRoute(q) == nil {
		return nil
	}
	c := bgpBlocked(q, endsAt(q.p).Dst)
	if c != nil {
		c.evidence = append([]string{q.died()}, c.evidence...)
	}
	return c
}

// bgpAstray: the default route took it. Asked when the first packet leaves.
func bgpAstray(q *inquiry, p *peer) *claim {
	if in, _ := q.encapsulated(); in || !p.far.Addr().IsPrivate() {
		return nil
	}
	r, ok := q.routeTo(q.state.Node(), p.far.Addr())
	if !ok || r.Dst.Bits() != 0 || !r.Gateway.IsValid() {
		return nil
	}
	c := bgpBlocked(q, p.far.Addr())
	if c != nil {
		c.evidence = append(c.evidence, "the way to it now: "+q.wayFor(q.state.Node(), p.far.Addr()).words())
	}
	return c
}

// bgpBlocked looks for a session that somebody tries to open in vain, and for
// rules that keep it from coming about.
func bgpBlocked(q *inquiry, dst netip.Addr) *claim {
	trying, up := q.bgpSessions()
	rules := q.rulesOfPort(bgpPort)
	if len(trying) == 0 && (len(rules) == 0 || up > 0) {
		return nil
	}
	c := &claim{subject: "bgp"}
	c.missing = []string{"that the route to " + dst.String() + " was to come over this session: BIRD knows"}
	with := "its peers"
	if len(trying) > 0 {
		with = trying[0].Addr().String()
		for _, peer := range trying {
			c.evidence = append(c.evidence, fmt.Sprintf("a connection of this node to %s (BGP) is not answered: SYN-SENT", peer))
		}
	} else {
		c.evidence = append(c.evidence, "no BGP session of this node is established")
	}
	c.summary = fmt.Sprintf("this node has no route of its own to %s, and its BGP session with %s does not come about", dst, with)
	for i, r := range rules {
		if i == alsoShown {
			break
		}
		c.evidence = append(c.evidence, fmt.Sprintf("a rule of %s, table %s, keeps TCP port %d out: %s", r.Backend, r.Table, bgpPort, r.Text))
	}
	if len(rules) > 0 {
		c.summary += fmt.Sprintf(": a rule here drops TCP port %d", bgpPort)
		c.fix = append(c.fix, "take that rule away, or let TCP port 179 between the nodes pass before it")
	} else {
		c.missing = append(c.missing, "who drops it: no rule of this node that names the port does, so the other node's or the network in between")
	}
	c.fix = append(c.fix, "see the sessions: calicoctl node status; ss -tn 'sport = :179 or dport = :179'",
		fmt.Sprintf("see that the port is let through on both sides: nc -vz %s %d", with, bgpPort))
	return c
}

// bgpSessions gives the peers that a connection is tried to, and how many
// sessions are up.
func (q *inquiry) bgpSessions() (trying []netip.AddrPort, up int) {
	sockets, err := q.state.Sockets(q.state.Node())
	q.gap(err)
	for _, s := range sockets {
		switch {
		case s.State == node.TCPSynSent && s.Remote.Port() == bgpPort:
			trying = append(trying, s.Remote)
		case s.State == node.TCPEstablished && (s.Remote.Port() == bgpPort || s.Local.Port() == bgpPort):
			up++
		}
	}
	return trying, up
}

// killing matches a rule's verdict, in iptables' and in nft's words.
var killing = regexp.MustCompile(`-j (DROP|REJECT)\b|\b(drop|reject)\b`)

// rulesOfPort lists the node's rules that name a port and kill.
func (q *inquiry) rulesOfPort(port int) (found []meaning.Rule) {
	sets, err := q.state.Rules(q.state.Node())
	q.gap(err)
	names := regexp.MustCompile(fmt.Sprintf(`\b[sd]?ports?\b[^-]*\b%d\b`, port))
	for r := range sets.All() {
		if strings.Contains(r.Text, "tcp") && names.MatchString(r.Text) && killing.MatchString(r.Text) {
			found = append(found, r)
		}
	}
	return found
}
