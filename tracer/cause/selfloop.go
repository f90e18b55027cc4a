// SPDX-License-Identifier: Apache-2.0

package cause

// A pod's own rules hand what its proxy sends to the proxy again: the rule that is to let
// the proxy's own connections out is for another user than the one it runs as.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// fewestOwn is how many connections to one destination have to end in the pod itself
// before its proxy is looked at: a circle opens them as fast as it can.
const fewestOwn = 8

// ownerRule asks who sent it: iptables' match owner and nft's meta skuid and skgid.
var ownerRule = regexp.MustCompile(`--([ug]id)-owner (\d+)|meta sk([ug]id) (\d+)`)

// takenBack are connections of one namespace to one destination that its own rules
// handed to a port of its own.
type takenBack struct {
	netns  uint32
	asked  netip.AddrPort
	port   uint16
	first  *model.Packet
	ids    []uint64
	number int
}

// talksToItself tells of each proxy whose own connections its pod's rules give to it again.
func talksToItself(c *Collector) (all []*found) {
	var groups []*takenBack
	for _, p := range c.mem.near.inOrder() {
		t := lastTranslation(p.first)
		if t == nil || t.ipvs || p.proto != "tcp" || p.first.Outcome != model.Delivered || t.hop.Hook != "OUTPUT" || t.hop.Netns == 0 || t.hop.Netns == c.state.Node() || lastNetns(p.first) != t.hop.Netns {
			continue
		}
		i := slices.IndexFunc(groups, func(g *takenBack) bool {
			return g.netns == t.hop.Netns && g.asked == t.asked && g.port == t.to.Port()
		})
		if i < 0 {
			i, groups = len(groups), append(groups, &takenBack{netns: t.hop.Netns, asked: t.asked, port: t.to.Port(), first: p.first})
		}
		if groups[i].number++; len(groups[i].ids) < shownPackets {
			groups[i].ids = append(groups[i].ids, p.first.ID)
		}
	}
	for _, g := range groups {
		q := &inquiry{p: g.first, d: lastSeen(g.first), state: c.state, start: &c.start, mem: &c.mem}
		if claim := q.talksToItself(g); g.number >= fewestOwn && claim != nil {
			claim.direction, claim.missing = model.Forward, append(claim.missing, q.gaps...)
			all = append(all, &found{claim: claim, packets: len(g.ids), ids: g.ids})
		}
	}
	return all
}

func (q *inquiry) talksToItself(g *takenBack) *claim {
	listeners, err := q.state.Listeners(g.netns, "tcp")
	q.gap(err)
	i := slices.IndexFunc(listeners, func(l node.Listener) bool { return l.Local.Port() == g.port })
	if i < 0 {
		return nil
	}
	proxy, ok := q.state.SocketOwner(listeners[i].Inode)
	if !ok {
		return nil
	}
	ids, ok := q.state.Identity(proxy.PID)
	if !ok {
		return nil
	}
	exempt, letsOut := q.senderRules(g.netns)
	if len(exempt) == 0 || letsOut(ids) {
		return nil // what else may let the proxy's own out is not known
	}
	by, to := lastTranslation(g.first).by(), q.redirectsTo(g.netns, g.port)
	if len(to) == 1 { // a rule that asks who sends is not seen to match by each backend
		by = "its own " + namedRule(ruleOf(to[0]))
	}
	place := g.first.Hops[0].Place
	c := &claim{subject: fmt.Sprint("proxy ", g.asked), sum: func(int) string {
		return fmt.Sprintf("%d connections to %s were handed to port %d of the pod itself", g.number, g.asked, g.port)
	}}
	c.summary = fmt.Sprintf("%s opens connections to %s again and again, and each is handed to port %d of its own by %s: what listens there, %s, gets its own connections back, since it runs as user %d, group %d, and the rules let out those of %s only", place, g.asked, g.port, by, proxy, ids.UID, ids.GID, exempt[0].who)
	for _, r := range to[:min(len(to), alsoShown)] {
		c.evidence = append(c.evidence, namedRule(ruleOf(r))+": "+r.Text)
	}
	for _, e := range exempt[:min(len(exempt), alsoShown)] {
		c.evidence = append(c.evidence, namedRule(ruleOf(e.rule))+": "+e.rule.Text)
	}
	c.evidence = append(c.evidence, fmt.Sprintf("/proc/%d/status: Uid: %d, Gid: %d", proxy.PID, ids.UID, ids.GID))
	c.missing = []string{fmt.Sprintf("that it is %s that opens them: who opened a connection is not seen", proxy)}
	c.fix = []string{fmt.Sprintf("run the proxy as the user that the rules let out (%s; a sidecar of Istio: runAsUser 1337), or have the rules made for its user: they are written when the pod starts", exempt[0].who),
		fmt.Sprintf("until then: end %s, which opens connections without end", proxy)}
	return c
}

// redirectsTo lists the rules of a namespace that hand connections to a port of its own.
func (q *inquiry) redirectsTo(netns uint32, port uint16) (all []meaning.Rule) {
	sets, err := q.state.Rules(netns)
	q.gap(err)
	to := regexp.MustCompile(fmt.Sprintf(`--to-ports %d(?: |$)|redirect to :%d(?: |$)`, port, port))
	for r := range sets.All() {
		if to.MatchString(quoted.ReplaceAllString(r.Text, `""`)) {
			all = append(all, r)
		}
	}
	return all
}

// exemption is a rule that lets out what a user or a group sent.
type exemption struct {
	rule meaning.Rule
	who  string // "user 1337"
}

// senderRules lists the rules of a namespace's nat tables that return or accept by sender,
// and gives what tells whether one of them is for a process.
func (q *inquiry) senderRules(netns uint32) (all []exemption, lets func(Identity) bool) {
	sets, err := q.state.Rules(netns)
	q.gap(err)
	var users, groups []string
	for r := range sets.All() {
		text := quoted.ReplaceAllString(r.Text, `""`)
		m := ownerRule.FindStringSubmatch(text)
		if m == nil || r.Table != "nat" && !strings.Contains(text, "return") || strings.Contains(text, "! --"+m[1]+"-owner") || strings.Contains(text, "!= "+m[4]) ||
			!strings.Contains(text, "RETURN") && !strings.Contains(text, "ACCEPT") && !strings.HasSuffix(text, "return") && !strings.HasSuffix(text, "accept") {
			continue
		}
		kind, id := m[1]+m[3], m[2]+m[4]
		if strings.HasPrefix(kind, "u") {
			users, all = append(users, id), append(all, exemption{r, "user " + id})
		} else {
			groups, all = append(groups, id), append(all, exemption{r, "group " + id})
		}
	}
	return all, func(who Identity) bool {
		return slices.Contains(users, fmt.Sprint(who.UID)) || slices.Contains(groups, fmt.Sprint(who.GID))
	}
}
