// SPDX-License-Identifier: Apache-2.0

package cause

// Where a packet was sent by another interface than the one that leads to its
// destination: by a table that comes before main, or by one of two routes to one
// subnet.

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/routing"
)

// detour is a way that leads elsewhere than to its destination.
type detour struct {
	way
	answer routing.Answer
	by     string // the interface it leads out of
	// pod is the interface that the destination is behind; nil if it is no pod of
	// this node.
	pod *node.Link
	// better is a route that leads where it should; nil: there is none.
	better *node.Route
}

// detourOf looks whether the packet was sent out of an interface, by the rules and
// routes as they stand, although its destination is behind another one of this
// node, or the table main has a route of its own to it by another.
func (q *inquiry) detourOf(netns uint32, index int) *detour {
	w := q.wayOf(netns)
	a, sure := w.sure()
	if !sure || !a.Leads(index) {
		return nil
	}
	d := &detour{way: w, answer: a}
	if l := q.link(netns, index); l != nil {
		d.by = l.Name
	}
	if netns == q.state.Node() {
		d.pod = q.podLink(w.asked)
	}
	switch {
	case d.pod != nil && d.pod.Index == index:
		return nil
	case d.pod != nil:
		d.better = d.bestBy(d.pod.Index)
	default:
		if d.better = d.ofMain(index); d.better == nil || netns == q.state.Node() && q.encrypts(index, d.better) {
			return nil
		}
	}
	return d
}

// podLink is the interface of the node that a pod's address is behind: its veth, or
// the bridge that this is a port of.
func (q *inquiry) podLink(asked routing.Question) *node.Link {
	pod, ok := q.podOf(asked.Dst)
	if !ok || pod == q.state.Node() {
		return nil
	}
	l := q.hostLink(pod)
	if l != nil && l.Master != 0 {
		return q.link(q.state.Node(), l.Master)
	}
	return l
}

// bestBy is the longest route of all tables that leads to the destination by an
// interface.
func (d *detour) bestBy(index int) (best *node.Route) {
	for i := range d.fib.Routes {
		r := &d.fib.Routes[i]
		if r.Type != unix.RTN_UNICAST || !r.Dst.Contains(d.asked.Dst) || oneWay(*r).LinkIndex != index {
			continue
		}
		if best == nil || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric {
			best = r
		}
	}
	return best
}

// ofMain is the route that main has, no default route and by another interface,
// where another table was asked before it.
func (d *detour) ofMain(index int) *node.Route {
	if d.answer.Table == unix.RT_TABLE_MAIN || d.answer.Table == unix.RT_TABLE_LOCAL {
		return nil
	}
	m, ok := d.fib.InTable(d.asked, unix.RT_TABLE_MAIN)
	if !ok || m.Error != 0 || m.Route.Dst.Bits() == 0 || m.Leads(index) {
		return nil
	}
	return m.Route
}

// why is the detour in a clause: "rule 5270 looks up table 52 first, which sends it
// to tailscale0; table main would lead to calib: ...".
func (d *detour) why() string {
	r := d.answer.Route
	says := fmt.Sprintf("%s looks up table %s first, which sends it to %s", ruleWords(d.answer.Rule), tableName(d.answer.Table), d.by)
	switch {
	case d.better == nil:
		return fmt.Sprintf("%s; the pod that has the address is behind %s, and no route leads to it there", d.words(), d.pod.Name)
	case d.better.Table != r.Table:
		return fmt.Sprintf("%s; table %s would lead to %s", says, tableName(uint32(d.better.Table)), d.name(d.better))
	case d.better.Dst == r.Dst:
		return fmt.Sprintf("there are two routes to %s, and that by %s comes before that by %s, behind which the pod is", r.Dst, d.by, d.name(d.better))
	}
	return fmt.Sprintf("the route to %s by %s is longer than that to %s by %s, behind which the pod is", r.Dst, d.by, d.better.Dst, d.name(d.better))
}

func (d *detour) name(r *node.Route) string {
	if l := d.fib.Link(oneWay(*r).LinkIndex); l != nil {
		return l.Name
	}
	return fmt.Sprintf("interface %d", r.LinkIndex)
}

// evidence are the routes, as `ip` prints them.
func (d *detour) evidence() (says []string) {
	says = append(says, "the way it was sent: "+d.words())
	if d.better != nil {
		says = append(says, fmt.Sprintf("table %s also has: %s", tableName(uint32(d.better.Table)), d.routeText(*d.better)))
	}
	if d.pod != nil {
		says = append(says, fmt.Sprintf("the pod that has %s is behind %s of this node", d.asked.Dst, d.pod.Name))
	}
	return says
}

// fix is what mends it.
func (d *detour) fix() []string {
	get := d.getCommand()
	switch {
	case d.better == nil:
		return []string{get, "have the agent write the pod's route: delete the calico-node or flannel pod of this node"}
	case d.better.Table != d.answer.Route.Table:
		return []string{get, fmt.Sprintf("see who wrote the rule: ip rule show pref %d; ip route show table %s", d.answer.Rule.Priority, tableName(d.answer.Table)),
			fmt.Sprintf("keep the pods' addresses out of what that program routes (Tailscale: advertise or accept no route that holds %s), or let a rule of a lower preference look up main for them", d.asked.Dst)}
	}
	return []string{get, fmt.Sprintf("see both: ip route show %s", d.better.Dst),
		fmt.Sprintf("give one of them another subnet: what is on %s (docker's bip, a VPN, a static address) must not hold the pods' addresses", d.by)}
}

// tellDetour adds to a claim of a packet that was lost on an interface that it
// should not have been sent there; true if so.
func (q *inquiry) tellDetour(c *claim, at *model.Hop) bool {
	d := q.detourOf(at.Netns, int(at.IfIndex))
	if d == nil {
		if w := q.wayOf(at.Netns); w.leads(int(at.IfIndex)) {
			c.evidence = append(c.evidence, "the way it was sent: "+w.words())
		}
		return false
	}
	c.subject = "detour " + d.by + " " + d.answer.Route.Dst.String()
	c.summary += ": " + d.why()
	c.evidence = append(c.evidence, d.evidence()...)
	c.fix = append(d.fix(), c.fix...)
	return true
}

// tellMain adds what main would say to a look-up that another table answered; true if
// that is a way.
func (q *inquiry) tellMain(c *claim, w way, a routing.Answer) bool {
	if a.Table == unix.RT_TABLE_MAIN || a.Table == unix.RT_TABLE_LOCAL {
		return false
	}
	m, ok := w.fib.InTable(w.asked, unix.RT_TABLE_MAIN)
	if !ok || m.Error != 0 {
		return false
	}
	c.evidence = append(c.evidence, "table main would lead to: "+w.routeText(*m.Route))
	return true
}

// sentOut is where the packet was handed to an interface that leads off the node or
// out of its pod, and by which route: the tunnel's, of what went into one.
func (q *inquiry) sentOut() (at *model.Hop) {
	h := lastHop(q.p, func(h *model.Hop) bool { return h.Stage == model.StageTransmit && h.IfIndex != 0 })
	if h == nil {
		return nil
	}
	if tunnel := lastHop(q.p, func(t *model.Hop) bool {
		return t.Stage == model.StageEncapsulate && t.Netns == h.Netns && t.IfIndex != 0
	}); tunnel != nil {
		if in, _ := q.encapsulated(); in {
			return tunnel
		}
	}
	return h
}

// tellSent adds by which rule and route a packet left.
func (q *inquiry) tellSent(c *claim) {
	at := q.sentOut()
	if at == nil {
		return
	}
	for _, index := range []int{int(at.IfIndex), q.masterOf(at)} {
		if w := q.wayOf(at.Netns); index != 0 && w.leads(index) {
			c.evidence = append(c.evidence, "the way to it: "+w.words())
			return
		}
	}
}

// masterOf is the bridge or bond that an interface is a port of; 0: none.
func (q *inquiry) masterOf(at *model.Hop) int {
	if l := q.link(at.Netns, int(at.IfIndex)); l != nil {
		return l.Master
	}
	return 0
}

// misrouted: a packet left, though its destination is on this node or main has a
// way of its own to it. Asked when the first one leaves.
func misrouted(q *inquiry, p *peer) *claim {
	at := q.sentOut()
	if at == nil {
		return nil
	}
	dst := q.question(at.Netns).Dst
	pod, here := q.podOf(dst)
	here = here && !q.seenIn(pod) || q.holds(q.state.Node(), dst)
	d := q.detourOf(at.Netns, int(at.IfIndex))
	if !here && (d == nil || d.pod != nil) || q.sentByIPVS() != nil {
		return nil
	}
	c := &claim{subject: "misrouted " + at.Interface, summary: fmt.Sprintf("packets to %s leave by %s of %s", dst, at.Interface, placeName(at.Place))}
	if here {
		c.certain = true
		c.summary = fmt.Sprintf("packets to %s, which is on this node, leave by %s of %s", dst, at.Interface, placeName(at.Place))
	} else {
		c.missing = []string{"what becomes of them on that way"}
	}
	switch w := q.wayOf(at.Netns); {
	case d != nil:
		c.summary += ": " + d.why()
		c.evidence, c.fix = d.evidence(), d.fix()
	case w.leads(int(at.IfIndex)):
		c.summary += ": " + w.words()
		c.evidence, c.fix = []string{"the way they were sent: " + w.words()}, []string{w.getCommand(), "see who wrote that rule and that route, and why the way to the pod is not there"}
	default:
		c.fix = []string{"ip route get " + dst.String(), "ip rule; ip route show table all"}
	}
	return c
}

func placeName(place string) string {
	if place == "node" || place == "" {
		return "this node"
	}
	return place
}
