// SPDX-License-Identifier: Apache-2.0

package ipset_test

// These tests make sets of every type this kernel has in a network namespace
// of their own, and compare what a packet is told with what the ipset tool says
// of the same element.

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"golang.org/x/sys/unix"
)

const sets = `create ips hash:ip family inet counters comment
add ips 10.0.0.1
add ips 10.0.0.2
create ips24 hash:ip family inet netmask 24
add ips24 10.1.1.0
create ips6 hash:ip family inet6
add ips6 fd00::1
create timed hash:ip family inet timeout 600
add timed 10.0.0.9
create nets hash:net family inet counters
add nets 10.2.0.0/16
add nets 10.2.3.0/24 nomatch
add nets 10.2.3.4/32
create nets6 hash:net family inet6
add nets6 fd00:2::/32
create ipport hash:ip,port family inet
add ipport 10.0.0.1,tcp:80
add ipport 10.0.0.1,udp:53
add ipport 10.0.0.1,icmp:echo-request
add ipport 10.0.0.1,gre:0
create ipport6 hash:ip,port family inet6
add ipport6 fd00::1,tcp:80
add ipport6 fd00::1,icmpv6:echo-request
create ipportip hash:ip,port,ip family inet
add ipportip 10.0.0.1,tcp:80,10.0.0.2
create ipportnet hash:ip,port,net family inet
add ipportnet 10.0.0.1,tcp:80,10.9.0.0/16
create netport hash:net,port family inet
add netport 10.3.0.0/16,tcp:443
create netiface hash:net,iface family inet
add netiface 10.4.0.0/16,cali1
create range bitmap:ip range 10.5.0.0-10.5.0.255
add range 10.5.0.7
create ports bitmap:port range 1-1024
add ports 80
create list list:set
add list ips
add list ipport
create empty list:set
`

// open makes a namespace with the sets above and opens them.
func open(t *testing.T) (*nodetest.Cluster, *ipset.Sets) {
	t.Helper()
	c := nodetest.New(t)
	c.Add("s")
	c.InStdin("s", sets, "ipset", "restore")
	return c, openIn(t, c, "s")
}

func openIn(t *testing.T, c *nodetest.Cluster, name string) *ipset.Sets {
	t.Helper()
	ns, err := node.OpenNamespaces(c.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var s *ipset.Sets
	if err := ns.Do(c.Inode(name), func() (err error) { s, err = ipset.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNamesAreThoseOfTheTool(t *testing.T) {
	c, s := open(t)
	want := strings.Fields(c.In("s", "ipset list -n"))
	names, err := s.Names()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(want) {
		t.Errorf("%d sets, ipset lists %d", len(names), len(want))
	}
	for index, name := range names {
		if got, err := s.Name(index); err != nil || got != name {
			t.Errorf("set %d: %q, %v, want %q", index, got, err, name)
		}
		set, err := s.Set(name)
		if err != nil {
			t.Fatal(err)
		}
		list := c.In("s", "ipset list -t "+name)
		if !strings.Contains(list, "Type: "+set.Type+"\n") {
			t.Errorf("%s is a %s, ipset says:\n%s", name, set.Type, list)
		}
	}
	t.Logf("%d sets compared", len(names))
}

func TestWhatIsNotThere(t *testing.T) {
	_, s := open(t)
	for _, index := range []uint16{200, 65534} {
		if _, err := s.Name(index); !errors.Is(err, ipset.ErrNoSet) {
			t.Errorf("set %d: %v, want ErrNoSet", index, err)
		}
	}
	for _, name := range []string{"none", "", strings.Repeat("x", 40)} {
		if _, err := s.Test(name, []bool{true}, pkt("ip", "10.0.0.1", "10.0.0.2", 6, 1, 2)); !errors.Is(err, ipset.ErrNoSet) {
			t.Errorf("set %q: %v, want ErrNoSet", name, err)
		}
	}
}

func TestAnotherNamespacesSetsAreNotSeen(t *testing.T) {
	c, _ := open(t)
	c.Add("other")
	names, err := openIn(t, c, "other").Names()
	if err != nil || len(names) != 0 {
		t.Errorf("sets %v, %v, want none", names, err)
	}
}

// pkt is a packet that came in by cali1 with ports (or ICMP type and code).
func pkt(family, src, dst string, proto uint8, a, b uint16) *packet.Packet {
	p := &packet.Packet{
		Family: family, Hook: "FORWARD", Proto: proto,
		Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
		In: packet.Known("cali1"), Out: packet.Known("eth0"),
	}
	if proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6 {
		p.ICMPType, p.ICMPCode = packet.Known(uint8(a)), packet.Known(uint8(b))
	} else {
		p.SrcPort, p.DstPort = packet.Known(a), packet.Known(b)
	}
	return p
}

func TestPacketsAgainstTheTool(t *testing.T) {
	c, s := open(t)
	before := c.In("s", "ipset save -sorted")
	src, dst := true, false
	web := pkt("ip", "10.0.0.1", "10.0.0.2", unix.IPPROTO_TCP, 80, 443)
	tests := []struct {
		set     string
		dirs    []bool
		p       *packet.Packet
		element string // for ipset test; "" where the tool has no word for it
		want    packet.Answer
	}{
		{"ips", []bool{src}, web, "10.0.0.1", packet.Yes},
		{"ips", []bool{src}, pkt("ip", "10.0.0.7", "10.0.0.2", 6, 1, 2), "10.0.0.7", packet.No},
		{"ips", []bool{src, dst}, web, "10.0.0.1", packet.Yes}, // more flags than needed
		{"ips", []bool{src}, pkt("ip6", "fd00::1", "fd00::2", 6, 1, 2), "", packet.No},
		{"ips", []bool{src}, &packet.Packet{Family: "bridge"}, "", packet.Unknown},
		{"ips24", []bool{src}, pkt("ip", "10.1.1.77", "10.0.0.2", 6, 1, 2), "10.1.1.77", packet.Yes},
		{"ips24", []bool{src}, pkt("ip", "10.1.2.77", "10.0.0.2", 6, 1, 2), "10.1.2.77", packet.No},
		{"ips6", []bool{dst}, pkt("ip6", "fd00::2", "fd00::1", 6, 1, 2), "fd00::1", packet.Yes},
		{"ips6", []bool{src}, pkt("ip6", "fd00::2", "fd00::1", 6, 1, 2), "fd00::2", packet.No},
		{"timed", []bool{src}, pkt("ip", "10.0.0.9", "10.0.0.2", 6, 1, 2), "10.0.0.9", packet.Yes},
		{"nets", []bool{src}, pkt("ip", "10.2.9.9", "10.0.0.2", 6, 1, 2), "10.2.9.9", packet.Yes},
		{"nets", []bool{src}, pkt("ip", "10.2.3.9", "10.0.0.2", 6, 1, 2), "10.2.3.9", packet.No}, // nomatch
		{"nets", []bool{src}, pkt("ip", "10.2.3.4", "10.0.0.2", 6, 1, 2), "10.2.3.4", packet.Yes},
		{"nets", []bool{src}, pkt("ip", "10.9.3.4", "10.0.0.2", 6, 1, 2), "10.9.3.4", packet.No},
		{"nets6", []bool{src}, pkt("ip6", "fd00:2:9::1", "fd00::2", 6, 1, 2), "fd00:2:9::1", packet.Yes},
		{"nets6", []bool{src}, pkt("ip6", "fd00:3:9::1", "fd00::2", 6, 1, 2), "fd00:3:9::1", packet.No},
		{"ipport", []bool{src, src}, web, "10.0.0.1,tcp:80", packet.Yes},
		{"ipport", []bool{src, dst}, web, "10.0.0.1,tcp:443", packet.No},
		{"ipport", []bool{src}, web, "", packet.No}, // too few flags
		{"ipport", []bool{src, dst}, pkt("ip", "10.0.0.1", "10.0.0.2", 17, 9, 53), "10.0.0.1,udp:53", packet.Yes},
		{"ipport", []bool{src, dst}, pkt("ip", "10.0.0.1", "10.0.0.2", 1, 8, 0), "10.0.0.1,icmp:8/0", packet.Yes},
		{"ipport", []bool{src, dst}, pkt("ip", "10.0.0.1", "10.0.0.2", 1, 0, 0), "10.0.0.1,icmp:0/0", packet.No},
		{"ipport", []bool{src, dst}, pkt("ip", "10.0.0.1", "10.0.0.2", 47, 0, 0), "10.0.0.1,gre:0", packet.Yes},
		{"ipport", []bool{src, dst}, &packet.Packet{Family: "ip", Src: web.Src, Dst: web.Dst, Proto: 6}, "", packet.Unknown},
		{"ipport", []bool{src, dst}, &packet.Packet{Family: "ip", Src: web.Src, Dst: web.Dst, Proto: 6, Fragment: packet.Known(true)}, "", packet.No},
		{"ipport6", []bool{src, dst}, pkt("ip6", "fd00::1", "fd00::2", 6, 1, 80), "fd00::1,tcp:80", packet.Yes},
		{"ipport6", []bool{src, dst}, pkt("ip6", "fd00::1", "fd00::2", 58, 128, 0), "fd00::1,icmpv6:128/0", packet.Yes},
		{"ipport6", []bool{src, dst}, pkt("ip6", "fd00::1", "fd00::2", 58, 129, 0), "fd00::1,icmpv6:129/0", packet.No},
		{"ipportip", []bool{src, src, dst}, web, "10.0.0.1,tcp:80,10.0.0.2", packet.Yes},
		{"ipportip", []bool{src, src, src}, web, "10.0.0.1,tcp:80,10.0.0.1", packet.No},
		{"ipportnet", []bool{src, dst, dst}, pkt("ip", "10.0.0.1", "10.9.8.7", 6, 1, 80), "10.0.0.1,tcp:80,10.9.8.7", packet.Yes},
		{"ipportnet", []bool{src, dst, dst}, pkt("ip", "10.0.0.1", "10.8.8.7", 6, 1, 80), "10.0.0.1,tcp:80,10.8.8.7", packet.No},
		{"netport", []bool{src, dst}, pkt("ip", "10.3.4.5", "10.0.0.1", 6, 1, 443), "10.3.4.5,tcp:443", packet.Yes},
		{"netport", []bool{src, dst}, pkt("ip", "10.3.4.5", "10.0.0.1", 17, 1, 443), "10.3.4.5,udp:443", packet.No},
		{"netiface", []bool{src, src}, pkt("ip", "10.4.4.5", "10.0.0.1", 6, 1, 2), "10.4.4.5,cali1", packet.Yes},
		{"netiface", []bool{src, dst}, pkt("ip", "10.4.4.5", "10.0.0.1", 6, 1, 2), "10.4.4.5,eth0", packet.No},
		{"netiface", []bool{src, src}, &packet.Packet{Family: "ip", Src: web.Src, Dst: web.Dst}, "", packet.Unknown},
		{"range", []bool{src}, pkt("ip", "10.5.0.7", "10.0.0.1", 6, 1, 2), "10.5.0.7", packet.Yes},
		{"range", []bool{src}, pkt("ip", "10.5.0.8", "10.0.0.1", 6, 1, 2), "10.5.0.8", packet.No},
		{"range", []bool{src}, pkt("ip", "10.6.0.8", "10.0.0.1", 6, 1, 2), "", packet.No}, // out of its range
		{"ports", []bool{dst}, pkt("ip", "10.5.0.8", "10.0.0.1", 6, 1, 80), "80", packet.Yes},
		{"ports", []bool{dst}, pkt("ip", "10.5.0.8", "10.0.0.1", 6, 80, 81), "81", packet.No},
		{"ports", []bool{dst}, pkt("ip", "10.5.0.8", "10.0.0.1", 132, 1, 80), "", packet.No}, // SCTP
		{"list", []bool{src}, web, "", packet.Yes},
		{"list", []bool{src, dst}, pkt("ip", "10.0.0.1", "10.0.0.2", 17, 9, 53), "", packet.Yes},
		{"list", []bool{dst, dst}, pkt("ip", "10.0.0.1", "10.0.0.7", 17, 9, 53), "", packet.No},
		{"empty", []bool{src}, web, "", packet.No},
	}
	asked := 0
	for _, test := range tests {
		got, err := s.Test(test.set, test.dirs, test.p)
		if err != nil || got != test.want {
			t.Errorf("%s %v %v:%v -> %v:%v proto %d: %v, %v, want %v", test.set, test.dirs, test.p.Src,
				test.p.SrcPort.Value, test.p.Dst, test.p.DstPort.Value, test.p.Proto, got, err, test.want)
		}
		if test.element == "" {
			continue
		}
		asked++
		if tool := ask(t, c, test.set, test.element); tool != got {
			t.Errorf("%s %s: %v, ipset says %v", test.set, test.element, got, tool)
		}
	}
	if after := c.In("s", "ipset save -sorted"); after != before {
		t.Errorf("asking changed the sets:\n%s\nwas:\n%s", after, before)
	}
	t.Logf("%d packets, %d compared with ipset test", len(tests), asked)
}

// ask is the tool's answer.
func ask(t *testing.T, c *nodetest.Cluster, set, element string) packet.Answer {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", c.Name("s"), "ipset", "test", set, element).CombinedOutput()
	switch {
	case err == nil:
		return packet.Yes
	case strings.Contains(string(out), "is NOT in set"):
		return packet.No
	}
	t.Fatalf("ipset test %s %s: %v: %s", set, element, err, out)
	return packet.Unknown
}
