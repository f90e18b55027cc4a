// SPDX-License-Identifier: Apache-2.0

package cause

// The cause bridge-port: a port of a bridge may not take a frame in, or send it
// out. The bridge frees such frames without a reason, but for a port's state
// (br_handle_frame, br_handle_frame_finish: BRIDGE_INGRESS_STP_STATE since 6.14).

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// bridgeFunctions free frames within a bridge; some are inlined here and there
// (net/bridge/br_input.c, br_forward.c, br_vlan.c, 6.1 to 7.3).
var bridgeFunctions = []string{"br_handle_frame*", "br_forward", "br_flood*", "br_pass_frame_up*", "__br_forward*", "br_dev_xmit*", "maybe_deliver*",
	"__allowed_ingress*", "br_allowed_ingress*", "br_handle_vlan*", "br_handle_ingress_vlan_tunnel*"}

// crossing is a frame's way through a bridge. A side that is the bridge itself has
// no port.
type crossing struct {
	bridge   *node.Link
	in, out  *node.Link // ports; nil: the bridge itself
	inPort   *node.BridgePort
	outPort  *node.BridgePort
	srcMAC   string // "" where the sender is not of this node
	dstMAC   string
	answered bool // it is about ARP or ND, which nobody answers
	back     bool // it is the way of the answer
}

// bridgePort: something about the two ports keeps the frame from passing.
func bridgePort(q *inquiry) *claim {
	if q.d.Hook != "" {
		return nil
	}
	x := q.crossing()
	if x == nil {
		return nil
	}
	b := x.block(q)
	if b == nil && x.answered {
		b = x.reverse().block(q) // the answer has to come back
	}
	if b == nil {
		return nil
	}
	c := &claim{subject: b.subject, certain: q.because("BRIDGE_INGRESS_STP_STATE") && b.state, summary: b.summary, fix: b.fix}
	if x.answered {
		c.summary += ": requests of ARP or neighbour discovery do not pass either, so nobody answers"
	}
	c.evidence = append([]string{q.died()}, b.evidence...)
	if !c.certain {
		c.missing = []string{"the kernel's own word: a bridge gives no reason for this, and its ports were read right after the packet died"}
	}
	return c
}

// crossing finds the bridge that the frame was to pass; nil: none.
func (q *inquiry) crossing() *crossing {
	if !q.p.Outcome.Died() {
		return nil
	}
	self := q.state.Node()
	if a := q.asking(); a != nil {
		return q.askingAcross(a)
	}
	if q.because("OTHERHOST") {
		return q.strayed()
	}
	l := q.link(self, int(q.d.IfIndex))
	if q.d.Netns != self || l == nil {
		return nil
	}
	bridge := q.bridgeOf(l)
	if l.Kind == "bridge" {
		bridge = l
	}
	hidden := strings.HasPrefix(q.d.Function, "0x") && q.because("NOT_SPECIFIED", "")
	if bridge == nil || !q.because("BRIDGE_INGRESS_STP_STATE", "NO_TX_TARGET") && !q.in(bridgeFunctions...) && !hidden {
		return nil
	}
	// until it is sent to a port, a frame bears the interface that it came in by
	x := &crossing{bridge: bridge, in: l}
	if l == bridge {
		x.in = nil
	}
	if hidden && q.cameInto(bridge) != x.in {
		return nil
	}
	if pod, ok := q.podOf(endsAt(q.p).Dst); ok {
		if host := q.hostLink(pod); host != nil && host.Master == bridge.Index {
			x.out = host
		}
	}
	if x.in == nil && x.out == nil {
		return nil
	}
	return q.fillCrossing(x)
}

// strayed is the way of a frame that was for the right MAC, but came to a stranger.
func (q *inquiry) strayed() *crossing {
	w := q.wire()
	if w == nil || w.holder == nil || w.holder.port == nil || !strings.EqualFold(w.mac(), w.holder.link.MAC) {
		return nil
	}
	x := &crossing{bridge: q.bridgeOf(w.holder.port), out: w.holder.port}
	if w.from.netns != q.state.Node() {
		x.in = q.pairEnd(w.from.link)
	}
	if x.bridge == nil {
		return nil
	}
	return q.fillCrossing(x)
}

// reverse is the way back.
func (x *crossing) reverse() *crossing {
	return &crossing{bridge: x.bridge, in: x.out, out: x.in, inPort: x.outPort, outPort: x.inPort, srcMAC: x.dstMAC, dstMAC: x.srcMAC, answered: x.answered, back: !x.back}
}

// askingAcross is the way of a request that nobody answers, where it leads over a
// bridge.
func (q *inquiry) askingAcross(a *asking) *crossing {
	self := q.state.Node()
	from := q.link(a.at.Netns, int(a.at.IfIndex))
	if from == nil {
		return nil
	}
	x := &crossing{answered: true}
	if a.at.Netns == self {
		x.bridge = from
	} else if x.in = q.pairEnd(from); x.in != nil {
		x.bridge = q.bridgeOf(x.in)
	}
	if x.bridge == nil || x.bridge.Kind != "bridge" {
		return nil
	}
	if pod, ok := q.podOf(a.addr); ok {
		if host := q.hostLink(pod); host != nil && host.Master == x.bridge.Index {
			x.out = host
		}
	}
	if x.out == nil && !q.holds(self, a.addr) || x.in == nil && x.out == nil {
		return nil
	}
	return q.fillCrossing(x)
}

// cameInto is the port by which the packet came into a bridge; nil: the node itself
// sent it.
func (q *inquiry) cameInto(bridge *node.Link) *node.Link {
	for i := len(q.p.Hops) - 1; i >= 0; i-- {
		h := &q.p.Hops[i]
		if h.Netns != q.state.Node() {
			continue
		}
		l := q.link(h.Netns, int(h.IfIndex))
		switch {
		case l == nil || h.Stage == model.StageDrop:
		case h.Stage == model.StageReceive && l.Master == bridge.Index:
			return l
		case h.Stage == model.StageTransmit && l.Index == bridge.Index:
			return nil
		}
	}
	return nil
}

// fillCrossing adds what the ports may do, and the MACs.
func (q *inquiry) fillCrossing(x *crossing) *crossing {
	ports, err := q.state.BridgePorts(q.state.Node())
	q.gap(err)
	find := func(l *node.Link) *node.BridgePort {
		index := x.bridge.Index
		if l != nil {
			index = l.Index
		}
		for i := range ports {
			if ports[i].LinkIndex == index {
				return &ports[i]
			}
		}
		return nil
	}
	x.inPort, x.outPort = find(x.in), find(x.out)
	if x.in != nil {
		if s := q.peer(x.in); s != nil {
			x.srcMAC = s.link.MAC
		}
	}
	if x.out != nil {
		if s := q.peer(x.out); s != nil {
			x.dstMAC = s.link.MAC
		}
	}
	if x.in != nil && x.inPort == nil || x.out != nil && x.outPort == nil {
		return nil // gone meanwhile, or not to be read
	}
	return x
}

// block is what keeps a frame from passing.
type block struct {
	subject  string
	summary  string
	evidence []string
	fix      []string
	state    bool // the state of the port that it came in by
}

// block asks in the order in which the kernel does.
func (x *crossing) block(q *inquiry) *block {
	for _, look := range []func(*inquiry) *block{x.inState, x.vlan, x.locked, x.hairpin, x.outState, x.isolated, x.unasked, x.unknown} {
		if b := look(q); b != nil {
			return b
		}
	}
	return nil
}

// portStates are the names that `bridge link` prints (linux/if_bridge.h).
var portStates = map[int]string{node.PortDisabled: "disabled", node.PortListening: "listening", node.PortLearning: "learning", node.PortForwarding: "forwarding", node.PortBlocking: "blocking"}

func (x *crossing) inState(*inquiry) *block {
	if x.in == nil || x.inPort.State == node.PortForwarding {
		return nil
	}
	return x.badState(x.in, x.inPort, "takes no frames in", true)
}

func (x *crossing) outState(*inquiry) *block {
	if x.out == nil || x.outPort.State == node.PortForwarding {
		return nil
	}
	return x.badState(x.out, x.outPort, "sends no frames out", false)
}

func (x *crossing) badState(l *node.Link, p *node.BridgePort, does string, in bool) *block {
	state := portStates[p.State]
	return &block{subject: l.Name, state: in, summary: fmt.Sprintf("port %s of bridge %s is in state %s, so it %s", l.Name, x.bridge.Name, state, does),
		evidence: []string{fmt.Sprintf("bridge link: %s master %s state %s", l.Name, x.bridge.Name, state)},
		fix: []string{fmt.Sprintf("bridge link set dev %s state 3 (forwarding); with STP on it does so by itself after twice the bridge's forward_delay", l.Name),
			fmt.Sprintf("see whether STP holds it back, and whether it is meant to run: ip -d link show %s (stp_state, forward_delay)", x.bridge.Name)}}
}

// vlan: pods send without a tag, so the frame is in the VLAN of the port that it
// comes in by, and passes to ports of that VLAN (br_allowed_ingress,
// br_allowed_egress, net/bridge/br_vlan.c).
func (x *crossing) vlan(*inquiry) *block {
	if !x.bridge.VLANFiltering || x.inPort == nil || x.outPort == nil {
		return nil
	}
	in, out := x.sideWords(x.in), x.sideWords(x.out)
	vlan := x.inPort.PVID()
	evidence := []string{fmt.Sprintf("ip -d link: %s vlan_filtering 1", x.bridge.Name), "bridge vlan: " + vlanWords(in, x.inPort)}
	show := fmt.Sprintf("see it: bridge vlan show dev %s; bridge vlan show dev %s", in, out)
	if vlan == 0 {
		return &block{subject: in, summary: fmt.Sprintf("%s of bridge %s has no VLAN for frames without a tag (no PVID), so it takes none in", x.portWords(x.in), x.bridge.Name),
			evidence: evidence, fix: []string{show, fmt.Sprintf("bridge vlan add dev %s vid N pvid untagged, with the VLAN that the pod is meant to be in%s", in, selfWord(x.in))}}
	}
	if x.outPort.In(vlan) {
		return nil
	}
	return &block{subject: out, summary: fmt.Sprintf("the frame is in VLAN %d, that of %s, but %s of bridge %s is not in it (%s)", vlan, in, x.portWords(x.out), x.bridge.Name, vlanList(x.outPort)),
		evidence: append(evidence, "bridge vlan: "+vlanWords(out, x.outPort)),
		fix:      []string{show, fmt.Sprintf("if both are meant to reach each other: bridge vlan add dev %s vid %d untagged%s, and see which network (vlan in the CNI configuration) each pod was given", out, vlan, selfWord(x.out))}}
}

// selfWord is what bridge(8) wants where VLANs of the bridge itself are meant.
func selfWord(port *node.Link) string {
	if port == nil {
		return " self"
	}
	return ""
}

func vlanWords(name string, p *node.BridgePort) string { return name + " " + vlanList(p) }

func vlanList(p *node.BridgePort) string {
	if len(p.VLANs) == 0 {
		return "is in no VLAN"
	}
	var all []string
	for i, v := range p.VLANs {
		if i == 8 {
			all = append(all, fmt.Sprintf("and %d more", len(p.VLANs)-i))
			break
		}
		says := fmt.Sprint(v.ID)
		if v.PVID {
			says += " PVID"
		}
		if v.Untagged {
			says += " untagged"
		}
		all = append(all, says)
	}
	return "is in VLAN " + strings.Join(all, ", ")
}

// sideWords is the link's name as commands take it.
func (x *crossing) sideWords(port *node.Link) string {
	if port == nil {
		return x.bridge.Name
	}
	return port.Name
}

func (x *crossing) portWords(port *node.Link) string {
	if port == nil {
		return "the node's own side"
	}
	return "port " + port.Name
}

// locked: the port lets in only MACs that the bridge's table has behind it.
func (x *crossing) locked(q *inquiry) *block {
	if x.in == nil || !x.inPort.Locked || x.srcMAC == "" {
		return nil
	}
	if port, _ := q.forwarding(x.bridge, x.srcMAC); port != nil && port.Index == x.in.Index {
		return nil
	}
	return &block{subject: x.in.Name, summary: fmt.Sprintf("port %s of bridge %s is locked, and the bridge's table does not hold the sender's MAC %s behind it, so it is not let in", x.in.Name, x.bridge.Name, x.srcMAC),
		evidence: []string{fmt.Sprintf("bridge -d link: %s locked on", x.in.Name), fmt.Sprintf("bridge fdb: no entry of %s dev %s", x.srcMAC, x.in.Name)},
		fix:      []string{fmt.Sprintf("bridge link set dev %s locked off; or let that sender in: bridge fdb replace %s dev %s master static", x.in.Name, x.srcMAC, x.in.Name)}}
}

// hairpin: a frame goes back by the port it came by only in hairpin mode
// (should_deliver, net/bridge/br_forward.c).
func (x *crossing) hairpin(*inquiry) *block {
	if x.in == nil || x.out == nil || x.in.Index != x.out.Index || x.outPort.Hairpin {
		return nil
	}
	return &block{subject: x.in.Name, summary: fmt.Sprintf("bridge port %s of %s has no hairpin mode, so a frame that came in by it is not sent back by it: the pod cannot reach itself by a service's address", x.in.Name, x.bridge.Name),
		evidence: []string{fmt.Sprintf("bridge -d link: %s master %s hairpin off", x.in.Name, x.bridge.Name), "it came in by " + x.in.Name + ", and its destination is behind " + x.in.Name},
		fix:      []string{fmt.Sprintf("bridge link set dev %s hairpin on", x.in.Name), "for pods to come: hairpinMode true in the CNI configuration of the bridge plugin (flannel: delegate.hairpinMode)"}}
}

// isolated ports do not talk to each other (br_skb_isolated).
func (x *crossing) isolated(*inquiry) *block {
	if x.in == nil || x.out == nil || !x.inPort.Isolated || !x.outPort.Isolated {
		return nil
	}
	return &block{subject: x.out.Name, summary: fmt.Sprintf("ports %s and %s of bridge %s are both isolated, so nothing passes from one to the other", x.in.Name, x.out.Name, x.bridge.Name),
		evidence: []string{fmt.Sprintf("bridge -d link: %s isolated on", x.in.Name), fmt.Sprintf("bridge -d link: %s isolated on", x.out.Name)},
		fix:      []string{fmt.Sprintf("if the two are meant to reach each other: bridge link set dev %s isolated off", x.out.Name), "see who isolates them: the CNI configuration (portIsolation of the bridge plugin), a script"}}
}

// unknown: the bridge knows the MAC nowhere, and does not send by the port what it
// does not know.
func (x *crossing) unknown(q *inquiry) *block {
	if x.out == nil || x.outPort.Flood || x.dstMAC == "" || x.answered {
		return nil
	}
	if port, _ := q.forwarding(x.bridge, x.dstMAC); port != nil {
		return nil
	}
	b := &block{subject: x.out.Name, summary: fmt.Sprintf("bridge %s does not know where MAC %s is, and port %s, which it is behind, gets no frames for unknown MACs (flood off)", x.bridge.Name, x.dstMAC, x.out.Name),
		evidence: []string{fmt.Sprintf("bridge -d link: %s flood off", x.out.Name), fmt.Sprintf("bridge fdb: no entry of %s on %s", x.dstMAC, x.bridge.Name)},
		fix:      []string{fmt.Sprintf("bridge link set dev %s flood on", x.out.Name), fmt.Sprintf("or have the bridge know it: bridge fdb replace %s dev %s master static", x.dstMAC, x.out.Name)}}
	if !x.outPort.Learning {
		b.evidence = append(b.evidence, fmt.Sprintf("bridge -d link: %s learning off", x.out.Name))
	}
	return b
}
