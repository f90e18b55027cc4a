// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Where packets are, as the journey has to know it.
type places interface {
	// Belongs tells whether a network namespace is part of this node.
	Belongs(inode uint32) bool
	// Place is what people call a network namespace.
	Place(inode uint32) string
	// Uplink tells whether a device of the node's own namespace leads off it.
	Uplink(netns, ifindex uint32) bool
	// Node is the inode of the node's own network namespace.
	Node() uint32
}

// Names of kernel things: drop reasons, addresses, functions.
type naming interface {
	Reason(code uint32) string
	Symbol(addr uint64) string
	Function(fn uint8) string
	// Hidden tells that the kernel keeps its symbols' addresses to itself.
	Hidden() bool
	// RouteReason names a negative result of source validation.
	RouteReason(result int32) (reason string, isErrno bool)
	// FreesInChain tells that nft frees what it drops inside nft_do_chain().
	FreesInChain() bool
}

// passedTables tells which tables lie between brackets of a hook (see
// brackets.go). Only the tracepoint backend has brackets.
type passedTables interface {
	// Passed gives what lies between two brackets.
	Passed(netns uint32, pf, hook, after, upto uint8) []hookEntry
	// At gives what lies right behind a bracket.
	At(netns uint32, pf, hook, index uint8) []hookEntry
	// Changed lists a hook's tables if they are not those known at the start.
	Changed(netns uint32, pf, hook uint8) ([]hookEntry, bool)
	// Reached notes that the flow got to a namespace.
	Reached(netns uint32)
}

// copyState is one skb that carried the packet: the original, a clone, a
// segment. Its fate is its own; the packet's is drawn from all of them.
type copyState struct {
	number     int
	last       bpf.Event // last sighting
	index      uint8     // last bracket passed in the hook it is in, +1
	hook       uint8
	delivered  bool
	left       bool
	ended      bool // freed in good order
	drop       *model.Drop
	foreign    bool // last sighting was outside this node
	tap        bool // a packet socket's copy: its fate says nothing
	segment    bool // carries a part of the packet: if it dies, the packet did not arrive whole
	fib        *bpf.EventRoute
	table      model.Hop    // last table that told its verdict
	ruling     ruling       // the rules behind it
	dropRules  []model.Rule // those that led to its death, where no hop of a table tells them
	dropSource model.RuleSource
	told       []string  // tables told by themselves since the last bracket
	bracket    bpf.Event // the link it passed last, as it was there
	ct         *bpf.EventCt
	invalid    bool   // conntrack looked at it and gave it no entry
	out        string // interface its last route leads to
}

// journey is one packet on its way: events in, hops out.
type journey struct {
	id        uint64
	first     bpf.Event
	hops      []model.Hop
	hopTimes  []uint64 // ns of each hop, CLOCK_MONOTONIC
	copies    map[uint64]*copyState
	order     []uint64 // skbs in order of appearance
	tentative bool
	counted   bool // among the ids seen
	dir       uint8
	lost      bool
	answered  bool
	own       bool // seen on this node at least once
	touched   time.Time
	terminal  bool
	tuples    []bpf.Tuple // every tuple it was seen with
	parts     []uint64    // ids that turned out to be parts of it
}

func newJourney(e *record, now time.Time) *journey {
	return &journey{id: e.Id, first: e.Event, copies: make(map[uint64]*copyState, 1), tentative: true, dir: e.Dir, touched: now}
}

// rules tells which rules are behind a table's verdict.
type rules interface {
	Ruling(e *record) ruling
	// Infer tells what rules it would have met where they were not seen.
	Infer(p passage, verdict string) ruling
	// Explain says what the rule that ended a packet is for.
	Explain(p *model.Packet)
}

// world is what a journey asks about.
type world struct {
	places
	naming
	tables passedTables
	rules  rules
	tracks map[uint32]bool // namespaces in which conntrack was seen at work
}

// add takes one event into the journey.
func (j *journey) add(w *world, e *record, now time.Time) {
	j.touched = now
	// settled by NAT or conntrack; or disowned, when a port that NAT once gave
	// to the flow turns out to be another one's now
	j.tentative = e.Flags&bpf.FlagTentative != 0
	j.dir = e.Dir
	if e.Flags&bpf.FlagLost != 0 {
		j.lost = true
	}
	c := j.copyOf(e)
	// What was seen elsewhere last comes here no earlier than headers are looked
	// at: a buffer that was freed unseen may end here as another packet's.
	if e.Netns == 0 || c.foreign && !looked(e) {
		e.Netns = c.last.Netns
	}
	if e.Netns == 0 && !j.own {
		return // where it was is not known: what told has been lost
	}
	if e.Netns != 0 && !w.Belongs(e.Netns) {
		j.abroad(c, e)
		return
	}
	if !j.own {
		// what happened before it came to this node is not ours to tell
		j.own = true
		j.first = e.Event
	}
	if c.foreign {
		*c = copyState{number: c.number, segment: c.segment}
	}
	j.changes(w, c, e)
	if step, ok := steps[e.Kind]; ok {
		step(j, w, c, e)
	}
	j.remember(c, e)
}

// copyOf finds the skb's state, or begins one.
func (j *journey) copyOf(e *record) *copyState {
	c := j.copies[e.Skb]
	if c == nil {
		c = &copyState{number: len(j.order), segment: e.Id != j.id && e.L3len < j.first.L3len}
		j.copies[e.Skb] = c
		j.order = append(j.order, e.Skb)
	}
	return c
}

// abroad notes that the packet is outside this node: whatever happens to it
// there is not this node's doing.
func (j *journey) abroad(c *copyState, e *record) {
	c.foreign = true
	c.left = j.own // it was here before: whatever the device, it led off the node
	if e.Kind == bpf.KindDrop || e.Kind == bpf.KindEnd || e.Kind == bpf.KindDeliver {
		c.ended = true
		j.terminal = true
	}
	c.last = e.Event
}

// remember keeps what later events of this skb are compared with.
func (j *journey) remember(c *copyState, e *record) {
	if looked(e) {
		c.last = e.Event
	}
}

// looked tells whether the kernel half read the headers for an event, and so
// knows that it is of this packet.
func looked(e *record) bool { return e.Kind != bpf.KindFib && e.Kind != bpf.KindEnd }

// changes adds the hops that no hook tells but two sightings do: addresses
// rewritten, a tunnel header put on or taken off.
func (j *journey) changes(w *world, c *copyState, e *record) {
	if c.last.Id == 0 || e.Kind == bpf.KindFib || e.Kind == bpf.KindEnd {
		return
	}
	was, is := c.last.Flags&bpf.FlagEncap != 0, e.Flags&bpf.FlagEncap != 0
	switch {
	case is && !was:
		j.encapsulated(w, c, e)
	case was && !is && e.Kind != bpf.KindDecap && !j.lastStage(model.StageDecapsulate):
		h := j.hop(w, c, e, model.StageDecapsulate)
		h.Tunnel = tunnelOf(&c.last.Tun)
		h.Function = ""
		j.push(e, h)
	}
	if c.last.T != e.T && (e.Flags|c.last.Flags)&(bpf.FlagICMPError|bpf.FlagFragment) == 0 {
		h := j.hop(w, c, e, model.StageNAT)
		before, after := endpointsOf(&c.last.T), endpointsOf(&e.T)
		h.Before, h.After = &before, &after
		h.Function = ""
		if e.Hook != 0 {
			h.Hook = hookOf(e)
		}
		j.push(e, h)
	}
}

// encapsulated completes vxlan_xmit's hop, or makes one where it was not seen.
func (j *journey) encapsulated(w *world, c *copyState, e *record) {
	if n := len(j.hops); n > 0 && j.hops[n-1].Stage == model.StageEncapsulate && j.hops[n-1].Tunnel == nil {
		j.hops[n-1].Tunnel = tunnelOf(&e.Tun)
		return
	}
	at := *e
	at.Netns, at.Ifindex, at.Ifname = c.last.Netns, c.last.Ifindex, c.last.Ifname
	h := j.hop(w, c, &at, model.StageEncapsulate)
	h.Tunnel = tunnelOf(&e.Tun)
	h.Function = ""
	j.push(e, h)
}

func (j *journey) lastStage(s model.Stage) bool {
	return len(j.hops) > 0 && j.hops[len(j.hops)-1].Stage == s
}

// hop makes a hop with what every event tells.
func (j *journey) hop(w *world, c *copyState, e *record, stage model.Stage) model.Hop {
	return model.Hop{
		Stage: stage, Netns: e.Netns, Place: w.Place(e.Netns),
		Interface: cString(e.Ifname[:]), IfIndex: e.Ifindex, Function: w.Function(e.Fn),
		Mark: e.Mark, CTState: conntrackState(e.Ct), SKB: skbName(e.Skb), Length: e.Len,
		CPU: e.Cpu, Copy: c.number, Frame: e.bytes,
	}
}

func (j *journey) push(e *record, h model.Hop) {
	j.hops = append(j.hops, h)
	j.hopTimes = append(j.hopTimes, e.Ts)
}

// steps says what each kind of event adds to a journey. A kind without a row
// adds nothing.
var steps = map[uint8]func(*journey, *world, *copyState, *record){
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

func plain(s model.Stage) func(*journey, *world, *copyState, *record) {
	return func(j *journey, w *world, c *copyState, e *record) { j.push(e, j.hop(w, c, e, s)) }
}

func stepTransmit(j *journey, w *world, c *copyState, e *record) {
	j.flushFib(w, c, e)
	c.index, c.hook = 0, 0
	j.push(e, j.hop(w, c, e, model.StageTransmit))
	c.left = w.Uplink(e.Netns, e.Ifindex)
	if c.left {
		j.terminal = true
	}
}

func stepReceive(j *journey, w *world, c *copyState, e *record) {
	w.tables.Reached(e.Netns)
	c.index, c.hook, c.left = 0, 0, false
	c.ct, c.invalid, c.out, c.bracket = nil, false, "", bpf.Event{}
	j.push(e, j.hop(w, c, e, model.StageReceive))
}

func stepDecap(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageDecapsulate)
	if e.Flags&bpf.FlagEncap != 0 {
		h.Tunnel = tunnelOf(&e.Tun)
	}
	j.push(e, h)
}

// stepHook tells the verdict of a whole hook: of all that hangs there, tables
// and others.
func stepHook(j *journey, w *world, c *copyState, e *record) {
	if e.Pf == unix.NFPROTO_BRIDGE && e.Result == 0 {
		return // br_netfilter took it to hand it to IP's hooks, and goes on by itself
	}
	h := j.hop(w, c, e, model.StageNetfilter)
	h.Hook = hookOf(e)
	h.Verdict = hookVerdict(e.Result)
	if h.Verdict == "drop" {
		h.Result = errnoName(e.Result)
	}
	j.push(e, h)
}

func stepTable(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageNetfilter)
	h.Hook = hookOf(e)
	h.Table = cString(e.table.Table[:])
	h.Chain = cString(e.table.Chain[:])
	h.Verdict = verdictName(uint32(e.Result))
	h.Backend, h.Family = "legacy", familyName(e.Pf)
	if h.Chain != "" {
		h.Backend, h.Family = "nft", familyName(e.table.Family)
	} else {
		h.Chain = h.Hook
	}
	r := w.rules.Ruling(e)
	if e.table.Rules&(bpf.RulesTooLarge|bpf.RulesTooMany) != 0 {
		// nothing was in the way but the size: the rule set itself can be asked
		t := hookEntry{Backend: h.Backend, Family: h.Family, Table: h.Table, Chain: h.Chain}
		if asked := w.rules.Infer(c.passage(e, t), h.Verdict); asked.decided != nil {
			r = asked
		}
	}
	if e.Fn == fnLink && h.Verdict == "drop" && !r.drops() {
		// died between two brackets, but not in this table
		if r.unknown != "" || len(r.rules) == 0 {
			return
		}
		r.verdict = "accept"
	}
	c.ruling = r
	h.Rules, h.RuleSource, h.RulesUnknown = c.ruling.rules, c.ruling.source, c.ruling.unknown
	if c.ruling.verdict != "" {
		h.Verdict = c.ruling.verdict
	}
	c.table = h
	if e.Fn == fnLink {
		c.told = append(c.told, h.Table)
	}
	j.push(e, h)
}

// stepPass: a bracket was passed, so the tables before it let the packet go.
func stepPass(j *journey, w *world, c *copyState, e *record) {
	if c.hook != e.Hook {
		c.index, c.hook = 0, e.Hook
	}
	tables := w.tables.Passed(e.Netns, e.Pf, e.Hook-1, c.index, e.Index)
	c.index = e.Index
	named := 0
	for i, t := range tables {
		if t.isConntrack(w.tracks[e.Netns]) && e.Ct == 0 {
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
		h.Rules, h.RuleSource, h.RulesUnknown = r.rules, r.source, r.unknown
		j.place(w, c, e, tables[i+1:], h)
	}
	c.told = nil
	c.bracket = e.Event
	if e.Result == 0 || named > 0 {
		return
	}
	// the last bracket: the hook is through with it, whatever hangs there
	if n := len(j.hops); n > 0 && j.hops[n-1].Hook == hookOf(e) && j.hops[n-1].Netns == e.Netns {
		return
	}
	h := j.hop(w, c, e, model.StageNetfilter)
	h.Hook, h.Verdict = hookOf(e), "accept"
	j.push(e, h)
}

// hasTold tells that a table has told itself since the last bracket.
func (c *copyState) hasTold(t hookEntry) bool {
	return t.Backend == "legacy" && slices.Contains(c.told, t.Table)
}

// place puts a table's hop before those of what came after it in the hook and has
// told itself: when the event of a bracket was lost, later ones are there first.
func (j *journey) place(w *world, c *copyState, e *record, later []hookEntry, h model.Hop) {
	at := len(j.hops)
	for i, old := range slices.Backward(j.hops) {
		if old.Hook != h.Hook || old.Netns != e.Netns {
			break
		}
		for _, t := range later {
			if old.Stage == model.StageNetfilter && c.hasTold(t) && old.Table == t.Table && old.Backend == t.Backend ||
				old.Stage == model.StageConntrack && t.isConntrack(w.tracks[e.Netns]) {
				at = i
			}
		}
	}
	ts := e.Ts
	if at < len(j.hops) {
		ts = j.hopTimes[at]
	}
	j.hops = slices.Insert(j.hops, at, h)
	j.hopTimes = slices.Insert(j.hopTimes, at, ts)
}

func stepConntrack(j *journey, w *world, c *copyState, e *record) {
	if e.Ct != 0 {
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
func stepFib(j *journey, w *world, c *copyState, e *record) {
	c.fib = e.route
	c.fib.E = e.Event // its netns may have been filled in
}

// flushFib tells a route that only the routing tables told.
func (j *journey) flushFib(w *world, c *copyState, e *record) {
	if c.fib == nil {
		return
	}
	f := &record{Event: c.fib.E, route: c.fib}
	c.fib = nil
	h := j.hop(w, c, f, model.StageRoute)
	h.Route = routeOf(f.route)
	h.Route.Type = ""
	j.insert(f, h)
}

func stepRoute(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageRoute)
	h.Route = routeOf(e.route)
	if f := c.fib; f != nil {
		if f.Error == 0 || h.Route.Error != "" {
			h.Route.Table = f.Table
		}
		h.Function = w.Function(f.E.Fn)
		if e.Fn != fnLink {
			h.Function = w.Function(e.Fn)
		}
		c.fib = nil
	}
	// before 6.18 the function returns an errno, since then a drop reason
	if e.Result < 0 && h.Route.Error == "" {
		h.Route.Error = errnoName(e.Result)
	}
	if e.Result != 0 && h.Route.Error == "" {
		h.Result = w.Reason(uint32(e.Result))
	}
	if h.Route.Error != "" || h.Result != "" {
		h.Route.Interface, h.Route.IfIndex, h.Route.Gateway = "", 0, ""
	}
	c.out = h.Route.Interface
	j.push(e, h)
}

// passage is the packet's way through a table that lies between the bracket
// passed last and the one that e tells of.
func (c *copyState) passage(e *record, t hookEntry) passage {
	at := c.last
	if c.bracket.Id != 0 && c.bracket.Hook == e.Hook && c.bracket.Netns == e.Netns {
		at = c.bracket // what a table told since was told at its death
	}
	p := passage{at: at, netns: e.Netns, pf: e.Pf, hook: e.Hook, out: c.out, ct: c.ct, invalid: c.invalid, table: t}
	if e.Ifname[0] != 0 {
		p.at.Ifname = e.Ifname
	}
	return p
}

func routeOf(r *bpf.EventRoute) *model.Route {
	return &model.Route{Type: routeType(r.Type), Table: r.Table, Interface: cString(r.Oifname[:]), IfIndex: r.Oif,
		Gateway: gatewayOf(r.Gw, r.GwFamily), Error: errnoName(r.Error)}
}

func stepRPFilter(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageRoute)
	h.Result = "source validation failed"
	if reason, isErrno := w.RouteReason(e.Result); isErrno {
		h.Route = &model.Route{Error: reason}
	} else {
		h.Route, h.Result = &model.Route{}, h.Result+": "+reason
	}
	j.push(e, h)
}

func stepNeigh(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageNeighbor)
	h.Neighbor = &model.Neighbor{Address: addrOf(e.neigh.Addr, e.neigh.Family).String(), State: neighbourState(e.neigh.State),
		Interface: cString(e.Ifname[:])}
	if e.neigh.State&0xde != 0 { // NUD_VALID, include/net/neighbour.h
		h.Neighbor.MAC = macOf(e.neigh.Ha)
	}
	j.push(e, h)
}

func stepQdisc(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageQdisc)
	h.Result = xmitResult(e.Result)
	j.push(e, h)
}

func stepDeliver(j *journey, w *world, c *copyState, e *record) {
	h := j.hop(w, c, e, model.StageDeliver)
	if e.Hook != 0 && e.Fn == fnLink {
		h.Hook = hookOf(e)
	}
	j.push(e, h)
	c.delivered = true
	j.terminal = true
}

func stepAnswer(j *journey, w *world, c *copyState, e *record) {
	name := "tcp-reset"
	if e.Fn == fnICMPSend || e.Fn == fnICMPSend4 || e.Fn == fnICMPSend6 {
		name = "icmp-" + icmpName(e.T.Family == 6, uint8(e.Result>>8), uint8(e.Result))
	}
	// icmp_send's tracepoint and function both tell it
	if n := len(j.hops); n > 0 && j.hops[n-1].Stage == model.StageAnswer && j.hops[n-1].Answer == name {
		return
	}
	h := j.hop(w, c, e, model.StageAnswer)
	h.Answer = name
	j.push(e, h)
	j.answered = j.answered || name != "icmp-redirect"
}

func stepDrop(j *journey, w *world, c *copyState, e *record) {
	d := newDrop(w, c, e)
	verdict := judge(c, e, d)
	if verdict == notThePacket {
		c.tap = true
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
	if e.drop.DstError != 0 && !j.lastStage(model.StageRoute) {
		h := j.hop(w, c, e, model.StageRoute)
		h.Route = &model.Route{Type: routeType(e.drop.DstType), Error: errnoName(-abs32(e.drop.DstError))}
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
func stepEnd(j *journey, w *world, c *copyState, e *record) {
	c.ended = true
	j.terminal = true
	if c.last.Kind == bpf.KindReceive && c.last.Netns != w.Node() && c.last.Flags&bpf.FlagEncap == 0 {
		c.delivered = true
	}
}

// packet turns the journey into what is told; nil when there is nothing to
// tell: never on this node, or never settled to be of the flow.
func (j *journey) packet(number uint64, wall func(uint64) time.Time) *model.Packet {
	if !j.own || j.tentative || len(j.hops) == 0 {
		return nil
	}
	e := &j.first
	ends := endpointsOf(&e.T)
	p := &model.Packet{Type: "packet", ID: number, Direction: direction(j.dir), Time: wall(j.hopTimes[0]),
		Proto: protoName(e.T.Proto), Src: ends.Src, SrcPort: ends.SrcPort, Dst: ends.Dst, DstPort: ends.DstPort,
		Length: e.L3len, TTL: e.Ttl, Hops: j.hops, Lost: j.lost}
	switch e.T.Proto {
	case unix.IPPROTO_TCP:
		p.TCPFlags = tcpFlags(e.TcpFlags)
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		p.ICMP = icmpName(e.T.Proto == unix.IPPROTO_ICMPV6, e.IcmpType, e.IcmpCode)
		if e.Flags&bpf.FlagICMPError == 0 {
			p.ICMPID, p.ICMPSeq = e.T.Sport, uint16(e.Seq)
		}
	}
	for i := range p.Hops {
		p.Hops[i].AtNS = int64(j.hopTimes[i] - j.hopTimes[0])
	}
	p.Outcome, p.Drop = j.fate()
	return p
}

func direction(d uint8) model.Direction {
	if d == bpf.DirReturn {
		return model.Return
	}
	return model.Forward
}

// insert puts a hop that is told late where it belongs in time.
func (j *journey) insert(e *record, h model.Hop) {
	i := len(j.hops)
	for i > 0 && j.hopTimes[i-1] > e.Ts {
		i--
	}
	j.hops = slices.Insert(j.hops, i, h)
	j.hopTimes = slices.Insert(j.hopTimes, i, e.Ts)
}
