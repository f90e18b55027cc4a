// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// Functions of event.h's enum fn that the journey treats apart.
const (
	FnLink      = uint8(bpf.FentryFnFN_nfHookRunBpf)
	fnICMPSend  = uint8(bpf.FentryFnFN_icmpSend)
	fnICMPSend4 = uint8(bpf.FentryFnFN___icmpSend)
	fnICMPSend6 = uint8(bpf.FentryFnFN_icmp6Send)
)

// judgement on a kfree_skb: is it the death of the packet?
type judgement int

const (
	theDeath      judgement = iota
	afterDelivery           // its receiver took it and let go of it: it arrived
	notThePacket            // only somebody's copy: a packet socket's
	aQuestion               // no packet at all: somebody asked for a route
)

// afterTCP are reasons TCP gives for letting go of a segment that it received
// and understood: duplicates, segments of a closed connection, resets it
// obeyed. The sender's packet arrived (net/ipv4/tcp_input.c, tcp_ipv4.c).
var afterTCP = map[string]bool{
	"NOT_SPECIFIED": true, "TCP_RESET": true, "TCP_OLD_ACK": true, "TCP_OLD_DATA": true,
	"TCP_OLD_SEQUENCE": true, "TCP_OVERWINDOW": true, "TCP_CLOSE": true, "TCP_TOO_OLD_ACK": true,
	"TCP_ACK_UNSENT_DATA": true, "TCP_RFC7323_PAWS": true, "TCP_RFC7323_PAWS_ACK": true, "TCP_RFC7323_TSECR": true,
	"TCP_INVALID_SEQUENCE": true, "TCP_INVALID_END_SEQUENCE": true, "TCP_INVALID_ACK_SEQUENCE": true,
	"TCP_INVALID_SYN": true, "TCP_FLAGS": true, "TCP_FASTOPEN": true, "TCP_OFOMERGE": true, "TCP_ABORT_ON_DATA": true,
}

// judge tells the death of a packet from an end that only looks like one.
func judge(c *copyState, e *Record, d *model.Drop) judgement {
	if d.Reason == "ICMP_CSUM" {
		return theDeath // icmp_rcv looked at no more than the checksum
	}
	if goesWithWhole(d.Function, d.Reason) {
		return afterDelivery
	}
	fn, _, _ := strings.Cut(d.Function, "+")
	switch fn {
	case "packet_rcv", "tpacket_rcv", "packet_rcv_spkt":
		return notThePacket // tcpdump's copy
	case "inet_rtm_getroute", "inet6_rtm_getroute":
		// `ip route get ... iif ...` has a header of the flow made up and looked up
		// (net/ipv4/route.c, net/ipv6/route.c, 5.10 to 7.3)
		return aQuestion
	case "icmp_rcv", "icmpv6_rcv", "ping_rcv":
		// raw sockets got their copies before: that nobody uses a ping
		// socket is no loss
		if echoReply(e) {
			return afterDelivery
		}
		if e.Flags&bpf.FlagICMPError != 0 {
			return afterDelivery
		}
		// up to 6.1 an answered ICMPv6 echo request is freed as if dropped
		if c.delivered && d.Reason == "NOT_SPECIFIED" {
			return afterDelivery
		}
	}
	if c.delivered && e.T.Proto == unix.IPPROTO_TCP && afterTCP[d.Reason] {
		return afterDelivery
	}
	if c.delivered && d.Reason == "NO_SOCKET" && echoReply(e) {
		return afterDelivery // the same, where symbols are hidden
	}
	// the socket closed with it unread: it had arrived. UDP's gives no reason since
	// it frees by itself (net/ipv4/udp.c: udp_destruct_common, 5.18 to 7.3)
	unread := d.Reason == "QUEUE_PURGE" || fn == "udp_destruct_common"
	if e.Flags&bpf.FlagICMPError != 0 && (c.delivered || unread) || c.delivered && unread {
		return afterDelivery
	}
	return theDeath
}

// goesWithWhole: a part of a packet that was put together goes with the whole, whose own
// end is told (net/core/skbuff.c, 6.1 to 7.3).
func goesWithWhole(function, reason string) bool {
	fn, _, _ := strings.Cut(function, "+")
	return (fn == "skb_release_data" || fn == "kfree_skb_list_reason") && (reason == "NOT_SPECIFIED" || reason == "")
}

func echoReply(e *Record) bool {
	return e.IcmpType == 0 && e.T.Proto == unix.IPPROTO_ICMP || e.IcmpType == 129 && e.T.Proto == unix.IPPROTO_ICMPV6
}

// newDrop says where and why.
func newDrop(w *world, c *copyState, e *Record) *model.Drop {
	d := &model.Drop{
		Reason: w.Reason(e.drop.Reason), Function: w.Symbol(e.drop.Location),
		Interface: CString(e.Ifname[:]), IfIndex: e.Ifindex, Netns: e.Netns, Place: w.Place(e.Netns),
	}
	if e.Flags&bpf.FlagEncap != 0 {
		d.Tunnel = TunnelOf(&e.Tun)
	}
	if d.Interface == "" {
		d.Interface, d.IfIndex = CString(c.last.Ifname[:]), c.last.Ifindex
	}
	d.Stack = stackOf(w, e.drop.Stack[:], d.Function)
	d.Stage = stageAt(d.Function, d.Stack)
	if !inNetfilter(w, c, e, d) {
		return d
	}
	verdict := c.deathVerdict(w, e, d)
	seen := e.drop.Chain[0] != 0 || c.toldDeath(e, verdict)
	site, atSite := siteOf(d)
	switch {
	case !seen && atSite:
		placeAtSite(w, c, e, d, site, verdict)
	case !seen && c.maybeAtSite(w, e):
		d.Stage = model.StageNetfilter
		d.RuleUnknown = "the kernel hides its symbols, so whether a chain of a device or bridge did it is not known"
	case e.Hook != 0:
		placeInHook(w, c, e, d, verdict)
		nameRule(w, c, e, d, verdict)
	case c.queued(e):
		placeQueued(c, d)
	}
	return d
}

// stackOf names the frames of a stack, without those that are our own doing:
// the tracepoint's way to our program at its top, and the BPF trampolines
// (which have no symbol) with the second frame of the function they wrap.
func stackOf(w *world, addrs []uint64, location string) []string {
	var out []string
	last := ""
	for _, a := range addrs {
		if a == 0 {
			break
		}
		s := w.Symbol(a)
		fn, _, _ := strings.Cut(s, "+")
		if strings.HasPrefix(fn, "bpf_trace_run") || strings.HasPrefix(fn, "__bpf_trace_") {
			out, last = nil, ""
			continue
		}
		if !w.Hidden() && strings.HasPrefix(fn, "0x") || strings.HasPrefix(fn, "bpf_trampoline_") || strings.HasPrefix(fn, "bpf_prog_") || fn == last {
			continue
		}
		out, last = append(out, s), fn
	}
	// the functions that free for others say nothing: begin where it was decided
	for i, s := range out {
		if s == location {
			return out[i:]
		}
	}
	return out
}

// inNetfilter tells whether a hook's verdict freed the packet. What a hook's
// continuation frees (br_nf_dev_queue_xmit, say) has nf_hook_slow on its stack
// as well, so only the freeing function and the reason count.
func inNetfilter(w *world, c *copyState, e *Record, d *model.Drop) bool {
	fn, _, _ := strings.Cut(d.Function, "+")
	switch {
	case d.Reason == "NETFILTER_DROP", fn == "nf_hook_slow", fn == "nft_do_chain", ofQueue(fn):
		return true
	case fn == "br_handle_frame": // it runs PREROUTING of a bridge by itself
		return c.toldDeath(e, "drop")
	}
	return w.Hidden() && d.Reason == "NOT_SPECIFIED" && c.toldDeath(e, "queue")
}

// ofQueue tells the functions that free what a rule sent to a queue: nobody took
// it (nf_queue), or who did dropped it (net/netfilter/nf_queue.c and
// nfnetlink_queue.c, 5.17 to 7.3: nf_reinject, nfqnl_reinject, nfqnl_recv_verdict).
func ofQueue(fn string) bool {
	return fn == "nf_queue" || fn == "__nf_queue" || fn == "nf_reinject" || strings.HasPrefix(fn, "nfqnl_")
}

// deathVerdict is the verdict of the table that the packet died of.
func (c *copyState) deathVerdict(w *world, e *Record, d *model.Drop) string {
	fn, _, _ := strings.Cut(d.Function, "+")
	// what a program let go on may die of a later table, all within nf_reinject
	if ofQueue(fn) && !c.toldDeath(e, "drop") || w.Hidden() && c.toldDeath(e, "queue") {
		return "queue"
	}
	return "drop"
}

// placeInHook names hook and table: by what the kernel told (nft chain, last
// table's verdict), else by the brackets around it.
func placeInHook(w *world, c *copyState, e *Record, d *model.Drop, verdict string) {
	d.Hook, d.Stage = hookOf(e), model.StageNetfilter
	if chain := CString(e.drop.Chain[:]); chain != "" {
		d.Backend, d.Table, d.Chain, d.Family = "nft", CString(e.drop.Table[:]), chain, nfnetlink.Family(e.drop.Family)
		return
	}
	if c.toldDeath(e, verdict) {
		// nft too, where it does not free by itself
		d.Backend, d.Table, d.Chain, d.Family = c.table.Backend, c.table.Table, c.table.Chain, c.table.Family
		return
	}
	if e.Index == 0 {
		return
	}
	tables, changed := w.tables.Changed(e.Netns, e.Pf, e.Hook-1, e.Ts)
	if !changed {
		tables = w.tables.At(e.Netns, e.Pf, e.Hook-1, e.Index)
	}
	// a legacy table that told its rules, and lives on, is no suspect
	tables = slices.DeleteFunc(slices.Clone(tables), c.hasTold)
	inChain := freedByChain(d.Function)
	if w.FreesInChain() && (inChain || !changed) {
		tables = ofBackend(tables, d.Function)
	}
	// of a hook that changed only the tables are known, not what else hangs
	// there: then it takes nft's own function to be sure
	if t, ok := onlyTable(tables); ok && (inChain || !changed) {
		d.Backend, d.Table, d.Chain, d.Family = t.Backend, t.Table, t.Chain, t.Family
		return
	}
	if verdict == "queue" && !changed {
		// only a rule sends to a queue: the rules are asked which table it was
		tables, _ = decidingTable(w, tables, func(t Table) Passage { return c.passage(e, t) }, verdict)
		if t, ok := onlyTable(tables); ok {
			d.Backend, d.Table, d.Chain, d.Family = t.Backend, t.Table, t.Chain, t.Family
			return
		}
	}
	d.Candidates = candidates(tables)
}

// toldDeath tells that the last thing seen of the packet was a table of this
// hook that ended it so.
func (c *copyState) toldDeath(e *Record, verdict string) bool {
	return c.last.Kind == bpf.KindTable && c.last.Hook == e.Hook && (c.table.Verdict == verdict || verdict == "drop" && c.table.Verdict == "reject")
}

// queued tells that the last table that told its verdict sent it to a queue: the
// hook is over then, until a program has said what is to become of it.
func (c *copyState) queued(e *Record) bool {
	return c.table.Verdict == "queue" && c.table.Netns == c.last.Netns
}

// placeQueued names the table that sent the packet to a queue.
func placeQueued(c *copyState, d *model.Drop) {
	t := &c.table
	d.Stage, d.Hook, d.Backend, d.Table, d.Chain, d.Family = model.StageNetfilter, t.Hook, t.Backend, t.Table, t.Chain, t.Family
	d.Queue = t.Queue
	nameRuling(c, d, c.ruling)
}

// ownRedirect tells an ICMP redirect of a node that died in that node's own
// hooks. It would have told the sender of a shorter way, no more: nothing of the
// flow is lost with it. NAT refuses those about connections that it translates
// (net/netfilter/nf_nat_proto.c: nf_nat_icmp_reply_translation, 5.17 to 7.3).
func (j *journey) ownRedirect(d *model.Drop) bool {
	f := &j.first
	icmp := f.T.Proto == unix.IPPROTO_ICMP || f.T.Proto == unix.IPPROTO_ICMPV6
	redirect := icmp && icmpName(f.T.Family == 6, f.IcmpType, f.IcmpCode) == "redirect"
	sent := slices.ContainsFunc(j.hops, func(h model.Hop) bool { return h.Stage == model.StageTransmit || h.Stage == model.StageReceive })
	return redirect && d.Stage == model.StageNetfilter && !sent
}

// nameRule names the rule that the table decided by: as it was seen, else as
// the rule set has it.
func nameRule(w *world, c *copyState, e *Record, d *model.Drop, verdict string) {
	var r Ruling
	switch {
	case c.toldDeath(e, verdict) && c.table.Table == d.Table && c.table.Chain == d.Chain:
		r = c.ruling
		d.Queue = c.table.Queue
	case d.Table != "" && e.Index != 0:
		r = w.rules.Infer(c.passage(e, Table{Backend: d.Backend, Family: d.Family, Table: d.Table, Chain: d.Chain}), verdict)
		if r.Unread && d.Backend == "nft" {
			// the table was the only one there that anybody read; another may have come and gone
			d.Table, d.Chain, d.Family = "", "", ""
		}
	case d.Table == "" && len(d.Candidates) == 0 && e.Index != 0 && e.Index != LastBracket:
		r.Unknown = "nothing is known to hang there that ends packets so: it came, or was gone, about then"
	}
	nameRuling(c, d, r)
}

// nameRuling takes over what is known of the rules that ended a packet.
func nameRuling(c *copyState, d *model.Drop, r Ruling) {
	if r.NotAsked {
		// it died in NAT itself, which has no rules for that
		d.Table, d.Chain, d.Backend, d.Family = "", "", "", ""
		d.RuleUnknown = r.Unknown + "; NAT itself refused it"
		return
	}
	d.Rule, d.RuleUnknown, d.RuleCandidates = r.Decided, r.Unknown, r.Candidates
	if r.Decided != nil {
		d.RuleSource, d.Unevaluated = r.Source, r.Open
	} else if r.Source == model.RuleExact && r.Unknown == "" {
		d.RuleUnknown = "dropped inside a match or target: no rule counted it"
	}
	if d.Queue == nil {
		d.Queue = r.Queue
	}
	c.dropRules, c.dropSource = r.Rules, r.Source
}

// freedByChain tells that nft itself freed the packet.
func freedByChain(function string) bool { return strings.HasPrefix(function, "nft_do_chain+") }

// ofBackend leaves those that can have freed a packet in this function: nft
// does it itself, all others leave it to nf_hook_slow.
func ofBackend(at []Table, function string) []Table {
	inChain := freedByChain(function)
	if !inChain && !strings.HasPrefix(function, "nf_hook_slow+") {
		return at
	}
	var found []Table
	for _, t := range at {
		if (t.Backend == "nft") == inChain {
			found = append(found, t)
		}
	}
	return found
}

// onlyTable gives the one table among what lies between two brackets. NAT's
// dispatcher (nf_nat) runs the nat table's chains and is no other suspect.
func onlyTable(at []Table) (Table, bool) {
	var found []Table
	for _, t := range at {
		if t.Backend != "" || !strings.Contains(t.Function, "nf_nat") {
			found = append(found, t)
		}
	}
	if len(found) == 1 && found[0].Backend != "" {
		return found[0], true
	}
	return Table{}, false
}

// fate is drawn from the packet's copies: it arrived if one did, it left if
// one did, it died if one died and none did either.
func (j *journey) fate() (model.Outcome, *model.Drop) {
	var left, ended, cut bool
	var drop *model.Drop
	if d := j.segmentDrop(); d != nil {
		return j.death(), d
	}
	for _, skb := range j.order {
		c := j.copies[skb]
		cut = cut || c.cut
		switch {
		case c.drop != nil:
			// a flooded copy that a stranger's interface refused says least
			if drop == nil || drop.Reason == "OTHERHOST" {
				drop = c.drop
			}
		case c.delivered:
			return model.Delivered, nil
		case c.left:
			left = true
		case c.ended:
			ended = true
		}
	}
	switch {
	case left:
		return model.LeftNode, nil
	case drop != nil:
		return j.death(), drop
	case ended, cut:
		return model.Consumed, nil
	}
	return model.Unknown, nil
}

// segmentDrop finds a segment or fragment that died. What other parts did does
// not mend it; of clones, in contrast, one that arrives is enough.
func (j *journey) segmentDrop() *model.Drop {
	for _, skb := range j.order {
		if c := j.copies[skb]; c.segment && c.drop != nil && c.drop.Reason != "OTHERHOST" {
			return c.drop
		}
	}
	return nil
}

// death is silent, or told to the sender.
func (j *journey) death() model.Outcome {
	if j.senderTold() {
		return model.Rejected
	}
	return model.Dropped
}

func skbName(addr uint64) string { return fmt.Sprintf("%#x", addr) }

func macOf(b [6]uint8) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}
