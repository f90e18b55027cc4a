// SPDX-License-Identifier: Apache-2.0

package xt

// Evaluation against the kernel's own: real packets pass the corpus's rules in
// OUTPUT, and each rule's counter has to say what Eval says, wherever Eval says
// anything.

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// leastDecided is how many answers have to be compared with counters.
const leastDecided = 400

// loopback is the world of a namespace that has nothing but lo.
type loopback struct{}

func (loopback) AddrType(_ netip.Addr, kind, _ string) packet.Answer {
	return packet.Of(kind == "local") // only ever asked for lo's addresses
}
func (loopback) IPSet(string, []bool, *packet.Packet) packet.Answer   { return packet.No } // all are empty
func (loopback) ReversePath(*packet.Packet, bool, bool) packet.Answer { return packet.Unknown }

// sent is a way to send one packet from the host to itself: the rule that picks
// it out, and what the rules see of it.
type sent struct {
	name   string
	pick   string
	send   func(n node, host string) error
	facts  func(p *packet.Packet)
	length map[string]uint32
}

func sentPackets() []sent {
	const from, to = 40001, 5300
	ports := func(p *packet.Packet) {
		p.SrcPort, p.DstPort = packet.Known(uint16(from)), packet.Known(uint16(to))
	}
	return []sent{
		{"udp", "-p udp -m udp --dport 5300", sendUDP, func(p *packet.Packet) { p.Proto = protoUDP; ports(p) },
			map[string]uint32{FamilyIPv4: 33, FamilyIPv6: 53}},
		{"tcp", "-p tcp -m tcp --syn", sendSYN, func(p *packet.Packet) {
			p.Proto, p.TCPFlags = protoTCP, packet.Known(uint8(0x02))
			ports(p)
		}, map[string]uint32{FamilyIPv4: 60, FamilyIPv6: 80}},
		{"ping", "", sendPing, func(p *packet.Packet) {
			p.Proto, p.ICMPType, p.ICMPCode = protoICMP, packet.Known(uint8(8)), packet.Known(uint8(0))
			if p.Family == FamilyIPv6 {
				p.Proto, p.ICMPType = protoICMPv6, packet.Known(uint8(128))
			}
		}, map[string]uint32{FamilyIPv4: 84, FamilyIPv6: 104}},
	}
}

func sendUDP(_ node, host string) error {
	to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, "5300"))
	if err != nil {
		return err
	}
	sink, err := net.ListenUDP("udp", to) // so that nobody answers
	if err != nil {
		return err
	}
	defer sink.Close()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: to.IP, Port: 40001}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	return err
}

// sendSYN has no listener: the answer is a reset, which the picking rule leaves
// out.
func sendSYN(_ node, host string) error {
	ip := net.ParseIP(host)
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: ip, Port: 40001}, &net.TCPAddr{IP: ip, Port: 5300})
	if err == nil {
		c.Close()
		return fmt.Errorf("somebody listens on port 5300 of %s", host)
	}
	if !strings.Contains(err.Error(), "refused") {
		return err
	}
	return nil
}

func sendPing(n node, host string) error {
	_, err := n.run("", "ping", "-c1", "-W2", host)
	return err
}

func TestEvalAgainstCounters(t *testing.T) {
	decided := 0
	for _, family := range []string{FamilyIPv4, FamilyIPv6} {
		for _, s := range sentPackets() {
			t.Run(family+" "+s.name, func(t *testing.T) { decided += againstCounters(t, inNamespace(t, family), s) })
		}
	}
	if decided == 0 && !t.Failed() {
		t.Skip("no packet could be tried; see above")
	}
	t.Logf("%d answers compared with rule counters", decided)
	if decided < leastDecided {
		t.Errorf("only %d answers could be compared, want at least %d", decided, leastDecided)
	}
}

func againstCounters(t *testing.T, n node, s sent) (decided int) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	n.makeSets()
	n.divert(s)
	for _, group := range corpus() {
		if group.table != "filter" || group.family != "" && group.family != n.family {
			continue
		}
		matching := slices.DeleteFunc(n.withSets(group.list), func(rule string) bool { return strings.Contains(rule, "-j ") })
		// What the kernel refuses, here or in OUTPUT, is the other tests' matter.
		n.addAll("filter", matching, func(string, error) {})
	}
	host := map[string]string{FamilyIPv4: "127.0.0.1", FamilyIPv6: "::1"}[n.family]
	if err := s.send(n, host); err != nil {
		t.Fatal(err)
	}
	p := n.onLoopback(s, netip.MustParseAddr(host))
	lines, i, counters := n.saved("filter"), 0, map[string]int{FamilyIPv4: 96, FamilyIPv6: 152}[n.family]
	n.walk(n.entries("filter"), func(entry []byte, at, target int) {
		passed := binary.NativeEndian.Uint64(entry[counters:])
		if passed > 1 {
			t.Errorf("rule %q: %d packets, want one at most: the wrong packets were picked", lines[i], passed)
		}
		got := n.decode(entry, at, target, kernelSets{n}).eval(&p)
		if want := packet.Of(passed > 0); got != packet.Unknown {
			decided++
			if got != want {
				t.Errorf("rule %q: we say %v, the kernel %v", lines[i], got, want)
			}
		}
		i++
	})
	return decided
}

// divert sends the picked packets of OUTPUT, and only those, through the chain.
func (n node) divert(s sent) {
	n.t.Helper()
	pick := s.pick
	if pick == "" {
		pick = map[string]string{
			FamilyIPv4: "-p icmp -m icmp --icmp-type 8", FamilyIPv6: "-p ipv6-icmp -m icmp6 --icmpv6-type 128",
		}[n.family]
	}
	n.chains("filter")
	input := fmt.Sprintf("*filter\n-A OUTPUT %s -j %s\nCOMMIT\n", pick, chain)
	if _, err := n.run(input, n.tool("restore"), "--noflush"); err != nil {
		n.t.Fatal(err)
	}
}

// onLoopback is what the filter table sees of a packet that begins a connection
// of the host with itself.
func (n node) onLoopback(s sent, host netip.Addr) packet.Packet {
	p := packet.Packet{
		Family: n.family, Hook: "OUTPUT", Src: host, Dst: host,
		Length: packet.Known(s.length[n.family]), TTL: packet.Known(uint8(64)), TOS: packet.Known(uint8(0)), Fragment: packet.Known(false),
		In: packet.Known(""), Out: packet.Known("lo"), PhysIn: packet.Known(""), PhysOut: packet.Known(""), Mark: packet.Known(uint32(0)),
		World: loopback{},
	}
	s.facts(&p)
	tuple := packet.Tuple{Src: host, Dst: host, SrcPort: p.SrcPort.Value, DstPort: p.DstPort.Value}
	p.CT = packet.Conntrack{
		State: packet.Known(packet.StateNew), Reply: packet.Known(false), Status: packet.Known(uint32(0)), Mark: packet.Known(uint32(0)),
	}
	if p.SrcPort.Known { // an ICMP tuple has an identifier for a port, which is not known here
		p.CT.Original = packet.Known(tuple)
		p.CT.Answer = packet.Known(packet.Tuple{Src: host, Dst: host, SrcPort: tuple.DstPort, DstPort: tuple.SrcPort})
	}
	return p
}
