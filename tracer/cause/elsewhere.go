// SPDX-License-Identifier: Apache-2.0

package cause

// Who does listen, where nobody took a packet: near misses, told with no-listener.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	// shownMisses is how many sockets of the port are told, shownPorts how many other
	// ports that somebody listens on.
	shownMisses = 4
	shownPorts  = 6
)

// miss is a socket that listens on the port, and does not take what was sent.
type miss struct {
	node.Listener
	proto string
	netns uint32
	why   string // goes on "... listens there, "
	fix   string
	near  int // the least is the nearest
}

// How near a socket was to take it: one that waits for all comes first.
const (
	missedNow = iota // it would take it by now
	missedFamily
	missedDevice
	missedLoopback
	missedAddress
	missedProtocol
	missedPlace
)

// tellListeners adds to a claim of no-listener who does listen on that port, or else on
// which ports somebody does. It replaces the fix that was meant for those who do not
// know.
func (q *inquiry) tellListeners(c *claim, e model.Endpoints, place string) {
	proto := q.p.Proto
	if q.d.Netns == 0 || proto != "tcp" && proto != "udp" {
		return
	}
	there, err := q.state.Listeners(q.d.Netns, proto)
	q.gap(err)
	if err != nil {
		return
	}
	all := q.missesOf(there, e)
	if len(all) == 0 {
		c.evidence = append(c.evidence, portsTaken(there, proto, e.DstPort, place))
		all = q.missesBeside(e)
	}
	if len(all) == 0 {
		c.dropFix(loopbackFix)
		return
	}
	slices.SortStableFunc(all, func(a, b miss) int { return a.near - b.near })
	for i, m := range all {
		if i == shownMisses {
			break
		}
		at := place
		if m.netns != q.d.Netns {
			at = "node"
		}
		c.evidence = append(c.evidence, q.missWords(m, at))
	}
	c.evidence = append(c.evidence, q.bindSysctl(all[0])...)
	c.summary += "; " + q.whoListens(all[0]) + ", " + all[0].why
	c.replaceFix(loopbackFix, all[0].fix)
}

// loopbackFix begins the fix for a server of which no more is known.
const loopbackFix = "a server that listens on 127.0.0.1 only"

// dropFix takes a fix away, by how it begins.
func (c *claim) dropFix(begins string) {
	c.fix = slices.DeleteFunc(c.fix, func(f string) bool { return strings.HasPrefix(f, begins) })
}

// replaceFix puts a fix first, in the place of another.
func (c *claim) replaceFix(begins, fix string) {
	c.dropFix(begins)
	c.fix = append([]string{fix}, c.fix...)
}

// missesOf are those of a namespace's sockets that have the port.
func (q *inquiry) missesOf(there []node.Listener, e model.Endpoints) (all []miss) {
	for _, l := range there {
		if l.Local.Port() == e.DstPort {
			m := miss{Listener: l, proto: q.p.Proto, netns: q.d.Netns}
			q.whyMissed(&m, e.Dst)
			all = append(all, m)
		}
	}
	return all
}

// missesBeside are sockets of the other protocol with that port, or of the node's own
// namespace, where nobody nearer has it.
func (q *inquiry) missesBeside(e model.Endpoints) (all []miss) {
	other, self := "udp", q.state.Node()
	if q.p.Proto == "udp" {
		other = "tcp"
	}
	there, err := q.state.Listeners(q.d.Netns, other)
	q.gap(err)
	for _, l := range there {
		if l.Local.Port() == e.DstPort && !l.Local.Addr().IsLoopback() {
			all = append(all, miss{Listener: l, proto: other, netns: q.d.Netns, near: missedProtocol,
				why: fmt.Sprintf("by %s, while this is %s", strings.ToUpper(other), strings.ToUpper(q.p.Proto)),
				fix: fmt.Sprintf("ask by %s, or correct the protocol where it is written: the service's port, the policy, the client", strings.ToUpper(other))})
		}
	}
	if len(all) > 0 || q.d.Netns == self {
		return all
	}
	there, err = q.state.Listeners(self, q.p.Proto)
	q.gap(err)
	for _, l := range there {
		if l.Local.Port() == e.DstPort && !l.Local.Addr().IsLoopback() {
			all = append(all, miss{Listener: l, proto: q.p.Proto, netns: self, near: missedPlace,
				why: "in this node's own namespace, not in the pod's",
				fix: "if that is the server that was meant, it has the node's network (hostNetwork): ask for an address of the node"})
		}
	}
	return all
}

// whyMissed says why a socket that has the port did not take what came for an address:
// by the look-up's own questions (compute_score, net/ipv4/inet_hashtables.c and udp.c,
// and their IPv6 twins, 6.12).
func (q *inquiry) whyMissed(m *miss, dst netip.Addr) {
	local, proto := m.Local.Addr(), q.p.Proto
	in := q.cameInBy()
	switch {
	case dst.Is4() && local == netip.IPv6Unspecified() && (m.V6Only || !m.Whole):
		m.near, m.why = missedFamily, "which takes IPv6 only (IPV6_V6ONLY), while this is IPv4"
		if !m.Whole {
			m.why = "which is a socket of IPv6: it takes IPv6 only (IPV6_V6ONLY), or had not been there when the packet came"
		}
		m.fix = fmt.Sprintf("have it listen on IPv4, too: on 0.0.0.0:%d beside, or on [::] without IPV6_V6ONLY (nginx: listen %d beside listen [::]:%d, or ipv6only=off); or ask it by IPv6", m.Local.Port(), m.Local.Port(), m.Local.Port())
	case dst.Is6() && local == netip.IPv4Unspecified():
		m.near, m.why = missedFamily, "which takes IPv4 only, while this is IPv6"
		m.fix = fmt.Sprintf("have it listen on [::]:%d, too, or ask it by IPv4", m.Local.Port())
	case m.Device != 0 && in != nil && m.Device != in.Index && m.Device != in.Master:
		name := fmt.Sprintf("interface %d", m.Device)
		if l := q.link(m.netns, m.Device); l != nil {
			name = l.Name
		}
		m.near, m.why = missedDevice, fmt.Sprintf("bound to %s (SO_BINDTODEVICE), while this came in by %s", name, in.Name)
		m.fix = fmt.Sprintf("let it listen without that device, or have what is for it come in by %s", name)
	case local.IsLoopback() && !dst.IsLoopback():
		m.near, m.why = missedLoopback, "which is not reached from outside"
		m.fix = fmt.Sprintf("let it listen on %s or %s instead of %s", unspecifiedOf(dst), dst, local)
	case !local.IsUnspecified() && local != dst:
		m.near, m.why = missedAddress, fmt.Sprintf("which is another address than %s", dst)
		m.fix = fmt.Sprintf("let it listen on %s or %s, or ask for %s", unspecifiedOf(dst), dst, local)
	default:
		vrf := q.vrfOf(in)
		if accept, ok := q.sysctl(m.netns, "ipv4/"+proto+"_l3mdev_accept"); vrf != nil && m.Device == 0 && ok && accept == 0 {
			m.near, m.why = missedDevice, fmt.Sprintf("in no VRF, while this came in by %s of VRF %s (net.ipv4.%s_l3mdev_accept = 0)", in.Name, vrf.Name, proto)
			m.fix = fmt.Sprintf("start it in the VRF (ip vrf exec %s), or let sockets of none take what comes by one: sysctl -w net.ipv4.%s_l3mdev_accept=1", vrf.Name, proto)
			return
		}
		m.near, m.why = missedNow, "by now: it did not when the packet came"
		m.fix = "see when it began to listen, and how long it takes to: its log, its readiness probe"
	}
}

func unspecifiedOf(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// cameInBy is the interface by which the packet came into the namespace that it ended
// in.
func (q *inquiry) cameInBy() *node.Link {
	if h := lastHop(q.p, func(h *model.Hop) bool {
		return h.Netns == q.d.Netns && h.Stage == model.StageReceive && h.IfIndex != 0
	}); h != nil {
		return q.link(h.Netns, int(h.IfIndex))
	}
	if q.d.IfIndex == 0 {
		return nil
	}
	return q.link(q.d.Netns, int(q.d.IfIndex))
}

// vrfOf is the VRF that an interface is in; nil: none.
func (q *inquiry) vrfOf(l *node.Link) *node.Link {
	if l == nil || l.Master == 0 {
		return nil
	}
	if m := q.link(q.d.Netns, l.Master); m != nil && m.VRFTable != 0 {
		return m
	}
	return nil
}

// whoListens is the socket with its process: "nginx (pid 12) listens on [::]:80 there".
func (q *inquiry) whoListens(m miss) string {
	who := "somebody"
	if owner, ok := q.state.SocketOwner(m.Inode); ok {
		who = fmt.Sprintf("%s (pid %d)", owner.Comm, owner.PID)
	}
	return fmt.Sprintf("%s listens on %s there", who, m.Local)
}

// missWords is the socket as ss prints it, or as proc has it.
func (q *inquiry) missWords(m miss, place string) string {
	tool, addr := "ss -ln"+m.proto[:1], m.String()
	if !m.Whole {
		tool = "/proc/net/" + m.proto
	}
	if l := q.link(m.netns, m.Device); m.Device != 0 && l != nil {
		i := strings.LastIndex(addr, ":")
		addr = addr[:i] + "%" + l.Name + addr[i:]
	}
	says := fmt.Sprintf("%s: %s at %s", tool, addr, place)
	if owner, ok := q.state.SocketOwner(m.Inode); ok {
		says += fmt.Sprintf(", of %s (pid %d)", owner.Comm, owner.PID)
	}
	return says
}

// bindSysctl is the setting that makes sockets of IPv6 take IPv6 only.
func (q *inquiry) bindSysctl(m miss) (says []string) {
	if only, ok := q.sysctl(m.netns, "ipv6/bindv6only"); m.V6Only && ok && only != 0 {
		says = append(says, fmt.Sprintf("net.ipv6.bindv6only = %d: a socket that does not ask for IPv4 does without", only))
	}
	return says
}

// ephemeral is where the ports begin that programs get without asking for one
// (net.ipv4.ip_local_port_range): of UDP those are of clients.
const ephemeral = 32768

// portsTaken are the ports that somebody listens on where nobody does on that one.
func portsTaken(there []node.Listener, proto string, port uint16, place string) string {
	var ports []int
	for _, l := range there {
		if p := int(l.Local.Port()); !l.Local.Addr().IsLoopback() && !slices.Contains(ports, p) && (proto == "tcp" || p < ephemeral) {
			ports = append(ports, p)
		}
	}
	slices.Sort(ports)
	says := fmt.Sprintf("ss -ln%s: none on port %d at %s", proto[:1], port, place)
	if len(ports) == 0 {
		return says
	}
	var words []string
	for _, p := range ports[:min(len(ports), shownPorts)] {
		words = append(words, fmt.Sprint(p))
	}
	if len(ports) > shownPorts {
		words = append(words, fmt.Sprintf("%d more", len(ports)-shownPorts))
	}
	return says + ", but on " + strings.Join(words, ", ")
}
