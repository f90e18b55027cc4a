// SPDX-License-Identifier: Apache-2.0

package journey

// This file keeps copies apart that a rule makes of packets on their way (nft dup,
// iptables TEE): they go to somebody who only listens, and their fate says nothing of the
// packet's (net/ipv4/netfilter/nf_dup_ipv4.c, 5.10 to 7.3: a copy in a buffer of its own
// that begins at OUTPUT, untracked).

import (
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// mirrored tells that a new skb is a whole copy of a packet that came to this namespace
// from elsewhere and is under way: nobody here has sent it.
func mirrored(e *Record, j *journey) bool {
	f := &j.first
	return e.Id != j.id && e.Flags&bpf.FlagOrigin != 0 && e.Kind != bpf.KindReceive && e.L3len == f.L3len && e.Ipid == f.Ipid &&
		(e.T.Proto != unix.IPPROTO_TCP || e.Seq == f.Seq) && (f.Netns != e.Netns || f.Kind == bpf.KindReceive) &&
		e.Ct == untracked
}

// mirror tells that there is a copy, once.
func (j *journey) mirror(w *world, c *copyState, e *Record) {
	if c.last.Id == 0 {
		h := j.hop(w, c, e, model.StageNetfilter)
		h.Hook, h.Result = hookOf(e), "a copy that a rule here made of it (nft dup, TEE): not followed"
		j.push(e, h)
	}
	c.last = e.Event
}
