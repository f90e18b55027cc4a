// SPDX-License-Identifier: Apache-2.0

// What each kind of event means for a journey: one step, usually one hop.

package journey

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// steps says what each kind of event adds to a journey. A kind without a row
// adds nothing.
var steps = map[uint8]func(*journey, *world, *copyState, *Record){
	bpf.KindTransmit:  stepTransmit,
	bpf.KindReceive:   stepReceive,
	bpf.KindBridge:    plain(model.StageBridge),
	bpf.KindForward:   plain(model.StageForward),
	bpf.KindEncap:     plain(model.StageEncapsulate),
	bpf.KindDecap:     stepDecap,
	bpf.KindHook:      stepHook,
	bpf.KindTable:     stepTable,
	bpf.KindPass:      stepPass,
	bpf.KindConntrack: stepConntrack,
	bpf.KindFib:       stepFib,
	bpf.KindRoute:     stepRoute,
	bpf.KindRPFilter:  stepRPFilter,
	bpf.KindNeigh:     stepNeigh,
	bpf.KindQdisc:     stepQdisc,
	bpf.KindDeliver:   stepDeliver,
	bpf.KindAnswer:    stepAnswer,
	bpf.KindDrop:      stepDrop,
	bpf.KindEnd:       stepEnd,
}

func plain(s model.Stage) func(*journey, *world, *copyState, *Record) {
	return func(j *journey, w *world, c *copyState, e *Record) { j.push(e, j.hop(w, c, e, s)) }
}

func stepTransmit(j *journey, w *world, c *copyState, e *Record) {
	j.flushFib(w, c, e)
	c.index, c.hook = 0, 0
	j.push(e, j.hop(w, c, e, model.StageTransmit))
	c.left = w.Uplink(e.Netns, e.Ifindex)
	if c.left {
		j.terminal = true
	}
}

func stepReceive(j *journey, w *world, c *copyState, e *Record) {
	w.tables.Reached(e.Netns)
	c.index, c.hook, c.left = 0, 0, false
	c.ct, c.invalid, c.out, c.outIndex, c.bracket = nil, false, "", 0, bpf.Event{}
	c.came = CString(e.Ifname[:])
	if c.last.Id == 0 && w.Decrypts(e.Netns, e.Ifindex, c.came) {
		// it begins where it has come out, unless the encrypted packet was followed
		h := j.hop(w, c, e, model.StageDecapsulate)
		h.Function, h.Tunnel = "", j.outOf()
		j.push(e, h)
	}
	j.push(e, j.hop(w, c, e, model.StageReceive))
}

func stepDecap(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageDecapsulate)
	switch {
	case e.Flags&bpf.FlagEncap != 0:
		h.Tunnel = TunnelOf(&e.Tun)
	case e.Fn == fnWireGuardSource:
		h.Tunnel, h.Result = j.outOf(), "no peer has its source among its allowed IPs"
		if e.Result != 0 {
			h.Result = "another peer than the one that sent it has its source among its allowed IPs"
		}
	default:
		// the outer packet is what is traced: its receiver, the tunnel, has it
		c.delivered = true
		j.terminal = true
	}
	j.push(e, h)
}

// stepHook tells the verdict of a whole hook: of all that hangs there, tables
// and others.
func stepHook(j *journey, w *world, c *copyState, e *Record) {
	if e.Pf == unix.NFPROTO_BRIDGE && e.Result == 0 {
		return // br_netfilter took it to hand it to IP's hooks, and goes on by itself
	}
	h := j.hop(w, c, e, model.StageNetfilter)
	h.Hook = hookOf(e)
	h.Verdict = hookVerdict(e.Result)
	if e.Result == 0 && c.queued(e) && c.table.Hook == h.Hook {
		h.Verdict = "queue" // nf_queue() took it, which the hook tells as "taken"
	}
	if h.Verdict == "drop" {
		h.Result = ErrnoName(e.Result)
	}
	j.push(e, h)
}

func stepTable(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageNetfilter)
	h.Hook = hookOf(e)
	h.Table = CString(e.Table.Table[:])
	h.Chain = CString(e.Table.Chain[:])
	h.Verdict = VerdictName(uint32(e.Result))
	h.Backend, h.Family = "legacy", nfnetlink.Family(e.Pf)
	if h.Chain != "" {
		h.Backend, h.Family = "nft", nfnetlink.Family(e.Table.Family)
	} else {
		h.Chain = h.Hook
	}
	r := w.rules.Ruling(e)
	t := Table{Backend: h.Backend, Family: h.Family, Table: h.Table, Chain: h.Chain}
	switch {
	case e.Table.Rules&(bpf.RulesTooLarge|bpf.RulesTooMany) != 0:
		// nothing was in the way but the size: the rule set itself can be asked
		if asked := w.rules.Infer(c.passage(e, t), h.Verdict); asked.Decided != nil {
			r = asked
		}
	case r.Unread && h.Backend == "nft":
		// gone: what stood before and after can be asked
		if asked := w.rules.Infer(c.passage(e, t), h.Verdict); asked.Unread {
			r.Unknown = asked.Unknown
		}
	}
	if h.Backend == "nft" && r.Source == model.RuleExact && r.Unknown == "" && e.Pf != unix.NFPROTO_BRIDGE {
		r = w.rules.Compared(c.within(e, t), e, r)
	}
	if e.Fn == FnLink && h.Verdict == "drop" && !r.drops() {
		// died between two brackets, but not in this table
		if r.Unknown != "" || len(r.Rules) == 0 {
			return
		}
		r.Verdict = "accept"
	}
	if e.Fn == FnLink && r.Ends == "queue" {
		r.Verdict = "queue" // whatever a program made of it then
	}
	c.ruling = r
	h.Rules, h.RuleSource, h.RulesUnknown = c.ruling.Rules, c.ruling.Source, c.ruling.Unknown
	if c.ruling.Verdict != "" {
		h.Verdict = c.ruling.Verdict
	}
	if h.Verdict == "queue" {
		h.Queue = queueOfVerdict(e, r)
	}
	c.table = h
	if e.Fn == FnLink {
		c.told = append(c.told, h.Table)
	}
	j.push(e, h)
}

// stepPass: a bracket was passed, so the tables before it let the packet go.
func stepPass(j *journey, w *world, c *copyState, e *Record) {
	if c.hook != e.Hook {
		c.index, c.hook = 0, e.Hook
	}
	tables := w.tables.Passed(e.Netns, e.Pf, e.Hook-1, c.index, e.Index)
	c.index = e.Index
	named := 0
	for i, t := range tables {
		if t.IsConntrack(w.tracks[e.Netns]) && e.Ct == 0 && w.stillThere(e) {
			h := j.hop(w, c, e, model.StageConntrack)
			h.Hook, h.CTState = hookOf(e), "invalid"
			c.invalid = true
			j.push(e, h)
		}
		if t.Backend == "" {
			continue
		}
		named++
		if c.hasTold(t) {
			continue
		}
		h := j.hop(w, c, e, model.StageNetfilter)
		h.Hook, h.Table, h.Chain, h.Backend, h.Family, h.Verdict = hookOf(e), t.Table, t.Chain, t.Backend, t.Family, "accept"
		r := w.rules.Infer(c.passage(e, t), "accept")
		h.Rules, h.RuleSource, h.RulesUnknown = r.Rules, r.Source, r.Unknown
		if r.Verdict == "queue" {
			h.Verdict, h.Queue = r.Verdict, r.Queue
		}
		j.place(w, c, e, tables[i+1:], h)
	}
	c.told = nil
	c.bracket = e.Event
	if e.Result == 0 || named > 0 {
		return
	}
	// the last bracket: the hook is through with it, whatever hangs there
	if h := j.lastHop(); h != nil && h.Hook == hookOf(e) && h.Netns == e.Netns {
		return
	}
	h := j.hop(w, c, e, model.StageNetfilter)
	h.Hook, h.Verdict = hookOf(e), "accept"
	j.push(e, h)
}

// stillThere tells that what hangs at a hook is still what was listed there: conntrack's
// own functions go with the last rule that needs them, and then nothing was tracked.
func (w *world) stillThere(e *Record) bool {
	_, changed := w.tables.Changed(e.Netns, e.Pf, e.Hook-1, e.Ts)
	return !changed
}

// hasTold tells that a table has told itself since the last bracket.
func (c *copyState) hasTold(t Table) bool {
	return t.Backend == "legacy" && slices.Contains(c.told, t.Table)
}

// place puts a table's hop before those of what came after it in the hook and has
// told itself: when the event of a bracket was lost, later ones are there first.
func (j *journey) place(w *world, c *copyState, e *Record, later []Table, h model.Hop) {
	at := len(j.hops)
	for i, old := range slices.Backward(j.hops) {
		if old.Hook != h.Hook || old.Netns != e.Netns {
			break
		}
		for _, t := range later {
			if old.Stage == model.StageNetfilter && c.hasTold(t) && old.Table == t.Table && old.Backend == t.Backend ||
				old.Stage == model.StageConntrack && t.IsConntrack(w.tracks[e.Netns]) {
				at = i
			}
		}
	}
	ts := e.Ts
	if at < len(j.hops) {
		ts = j.times[at]
	}
	j.put(at, ts, h)
}

func stepConntrack(j *journey, w *world, c *copyState, e *Record) {
	if e.Ct != 0 && e.Ct != untracked { // that conntrack is not to look at it tells nothing of its hooks
		w.tracks[e.Netns] = true
	}
	c.ct, c.invalid = e.ct, e.Ct == 0
	h := j.hop(w, c, e, model.StageConntrack)
	if e.Hook != 0 {
		h.Hook = hookOf(e)
	}
	if e.Ct == 0 {
		h.CTState = "invalid"
	}
	j.push(e, h)
}

// stepFib keeps what the routing tables said: the last one asked decided.
func stepFib(j *journey, w *world, c *copyState, e *Record) {
	c.fib = e.route
	c.fib.E = e.Event // its netns may have been filled in
}

// flushFib tells a route that only the routing tables told.
func (j *journey) flushFib(w *world, c *copyState, e *Record) {
	if c.fib == nil {
		return
	}
	f := &Record{Event: c.fib.E, route: c.fib}
	c.fib = nil
	h := j.hop(w, c, f, model.StageRoute)
	h.Route = routeOf(f.route)
	h.Route.Type = ""
	j.insert(f, h)
}

func stepRoute(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageRoute)
	h.Route = routeOf(e.route)
	if f := c.fib; f != nil {
		if f.Error == 0 || h.Route.Error != "" {
			h.Route.Table = f.Table
		}
		h.Function = w.Function(f.E.Fn)
		if e.Fn != FnLink {
			h.Function = w.Function(e.Fn)
		}
		c.fib = nil
	}
	// before 6.18 the function returns an errno, since then a drop reason
	if e.Result < 0 && h.Route.Error == "" {
		h.Route.Error = ErrnoName(e.Result)
	}
	if e.Result != 0 && h.Route.Error == "" {
		h.Result = w.Reason(uint32(e.Result))
	}
	if h.Route.Error != "" || h.Result != "" {
		h.Route.Interface, h.Route.IfIndex, h.Route.Gateway = "", 0, ""
	}
	c.out, c.outIndex = h.Route.Interface, h.Route.IfIndex
	j.push(e, h)
}

// Passage is the packet's way through a table that lies between the bracket
// passed last and the one that e tells of.
func (c *copyState) passage(e *Record, t Table) Passage {
	at := c.last
	if c.bracket.Id != 0 && c.bracket.Hook == e.Hook && c.bracket.Netns == e.Netns {
		at = c.bracket // what a table told since was told at its death
	}
	p := Passage{At: at, Netns: e.Netns, PF: e.Pf, Hook: e.Hook, Out: c.out, OutIndex: c.outIndex, CT: c.ct, Invalid: c.invalid, Table: t, Until: e.Event, Contents: e.Table}
	if e.Ifname[0] != 0 {
		p.At.Ifname, p.At.Ifindex = e.Ifname, e.Ifindex
	}
	return p
}

func routeOf(r *bpf.EventRoute) *model.Route {
	return &model.Route{Type: routeType(r.Type), Table: r.Table, Interface: CString(r.Oifname[:]), IfIndex: r.Oif,
		Gateway: gatewayOf(r.Gw, r.GwFamily), Error: ErrnoName(r.Error)}
}

func stepRPFilter(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageRoute)
	h.Result = "source validation failed"
	if reason, isErrno := w.RouteReason(e.Result); isErrno {
		h.Route = &model.Route{Error: reason}
	} else {
		h.Route, h.Result = &model.Route{}, h.Result+": "+reason
	}
	j.push(e, h)
}

func stepNeigh(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageNeighbor)
	h.Neighbor = &model.Neighbor{Address: addrOf(e.neigh.Addr, e.neigh.Family).String(), State: neighbourState(e.neigh.State),
		Interface: CString(e.Ifname[:])}
	if e.neigh.State&0xde != 0 { // NUD_VALID, include/net/neighbour.h
		h.Neighbor.MAC = macOf(e.neigh.Ha)
	}
	j.push(e, h)
}

func stepQdisc(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageQdisc)
	h.Result = xmitResult(e.Result)
	j.push(e, h)
}

func stepDeliver(j *journey, w *world, c *copyState, e *Record) {
	h := j.hop(w, c, e, model.StageDeliver)
	if e.Hook != 0 && e.Fn == FnLink {
		h.Hook = hookOf(e)
	}
	j.push(e, h)
	c.delivered = true
	j.terminal = true
}

func stepAnswer(j *journey, w *world, c *copyState, e *Record) {
	name := "tcp-reset"
	if e.Fn == fnICMPSend || e.Fn == fnICMPSend4 || e.Fn == fnICMPSend6 {
		name = "icmp-" + icmpName(e.T.Family == 6, uint8(e.Result>>8), uint8(e.Result))
	}
	// icmp_send's tracepoint and function both tell it, and routes are asked in between
	told := slices.ContainsFunc(j.hops, func(h model.Hop) bool {
		return h.Stage == model.StageAnswer && h.Answer == name && h.SKB == skbName(e.Skb) && h.Netns == e.Netns
	})
	if told {
		return
	}
	h := j.hop(w, c, e, model.StageAnswer)
	h.Answer = name
	j.push(e, h)
	j.answered = j.answered || name != "icmp-redirect"
}

func stepDrop(j *journey, w *world, c *copyState, e *Record) {
	d := newDrop(w, c, e)
	verdict := judge(c, e, d)
	switch verdict {
	case notThePacket:
		c.tap = true
		return
	case aQuestion:
		j.own, j.terminal, c.ended = false, true, true // nothing to tell of
		return
	}
	j.terminal = true
	if verdict == afterDelivery {
		// the protocol took it and had no use for it: no loss
		wasDelivered := c.delivered
		c.delivered, c.ended = true, true
		if wasDelivered && (e.T.Proto != unix.IPPROTO_TCP || d.Reason == "NOT_SPECIFIED") {
			return
		}
		h := j.hop(w, c, e, model.StageDeliver)
		h.Function, h.Result = d.Function, d.Reason
		j.push(e, h)
		return
	}
	if j.ownRedirect(d) {
		h := j.hop(w, c, e, model.StageNetfilter)
		h.Function, h.Hook, h.Verdict = d.Function, d.Hook, "drop"
		h.Backend, h.Family, h.Table, h.Chain = d.Backend, d.Family, d.Table, d.Chain
		h.Rules, h.RuleSource = c.dropRules, c.dropSource
		j.push(e, h)
		c.ended = true
		return
	}
	if e.drop.DstError != 0 && !j.lastStage(model.StageRoute) {
		h := j.hop(w, c, e, model.StageRoute)
		h.Route = &model.Route{Type: routeType(e.drop.DstType), Error: ErrnoName(-abs32(e.drop.DstError))}
		if c.fib != nil {
			h.Route.Table = c.fib.Table
		}
		c.fib = nil
		j.push(e, h)
	}
	h := j.hop(w, c, e, model.StageDrop)
	if h.Interface == "" {
		h.Interface, h.IfIndex = d.Interface, d.IfIndex
	}
	h.Function, h.Hook, h.Table, h.Chain, h.Backend, h.Family = d.Function, d.Hook, d.Table, d.Chain, d.Backend, d.Family
	h.Result = d.Reason
	if d.Hook != "" {
		h.Verdict = "drop"
	}
	if c.dropSource == model.RuleInferred {
		h.Rules, h.RuleSource = c.dropRules, c.dropSource
	}
	j.push(e, h)
	c.drop = d
}

// stepEnd: freed in good order. In a pod's own namespace, right after it came
// in, that is its receiver being done with it.
func stepEnd(j *journey, w *world, c *copyState, e *Record) {
	if c.last.Kind == bpf.KindDecap && c.last.Fn == fnWireGuardSource {
		j.refusedSource(w, c, e)
		return
	}
	if c.withWireGuard(w) {
		j.letGo(w, c, e)
		return
	}
	c.ended = true
	j.terminal = true
	if c.last.Kind == bpf.KindReceive && c.last.Netns != w.Node() && c.last.Flags&bpf.FlagEncap == 0 {
		c.delivered = true
	}
}
