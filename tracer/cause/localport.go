// SPDX-License-Identifier: Apache-2.0

package cause

// Nothing is sent as connect() finds no local port: each one that the kernel may choose
// has a connection to that very address and port already.

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// portRange are the ports that the kernel chooses from (net.ipv4.ip_local_port_range, of
// IPv6 as well), but for those that are kept (ip_local_reserved_ports).
type portRange struct {
	from, upto uint16
	reserved   map[uint16]bool
	words      string // as the file has it
}

func (r portRange) holds(port uint16) bool {
	return r.from <= port && port <= r.upto && !r.reserved[port]
}

func (r portRange) size() int {
	n := int(r.upto) - int(r.from) + 1
	for p := range r.reserved {
		if r.from <= p && p <= r.upto {
			n--
		}
	}
	return n
}

// localPorts reads the range of a namespace; ok is false where it is not known.
func (q *inquiry) localPorts(netns uint32) (r portRange, ok bool) {
	text, err := q.state.Sysctl(netns, "ipv4/ip_local_port_range")
	if err != nil {
		return r, false
	}
	r.words = strings.Join(strings.Fields(text), " ")
	if n, _ := fmt.Sscan(r.words, &r.from, &r.upto); n != 2 || r.upto < r.from {
		return r, false
	}
	r.reserved = make(map[uint16]bool)
	kept, err := q.state.Sysctl(netns, "ipv4/ip_local_reserved_ports")
	if err != nil {
		return r, true // this kernel has none
	}
	f := fields{}
	if kept = strings.TrimSpace(kept); kept != "" {
		f.ports(kept)
	}
	for _, ports := range f.dports {
		for p := int(ports[0]); p <= int(ports[1]); p++ {
			r.reserved[uint16(p)] = true
		}
	}
	return r, true
}

// noLocalPort tells that a pod has no local port left towards an end of the flow.
func (q *inquiry) noLocalPort(c *claim, pod uint32) bool {
	if q.start.Proto != "" && q.start.Proto != "tcp" {
		return false // the sockets that are looked at are TCP's
	}
	ports, ok := q.localPorts(pod)
	if !ok {
		return false
	}
	sockets, err := q.state.Sockets(pod)
	q.gap(err)
	type way struct {
		from netip.Addr
		to   netip.AddrPort
	}
	taken, waiting := make(map[way]map[uint16]bool), make(map[way]int)
	for _, s := range sockets {
		w := way{s.Local.Addr(), s.Remote}
		if !ports.holds(s.Local.Port()) || s.State == node.TCPListen || !given(q.start.Dst, s.Remote.Addr()) || q.start.Port != 0 && q.start.Port != s.Remote.Port() {
			continue
		}
		if taken[w] == nil {
			taken[w] = make(map[uint16]bool)
		}
		taken[w][s.Local.Port()] = true
		if s.State == node.TCPTimeWait {
			waiting[w]++
		}
	}
	for _, s := range sockets { // in the kernel's order, so that of several it is always the same
		w := way{s.Local.Addr(), s.Remote}
		used := taken[w]
		if len(used) == 0 || len(used) < ports.size() {
			continue
		}
		c.summary = fmt.Sprintf("no packet of the flow was seen: the source pod has no local port left towards %s, so that TCP's connect() to it fails (EADDRNOTAVAIL): all %d that the kernel may choose have a connection to it", w.to, len(used))
		c.evidence = append(c.evidence, "net.ipv4.ip_local_port_range = "+ports.words, fmt.Sprintf("ss -ant: %d connections to %s from %s, %d of them in TIME-WAIT", len(used), w.to, w.from, waiting[w]))
		c.missing = append(c.missing, "that it was so when it was to be sent: sockets are read when the trace is over")
		c.fix = append(c.fix, fmt.Sprintf("see who has them: ss -antp dst %s in the pod; keep connections and use them again (keep-alive, a pool)", w.to),
			"give the pod more of them: securityContext.sysctls: net.ipv4.ip_local_port_range; or more addresses on either side")
		return true
	}
	return false
}

// given tells that an address is one that an end of the flow was given as.
func given(e model.End, addr netip.Addr) bool {
	for _, p := range e.Addresses {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
