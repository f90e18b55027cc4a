// SPDX-License-Identifier: Apache-2.0

package cause

// The cause asymmetric-return: the reply leaves by another interface than the
// request came by, out of the pod or off the node, and the exchange does not work.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// maxExchanges bounds those remembered; past it those are forgotten that work, or of
// which nothing odd was seen.
const maxExchanges = 512

// exchanges are requests and their replies, by the addresses that the one who
// answers sees.
type exchanges struct {
	of    map[exchangeKey]*exchange
	order []*exchange
}

type exchangeKey struct {
	proto        string
	asker, asked netip.AddrPort
}

// exchange is a request, with where it came by and where the reply to it left.
type exchange struct {
	key     exchangeKey
	came    []model.Hop // one a namespace: its interface, the tunnel's of what came by one
	request *model.Packet
	reply   *model.Packet // the first that left
	sent    int           // opening requests seen
	left    int           // replies that left
	ids     []uint64
	acked   bool // the asker has spoken as only who got the reply does, or a reply arrived
	refused string
	claim   *claim        // where the ways differ: how it stood then
	circled *model.Packet // a reply that came back
	// orphaned: a table made for it leads back where the request came from, and was
	// not asked.
	orphaned bool
	told     bool
}

func newExchanges() exchanges { return exchanges{of: make(map[exchangeKey]*exchange)} }

// worked tells that the reply reached who asked.
func (x *exchange) worked() bool { return x.acked }

// find gives an exchange, or opens it; nil if there are too many.
func (e *exchanges) find(key exchangeKey) *exchange {
	if x := e.of[key]; x != nil {
		return x
	}
	if len(e.of) >= maxExchanges {
		e.order = slices.DeleteFunc(e.order, func(x *exchange) bool {
			dull := x.acked || x.claim == nil && x.circled == nil
			if dull {
				delete(e.of, x.key)
			}
			return dull
		})
	}
	if len(e.of) >= maxExchanges {
		return nil
	}
	x := &exchange{key: key}
	e.of[key], e.order = x, append(e.order, x)
	return x
}

// see takes a finished packet, and gives the exchange whose ways are known by it to
// be looked at.
func (e *exchanges) see(p *model.Packet) *exchange {
	if p.ICMP != "" && !strings.HasPrefix(p.ICMP, "echo-") {
		e.seeError(p)
		return nil
	}
	request, reply := keysOf(p)
	if e.isReply(p, request, reply) {
		return e.seeReply(p, reply)
	}
	return e.seeRequest(p, request)
}

// keysOf are the exchanges that a packet belongs to if it is a request, and if it is
// a reply: a request is known by the addresses it arrives with, a reply by those it
// begins with.
func keysOf(p *model.Packet) (request, reply exchangeKey) {
	at := endsAt(p)
	key := func(asker, asked netip.Addr, from, to uint16) exchangeKey {
		if p.ICMPID != 0 {
			from, to = p.ICMPID, p.ICMPID
		}
		return exchangeKey{p.Proto, netip.AddrPortFrom(asker, from), netip.AddrPortFrom(asked, to)}
	}
	return key(at.Src, at.Dst, at.SrcPort, at.DstPort), key(p.Dst, p.Src, p.DstPort, p.SrcPort)
}

// isReply tells who asked: whoever opens a connection, whichever end was named
// first on the command line.
func (e *exchanges) isReply(p *model.Packet, request, reply exchangeKey) bool {
	switch {
	case p.ICMP != "":
		return p.ICMP == "echo-reply"
	case p.Proto == "tcp" && strings.Contains(p.TCPFlags, "S"):
		return strings.Contains(p.TCPFlags, ".")
	case e.of[request] != nil:
		return false
	case e.of[reply] != nil || !asks(p):
		return true
	}
	return p.Direction == model.Return
}

func (e *exchanges) seeRequest(p *model.Packet, key exchangeKey) *exchange {
	if p.Outcome != model.Delivered {
		return nil
	}
	opens := p.Proto != "tcp" || strings.Contains(p.TCPFlags, "S")
	if !opens {
		if x := e.of[key]; x != nil && !strings.Contains(p.TCPFlags, "R") {
			x.acked = true
		}
		return nil
	}
	x := e.find(key)
	if x == nil {
		return nil
	}
	x.sent++
	if x.request != nil {
		return nil
	}
	x.request, x.came = p, cameBy(p)
	return x.judgeable()
}

// cameBy lists by which interface a packet came into each namespace: first into the
// node, last into a pod, whose own bridges are its business.
func cameBy(p *model.Packet) (came []model.Hop) {
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Netns == 0 || h.IfIndex == 0 || h.Stage != model.StageReceive && h.Stage != model.StageDecapsulate {
			continue
		}
		k := slices.IndexFunc(came, func(c model.Hop) bool { return c.Netns == h.Netns })
		switch {
		case k < 0:
			came = append(came, *h)
		case h.Stage == model.StageDecapsulate, came[k].Stage == model.StageDecapsulate:
			// where it comes out of the tunnel the device at hand may still be that which
			// the outer packet came by (vxlan_rcv's entry): the next one is the tunnel's
			came[k] = *h
		}
	}
	return came
}

func (e *exchanges) seeReply(p *model.Packet, key exchangeKey) *exchange {
	if p.Outcome == model.Delivered || p.Outcome == model.Consumed {
		if x := e.of[key]; x != nil {
			x.acked = true
		}
		return nil
	}
	if p.Outcome != model.LeftNode || strings.Contains(p.TCPFlags, "R") {
		return nil
	}
	x := e.find(key)
	if x == nil {
		return nil
	}
	x.left++
	if len(x.ids) < shownPackets {
		x.ids = append(x.ids, p.ID)
	}
	if n, _ := circles(p); n > 0 && x.circled == nil {
		x.circled = p
	}
	if x.reply != nil {
		return nil
	}
	x.reply = p
	return x.judgeable()
}

// seeError notes that somebody says that a reply could not be passed on.
func (e *exchanges) seeError(p *model.Packet) {
	if p.OwnAnswer {
		return // this node's own, about a packet that came here
	}
	for _, x := range slices.Backward(e.order) {
		if x.reply != nil && !x.acked && x.refused == "" && (x.key.asked.Addr() == p.Dst || x.key.asker.Addr() == p.Src) {
			x.refused = p.ICMP + " from " + p.Src.String()
			return
		}
	}
}

func (x *exchange) judgeable() *exchange {
	if x.request == nil || x.reply == nil || x.claim != nil {
		return nil
	}
	return x
}

// judge looks whether the reply left by another interface than the request came by,
// while the rules and routes still stand.
func (q *inquiry) judge(x *exchange) {
	for _, came := range x.came {
		left := q.leftBy(came.Netns)
		if left == nil || q.sameLink(came.Netns, came.IfIndex, left.IfIndex) {
			continue
		}
		x.claim = q.asymmetric(x, &came, left)
		x.claim.missing = append(x.claim.missing, q.gaps...)
		return
	}
}

// leftBy is the interface by which the reply left a namespace: the tunnel's, of
// what went into one.
func (q *inquiry) leftBy(netns uint32) (left *model.Hop) {
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		switch {
		case h.Netns != netns || h.IfIndex == 0:
		case h.Stage == model.StageEncapsulate:
			return h
		case h.Stage == model.StageTransmit:
			left = h
		}
	}
	return left
}

// sameLink tells whether two interfaces are one, or ports of one bridge or bond.
func (q *inquiry) sameLink(netns, a, b uint32) bool {
	top := func(index uint32) int {
		if l := q.link(netns, int(index)); l != nil && l.Master != 0 {
			return l.Master
		}
		return int(index)
	}
	return a == b || top(a) == top(b) || uint32(top(a)) == b || a == uint32(top(b))
}

// asymmetric is the claim: what is certain is which ways both took.
func (q *inquiry) asymmetric(x *exchange, came, left *model.Hop) *claim {
	where := placeName(left.Place)
	c := &claim{subject: fmt.Sprintf("asymmetric %d %s %s", left.Netns, came.Interface, left.Interface), direction: x.reply.Direction}
	c.summary = fmt.Sprintf("the reply of %s to %s leaves by %s of %s, while the request came in by %s", x.key.asked.Addr(), x.key.asker.Addr(), left.Interface, where, came.Interface)
	c.evidence = []string{fmt.Sprintf("request #%d came in by %s at %s", x.request.ID, came.Interface, placeName(came.Place)),
		fmt.Sprintf("reply #%d left by %s at %s", x.reply.ID, left.Interface, where)}
	c.missing = []string{"what became of the reply on that way"}
	w := q.wayOf(left.Netns)
	index := int(left.IfIndex)
	if b := q.masterOf(left); b != 0 && !w.leads(index) {
		index = b
	}
	if w.leads(index) {
		a, _ := w.sure()
		c.summary += fmt.Sprintf(": %s looks up table %s", ruleWords(a.Rule), tableName(a.Table))
		c.evidence = append(c.evidence, "what decides it: "+w.words())
	} else if w.fib != nil {
		c.evidence = append(c.evidence, "by the rules and routes as they are: "+w.words())
		c.missing = append(c.missing, w.Doubts...)
	}
	c.fix = []string{w.getCommand(), fmt.Sprintf("send replies back where the requests come from: a policy rule (ip rule add from %s lookup TABLE) whose table has a route by %s, as the CNI plugin or its agent writes it: see that it runs", x.key.asked.Addr(), came.Interface)}
	if left.Netns != q.state.Node() {
		c.fix[1] = fmt.Sprintf("in the pod: let its default route lead by %s, and give %s only the routes that are its own (Multus: the annotation default-route)", came.Interface, left.Interface)
	}
	q.otherWay(c, x, w, came)
	q.changedBy(c, func(e *model.NodeEvent) bool {
		return e.Netns == left.Netns && (e.What == model.PolicyAdded || e.What == model.PolicyDeleted)
	})
	return c
}

// otherWay adds the route that leads back to where the request came from, of a
// table that the reply's look-up did not come to.
func (q *inquiry) otherWay(c *claim, x *exchange, w way, came *model.Hop) {
	if w.fib == nil {
		return
	}
	for i := range w.fib.Routes {
		r := &w.fib.Routes[i]
		if r.Type != unix.RTN_UNICAST || r.Table == unix.RT_TABLE_LOCAL || !r.Dst.Contains(w.asked.Dst) || !q.sameLink(came.Netns, uint32(oneWay(*r).LinkIndex), came.IfIndex) {
			continue
		}
		says := fmt.Sprintf("table %s would lead back by %s: %s", tableName(uint32(r.Table)), came.Interface, w.routeText(*r))
		rules := lookedUpBy(w, uint32(r.Table))
		switch {
		case len(rules) == 0:
			says += ", but no policy rule looks it up"
		case rules[0].Mask != 0 && w.asked.Mark.Known && (rules[0].Mark^w.asked.Mark.Value)&rules[0].Mask != 0:
			says += fmt.Sprintf(", but rule %d is for packets with %s, and the reply's mark is %#x", rules[0].Priority, strings.Join(selectors(rules[0]), " "), w.asked.Mark.Value)
		default:
			says += fmt.Sprintf(", but rule %d does not give it to this packet: %s", rules[0].Priority, ruleText(rules[0]))
		}
		c.evidence = append(c.evidence, says)
		x.orphaned = x.orphaned || r.Table != unix.RT_TABLE_MAIN
	}
}

// asymmetricReturn makes a finding of each exchange whose reply took another way
// and did not arrive.
func asymmetricReturn(c *Collector) (all []*found) {
	for _, x := range c.mem.exchanges.order {
		if x.claim == nil || x.told || !c.failed(x) {
			continue
		}
		if c.incomplete && x.refused == "" {
			continue // what tells that it worked may be among the packets that were left out
		}
		x.told = true
		x.claim.evidence = append(x.claim.evidence, x.outcome())
		all = append(all, &found{claim: x.claim, packets: x.left, ids: x.ids})
	}
	return all
}

// failed tells an exchange that did not work, as far as this node sees: one whose
// asker is on this node and got nothing; a connection that was asked for or answered
// again; one of which a router says so. Of others who are far away and have nothing
// to acknowledge it is not seen: then a way that was made for the reply, and is not
// taken, has to be there.
func (c *Collector) failed(x *exchange) bool {
	switch {
	case x.worked():
		return false
	case x.refused != "" || slices.ContainsFunc(x.request.Hops, func(h model.Hop) bool { return h.Stage == model.StageTransmit && h.Netns != c.state.Node() }):
		return true
	case x.key.proto == "tcp":
		return x.sent > 1 || x.left > 1
	}
	return x.orphaned
}

// outcome is what was seen of it afterwards.
func (x *exchange) outcome() string {
	says := fmt.Sprintf("%s left by that way", packetsWords(x.left, "reply", "replies"))
	switch {
	case x.refused != "":
		return says + ", and an ICMP error came: " + x.refused
	case x.key.proto != "tcp":
		return says + "; none was seen to arrive"
	case x.sent > 1:
		return fmt.Sprintf("%s; none was acknowledged, and the request came %d times", says, x.sent)
	}
	return says + "; none was acknowledged"
}

func packetsWords(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
