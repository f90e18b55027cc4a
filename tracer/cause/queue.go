// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of packets that a rule sent to a queue (NFQUEUE, nft's queue), for a
// program to say what is to become of them.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// queued is a packet's queue: the rule that sent it there, and who listens.
type queued struct {
	rule        *model.Rule
	first, last uint16 // the numbers it may be of: a rule may name several
	listeners   []node.PacketQueue
}

func (s queued) String() string {
	if s.first == s.last {
		return fmt.Sprintf("queue %d", s.first)
	}
	return fmt.Sprintf("one of the queues %d to %d", s.first, s.last)
}

// queue finds the packet's queue; ok is false if it did not die of one whose
// number is known, or if its listeners cannot be read.
func (q *inquiry) queue() (s queued, ok bool) {
	s.rule = q.d.Rule
	if s.rule != nil {
		s.first, s.last, ok = meaning.Queues(s.rule.Text)
	}
	if q.d.Queue != nil {
		s.first, s.last, ok = *q.d.Queue, *q.d.Queue, true
	}
	if !ok || q.d.Hook == "" {
		return s, false
	}
	all, err := q.state.PacketQueues(q.d.Netns)
	if err != nil {
		q.gap(err)
		return s, false
	}
	for _, l := range all {
		if l.Number >= s.first && l.Number <= s.last {
			s.listeners = append(s.listeners, l)
		}
	}
	return s, true
}

// byQueue begins a claim about a queue.
func (q *inquiry) byQueue(s queued, summary string) *claim {
	c := &claim{summary: summary, evidence: []string{q.where()}}
	if s.rule != nil {
		c.evidence = append(c.evidence, ruleName(q.d)+": "+s.rule.Text)
		q.changedBy(c, q.rulesChanged)
		if q.d.RuleSource != model.RuleExact {
			c.missing = append(c.missing, "the rule was read off the rule set, this backend does not see it matching")
		}
	} else {
		c.missing = append(c.missing, "which rule sent it there: "+orElse(q.d.RuleUnknown, "this backend does not see rules there"))
	}
	return c
}

// refusedByQueue tells a packet that its queue did not take: nf_queue() frees it
// (net/netfilter/nf_queue.c, 5.17 to 7.3).
func (q *inquiry) refusedByQueue() bool { return q.maybeIn("nf_queue", "__nf_queue") }

// queueNoListener: nobody listens on the queue, and the rule does not say that it
// may be passed by (bypass).
func queueNoListener(q *inquiry) *claim {
	if !q.refusedByQueue() {
		return nil
	}
	s, ok := q.queue()
	if !ok || len(s.listeners) > int(s.last-s.first) {
		return nil
	}
	by := "a rule"
	if s.rule != nil {
		by = ruleName(q.d)
	}
	c := q.byQueue(s, fmt.Sprintf("%s sends it to %s, and no program listens there: the kernel drops it", by, s))
	free := fmt.Sprintf("no program listens on %s of %s", s, q.place())
	if n := len(s.listeners); n > 0 {
		free = fmt.Sprintf("of the queues %d to %d of %s, programs listen on %d", s.first, s.last, q.place(), n)
		c.missing = append(c.missing, "which of the queues it was sent to")
	}
	c.evidence = append(c.evidence, free+" (/proc/net/netfilter/nfnetlink_queue)")
	c.missing = append(c.missing, "who listened at the moment it died: the list was read right after that")
	c.fix = []string{
		fmt.Sprintf("start the program that is to listen on %s, or see why it ended (an IDS or IPS such as Suricata, a DNS or egress proxy, a service mesh)", s),
		"let packets pass while nobody listens: --queue-bypass of NFQUEUE, `flags bypass` of nft's queue",
	}
	c.fix = append(c.fix, q.removal()...)
	return c
}

// queueTooSlow: who listens does not take packets as fast as they come.
func queueTooSlow(q *inquiry) *claim {
	if !q.refusedByQueue() {
		return nil
	}
	s, ok := q.queue()
	if !ok {
		return nil
	}
	i := slices.IndexFunc(s.listeners, func(l node.PacketQueue) bool { return l.Dropped+l.Lost > 0 })
	if i < 0 {
		return nil
	}
	l := s.listeners[i]
	c := q.byQueue(s, fmt.Sprintf("the program that listens on queue %d (netlink port %d) takes packets more slowly than they come: the queue is full", l.Number, l.Port))
	c.evidence = append(c.evidence, fmt.Sprintf("queue %d of %s has dropped %d packets, its socket %d; %d wait (/proc/net/netfilter/nfnetlink_queue)", l.Number, q.place(), l.Dropped, l.Lost, l.Waiting))
	c.missing = append(c.missing, "whether it was full at the moment this one died: its counters were read right after that")
	c.fix = []string{
		"have the program take packets faster, or spread them over several queues (--queue-balance, `queue to 0-3`)",
		"let it ask for a longer queue (NFQA_CFG_QUEUE_MAXLEN) and a larger buffer, or for packets to pass where there is no room (NFQA_CFG_F_FAIL_OPEN)",
	}
	return c
}

// queueVerdict: who listens on the queue dropped it; or the queue did not take it,
// for no reason that shows.
func queueVerdict(q *inquiry) *claim {
	refused := q.refusedByQueue()
	if !refused && !q.in("nf_reinject", "nfqnl_*") {
		return nil
	}
	if m, ok := q.decided(); ok && m.Action != "queue" {
		return nil // a table behind the queue did it
	}
	s, ok := q.queue()
	if !ok {
		return nil
	}
	c := q.byQueue(s, fmt.Sprintf("the program that listens on %s dropped it", s))
	for _, l := range s.listeners {
		c.evidence = append(c.evidence, fmt.Sprintf("queue %d of %s has a listener, netlink port %d (/proc/net/netfilter/nfnetlink_queue)", l.Number, q.place(), l.Port))
	}
	if refused {
		c.summary = fmt.Sprintf("a rule sends it to %s, which did not take it", s)
		c.missing = append(c.missing, "why: its listener is there by now, and its counters tell of no loss")
	} else if len(s.listeners) == 0 {
		c.missing = append(c.missing, "who listened: nobody does by now. What waits in a queue is dropped when its listener ends")
	}
	c.fix = []string{"ask that program why: its log, its rules"}
	if len(s.listeners) == 1 {
		c.fix[0] += fmt.Sprintf(" (which one: ps -p %d; the port is its process id, mostly)", s.listeners[0].Port)
	}
	return c
}

// removal is how to take the rule away.
func (q *inquiry) removal() (fix []string) {
	if q.d.Rule == nil {
		return nil
	}
	m, _ := q.decided()
	for _, f := range q.ruleFix(m) {
		if !strings.HasPrefix(f, "see it: ") {
			fix = append(fix, f)
		}
	}
	return fix
}
