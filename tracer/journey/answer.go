// SPDX-License-Identifier: Apache-2.0

package journey

// Answers that a kernel makes by itself: a TCP reset or an ICMP error, for a rule
// that rejects, a route that is none, a port that is closed. Each begins on this
// node while the packet that it answers is still at hand, which is how the two are
// put together. The backend need not see the function that sends it: the
// tracepoint backend sees none for nft's and iptables' resets, and none for ICMPv6.

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// answering is what a packet has to do with answers.
type answering struct {
	answered bool       // the stack was seen to send one
	by       []*journey // the answers to it that were seen on their way
	to       *journey   // the packet that it answers itself
	number   uint64     // under which it was told; 0: it was not yet
}

// TCP flags that tell resets (include/net/tcp.h).
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// answersWithin is how long after the last sighting of a packet its ICMP error may
// begin its way: the kernel sends it with the packet in its hands.
const answersWithin = 20 * time.Millisecond

// answerWait bounds how long a packet is held back for the fate of its answer.
const answerWait = 200 * time.Millisecond

// isReset tells a TCP reset.
func isReset(e *bpf.Event) bool {
	return e.T.Proto == unix.IPPROTO_TCP && e.TcpFlags&tcpRST != 0
}

func isICMPError(e *bpf.Event) bool { return e.Flags&bpf.FlagICMPError != 0 }

// beganHere tells that a packet was made on this node: the first that was seen of
// it is not that it came in.
func (j *journey) beganHere() bool { return j.own && j.first.Kind != bpf.KindReceive }

// ownAnswer tells a reset or an ICMP error that a kernel of this node made. A
// program may reset a connection, too, with nothing to answer; no program sends
// ICMP errors.
func (j *journey) ownAnswer() bool {
	return j.to != nil || isICMPError(&j.first) && j.beganHere()
}

// answer looks for the packet that a new one answers.
func (a *Assembler) answer(j *journey) {
	e := &j.first
	if !j.beganHere() || !isReset(e) && !isICMPError(e) {
		return
	}
	var asked *journey
	if isReset(e) {
		asked = a.resetOf(e)
	} else {
		asked = a.errorOf(e)
	}
	if asked == nil || asked == j || asked.dir == j.dir {
		return
	}
	name := answerName(e)
	j.to, asked.by = asked, append(asked.by, j)
	if name == "icmp-redirect" {
		return // it tells of a shorter way: the packet went on
	}
	asked.answered = true
	for i := range asked.hops {
		if asked.hops[i].Stage == model.StageAnswer && asked.hops[i].Answer == name {
			return // the function that sends was seen
		}
	}
	h := model.Hop{Stage: model.StageAnswer, Netns: e.Netns, Place: a.w.Place(e.Netns), Answer: name, CPU: e.Cpu}
	asked.put(len(asked.hops), e.Ts, h)
}

// answerName is the answer as hops name it.
func answerName(e *bpf.Event) string {
	if isReset(e) {
		return "tcp-reset"
	}
	return "icmp-" + icmpName(e.T.Family == 6, e.IcmpType, e.IcmpCode)
}

// resetOf finds the segment that a reset answers: it bears the number that was
// acknowledged, or else acknowledges all of the segment (RFC 9293 3.10.7; so do
// tcp_v4_send_reset, tcp_v6_send_reset and nf_reject_ip_tcphdr_put, 5.17 to 7.3).
func (a *Assembler) resetOf(e *bpf.Event) (asked *journey) {
	back := e.T
	back.Saddr, back.Daddr, back.Sport, back.Dport = e.T.Daddr, e.T.Saddr, e.T.Dport, e.T.Sport
	for _, j := range a.byFlow[keyOf(back, 0)] {
		f := &j.first
		if isReset(f) || f.Ts > e.Ts {
			continue
		}
		acked := f.TcpFlags&tcpACK != 0
		fits := acked && e.TcpFlags&tcpACK == 0 && e.Seq == f.Ack ||
			!acked && e.TcpFlags&tcpACK != 0 && e.Seq == 0 && e.Ack != f.Seq && e.Ack-f.Seq <= f.L3len
		last := j.lastSeen()
		if last == nil {
			continue // it is off this node: whoever answers it there is not this node
		}
		if fits && len(j.by) == 0 && (asked == nil || asked.lastSeen().Ts < last.Ts) {
			asked = j
		}
	}
	return asked
}

// errorOf finds the packet that an ICMP error is about: the one to whose sender it
// goes and that this CPU had in its hands in this namespace last.
func (a *Assembler) errorOf(e *bpf.Event) (asked *journey) {
	var at uint64
	for _, j := range a.active {
		last := j.lastSeen()
		if last == nil || last.Netns != e.Netns || last.Cpu != e.Cpu || last.Ts >= e.Ts || e.Ts-last.Ts > uint64(answersWithin) || last.Ts <= at || isICMPError(&j.first) || j.finished() && !j.lastStage(model.StageAnswer) {
			continue
		}
		if last.T.Family == e.T.Family && (last.T.Saddr == e.T.Daddr || j.first.T.Saddr == e.T.Daddr) {
			asked, at = j, last.Ts
		}
	}
	return asked
}

// lastSeen is the last sighting of any of its buffers, nil where there is none.
func (j *journey) lastSeen() (last *bpf.Event) {
	for _, c := range j.copies {
		if !c.tap && !c.foreign && (last == nil || c.last.Ts > last.Ts) {
			last = &c.last
		}
	}
	return last
}

// senderTold tells whether an answer reached the sender, as far as it is known: it
// did not if all that were seen died on this node.
func (j *journey) senderTold() bool {
	for _, by := range j.by {
		if outcome, _ := by.fate(); outcome != model.Dropped {
			return j.answered
		}
	}
	return j.answered && len(j.by) == 0
}

// ready tells that a packet can be told: its fate is known, and that of the answers
// to it, which decides whether its sender was told.
func (a *Assembler) ready(j *journey, now time.Time) bool {
	if now.Sub(j.touched) < a.wait(j) {
		return false
	}
	for _, by := range j.by {
		if a.active[by.id] == by && now.Sub(by.touched) < min(a.wait(by), answerWait) {
			return false
		}
	}
	// the answer comes after what it answers, whose number it names
	return j.to == nil || a.active[j.to.id] != j.to || now.Sub(j.to.touched) >= a.wait(j.to)
}
