// SPDX-License-Identifier: Apache-2.0

package cause

// Causes that are eBPF programs or tc filters: on an interface (tc-drop), and over a
// socket (program-drop).

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/program"
)

// attachment is a place on an interface where something may drop packets: how the
// kernel tells it, and what may be there.
type attachment struct {
	what      string // "a tc program or filter"
	reasons   []string
	functions []string // that free without a reason, or did before there was one
	hows      []string // program.TCFilter, ...
	side      string   // "": either
	show      string   // what lists them; IFACE is the interface
}

// attachments are all of them. tc gives its reasons since 5.18 (net/core/dev.c); the
// others of tc tell that its filters themselves are at fault. do_xdp_generic frees what
// a program drops without a reason (6.18); veth_xdp_rcv_skb and netkit_xmit do too
// (drivers/net/veth.c, netkit.c, 6.12).
var attachments = []attachment{
	{"a tc program or filter", []string{"TC_INGRESS"}, []string{"sch_handle_ingress*"}, []string{program.TCX, program.TCFilter}, program.Ingress,
		"tc filter show dev IFACE ingress; bpftool net show dev IFACE"},
	{"a tc program or filter", []string{"TC_EGRESS"}, []string{"sch_handle_egress*"}, []string{program.TCX, program.TCFilter}, program.Egress,
		"tc filter show dev IFACE egress; bpftool net show dev IFACE"},
	{"a tc program or filter", []string{"TC_COOKIE_ERROR", "TC_CHAIN_NOTFOUND", "TC_RECLASSIFY_LOOP"}, []string{"tc_run*"}, []string{program.TCX, program.TCFilter}, "",
		"tc filter show dev IFACE ingress; tc filter show dev IFACE egress; bpftool net show dev IFACE"},
	{"an XDP program", []string{"XDP"}, []string{"do_xdp_generic*", "netif_receive_generic_xdp*", "veth_xdp_rcv*"}, []string{program.XDP}, "",
		"ip -d link show dev IFACE; bpftool net show dev IFACE"},
	{"a netkit program", nil, []string{"netkit_xmit*"}, []string{program.Netkit}, "", "bpftool net show dev IFACE"},
}

// tcDrop: a program or filter of tc, an XDP or a netkit program.
func tcDrop(q *inquiry) *claim {
	for _, a := range attachments {
		if q.because(a.reasons...) || q.in(a.functions...) {
			return q.byAttachment(a)
		}
	}
	return nil
}

func (q *inquiry) byAttachment(a attachment) *claim {
	c := &claim{certain: true, evidence: []string{q.died()}}
	var all, harmless []program.Program
	for _, p := range q.programs() {
		switch {
		case !slices.Contains(a.hows, p.How) || a.side != "" && p.Side != a.side:
		case q.redirectsAmiss(&p):
			all = append(all, p)
		case p.Harmless:
			harmless = append(harmless, p)
		default:
			all = append(all, p)
		}
	}
	where := at(q.d.Place, q.d.Interface)
	switch len(all) {
	case 0:
		c.summary = fmt.Sprintf("%s on %s drops it", a.what, where)
		which := "none is attached there by now"
		if len(harmless) > 0 {
			which = "none of those that are attached there by now is known to drop"
		}
		c.missing = append(c.missing, "which it was: "+which)
	case 1:
		p := all[0]
		c.summary = fmt.Sprintf("%s on %s drops it: %s", a.what, where, nameOf(&p))
	default:
		c.summary = fmt.Sprintf("%s on %s drops it, one of %d that are attached there", a.what, where, len(all))
		c.missing = append(c.missing, "which of them: the kernel does not tell, each may pass a packet on to the next")
	}
	q.listPrograms(c, all)
	for _, p := range harmless {
		c.evidence = append(c.evidence, fmt.Sprintf("also there, but none of its actions is to drop: %s at %s", p.Thing(), p.At()))
	}
	c.fix = []string{"see it: " + q.inPlace(strings.ReplaceAll(a.show, "IFACE", q.d.Interface))}
	if len(all) == 1 && q.redirectsAmiss(&all[0]) {
		q.tellRedirect(c, &all[0], where)
		return c
	}
	c.fix = append(c.fix, programFix(all)...)
	return c
}

// programs are those of the interface that the packet died on. A netkit pair's hang on
// the end that is in the node.
func (q *inquiry) programs() []program.Program {
	l := q.link(q.d.Netns, int(q.d.IfIndex))
	if l == nil {
		return nil
	}
	all, err := q.state.Programs(q.d.Netns, l.Index)
	q.gap(err)
	if l.Kind == "netkit" && l.PeerNetns != 0 {
		more, err := q.state.Programs(l.PeerNetns, l.PeerIndex)
		q.gap(err)
		all = append(slices.Clone(all), more...)
	}
	return all
}

// nameOf is a program's name and number, or what tc calls the filter.
func nameOf(p *program.Program) string {
	if p.ID == 0 {
		return p.Thing()
	}
	if p.Name == "" {
		return fmt.Sprintf("one without a name (id %d)", p.ID)
	}
	return fmt.Sprintf("%s (id %d)", p.Name, p.ID)
}

// listPrograms adds what is attached, and whose it is.
func (q *inquiry) listPrograms(c *claim, all []program.Program) {
	for i := range all {
		p := &all[i]
		c.evidence = append(c.evidence, fmt.Sprintf("attached: %s, %s", p.Thing(), p.At()))
		if owner := p.Owner(); owner != "" && p.ID != 0 {
			c.evidence = append(c.evidence, fmt.Sprintf("program %d is %s", p.ID, owner))
		}
		switch {
		case p.ID == 0 || len(p.Holders) > 0 || len(p.Pins) > 0:
		case p.Unsearched:
			c.missing = append(c.missing, fmt.Sprintf("who attached program %d: it is not pinned, and there was no time to look at all processes (bpftool prog show id %d tells)", p.ID, p.ID))
		default:
			c.missing = append(c.missing, fmt.Sprintf("who attached program %d: no process holds it, and it is not pinned", p.ID))
		}
	}
}

// inPlace is a command that is to be run where the packet died.
func (q *inquiry) inPlace(command string) string {
	if q.d.Netns == q.state.Node() || q.d.Netns == 0 {
		return command
	}
	return "in " + q.d.Place + " (nsenter -t PID -n): " + command
}

// programFix says what to do about programs.
func programFix(all []program.Program) (fix []string) {
	for i := range all {
		if all[i].ID != 0 {
			fix = append(fix, fmt.Sprintf("what it does: bpftool prog dump xlated id %d; bpftool prog show id %d", all[i].ID, all[i].ID))
		}
	}
	var holders []string
	for _, p := range all {
		if d, ok := p.Dataplane(); ok {
			if line := fmt.Sprintf("by its name it is of %s, which tells why: %s", d.Name, d.Drops); !slices.Contains(fix, line) {
				fix = append(fix, line)
			}
		}
		for _, h := range p.Holders {
			if !slices.Contains(holders, h.String()) {
				holders = append(holders, h.String())
			}
		}
	}
	if len(holders) > 0 {
		return append(fix, "change what "+strings.Join(holders, ", ")+" is told, whose it is: what is taken away by hand, it may attach again")
	}
	return append(fix, "find who attached it: an agent (Cilium, Calico's eBPF dataplane), a shaper, a script, systemd")
}

// programDrop: a program on the cgroup of the socket that sends or receives, or a
// filter of the socket itself.
func programDrop(q *inquiry) *claim {
	switch {
	case q.because("BPF_CGROUP_EGRESS"), q.because("NOT_SPECIFIED") && q.in("ip_finish_output", "ip6_finish_output"):
		return q.refusedOut()
	case q.because("SOCKET_FILTER"):
		return q.refusedIn()
	case q.because("TAP_FILTER"):
		return &claim{certain: true, summary: fmt.Sprintf("the filter of the tap device %s, which the program behind it has set, drops it", at(q.d.Place, q.d.Interface)),
			evidence: []string{q.died()}, fix: []string{"see what is behind that device (a virtual machine, a VPN): ip -d link show dev " + q.d.Interface + "; its filter is set by TUNSETFILTEREBPF or TUNATTACHFILTER"}}
	}
	return nil
}

// refusedOut: a program on the sender's cgroup. The kernel tells so since 5.18; before,
// nothing else is freed by that very function (net/ipv4/ip_output.c).
func (q *inquiry) refusedOut() *claim {
	over, ok := q.overSocket(program.Egress)
	told := q.because("BPF_CGROUP_EGRESS")
	if !told && len(over.Programs) == 0 {
		return nil
	}
	c := &claim{evidence: []string{q.died()}, certain: told && ok && (len(over.Programs) == 0 || over.Owner.PID != 0)}
	q.tellOver(c, over, "does not let it out")
	return c
}

// refusedIn: the kernel gives one reason for the programs on a receiver's cgroup and
// for the socket's own filter (sk_filter_trim_cap, net/core/filter.c, 6.18).
func (q *inquiry) refusedIn() *claim {
	over, _ := q.overSocket(program.Ingress)
	c := &claim{evidence: []string{q.died()}}
	if len(over.Programs) > 0 {
		q.tellOver(c, over, "does not let it in")
		c.missing = append(c.missing, "that it was not a filter of the socket itself: the kernel gives one reason for both, and does not show a socket's filter to others")
		return c
	}
	e, place := endsAt(q.p), q.d.Place
	whose := fmt.Sprintf("the socket for %s port %d in %s", q.p.Proto, e.DstPort, place)
	c.fix = []string{"see which program has the socket: " + q.inPlace(fmt.Sprintf("ss -anp 'sport = :%d'", e.DstPort)),
		"a program sets such a filter itself (SO_ATTACH_FILTER, SO_ATTACH_BPF): see what it is told"}
	if over.Owner.PID != 0 {
		whose += ", that of " + over.Owner.String() + ","
		c.evidence = append(c.evidence, fmt.Sprintf("the socket is that of %s, in cgroup %s, which has no program for what comes in", over.Owner, over.Cgroup))
	} else {
		c.missing = append(c.missing, "whose the socket is")
	}
	c.summary = fmt.Sprintf("a filter of %s does not take it", whose)
	c.missing = append(c.missing, "that it was no program on a cgroup, which may have gone since, nor a security module: the kernel may give one reason for all of them")
	return c
}

// overSocket asks for the programs over the packet's socket in the place it died in.
func (q *inquiry) overSocket(side string) (SocketPrograms, bool) {
	end := endsAt(q.p)
	s := SocketAt{Proto: q.p.Proto, Side: side}
	if side == program.Egress {
		s.Locals = []netip.AddrPort{netip.AddrPortFrom(q.p.Src, q.p.SrcPort), netip.AddrPortFrom(end.Src, end.SrcPort)}
		s.Remote = netip.AddrPortFrom(q.p.Dst, q.p.DstPort)
	} else {
		s.Locals = []netip.AddrPort{netip.AddrPortFrom(end.Dst, end.DstPort)}
		s.Remote = netip.AddrPortFrom(end.Src, end.SrcPort)
	}
	if strings.HasPrefix(s.Proto, "icmp") {
		s.Proto = "icmp"
		for i, local := range s.Locals {
			s.Locals[i] = netip.AddrPortFrom(local.Addr(), q.p.ICMPID)
		}
	}
	over, err := q.state.SocketPrograms(q.d.Netns, s)
	q.gap(err)
	return over, err == nil
}

// tellOver puts the programs over a socket into a claim.
func (q *inquiry) tellOver(c *claim, over SocketPrograms, does string) {
	sender := "the socket's process"
	if over.Owner.PID != 0 {
		sender = over.Owner.String()
		c.evidence = append(c.evidence, fmt.Sprintf("the socket is that of %s, in cgroup %s", over.Owner, over.Cgroup))
	} else {
		c.missing = append(c.missing, "whose the socket is: what is attached to the cgroups of all processes there is listed")
	}
	switch len(over.Programs) {
	case 0:
		c.summary = fmt.Sprintf("an eBPF program on the cgroup of %s in %s %s", sender, q.d.Place, does)
		c.missing = append(c.missing, "which it was: none is attached by now")
	case 1:
		p := over.Programs[0]
		c.summary = fmt.Sprintf("the eBPF program %s on cgroup %s %s (%s in %s)", nameOf(&p), p.Where, does, sender, q.d.Place)
	default:
		c.summary = fmt.Sprintf("one of %d eBPF programs on the cgroups of %s in %s %s", len(over.Programs), sender, q.d.Place, does)
		c.missing = append(c.missing, "which of them: all are asked, and one that refuses is enough")
	}
	q.listPrograms(c, over.Programs)
	c.fix = []string{"see it: bpftool cgroup tree"}
	for _, p := range over.Programs {
		c.fix = append(c.fix, "bpftool cgroup show "+over.Mount+p.Where)
	}
	c.fix = append(c.fix, programFix(over.Programs)...)
	if slices.ContainsFunc(over.Programs, func(p program.Program) bool { return strings.HasPrefix(p.Name, "sd_fw_") }) {
		c.fix = append(c.fix, "sd_fw_… is systemd's: see IPAddressAllow, IPAddressDeny of the unit that has the cgroup (systemctl show UNIT)")
	}
}

// callsRefused tells of programs that see what the pod's processes ask of the kernel:
// they may refuse connect() or sendmsg(), or give it another address. Cilium has such
// ones on every node, for services.
func (q *inquiry) callsRefused(c *claim, pod uint32) {
	over, err := q.state.SocketPrograms(pod, SocketAt{Side: program.Calls})
	q.gap(err)
	if len(over.Programs) == 0 {
		return
	}
	q.listPrograms(c, over.Programs)
	c.missing = append(c.missing, "whether one of these programs refuses the pod's socket(), connect() or sendmsg() (that sends no packet, the application sees EPERM), or gives it another destination")
	c.fix = append(c.fix, "see what the application is told: strace -f -e trace=network -p PID in the pod; and what is attached: bpftool cgroup tree")
}

// rateLimit says how the kernel of a namespace limits its ICMP errors (icmp_global_allow
// and icmpv4_xrlim_allow, net/ipv4/icmp.c; icmpv6_xrlim_allow, net/ipv6/icmp.c; 6.12).
func (q *inquiry) rateLimit(netns uint32) string {
	names := []string{"ipv4/icmp_ratelimit", "ipv4/icmp_msgs_per_sec"}
	if q.ipv6() {
		names = []string{"ipv6/icmp/ratelimit"}
	}
	var says []string
	for _, name := range names {
		if v, err := q.state.Sysctl(netns, name); err == nil {
			says = append(says, "net."+strings.ReplaceAll(name, "/", ".")+" = "+v)
		}
	}
	if len(says) == 0 {
		return "ICMP errors are rate-limited"
	}
	return "ICMP errors are rate-limited: " + strings.Join(says, ", ")
}
