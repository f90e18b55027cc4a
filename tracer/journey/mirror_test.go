// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// mirror is the copy that a rule of the node makes of a packet, for a pod that listens.
func (p *packet) mirrorTo(at wire, opts ...with) *packet {
	c := *p
	p.s.ids++
	c.e.Id, c.e.Skb, c.told = p.s.ids, 0xdd00+p.s.ids<<8, false
	return c.become(flags(bpf.FlagOrigin), func(_ *story, x *sample) { x.Ct = untracked }).become(opts...).
		see(bpf.KindConntrack, bpf.FentryFnFN_nfHookRunBpf, at, in(unix.NFPROTO_IPV4, output))
}

func TestMirroredCopy(t *testing.T) {
	ids := wire{1, 12, "caliids"}
	for name, c := range map[string]struct {
		copied func(p *packet)
		told   int
	}{
		"dropped by who listens": {func(p *packet) { p.mirrorTo(ids).xmit(ids).kfree("IP_INADDRERRORS", "ip_error+0x94", ids) }, 1},
		"taken by who listens":   {func(p *packet) { p.mirrorTo(ids).xmit(ids).deliver(bpf.FentryFnFN_tcpV4Rcv, ids) }, 1},
		"sent again, tracked": {func(p *packet) {
			p.mirrorTo(ids, func(_ *story, x *sample) { x.Ct = 0 }).kfree("IP_INADDRERRORS", "ip_error+0x94", ids)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			p := syn(s).fromClient()
			c.copied(p)
			p.toServer(bpf.FentryFnFN_tcpV4Rcv)
			all := s.told()
			if len(all) != c.told || all[0].Outcome != model.Delivered {
				t.Fatalf("%d packets told, the first %s; want %d, delivered", len(all), all[0].Outcome, c.told)
			}
		})
	}
}
