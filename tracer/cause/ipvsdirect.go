// SPDX-License-Identifier: Apache-2.0

package cause

// What IPVS sends on as it is. With the methods Route and Tunnel a packet goes to its real
// server with the service's address, from INPUT by OUTPUT (ip_vs_dr_xmit, ip_vs_tunnel_xmit,
// net/netfilter/ipvs/ip_vs_xmit.c, 5.17 to 7.3), and answers go from there to the client,
// past this node. It looks like a packet that should have stayed here, and is none.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// passage is a packet's way through a namespace's own hooks.
type passage struct {
	// through is the index of the hop in OUTPUT that came after INPUT: only IPVS sends a
	// packet that way. What came out of a tunnel in between is another packet. -1: none.
	through int
	// out: it was in OUTPUT as itself, not as what a tunnel made of it.
	out bool
	// forwarded: it was in FORWARD.
	forwarded bool
}

func passageOf(p *model.Packet, netns uint32) passage {
	w := passage{through: -1}
	input, wrapped := false, false
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Netns != netns || h.Family == "bridge" { // a bridge has hooks of the same names
			continue
		}
		switch {
		case h.Stage == model.StageEncapsulate:
			wrapped = true
		case h.Stage == model.StageDecapsulate, h.Hook == "PREROUTING":
			input, wrapped = false, false
		case h.Hook == "FORWARD":
			input, w.forwarded = false, true
		case h.Hook == "INPUT":
			input = true
		case h.Hook == "OUTPUT":
			if input && w.through < 0 {
				w.through = i
			}
			w.out = w.out || !wrapped && !w.forwarded
		}
	}
	return w
}

// sendsOn tells a real server to which packets go with the service's address.
func sendsOn(r node.RealServer) bool { return r.Method == "Route" || r.Method == "Tunnel" }

// sentByIPVS gives IPVS's part in a packet that left the node with its destination as it
// was; nil: IPVS did not send it. It did if the packet went from INPUT to OUTPUT; where
// one of the two does not show, if there is a service for it and the packet was in
// OUTPUT, or was not forwarded though the node has the address. The service is empty
// where it is gone by now.
func (q *inquiry) sentByIPVS() *balancing {
	if q.isReply() || lastTranslation(q.p) != nil {
		return nil
	}
	e, self := endsAt(q.p), q.state.Node()
	asked, way := netip.AddrPortFrom(e.Dst, e.DstPort), passageOf(q.p, self)
	b := q.balancingOf(self, asked)
	if b == nil {
		if way.through < 0 {
			return nil
		}
		return &balancing{netns: self, asked: asked}
	}
	if way.through < 0 && !way.out && (way.forwarded || !q.holds(self, e.Dst) || !slices.ContainsFunc(b.servers, sendsOn)) {
		return nil
	}
	client := netip.AddrPortFrom(e.Src, e.SrcPort)
	if h := q.newSource(); h != nil { // POSTROUTING comes after IPVS
		client = netip.AddrPortFrom(h.Before.Src, h.Before.SrcPort)
	}
	q.findEntry(b, client)
	return b
}

// known tells that the service is there.
func (b *balancing) known() bool { return b.service != node.VirtualService{} }

// tellSentOn adds to a claim of a packet that left and got no answer that IPVS sent it.
func (b *balancing) tellSentOn(c *claim, e model.Endpoints) {
	c.subject += " ipvs"
	says, methods, to := "IPVS sent it on with its destination as it was", []string(nil), "the real server that IPVS chose"
	if b.known() {
		says += ", for " + b.name()
		c.evidence = append(c.evidence, b.words()...)
	}
	for _, r := range b.servers {
		if sendsOn(r) && !slices.Contains(methods, r.Method) {
			methods = append(methods, r.Method)
		}
	}
	if len(methods) == 0 {
		methods = []string{"Route", "Tunnel"}
	}
	if b.chosen.IsValid() {
		to = fmt.Sprintf("the real server %s, which IPVS chose", b.chosen)
	}
	c.missing = append(c.missing, fmt.Sprintf("whether it was answered: %s, and with its method %s answers go from the real server to the client and do not come back this way", says, strings.Join(methods, " or ")))
	c.fix = []string{fmt.Sprintf("on %s: pathtrace --src %s --dst %s", to, e.Src, e.Dst),
		fmt.Sprintf("if it arrives there and is not taken: with these methods the real server itself must have %s (on lo, not told by ARP: net.ipv4.conf.all.arp_ignore=1, arp_announce=2)", e.Dst)}
}

// leftOutByIPVS tells that it was IPVS that took the packet out of conntrack: it does so with
// what it sends, in either direction, unless net.ipv4.vs.conntrack was set when the
// connection began (ip_vs_notrack, include/net/ip_vs.h, 5.17 to 7.3).
func (q *inquiry) leftOutByIPVS(o *outside, netns uint32) bool {
	_, hop := q.tracked(netns)
	sent := passageOf(q.p, netns).through
	for i := range q.p.Hops {
		h := &q.p.Hops[i]
		if h.Netns == netns && h.NATBy == model.ByIPVS && (sent < 0 || i < sent) {
			sent = i
		}
	}
	if hop == nil || sent < 0 {
		return false
	}
	for i := range q.p.Hops[:sent] {
		if h := &q.p.Hops[i]; h == hop || h.Netns == netns && h.CTState == "untracked" {
			return false // it was so before
		}
	}
	value, read := q.sysctl(netns, "ipv4/vs/conntrack")
	switch {
	case !read:
		o.why = "IPVS takes it out of conntrack, as it does unless net.ipv4.vs.conntrack is set"
		o.missing = append(o.missing, "what net.ipv4.vs.conntrack is: it could not be read")
	case value != 0:
		return false
	default:
		o.why = "IPVS takes it out of conntrack (net.ipv4.vs.conntrack is 0)"
		o.evidence = append(o.evidence, "net.ipv4.vs.conntrack = 0")
		o.missing = append(o.missing, "that it was 0 when the connection began, which is what counts")
	}
	o.fix = append(o.fix, "have IPVS leave what it sends to conntrack: sysctl -w net.ipv4.vs.conntrack=1 (kube-proxy sets it so in ipvs mode: see what sets it back); connections that are open stay as they are")
	return true
}
