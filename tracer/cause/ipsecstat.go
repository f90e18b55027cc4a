// SPDX-License-Identifier: Apache-2.0

package cause

// What IPsec (xfrm) refuses without a reason: the kernel lets go of the packet, or of
// the call that was to send it, and counts that in /proc/net/xfrm_stat (since 2.6.25,
// CONFIG_XFRM_STATISTICS; Documentation/networking/xfrm_proc.rst). Of all that it has
// one reason, XFRM_POLICY (enum skb_drop_reason, up to 7.3).

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// xfrmCounter is a line of /proc/net/xfrm_stat.
type xfrmCounter struct {
	name  string
	count uint64
}

// xfrmWords say what counters mean that a state, or that there is none, brings about.
func xfrmWords(name string) string {
	return map[string]string{
		"XfrmInNoStates":         "no state has that SPI: the other end has keys that this one has not",
		"XfrmInStateProtoError":  "a state could not decrypt it: the keys or algorithms of both ends differ",
		"XfrmInStateModeError":   "the state is of another mode",
		"XfrmInStateSeqError":    "it came twice, or too late for the replay window",
		"XfrmInStateExpired":     "the state is expired",
		"XfrmInStateMismatch":    "the state's selector or encapsulation is another one",
		"XfrmInStateInvalid":     "the state is not valid (yet, or any more)",
		"XfrmInTmplMismatch":     "it came by another state than the policy wants",
		"XfrmInNoPols":           "no policy is for what a state has decrypted",
		"XfrmInPolBlock":         "a policy blocks it",
		"XfrmOutNoStates":        "there is no state that the policy wants",
		"XfrmOutStateProtoError": "the state could not encrypt it",
		"XfrmOutStateModeError":  "it is larger than what the state's mode lets pass",
		"XfrmOutStateSeqError":   "the state's sequence numbers are used up",
		"XfrmOutStateExpired":    "the state is expired, or its limit of bytes or packets is reached",
		"XfrmOutStateInvalid":    "the state is not valid (yet, or any more)",
		"XfrmOutPolBlock":        "a policy blocks it",
	}[name]
}

// words are a counter with what it means.
func (n xfrmCounter) words() string {
	return fmt.Sprintf("/proc/net/xfrm_stat: %s %d (%s)", n.name, n.count, xfrmWords(n.name))
}

// xfrmCounters reads those counters of one direction (In or Out) that are not zero.
func xfrmCounters(text, direction string) (all []xfrmCounter) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 2 || !strings.HasPrefix(words[0], "Xfrm"+direction) || xfrmWords(words[0]) == "" {
			continue
		}
		if n, err := strconv.ParseUint(words[1], 10, 64); err == nil && n > 0 {
			all = append(all, xfrmCounter{words[0], n})
		}
	}
	return all
}

// xfrmCounted gives them of a namespace; a kernel without has none.
func (q *inquiry) xfrmCounted(netns uint32, direction string) []xfrmCounter {
	text, err := q.state.Proc(netns, "xfrm_stat")
	if err != nil {
		return nil
	}
	return xfrmCounters(text, direction)
}

// unkeyed: a policy of direction out wants a packet sent by a state, and it was not. If
// there is none, xfrm_lookup_route gives a route that discards it (make_blackhole, with
// net.core.xfrm_larval_drop=1, the default); what a state itself refuses ends in
// xfrm_output_one (net/xfrm/xfrm_policy.c, xfrm_output.c, 6.12). There is no reason, only
// a counter.
func (q *inquiry) unkeyed() *claim {
	discarded := q.in("dst_discard_out")
	if !q.p.Outcome.Died() || q.d.Hook != "" || !q.because("NOT_SPECIFIED", "") || !discarded && !q.in("xfrm_output", "xfrm_output_resume") {
		return nil
	}
	all, err := q.state.IPsec(q.d.Netns)
	q.gap(err)
	p := q.policyOf(all.Policies, "out")
	if p == nil || p.Block || !demands(p) {
		return nil
	}
	counters := q.xfrmCounted(q.d.Netns, "Out")
	fitting := q.statesFor(p, all.States)
	if discarded && fitting > 0 {
		return nil // then the route itself may be one that discards
	}
	c := &claim{evidence: []string{q.died()}}
	q.refusedBy(c, p, all.States)
	c.certain = false
	if fitting > 0 {
		c.summary = strings.TrimSuffix(c.summary, ", and it cannot") + ", and no state that is there could"
	}
	for _, n := range counters {
		c.evidence = append(c.evidence, n.words())
	}
	c.missing = []string{"the kernel gives no reason here, it only counts (/proc/net/xfrm_stat, which is of all packets since it was booted, or the namespace was made)"}
	return c
}

// ipsecSilence adds to what is told of silence that IPsec may have refused the packets
// before there were any of the flow: those of the source pod by a policy, those that came
// in by a state, of which nothing but the counters tells.
func (c *Collector) ipsecSilence(claim *claim, src model.End) {
	dst := c.start.Dst
	self := c.state.Node()
	if src.Netns != 0 && src.Netns != self {
		c.ipsecRefuses(claim, src, dst)
		return
	}
	text, err := c.state.Proc(self, "xfrm_stat")
	if err != nil {
		return
	}
	before := make(map[string]uint64)
	for _, n := range xfrmCounters(c.ipsec, "In") {
		before[n.name] = n.count
	}
	for _, n := range xfrmCounters(text, "In") {
		if rose := n.count - before[n.name]; n.count > before[n.name] {
			claim.evidence = append(claim.evidence, fmt.Sprintf("%s, %d more than when the trace began", n.words(), rose))
			claim.missing = append(claim.missing, "whether packets of the flow were among what IPsec refused as it came in: until it is decrypted nobody can tell")
		}
	}
}

// ipsecRefuses tells of a policy in the source pod by which nothing can be sent: the call
// fails, and there is no packet.
func (c *Collector) ipsecRefuses(claim *claim, src, dst model.End) {
	if len(src.Addresses) == 0 || len(dst.Addresses) == 0 {
		return
	}
	p := &model.Packet{Src: src.Addresses[0].Addr(), Dst: dst.Addresses[0].Addr(), Proto: c.start.Proto, DstPort: c.start.Port}
	if p.Proto == "icmp" && p.Dst.Is6() {
		p.Proto = "icmpv6"
	}
	q := &inquiry{p: p, d: &model.Drop{Netns: src.Netns}, state: c.state, start: &c.start, mem: &c.mem}
	all, err := c.state.IPsec(src.Netns)
	if err != nil {
		return
	}
	found := q.policyOf(all.Policies, "out")
	if found == nil || !found.Block || !c.asksExactly(found.Proto) {
		return
	}
	claim.summary = fmt.Sprintf("no packet of the flow was seen: an IPsec policy of the source pod blocks all from %s to %s, so it cannot send", found.Src, found.Dst)
	claim.evidence = append(claim.evidence, "ip xfrm policy: "+policyText(found))
	claim.fix = append(claim.fix, ipsecFix("out")...)
}

// asksExactly tells that a policy for one protocol is for the one that is traced.
func (c *Collector) asksExactly(proto int) bool { return proto == 0 || c.start.Proto != "" }
