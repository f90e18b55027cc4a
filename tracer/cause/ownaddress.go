// SPDX-License-Identifier: Apache-2.0

package cause

// Silence about an address of this node's own: whoever is on the wire asks who has it
// (ARP, neighbour discovery), and this node does not say so. Told with not-sent.

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/routing"
)

// quiet is an address of this node's own for which it does not answer.
type quiet struct {
	addr   netip.Addr
	asker  netip.Addr // who asks: the source, or the router by which it comes; invalid: not known
	by     *node.Link // the interface by which it is asked
	holder *node.Link // who has the address
	local  bool       // it is that interface itself
}

// refusal is why it does not answer.
type refusal struct {
	why      string
	evidence []string
	fix      []string
	missing  string
}

// ownSilence adds to not-sent that this node does not answer for the destination, where
// that is an address of its own that is asked for on a wire; true if so.
func (q *inquiry) ownSilence(c *claim) bool {
	a := q.quietOf()
	if a == nil {
		return false
	}
	ask := q.arpRefuses
	asked, from := "ARP", ""
	if a.addr.Is6() {
		ask, asked = q.discoveryRefuses, "neighbour discovery"
	}
	r := ask(a)
	if r == nil {
		return false
	}
	if src := q.start.Src.Given; a.asker.IsValid() && src != "" {
		from = fmt.Sprintf(", by which %s is reached", src)
	}
	c.summary = fmt.Sprintf("no packet of the flow was seen: %s is an address of this node, but it does not answer %s for it on %s%s: %s", a.addr, asked, a.by.Name, from, r.why)
	c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s of this node has %s", a.holder.Name, a.addr))
	if !a.local {
		c.evidence = append(c.evidence, fmt.Sprintf("ip addr: %s of this node has no %s", a.by.Name, a.addr))
	}
	c.evidence = append(c.evidence, r.evidence...)
	c.missing = append(c.missing, "whether somebody asked for it: ARP and neighbour discovery are not traced")
	if r.missing != "" {
		c.missing = append(c.missing, r.missing)
	}
	c.fix = append(slices.Clone(r.fix),
		"where a speaker is to answer for it instead (MetalLB in layer 2, kube-vip, keepalived): see which node it has elected, its log there, and that it is this one",
		seeWho(a))
	return true
}

// seeWho shows the questions and the answers.
func seeWho(a *quiet) string {
	if a.addr.Is6() {
		return fmt.Sprintf("see who asks and who answers: tcpdump -ni %s icmp6; from another host of that network: ndisc6 %s IFACE", a.by.Name, a.addr)
	}
	return fmt.Sprintf("see who asks and who answers: tcpdump -ni %s arp; from another host of that network: arping %s", a.by.Name, a.addr)
}

// quietOf is the destination, where it is this node's own and within the subnet of the
// interface by which the source comes: nobody asks for others on a wire.
func (q *inquiry) quietOf() *quiet {
	self := q.state.Node()
	dst, ok := single(q.start.Dst.Addresses)
	if !ok {
		return nil
	}
	a := &quiet{addr: dst, holder: q.holderOf(self, dst)}
	if a.holder == nil {
		return nil
	}
	own := func(p netip.Prefix) bool { return p.IsSingleIP() && q.holds(self, p.Addr()) }
	if q.start.Src.Kind == "node" || slices.ContainsFunc(q.start.Src.Addresses, own) {
		return nil // it asks itself
	}
	src, known := single(q.start.Src.Addresses)
	if known {
		if _, here := q.podOf(src); here {
			return nil
		}
		r, ok := q.routeTo(self, src)
		if !ok || r.Type != unix.RTN_UNICAST {
			return nil
		}
		a.by, a.asker = q.link(self, r.LinkIndex), src
		if r.Gateway.IsValid() {
			a.asker = r.Gateway
		}
	} else if a.by = a.holder; !inSubnetOf(a.holder, dst) || a.holder.Loopback {
		a.by = q.findLink(self, func(l *node.Link) bool { return !l.Loopback && l.Index != a.holder.Index && inSubnetOf(l, dst) })
	}
	if a.by == nil || a.by.Loopback || !a.by.Up || !inSubnetOf(a.by, dst) {
		return nil
	}
	a.local = slices.ContainsFunc(a.by.Addrs, func(p netip.Prefix) bool { return p.Addr() == dst })
	return a
}

// single is the address of an end that has one.
func single(prefixes []netip.Prefix) (netip.Addr, bool) {
	if len(prefixes) != 1 || !prefixes[0].IsSingleIP() {
		return netip.Addr{}, false
	}
	return prefixes[0].Addr(), true
}

// inSubnetOf tells that an address is in the subnet of one of an interface's.
func inSubnetOf(l *node.Link, addr netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Bits() < p.Addr().BitLen() && p.Contains(addr) })
}

// arpRefuses says why ARP for the address is not answered (arp_process, arp_ignore and
// arp_filter, net/ipv4/arp.c, 6.12): of arp_ignore the greater of the interface's and
// all's counts, of arp_filter either.
func (q *inquiry) arpRefuses(a *quiet) *refusal {
	self := q.state.Node()
	if a.by.NoARP {
		return &refusal{why: fmt.Sprintf("%s takes no part in ARP (NOARP)", a.by.Name), evidence: []string{fmt.Sprintf("ip link: %s is NOARP", a.by.Name)},
			fix: []string{fmt.Sprintf("ip link set %s arp on", a.by.Name)}}
	}
	if r, ok := q.routeTo(self, a.addr); ok && r.Type != unix.RTN_LOCAL {
		return &refusal{why: "table local has no route to it", evidence: []string{fmt.Sprintf("ip route show table local: none to %s", a.addr)},
			fix: []string{fmt.Sprintf("put it back: ip route add local %s dev %s table local", a.addr, a.holder.Name)}}
	}
	scope, ignore := q.greater(a.by, "arp_ignore")
	set := fmt.Sprintf("net.ipv4.conf.%s.arp_ignore = %d", scope, ignore)
	answer := []string{fmt.Sprintf("have the interface that is asked answer for it: ip addr add %s/32 dev %s", a.addr, a.by.Name),
		fmt.Sprintf("or let it answer for addresses of others of its interfaces: sysctl -w net.ipv4.conf.%s.arp_ignore=0; kube-proxy sets it with strictARP, for MetalLB and its like", scope)}
	switch ignore {
	case 1:
		if !a.local {
			return &refusal{why: fmt.Sprintf("%s has it, and %s answers for its own addresses only (arp_ignore is 1, strict ARP)", a.holder.Name, a.by.Name),
				evidence: []string{set + ": answered is only for addresses of the interface that is asked"}, fix: answer}
		}
	case 2:
		shared := a.local && (!a.asker.IsValid() || slices.ContainsFunc(a.by.Addrs, func(p netip.Prefix) bool { return p.Contains(a.addr) && p.Contains(a.asker) }))
		if !shared {
			return &refusal{why: fmt.Sprintf("%s has it, and %s answers for its own addresses only, to askers of their subnet (arp_ignore is 2)", a.holder.Name, a.by.Name),
				evidence: []string{set + ": answered is only for addresses of the interface that is asked, and to askers of the same subnet"}, fix: answer}
		}
	case 8:
		return &refusal{why: "it answers for none of its addresses (arp_ignore is 8)", evidence: []string{set + ": nothing is answered"},
			fix: []string{fmt.Sprintf("sysctl -w net.ipv4.conf.%s.arp_ignore=0, or 1 where strict ARP is wanted", scope)}}
	}
	return q.arpFiltered(a)
}

// arpFiltered: arp_filter has only that interface answer by which this node itself would
// send to the asker, with the address for its source.
func (q *inquiry) arpFiltered(a *quiet) *refusal {
	scope, filter := q.greater(a.by, "arp_filter")
	if filter == 0 || !a.asker.IsValid() {
		return nil
	}
	w := q.ask(q.state.Node(), routing.Question{Dst: a.asker, Src: a.addr, IIF: routing.Loopback})
	if answer, sure := w.sure(); !sure || answer.Error != 0 || answer.Leads(a.by.Index) {
		return nil
	}
	return &refusal{why: fmt.Sprintf("arp_filter is on, and this node's own way from that address to %s does not lead by %s", a.asker, a.by.Name),
		evidence: []string{fmt.Sprintf("net.ipv4.conf.%s.arp_filter = %d: answered is only by the interface that leads to the asker", scope, filter),
			fmt.Sprintf("the way from %s to %s: %s", a.addr, a.asker, w.words())},
		fix: []string{fmt.Sprintf("see it: ip route get %s from %s; have a rule or route lead it by %s", a.asker, a.addr, a.by.Name),
			fmt.Sprintf("or sysctl -w net.ipv4.conf.%s.arp_filter=0", scope)}}
}

// greater is the greater of an interface's setting and all's, with whose it is.
func (q *inquiry) greater(l *node.Link, name string) (scope string, value int) {
	self := q.state.Node()
	scope = "all"
	value, _ = q.sysctl(self, "ipv4/conf/all/"+name)
	if own, ok := q.sysctl(self, "ipv4/conf/"+l.Name+"/"+name); ok && own > value {
		scope, value = sysctlName(l.Name), own
	}
	return scope, value
}

// discoveryRefuses: neighbour discovery answers for addresses of the interface that is
// asked only, and for those of its list of proxied ones (ndisc_recv_ns, net/ipv6/ndisc.c,
// 6.12).
func (q *inquiry) discoveryRefuses(a *quiet) *refusal {
	self := q.state.Node()
	if slices.Contains(a.holder.Tentative, a.addr) {
		return &refusal{why: "it does not use the address (yet): it is tentative", evidence: []string{fmt.Sprintf("ip addr: %s of this node has %s, tentative", a.holder.Name, a.addr)},
			fix: []string{"see whether another host has it, and for which of its states: ip -6 addr show dev " + a.holder.Name}}
	}
	if a.local {
		return nil
	}
	r := &refusal{why: fmt.Sprintf("%s has it, and IPv6 answers for addresses of the interface that is asked only", a.holder.Name),
		fix: []string{fmt.Sprintf("have the interface that is asked answer for it: ip -6 addr add %s/128 dev %s nodad; or as a proxy: sysctl -w net.ipv6.conf.%s.proxy_ndp=1; ip -6 neigh add proxy %s dev %s", a.addr, a.by.Name, sysctlName(a.by.Name), a.addr, a.by.Name)}}
	own, ok := q.sysctl(self, "ipv6/conf/"+a.by.Name+"/proxy_ndp")
	all, _ := q.sysctl(self, "ipv6/conf/all/proxy_ndp")
	if ok {
		r.evidence = append(r.evidence, fmt.Sprintf("net.ipv6.conf.%s.proxy_ndp = %d", sysctlName(a.by.Name), own))
	}
	if max(own, all) != 0 {
		r.missing = fmt.Sprintf("whether it answers as a proxy: ip -6 neigh show proxy dev %s", a.by.Name)
	}
	return r
}
