// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of the tunnel between nodes: its packets are blocked, or it is not in
// order itself.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// tunnelBlocked: a packet filter of the node killed a packet that was inside a tunnel
// of some kinds.
func tunnelBlocked(of func(*tunnelKind) bool) func(q *inquiry) *claim {
	return func(q *inquiry) *claim {
		if q.d.Hook == "" || q.d.Netns != q.state.Node() {
			return nil
		}
		in, kind, outer := q.insideOf()
		if !in || !of(kind) {
			return nil
		}
		what, carrier := "tunnel packets", "its own protocol"
		if kind != nil {
			carrier = kind.carrierOf(outer)
		}
		if kind != nil && !isVXLAN(kind) {
			what += fmt.Sprintf(" (%s, %s)", kind.name, carrier)
		}
		c := &claim{summary: fmt.Sprintf("%s are dropped in %s of this node by %s", what, q.d.Hook, tableWords(q.d))}
		if m, ok := q.decided(); ok {
			c = q.byRule(m)
			c.summary = "a rule of this node drops " + what + ": " + m.Sentence
			c.fix = q.tunnelRuleFix(m, kind, carrier)
		} else {
			c.evidence = []string{q.where()}
			c.missing = []string{"which rule: " + orElse(q.d.RuleUnknown, "this backend does not see rules there")}
			c.fix = []string{"see the rules of " + q.d.Hook + " for " + asRulesSay(kind, carrier) + ": " + saveTool(q.d.Family, q.d.Backend)}
		}
		if outer != nil {
			c.evidence = append(c.evidence, "it was inside "+outerWords(outer))
		} else {
			c.evidence = append(c.evidence, "it was put into a tunnel, and was not seen to come out of it")
		}
		return c
	}
}

// asRulesSay is what to look for among rules.
func asRulesSay(kind *tunnelKind, carrier string) string {
	switch {
	case kind == nil:
		return "the tunnel's packets"
	case isVXLAN(kind):
		return "udp port 4789 (Calico) or 8472 (Flannel)"
	}
	return carrier
}

func multicastOrBroadcast(q *inquiry) bool {
	dst := endsAt(q.p).Dst
	if dst.IsMulticast() {
		return true
	}
	r, ok := q.routeTo(q.d.Netns, dst)
	return ok && routeKinds[r.Type] == "broadcast"
}

func orElse(says, otherwise string) string {
	if says == "" {
		return otherwise
	}
	return says
}

func (q *inquiry) tunnelRuleFix(m meaning.Meaning, kind *tunnelKind, carrier string) []string {
	switch m.Kind {
	case meaning.TunnelHost:
		return []string{"Calico does not know the sending node: calicoctl get nodes -o wide; compare its address with the packet's outer source",
			"see that Felix is up to date: kubectl -n calico-system logs ds/calico-node"}
	case meaning.TunnelPod:
		return []string{"if pods are to make tunnels of their own: FelixConfiguration allowVXLANPacketsFromWorkloads, allowIPIPPacketsFromWorkloads"}
	}
	let := "let nodes reach each other on the tunnel's UDP port: 4789 (Calico), 8472 (Flannel)"
	if !isVXLAN(kind) {
		let = "let nodes reach each other by the tunnel: " + carrier
	}
	return append(q.ruleFix(m), let)
}

// vxlanBroken: the tunnel device lost it, or what it needs to send is missing.
func vxlanBroken(q *inquiry) *claim {
	return firstOf(q, tunnelDown(isVXLAN), tunnelOtherMAC, tunnelToNobody(isVXLAN), tunnelLost, tunnelDeaf)
}

func firstOf(q *inquiry, looks ...func(*inquiry) *claim) *claim {
	for _, look := range looks {
		if c := look(q); c != nil {
			return c
		}
	}
	return nil
}

// tunnelDown: the packet died on a tunnel device that is down, or for want of the
// routes that went with it.
func tunnelDown(of func(*tunnelKind) bool) func(q *inquiry) *claim {
	return func(q *inquiry) *claim {
		if q.d.Hook != "" || !q.p.Outcome.Died() || q.d.Netns != q.state.Node() {
			return nil
		}
		for _, l := range q.tunnels(of) {
			if l.Up {
				continue
			}
			died := int(q.d.IfIndex) == l.Index || int(q.route().IfIndex) == l.Index
			if _, ok := q.routeTo(q.d.Netns, endsAt(q.p).Dst); !died && (ok || q.d.Stage != model.StageRoute || !q.inUse(l)) {
				continue
			}
			c := &claim{summary: fmt.Sprintf("the tunnel interface %s is set down, and the routes to other nodes' pods went with it", l.Name),
				evidence: []string{"ip link: " + linkWords(l), q.died()}, fix: tunnelUp(l)}
			q.whoSetDown(c, q.d.Netns, l)
			return c
		}
		return nil
	}
}

// inUse tells tunnel devices that somebody made or set up from those that each
// namespace has as soon as their module is loaded, which are down and have no address:
// tunl0, sit0, gre0.
func (q *inquiry) inUse(l *node.Link) bool {
	_, changed, _ := q.mem.history.wasDown(q.state.Node(), uint32(l.Index), diedAt(q.p))
	return l.Kind == "vxlan" || changed || len(l.Addrs) > 0 || l.Tunnel.Remote.IsValid()
}

func tunnelUp(l *node.Link) []string {
	return []string{"ip link set " + l.Name + " up", "have the agent write its routes again: restart flanneld, or delete the calico-node pod of this node"}
}

// tunnelLost: vxlan_xmit knew no VTEP for the destination's MAC (NO_TX_TARGET
// since 6.14, VXLAN_NO_REMOTE in 6.13), had no route to it, or the far end's MAC
// was not known.
func tunnelLost(q *inquiry) *claim {
	l := q.link(q.d.Netns, int(q.d.IfIndex))
	onTunnel := l != nil && l.Kind == "vxlan"
	reason := q.because("NO_TX_TARGET", "VXLAN_NO_REMOTE", "NEIGH_FAILED", "IP_OUTNOROUTES")
	if !q.in("vxlan_xmit*", "vxlan_*encap*") && !(onTunnel && (reason || q.d.Stage == model.StageEncapsulate || q.d.Stage == model.StageNeighbor)) {
		return nil
	}
	c := &claim{certain: reason, evidence: []string{q.died()}}
	device := q.d.Interface
	c.summary = fmt.Sprintf("the tunnel %s does not know where to send it", device)
	if !c.certain {
		c.missing = []string{"the kernel's own reason"}
	}
	if onTunnel {
		q.forwardingOf(c, l)
	}
	c.fix = append(c.fix, fmt.Sprintf("see what the tunnel knows: bridge fdb show dev %s; ip neigh show dev %s; ip route | grep %s", device, device, device),
		"have the agent write it again: restart flanneld, or delete the calico-node pod of this node")
	return c
}

// forwardingOf adds what the tunnel knows of the next hop: its MAC, and which
// node that is.
func (q *inquiry) forwardingOf(c *claim, l *node.Link) {
	c.evidence = append(c.evidence, "ip link: "+linkWords(l))
	hop, one := q.hopTo(q.d.Netns, endsAt(q.p).Dst)
	if !one {
		return
	}
	entry, known := q.neighbor(q.d.Netns, l.Index, hop)
	if !known || entry.State&unanswered != 0 {
		c.summary = fmt.Sprintf("the tunnel %s has no neighbour entry for the other node's %s", l.Name, hop)
		c.evidence = append(c.evidence, fmt.Sprintf("ip neigh has none for %s on %s", hop, l.Name))
		return
	}
	all, err := q.state.Neighbors(q.d.Netns)
	q.gap(err)
	for _, n := range all {
		if n.Bridge && n.LinkIndex == l.Index && strings.EqualFold(n.MAC, entry.MAC) {
			c.evidence = append(c.evidence, fmt.Sprintf("bridge fdb: %s dst %s, so the node's address is known", n.MAC, n.Addr))
			if _, ok := q.routeTo(q.d.Netns, n.Addr); !ok {
				c.summary = fmt.Sprintf("the tunnel %s leads to node %s, to which there is no route", l.Name, n.Addr)
			} else {
				c.evidence = append(c.evidence, "the way to it: "+q.wayFor(q.d.Netns, n.Addr).words())
			}
			return
		}
	}
	c.summary = fmt.Sprintf("the tunnel %s has no forwarding entry for the other node (%s, %s)", l.Name, hop, entry.MAC)
	c.evidence = append(c.evidence, fmt.Sprintf("ip neigh: %s lladdr %s dev %s; bridge fdb has no entry for that MAC on %s", hop, entry.MAC, l.Name, l.Name))
}

// tunnelDeaf: tunnel packets came in, and this node's tunnel would not have them.
func tunnelDeaf(q *inquiry) *claim {
	in, outer := q.inside()
	reasons := map[string]string{
		"VXLAN_VNI_NOT_FOUND": "its VNI is none of this node's",
		"VXLAN_INVALID_HDR":   "its header is not as this node's tunnel takes it",
		"VXLAN_INVALID_SMAC":  "its source MAC is the tunnel's own",
	}
	why, told := reasons[q.d.Reason]
	if !told && q.in("vxlan_rcv*") {
		why = "this node's tunnel would not have it: VNI or header differ"
		told = true
	}
	if in && outer != nil && !isVXLAN(outerKind(outer)) {
		return nil
	}
	if !told && q.because("NO_SOCKET") && in && q.d.Netns == q.state.Node() {
		why, told = "no tunnel of this node listens on its port", true
	}
	if !told {
		return nil
	}
	c := &claim{certain: true, summary: "a tunnel packet from another node came in, but " + why, evidence: []string{q.died()}}
	if outer != nil {
		c.evidence = append(c.evidence, fmt.Sprintf("it came with VNI %d from %s to port %d", outer.VNI, outer.Src, outer.DstPort))
	}
	for _, l := range q.tunnels(isVXLAN) {
		c.evidence = append(c.evidence, fmt.Sprintf("this node: %s, VNI %d, port %d, local %s", linkWords(l), l.VNI, l.VXLANPort, l.VXLANLocal))
	}
	if len(q.tunnels(isVXLAN)) == 0 {
		c.evidence = append(c.evidence, "this node has no VXLAN interface")
	}
	c.fix = []string{"compare on both nodes: ip -d link show type vxlan (id, dstport, local)",
		"have the agent make it again: restart flanneld, or delete the calico-node pod of the node that differs"}
	return c
}
