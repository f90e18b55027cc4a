// SPDX-License-Identifier: Apache-2.0

package xt

// What rules say of packets. The rules are made by the real iptables, so a test
// reads as the rule a user would write; no kernel need have their extensions.

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// world has two own addresses, one set and one way back.
type world struct{}

func (world) AddrType(addr netip.Addr, kind, dev string) packet.Answer {
	switch {
	case dev == "unknown0":
		return packet.Unknown
	case kind == "local":
		return packet.Of(addr == netip.MustParseAddr("10.0.0.1") || addr == netip.MustParseAddr("fd00::1"))
	case kind == "unicast":
		return packet.Of(addr != netip.MustParseAddr("10.0.0.1") && !addr.IsMulticast())
	}
	return packet.No
}

func (world) IPSet(name string, dirs []bool, p *packet.Packet) packet.Answer {
	addr := p.Dst
	if dirs[0] {
		addr = p.Src
	}
	switch name {
	case "addrs":
		return packet.Of(addr == netip.MustParseAddr("10.0.0.1"))
	case "s":
		return packet.No
	}
	return packet.Unknown
}

func (world) ReversePath(p *packet.Packet, loose, useMark bool) packet.Answer {
	return packet.Of(loose || p.In == packet.Known("eth0"))
}

// tcp is a packet of a connection that goes on, seen in FORWARD.
func tcp() packet.Packet {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	return packet.Packet{
		Family: FamilyIPv4, Hook: "FORWARD", Src: a, Dst: b, Proto: protoTCP,
		SrcPort: packet.Known(uint16(40000)), DstPort: packet.Known(uint16(80)), TCPFlags: packet.Known(uint8(0x12)),
		Length: packet.Known(uint32(60)), TTL: packet.Known(uint8(64)), TOS: packet.Known(uint8(0xb8)), Fragment: packet.Known(false),
		In: packet.Known("eth0"), Out: packet.Known("cali1"), PhysIn: packet.Known(""), PhysOut: packet.Known(""),
		Mark: packet.Known(uint32(0x10000)),
		CT: packet.Conntrack{
			State: packet.Known(packet.StateEstablished), Reply: packet.Known(false), Status: packet.Known(uint32(ipsSeenReply | ipsConfirmed | ipsDstNAT)),
			Original: packet.Known(packet.Tuple{Src: a, Dst: netip.MustParseAddr("10.96.0.1"), SrcPort: 40000, DstPort: 443}),
			Answer:   packet.Known(packet.Tuple{Src: b, Dst: a, SrcPort: 80, DstPort: 40000}),
			Mark:     packet.Known(uint32(7)),
		},
		World: world{},
	}
}

// changed is a packet with something different.
func changed(p packet.Packet, change func(*packet.Packet)) packet.Packet {
	change(&p)
	return p
}

func udp() packet.Packet {
	return changed(tcp(), func(p *packet.Packet) { p.Proto, p.TCPFlags = protoUDP, packet.Fact[uint8]{} })
}

func icmp() packet.Packet {
	return changed(tcp(), func(p *packet.Packet) {
		p.Proto, p.TCPFlags, p.SrcPort, p.DstPort = protoICMP, packet.Fact[uint8]{}, packet.Fact[uint16]{}, packet.Fact[uint16]{}
		p.ICMPType, p.ICMPCode = packet.Known(uint8(3)), packet.Known(uint8(4))
	})
}

func fragment() packet.Packet {
	return changed(tcp(), func(p *packet.Packet) {
		p.Fragment, p.SrcPort, p.DstPort, p.TCPFlags = packet.Known(true), packet.Fact[uint16]{}, packet.Fact[uint16]{}, packet.Fact[uint8]{}
	})
}

// unseen is a packet of which no more than addresses and protocol were seen.
func unseen() packet.Packet {
	p := tcp()
	return packet.Packet{Family: p.Family, Src: p.Src, Dst: p.Dst, Proto: p.Proto}
}

func invalid() packet.Packet {
	return changed(tcp(), func(p *packet.Packet) { p.CT = packet.Conntrack{State: packet.Known(packet.StateInvalid)} })
}

func related() packet.Packet {
	return changed(icmp(), func(p *packet.Packet) { p.CT.State = packet.Known(packet.StateRelated) })
}

func bridged() packet.Packet {
	return changed(tcp(), func(p *packet.Packet) { p.PhysIn, p.PhysOut = packet.Known("veth1"), packet.Known("veth2") })
}

// question is a rule, a packet, and whether the one matches the other.
type question struct {
	rule string
	on   func() packet.Packet
	want packet.Answer
}

const (
	no      = packet.No
	yes     = packet.Yes
	unknown = packet.Unknown
)

func questionsHeader() []question {
	return []question{
		{"-s 10.0.0.0/8", tcp, yes}, {"! -s 10.0.0.0/8", tcp, no}, {"-d 10.0.0.1", tcp, no}, {"-s 10.9.0.1/255.0.0.255", tcp, yes},
		{"-i eth0", tcp, yes}, {"-i eth", tcp, no}, {"-i eth+", tcp, yes}, {"! -o cali+", tcp, no}, {"-i eth0", unseen, unknown},
		{"! -i eth0 -s 11.0.0.0/8", unseen, no}, {"-p tcp", unseen, yes}, {"-p udp", tcp, no}, {"! -p udp", tcp, yes}, {"", unseen, yes},
		{"-f", tcp, no}, {"-f", fragment, yes}, {"! -f", tcp, yes}, {"! -f", fragment, no}, {"-f", unseen, unknown},
	}
}

func questionsTransport() []question {
	return []question{
		{"-p tcp -m tcp --dport 80", tcp, yes}, {"-p tcp -m tcp ! --dport 80", tcp, no}, {"-p tcp -m tcp --sport 1:1023", tcp, no},
		{"-p tcp -m tcp --dport 80", fragment, no}, {"-p tcp -m tcp --dport 80", unseen, unknown}, {"-p tcp -m tcp --dport 80", udp, no},
		{"-p tcp -m tcp --dport 81", func() packet.Packet {
			return changed(unseen(), func(p *packet.Packet) { p.DstPort = packet.Known(uint16(80)) })
		}, no},
		{"-p tcp -m tcp --tcp-flags SYN,ACK SYN,ACK", tcp, yes}, {"-p tcp --syn", tcp, no}, {"-p tcp ! --syn", tcp, yes}, {"-p tcp --syn", unseen, unknown},
		{"-p tcp -m tcp --tcp-option 5", tcp, unknown}, {"-p tcp -m tcp --tcp-option 5 --dport 1", tcp, no},
		{"-p udp -m udp --dport 80", udp, yes}, {"-p udp -m udp --dport 80", tcp, no},
		{"-p tcp -m multiport --dports 22,80:90", tcp, yes}, {"-p tcp -m multiport ! --dports 22,80:90", tcp, no}, {"-p tcp -m multiport --ports 40000", tcp, yes},
		{"-p tcp -m multiport --sports 80", tcp, no}, {"-p tcp -m multiport ! --sports 80", unseen, unknown}, {"-p tcp -m multiport ! --sports 80", fragment, no},
		{"-p icmp -m icmp --icmp-type 3/4", icmp, yes}, {"-p icmp -m icmp --icmp-type 3", icmp, yes}, {"-p icmp -m icmp ! --icmp-type 3/4", icmp, no},
		{"-p icmp -m icmp --icmp-type 8", icmp, no}, {"-p icmp -m icmp --icmp-type any", icmp, yes}, {"-p icmp -m icmp --icmp-type 8", tcp, no},
		{"-p sctp -m sctp --dport 80", tcp, no}, {"-p esp -m esp", tcp, no},
	}
}

func questionsConnection() []question {
	return []question{
		{"-m mark --mark 0x10000/0x10000", tcp, yes}, {"-m mark ! --mark 0x10000/0x10000", tcp, no}, {"-m mark --mark 1", tcp, no}, {"-m mark --mark 1", unseen, unknown},
		{"-m mark --mark 0/0", unseen, yes}, {"-m connmark --mark 7", tcp, yes}, {"-m connmark ! --mark 7", tcp, no}, {"-m connmark ! --mark 7", invalid, no}, {"-m connmark --mark 7", unseen, unknown},
		{"-m conntrack --ctstate ESTABLISHED,RELATED", tcp, yes}, {"-m conntrack ! --ctstate ESTABLISHED", tcp, no}, {"-m conntrack --ctstate INVALID", invalid, yes},
		{"-m conntrack --ctstate INVALID", tcp, no}, {"-m conntrack --ctstate NEW", unseen, unknown}, {"-m conntrack --ctstate DNAT", tcp, yes}, {"-m conntrack --ctstate SNAT", tcp, no},
		{"-m conntrack --ctstate DNAT", invalid, no}, {"-m conntrack ! --ctstate NEW --ctorigsrc 1.2.3.4", invalid, yes},
		{"-m conntrack --ctorigsrc 10.0.0.1", tcp, yes}, {"-m conntrack --ctorigdst 10.96.0.0/12 --ctorigdstport 443", tcp, yes}, {"-m conntrack ! --ctorigdst 10.96.0.0/12", tcp, no},
		{"-m conntrack --ctreplsrc 10.0.0.2 --ctreplsrcport 80:90", tcp, yes}, {"-m conntrack --ctrepldstport 1", tcp, no}, {"-m conntrack --ctorigsrc 10.0.0.1", invalid, no},
		{"-m conntrack --ctorigsrc 10.0.0.1", unseen, unknown}, {"-m conntrack --ctdir ORIGINAL", tcp, yes}, {"-m conntrack --ctdir REPLY", tcp, no},
		{"-m conntrack --ctstatus CONFIRMED", tcp, yes}, {"-m conntrack ! --ctstatus SEEN_REPLY,ASSURED", tcp, no}, {"-m conntrack --ctproto 6", tcp, yes},
		{"-m conntrack --ctproto 6", udp, no}, {"-m conntrack --ctproto 6", related, unknown}, {"-m conntrack --ctexpire 5", tcp, unknown}, {"-m conntrack --ctexpire 5 --ctdir REPLY", tcp, no},
		{"-m state --state ESTABLISHED", tcp, yes}, {"-m state ! --state ESTABLISHED", tcp, no},
	}
}

func questionsWorld() []question {
	onBridge := func(out string) func() packet.Packet {
		return func() packet.Packet {
			return changed(bridged(), func(p *packet.Packet) { p.PhysOut = packet.Known(out) })
		}
	}
	return []question{
		{"-m set --match-set addrs src", tcp, yes}, {"-m set ! --match-set addrs src", tcp, no}, {"-m set --match-set addrs dst", tcp, no}, {"-m set --match-set pairs src,dst", tcp, unknown},
		{"-m set --match-set addrs src", unseen, unknown}, {"-m set --match-set addrs src --return-nomatch", tcp, unknown},
		{"-m set --match-set addrs src --packets-gt 5", tcp, unknown}, {"-m set --match-set addrs dst --packets-gt 5", tcp, no},
		{"-m addrtype --src-type LOCAL", tcp, yes}, {"-m addrtype --dst-type LOCAL", tcp, no}, {"-m addrtype ! --dst-type LOCAL", tcp, yes}, {"-m addrtype --dst-type LOCAL,UNICAST", tcp, yes},
		{"-m addrtype --dst-type LOCAL", unseen, unknown}, {"-m addrtype --src-type LOCAL --dst-type LOCAL", tcp, no}, {"-m addrtype --dst-type NAT,THROW", unseen, no},
		{"-m addrtype --src-type LOCAL --limit-iface-in", func() packet.Packet {
			return changed(tcp(), func(p *packet.Packet) { p.In = packet.Known("unknown0") })
		}, unknown},
		{"-m iprange --src-range 10.0.0.1-10.0.0.9", tcp, yes}, {"-m iprange ! --src-range 10.0.0.1-10.0.0.9", tcp, no}, {"-m iprange --src-range 10.0.0.1-10.0.0.9 --dst-range 10.0.0.3-10.0.0.9", tcp, no},
		{"-m physdev --physdev-in veth1", bridged, yes}, {"-m physdev --physdev-in veth1", tcp, no}, {"-m physdev ! --physdev-in veth1", tcp, yes}, {"-m physdev ! --physdev-in veth+", bridged, no},
		{"-m physdev --physdev-is-bridged", bridged, yes}, {"-m physdev --physdev-is-bridged", tcp, no}, {"-m physdev ! --physdev-is-bridged", tcp, yes}, {"-m physdev --physdev-is-in", unseen, unknown},
		{"-m physdev --physdev-out veth2 --physdev-is-bridged", bridged, yes}, {"-m physdev ! --physdev-out veth9 --physdev-is-bridged", bridged, yes},
		{"-m physdev --physdev-in veth1", func() packet.Packet {
			return changed(bridged(), func(p *packet.Packet) { p.PhysIn = packet.Known("") })
		}, yes}, // the kernel does not compare a port that is not there
		{"-m physdev --physdev-is-bridged", onBridge(""), no}, {"-m physdev ! --physdev-out veth2 --physdev-is-out", onBridge(""), no},
		{"-m rpfilter", tcp, yes}, {"-m rpfilter --invert", tcp, no}, {"-m rpfilter", unseen, unknown},
		{"-m rpfilter --invert --accept-local", func() packet.Packet { return changed(tcp(), func(p *packet.Packet) { p.In = packet.Known("eth1") }) }, unknown},
		{"-m rpfilter --loose", func() packet.Packet { return changed(tcp(), func(p *packet.Packet) { p.In = packet.Known("eth1") }) }, yes},
	}
}

func questionsHeaderFields() []question {
	return []question{
		{"-m length --length 60", tcp, yes}, {"-m length ! --length 0:59", tcp, yes}, {"-m length --length 61:", tcp, no}, {"-m length --length 60", unseen, unknown},
		{"-m ttl --ttl-eq 64", tcp, yes}, {"-m ttl ! --ttl-eq 64", tcp, no}, {"-m ttl --ttl-lt 64", tcp, no}, {"-m ttl --ttl-gt 63", tcp, yes},
		{"-m dscp --dscp 0x2e", tcp, yes}, {"-m dscp ! --dscp 0x2e", tcp, no}, {"-m tos --tos 0xb8/0xff", tcp, yes}, {"-m tos --tos 0x08/0x0c", tcp, yes}, {"-m tos --tos 0x04/0x0c", tcp, no},
		{"-m ecn --ecn-ip-ect 0", tcp, yes}, {"-m ecn ! --ecn-ip-ect 0", tcp, no}, {"-p tcp -m ecn --ecn-tcp-ece", tcp, no}, {"-p tcp -m ecn ! --ecn-tcp-cwr", tcp, yes},
		{`-m comment --comment "any words"`, unseen, yes}, {"-m limit --limit 1/sec", tcp, unknown}, {"-m statistic --mode random --probability 0.5", tcp, unknown},
		{"-m owner --uid-owner 0", tcp, unknown}, {"-m recent --rcheck", tcp, unknown}, {"-m mac --mac-source 02:00:00:00:00:01", tcp, unknown}, {`-m u32 --u32 "0=0"`, tcp, unknown},
		{"-p tcp -m tcpmss --mss 1460", tcp, unknown}, {"-m quota --quota 5", tcp, unknown}, {"-p tcp -m tcp --dport 81 -m limit --limit 1/sec", tcp, no},
	}
}

func TestEval(t *testing.T) {
	n := offlineNode(t, FamilyIPv4)
	for _, group := range [][]question{questionsHeader(), questionsTransport(), questionsConnection(), questionsWorld(), questionsHeaderFields()} {
		for i, q := range group {
			p := q.on()
			if got := n.parsed(q.rule).eval(&p); got != q.want {
				t.Errorf("question %d: rule %q of %+v: %v, want %v", i, q.rule, p, got, q.want)
			}
		}
	}
}

func TestEvalIPv6(t *testing.T) {
	six := func() packet.Packet {
		return changed(tcp(), func(p *packet.Packet) {
			p.Family, p.Src, p.Dst = FamilyIPv6, netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
		})
	}
	ping := func() packet.Packet {
		return changed(six(), func(p *packet.Packet) {
			p.Proto, p.ICMPType, p.ICMPCode = protoICMPv6, packet.Known(uint8(128)), packet.Known(uint8(0))
		})
	}
	multicast := func() packet.Packet {
		return changed(six(), func(p *packet.Packet) { p.Dst = netip.MustParseAddr("ff02::1") })
	}
	n := offlineNode(t, FamilyIPv6)
	for _, q := range []question{
		{"-s fd00::/64", six, yes}, {"! -s fd00::/64", six, no}, {"-s fd01::/16", six, no}, {"-d fd00::2/ffff::ffff", six, yes},
		{"-p tcp", six, yes}, {"! -p tcp", six, no}, {"-p udp", six, no}, {"! -p udp", six, yes}, {"", six, yes},
		{"-p ipv6-icmp -m icmp6 --icmpv6-type 128", ping, yes}, {"-p ipv6-icmp -m icmp6 ! --icmpv6-type 128", ping, no}, {"-p ipv6-icmp -m icmp6 --icmpv6-type 255", ping, no},
		{"-m addrtype --src-type LOCAL", six, yes}, {"-m addrtype --dst-type MULTICAST", multicast, yes}, {"-m addrtype --dst-type MULTICAST", six, no},
		{"-m addrtype --dst-type UNICAST", six, yes}, {"-m addrtype --dst-type UNICAST", multicast, no}, {"-m addrtype --src-type UNICAST,LOCAL --dst-type UNSPEC", six, no},
		{"-m hl --hl-gt 63", six, yes}, {"-m iprange --dst-range fd00::1-fd00::3", six, yes}, {"-m frag --fragmore", six, unknown},
	} {
		p := q.on()
		if got := n.parsed(q.rule).eval(&p); got != q.want {
			t.Errorf("rule %q of %+v: %v, want %v", q.rule, p, got, q.want)
		}
	}
}

// offlineNode makes rules without a kernel that has their extensions.
func offlineNode(t *testing.T, family string) node {
	n := inNamespace(t, family)
	n.makeSets()
	n.env = append(n.env, "LD_PRELOAD="+buildFakeKernel(t), "FAKEKERNEL_REV=9")
	return n
}

// oneRule is a rule as this package decodes it.
type oneRule struct {
	entry   Entry
	matches []Match
	target  Target
}

func (r oneRule) eval(p *packet.Packet) packet.Answer {
	a := r.entry.Eval(p)
	for _, m := range r.matches {
		a = a.And(m.Eval(p))
	}
	return a
}

// parsed has the real tool make a rule and decodes it.
func (n node) parsed(rule string) oneRule {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "table")
	n.env = append(append([]string{}, n.env...), "FAKEKERNEL_FILE="+file)
	const table = "mangle"
	input := fmt.Sprintf("*%s\n:%s -\n-A %s %s\nCOMMIT\n", table, chain, chain, rule)
	if _, err := n.run(input, n.tool("restore"), "--noflush"); err != nil {
		n.t.Fatalf("rule %q: %v", rule, err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	var out []oneRule
	n.walk(b[84:], func(entry []byte, at, target int) { out = append(out, n.decode(entry, at, target, kernelSets{n})) })
	if len(out) != 1 {
		n.t.Fatalf("rule %q: %d rules in the chain, want 1", rule, len(out))
	}
	return out[0]
}

// effect is what a target does to the marks and header fields of a packet.
type effect struct {
	rule string
	on   func() packet.Packet
	kind Kind
	want string
}

func TestTargets(t *testing.T) {
	n := offlineNode(t, FamilyIPv4)
	noMark := func() packet.Packet { return changed(tcp(), func(p *packet.Packet) { p.Mark = packet.Fact[uint32]{} }) }
	for _, e := range []effect{
		{"-j MARK --set-xmark 0x4/0x4", tcp, Continue, "mark 0x10004 ct 0x7 tos b8 ttl 64"},
		{"-j MARK --set-mark 5", noMark, Continue, "mark 0x5 ct 0x7 tos b8 ttl 64"},
		{"-j MARK --or-mark 5", noMark, Continue, "mark ? ct 0x7 tos b8 ttl 64"},
		{"-j MARK --and-mark 0xffff", tcp, Continue, "mark 0x0 ct 0x7 tos b8 ttl 64"},
		{"-j MARK --xor-mark 0x10001", tcp, Continue, "mark 0x1 ct 0x7 tos b8 ttl 64"},
		{"-j CONNMARK --set-mark 9", tcp, Continue, "mark 0x10000 ct 0x9 tos b8 ttl 64"},
		{"-j CONNMARK --set-mark 9", invalid, Continue, "mark 0x10000 ct ? tos b8 ttl 64"},
		{"-j CONNMARK --restore-mark", tcp, Continue, "mark 0x7 ct 0x7 tos b8 ttl 64"},
		{"-j CONNMARK --restore-mark --mask 0x3", tcp, Continue, "mark 0x10003 ct 0x7 tos b8 ttl 64"},
		{"-j CONNMARK --restore-mark", invalid, Continue, "mark 0x10000 ct ? tos b8 ttl 64"},
		{"-j CONNMARK --restore-mark", unseen, Continue, "mark ? ct ? tos ? ttl ?"},
		{"-j CONNMARK --save-mark", tcp, Continue, "mark 0x10000 ct 0x10000 tos b8 ttl 64"},
		{"-j CONNMARK --save-mark --right-shift-mark 8", tcp, Continue, "mark 0x10000 ct 0x100 tos b8 ttl 64"},
		{"-j CONNMARK --restore-mark --left-shift-mark 4", tcp, Continue, "mark 0x70 ct 0x7 tos b8 ttl 64"},
		{"-j HMARK --hmark-tuple src,dst --hmark-mod 10 --hmark-rnd 1", tcp, Continue, "mark ? ct 0x7 tos b8 ttl 64"},
		{"-j SET --map-set marked src --map-mark", tcp, Continue, "mark ? ct 0x7 tos b8 ttl 64"},
		{"-j SET --add-set addrs src", tcp, Continue, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-j DSCP --set-dscp 0", tcp, Continue, "mark 0x10000 ct 0x7 tos 00 ttl 64"},
		{"-j TOS --set-tos 0x04/0x0c", tcp, Continue, "mark 0x10000 ct 0x7 tos b4 ttl 64"},
		{"-j TOS --or-tos 1", unseen, Continue, "mark ? ct ? tos ? ttl ?"},
		{"-j ECN --ecn-ip-ect 2", tcp, Continue, "mark 0x10000 ct 0x7 tos ba ttl 64"},
		{"-j TTL --ttl-dec 5", tcp, Continue, "mark 0x10000 ct 0x7 tos b8 ttl 59"},
		{"-j TTL --ttl-dec 65", tcp, Continue, "mark 0x10000 ct 0x7 tos b8 ttl 0"},
		{"-j TTL --ttl-inc 250", tcp, Continue, "mark 0x10000 ct 0x7 tos b8 ttl 255"},
		{"-j TTL --ttl-set 9", unseen, Continue, "mark ? ct ? tos ? ttl 9"},
		{"-j LOG", tcp, Continue, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-j CT --notrack", tcp, Continue, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-p tcp -j REJECT --reject-with tcp-reset", tcp, Reject, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-j DNAT --to-destination 10.0.0.9", tcp, Accept, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-j MASQUERADE", tcp, Accept, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-j NFQUEUE --queue-num 1", tcp, Queue, "mark 0x10000 ct 0x7 tos b8 ttl 64"},
		{"-p tcp -j TPROXY --on-port 1 --tproxy-mark 1", tcp, Undecided, "mark ? ct 0x7 tos b8 ttl 64"},
	} {
		p := e.on()
		target := n.parsed(e.rule).target
		target.Apply(&p)
		if got := told(p); got != e.want || target.Kind != e.kind {
			t.Errorf("%s: %v, %s; want %v, %s", e.rule, target.Kind, got, e.kind, e.want)
		}
	}
	if with := n.parsed("-j REJECT --reject-with icmp-host-prohibited").target.With; with != "icmp-host-prohibited" {
		t.Errorf("REJECT tells the sender %q", with)
	}
}

// told is the part of a packet that targets change.
func told(p packet.Packet) string {
	show := func(known bool, format string, v any) string {
		if !known {
			return "?"
		}
		return fmt.Sprintf(format, v)
	}
	return fmt.Sprintf("mark %s ct %s tos %s ttl %s", show(p.Mark.Known, "0x%x", p.Mark.Value), show(p.CT.Mark.Known, "0x%x", p.CT.Mark.Value),
		show(p.TOS.Known, "%02x", p.TOS.Value), show(p.TTL.Known, "%d", p.TTL.Value))
}
