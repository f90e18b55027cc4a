// SPDX-License-Identifier: Apache-2.0

package cause

// The cause unanswered: a request arrived, or was last seen under way, and nothing
// came back: no reply, no reset, no ICMP error.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// unansweredAsks tells of each far end that was asked here and said nothing. Where
// packets were left out or lost, the answers may be among them.
func unansweredAsks(c *Collector) (all []*found) {
	if c.incomplete || c.mem.near.crowded || c.mem.near.missed {
		return nil
	}
	for _, p := range c.mem.near.inOrder() {
		if p.answered || p.told || c.now().Sub(p.first.Time) < patience || c.explained(p) {
			continue
		}
		q := &inquiry{p: p.first, d: lastSeen(p.first), state: c.state, start: &c.start, mem: &c.mem}
		claim := q.noAnswer(p)
		claim.direction = model.Forward
		claim.missing = append(claim.missing, q.gaps...)
		all = append(all, &found{claim: claim, packets: p.left, ids: p.ids})
	}
	return all
}

// explained tells that a cause was found for packets to the same far end, or for
// replies.
func (c *Collector) explained(p *peer) bool {
	return slices.ContainsFunc(c.order, func(k *kase) bool {
		return k.claim != nil && k.of.proto == p.proto && (k.of.dst == p.far.Addr() || k.of.direction == model.Return)
	})
}

func (q *inquiry) noAnswer(p *peer) *claim {
	place, iface := q.end()
	to := farWords(p)
	if q.p.Outcome == model.Unknown {
		last := lastSeenHop(q.p)
		if last == nil {
			last = &q.p.Hops[len(q.p.Hops)-1]
		}
		if c := q.handedToProgram(last, to); c != nil {
			return c
		}
		return &claim{subject: place,
			summary:  fmt.Sprintf("packets to %s were last seen at %s, and neither their end nor an answer was seen", to, at(last.Place, last.Interface)),
			evidence: []string{fmt.Sprintf("the last that was seen of #%d: %s at %s", q.p.ID, last.Stage, at(last.Place, last.Interface))}, sum: sentWords,
			missing: append([]string{"what became of them: nothing told that the kernel let go of them"}, unwatched(q.start)...),
			fix:     []string{"see whether they come out there: tcpdump -ni " + orElse(last.Interface, "any") + " host " + endsAt(q.p).Dst.String()}}
	}
	c := &claim{subject: place, summary: fmt.Sprintf("packets to %s arrived at %s, and it did not answer while it was traced", to, place)}
	c.evidence, c.sum = []string{fmt.Sprintf("%s took it in", at(place, iface))}, sentWords
	if q.p.Proto != "tcp" { // TCP answers always
		c.missing = []string{"whether an answer was due: one-way traffic (logs, metrics) has none"}
	}
	port := endsAt(q.p).DstPort
	switch {
	case strings.HasPrefix(q.p.Proto, "icmp"):
		for _, name := range q.echoSysctls() {
			if v, ok := q.sysctl(q.d.Netns, name); ok && v != 0 {
				dotted := strings.ReplaceAll(name, "/", ".")
				c.summary = fmt.Sprintf("echo requests to %s arrived at %s, which is set not to answer them (net.%s = %d)", to, place, dotted, v)
				c.evidence = append(c.evidence, fmt.Sprintf("net.%s = %d", dotted, v))
				c.missing = nil
				c.fix = []string{"in " + place + ": sysctl -w net." + dotted + "=0", "or ask with TCP or UDP instead of ping"}
				return c
			}
		}
		c.fix = []string{"see what counts there: nstat -az | grep -i icmp"}
	case q.p.Proto == "tcp":
		c.fix = []string{fmt.Sprintf("see the listening socket and its queue there: ss -lnt 'sport = :%d'; nstat -az | grep -i -e listen -e drop", port)}
	default:
		if q.tellWildcard(c, to, place) {
			return c
		}
		c.fix = []string{fmt.Sprintf("see who has the port there, and what waits for it to be read: ss -lnup 'sport = :%d'", port),
			"see what the application says of it: its logs, or strace -f -e trace=network -p PID"}
	}
	return c
}

// echoSysctls are the switches by which a kernel does not answer ping
// (net/ipv4/icmp.c, icmp_echo; net/ipv6/icmp.c, icmpv6_rcv).
func (q *inquiry) echoSysctls() []string {
	if q.ipv6() {
		return []string{"ipv6/icmp/echo_ignore_all"}
	}
	return []string{"ipv4/icmp_echo_ignore_all"}
}

func sentWords(packets int) string {
	return packetsWords(packets, "packet was", "packets were") + " sent there, and nothing of the flow came back"
}
