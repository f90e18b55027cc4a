// SPDX-License-Identifier: Apache-2.0

package cause

// This file gathers finished packets into cases: packets that ended alike. A
// case is looked into when its first packet comes in, while the node still
// stands as it stood then, and again from time to time: what has another cause by
// then is another case. However long the trace, what is kept is bounded.

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// maxCases bounds the cases told apart. Past it packets are told apart less:
	// no longer by destination, and at twice the number not at all.
	maxCases = 256
	// shownPackets is how many packets of a case are named.
	shownPackets = 16
	// lookAgain is how soon a case is looked into again.
	lookAgain = time.Second
	// maxLooks is for how many far ends off this node the way there is looked at
	// when the first packet leaves: it takes a reading of routes and links.
	maxLooks = 64
)

// Collector finds the causes behind the packets of one trace. It is not safe for
// concurrent use.
type Collector struct {
	state    State
	verbose  func(string)
	start    model.Start
	cases    map[signature]*kase
	order    []*kase
	said     map[string]bool // findings given while the trace goes on
	mem      memory
	unopened unopened
	looks    int
	ipsec    string // /proc/net/xfrm_stat of the node as it was when the trace began; "": none
	// incomplete: packets were lost or left out, so that none may be missed.
	incomplete bool
	now        func() time.Time
}

// New makes a Collector that asks state about the node. What cannot be asked is
// told to verbose and makes findings say less.
func New(state State, verbose func(string)) *Collector {
	if verbose == nil {
		verbose = func(string) {}
	}
	return &Collector{state: state, verbose: verbose, cases: make(map[signature]*kase), said: make(map[string]bool), mem: newMemory(), now: time.Now}
}

// Start tells what is traced.
func (c *Collector) Start(s *model.Start) {
	c.start = *s
	in := c.state.Node()
	if stats, err := c.state.ConntrackStats(in); err == nil { // else a kernel without these counters
		c.mem.counted[in] = stats
	}
	if text, err := c.state.Proc(in, "xfrm_stat"); err == nil {
		c.ipsec = text
	}
	c.countAtStart()
}

// Node takes a change of the node, before the packets that died after it. An end
// of the trace may be somewhere else now.
func (c *Collector) Node(e *model.NodeEvent) {
	c.mem.history.note(e)
	c.state.Changed(e)
	for _, end := range []*model.End{&c.start.Src, &c.start.Dst} {
		if e.End != nil && end.Given == e.End.Given {
			*end = *e.End
		}
	}
}

// Packet takes a finished packet. It is kept if it is the first of its case, and
// must not change afterwards. What became certain by it is given, once.
func (c *Collector) Packet(p *model.Packet) *model.Finding {
	c.countAt(p)
	c.mem.askers.see(p, c.state.Node())
	if peer := c.mem.see(p); peer != nil && c.looks < maxLooks {
		c.looks++
		c.note(p, peer)
	}
	if x := c.mem.exchanges.see(p); x != nil && c.looks < maxLooks {
		c.looks++
		(&inquiry{p: x.reply, d: &model.Drop{}, state: c.state, start: &c.start, mem: &c.mem}).judge(x)
	}
	if !suspect(p) && !c.mem.unheard(p) && c.mem.switched(p) == nil {
		return nil
	}
	k := c.caseOf(p)
	if k == nil {
		return nil
	}
	claim := c.lookInto(k, p)
	if claim != nil && k.claim != nil && claim.code != k.claim.code {
		k = c.turn(k, p) // the same end, but of another cause by now
	}
	k.count(p)
	if claim == nil || k.claim != nil {
		return nil
	}
	k.claim = claim
	if !claim.certain {
		return nil
	}
	return c.live(k)
}

// lookInto diagnoses a packet of a case that has no cause yet, or whose cause may
// be another by now: a link comes up, and a route goes. A rule stays the one that
// it was.
func (c *Collector) lookInto(k *kase, p *model.Packet) *claim {
	now := c.now()
	if now.Sub(k.asked) < lookAgain || k.claim != nil && p.Drop != nil && p.Drop.Rule != nil {
		return nil
	}
	k.asked = now
	return c.diagnose(p)
}

// turn closes a case and opens another for packets that end alike.
func (c *Collector) turn(k *kase, p *model.Packet) *kase {
	if len(c.order) >= 2*maxCases {
		return k
	}
	next := &kase{of: k.of, first: p, asked: k.asked}
	c.cases[k.of] = next
	c.order = append(c.order, next)
	return next
}

// suspect tells packets whose end calls for a cause.
func suspect(p *model.Packet) bool {
	return p.Outcome.Died() || p.Outcome == model.Unknown || refused(p)
}

// signature is what packets of one case have in common. The address is that of
// the destination when the packet ended.
type signature struct {
	direction model.Direction
	proto     string
	outcome   model.Outcome
	reason    string
	function  string
	hook      string
	table     string
	chain     string
	rule      string
	answer    string
	stage     model.Stage
	netns     uint32
	ifindex   uint32
	dst       netip.Addr
	port      uint16 // of the destination, where nobody listens on it
}

func signatureOf(p *model.Packet) signature {
	s := signature{direction: p.Direction, proto: p.Proto, outcome: p.Outcome, answer: lastAnswer(p), dst: endsAt(p).Dst}
	if p.Drop != nil && p.Drop.Reason == "NO_SOCKET" || refused(p) {
		s.port = endsAt(p).DstPort
	}
	if d := p.Drop; d != nil {
		s.reason, s.function, s.hook, s.table, s.chain, s.stage = d.Reason, symbol(d.Function), d.Hook, d.Table, d.Chain, d.Stage
		s.netns, s.ifindex = d.Netns, d.IfIndex
		if d.Rule != nil {
			s.rule = d.Rule.Text
		}
		return s
	}
	if n := len(p.Hops); n > 0 {
		last := p.Hops[n-1]
		s.stage, s.netns, s.ifindex = last.Stage, last.Netns, last.IfIndex
	}
	return s
}

// kase is a case.
type kase struct {
	of      signature
	first   *model.Packet
	ids     []uint64
	packets int
	asked   time.Time // when it was looked into last
	claim   *claim
}

func (k *kase) count(p *model.Packet) {
	k.packets++
	if len(k.ids) < shownPackets {
		k.ids = append(k.ids, p.ID)
	}
}

// caseOf finds a packet's case, or opens one; nil if there are too many.
func (c *Collector) caseOf(p *model.Packet) *kase {
	s := signatureOf(p)
	k := c.cases[s]
	if k == nil && len(c.cases) >= maxCases {
		s.dst = netip.Addr{}
		k = c.cases[s]
	}
	if k == nil && len(c.cases) < 2*maxCases {
		k = &kase{of: s, first: p}
		c.cases[s] = k
		c.order = append(c.order, k)
	}
	return k
}

// diagnose asks the causes in the table's order; the first that knows, counts.
func (c *Collector) diagnose(p *model.Packet) *claim {
	q := &inquiry{p: p, d: p.Drop, state: c.state, start: &c.start, mem: &c.mem}
	if q.d == nil {
		q.d = lastSeen(p)
	}
	var found *claim
	table := causes
	if !suspect(p) {
		table = arrivals
	}
	for _, cause := range table {
		if found = cause.find(q); found != nil {
			found.code, found.direction = cause.code, cmp.Or(found.direction, p.Direction)
			found.subject = cmp.Or(found.subject, q.subject())
			q.tellTranslation(found)
			q.tellRival(found)
			q.tellBalancing(found)
			q.tellAnswer(found)
			found.missing = append(found.missing, q.gaps...)
			break
		}
	}
	for _, gap := range q.gaps {
		c.verbose("cause of packet " + itoa(p.ID) + ": " + gap)
	}
	return found
}

// lastSeen stands in for the drop of a packet that did not die: the place where
// it was seen last.
func lastSeen(p *model.Packet) *model.Drop {
	h := lastSeenHop(p)
	if h == nil {
		return &model.Drop{}
	}
	return &model.Drop{Netns: h.Netns, Place: h.Place, Interface: h.Interface, IfIndex: h.IfIndex}
}

// lastSeenHop is where a packet was last. A hook that took it out of its caller's hands is
// told when it returns: a bridge's hook takes it through all that follows, out of another
// interface, before it does (br_nf_pre_routing, net/bridge/br_netfilter_hooks.c, 6.12).
func lastSeenHop(p *model.Packet) *model.Hop {
	for i := len(p.Hops) - 1; i >= 0; i-- {
		h := &p.Hops[i]
		if h.Netns != 0 && !(h.Verdict == "stolen" && i > 0 && p.Hops[i-1].IfIndex != h.IfIndex) {
			return h
		}
	}
	return nil
}

// subject is the place the packet died in, and the rule it died by.
func (q *inquiry) subject() string {
	s := signatureOf(q.p)
	return fmt.Sprint(s.netns, s.ifindex, s.hook, s.table, s.chain, s.rule, s.reason)
}

// symbol cuts the offset off symbol+0x12.
func symbol(function string) string {
	name, _, _ := strings.Cut(function, "+0x")
	return name
}
