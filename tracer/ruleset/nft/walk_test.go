// SPDX-License-Identifier: Apache-2.0

package nft

// Real packets through real rules: the counters of the rules tell which matched,
// and Walk has to say the same.
//
//	a 10.1.0.2 ---- 10.1.0.1 n 10.2.0.1 ---- 10.2.0.2 b
//	  fd01::2       fd01::1    fd02::1       fd02::2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// walkRules count what passes and let it go on; the last one drops, so that
// there is no answer that would count too.
const walkRules = `
table inet w {
	set four { type ipv4_addr; elements = { 10.1.0.2, 10.9.9.9 } }
	set nets { type ipv4_addr; flags interval; elements = { 10.2.0.0/24, 192.168.0.1-192.168.0.9 } }
	set pairs { type ipv4_addr . inet_proto . inet_service; elements = { 10.2.0.2 . udp . 53, 10.2.0.2 . tcp . 80 } }
	set ranges { type ipv4_addr . inet_service; flags interval; elements = { 10.2.0.0/24 . 50-60, 10.3.0.0/16 . 1-65535 } }
	set names { type ifname; elements = { "toa", "eth9" } }
	set wild { type ifname; flags interval; elements = { "to*", "x" } }
	map verdicts { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.2.0.2 . udp . 53 : jump sub, 10.2.0.2 . tcp . 80 : goto away } }
	map marks { type inet_service : mark; elements = { 53 : 7, 80 : 9 } }
	chain sub {
		counter
		udp dport 53 counter return
		counter
	}
	chain away { counter; meta mark 9 counter drop; counter drop; }
	chain deeper { ip protocol icmp counter jump sub; counter; }
	chain first {
		type filter hook forward priority -10; policy accept;
		counter
		meta nfproto ipv4 counter
		meta nfproto ipv6 counter
		ip saddr 10.1.0.2 counter
		ip saddr != 10.1.0.2 counter
		ip saddr 10.0.0.0/8 counter
		ip daddr 10.2.0.0/25 counter
		ip daddr 10.2.0.128/25 counter
		ip daddr & 0.0.0.255 == 0.0.0.2 counter
		ip daddr 10.2.0.1-10.2.0.9 counter
		ip daddr != 10.2.0.1-10.2.0.9 counter
		ip saddr @four counter
		ip saddr != @four counter
		ip daddr @nets counter
		ip saddr @nets counter
		ip daddr . meta l4proto . th dport @pairs counter
		ip daddr . th dport @ranges counter
		ip6 saddr fd01::2 counter
		ip6 saddr fd01::/16 counter
		ip6 daddr != fd02::/16 counter
		iifname "toa" counter
		iifname @names counter
		iifname @wild counter
		oifname "to*" counter
		oifname != "tob" counter
		iif "toa" counter
		iifname . oifname { "toa" . "tob" } counter
		meta l4proto udp counter
		meta l4proto { tcp, udp } counter
		meta l4proto != icmp counter
		ip protocol icmp counter
		udp dport 53 counter
		udp dport != 53 counter
		udp dport 1-100 counter
		udp sport 5000 counter
		th dport { 53, 80 } counter
		th dport { 50-60, 443 } counter
		tcp dport 80 counter
		tcp flags syn counter
		tcp flags & (syn | ack) == syn counter
		tcp flags ! syn counter
		icmp type echo-request counter
		icmp type != echo-request counter
		icmp type { echo-reply, 8 } counter
		icmpv6 type echo-request counter
		ct state new counter
		ct state established,related counter
		ct state invalid counter
		ct direction original counter
		ct state vmap { established : accept, new : jump deeper }
		meta mark 0 counter
		meta mark set th dport map @marks
		meta mark 7 counter
		meta mark & 0x5 == 0x5 counter
		meta mark set meta mark | 0x100 counter
		meta mark & 0xff00 == 0x100 counter
		meta mark set meta mark << 4 counter
		meta mark 0x1070 counter
		meta mark set 9
		ip ttl 63 counter
		ip ttl < 64 counter
		ip frag-off & 0x1fff == 0 counter
		ip dscp cs0 counter
		ip dscp != cs0 counter
		ip6 hoplimit 63 counter
		meta length < 200 counter
		ip version 4 counter
		ip dscp set cs1
		ip dscp cs1 counter
		jump deeper
		ip daddr . meta l4proto . th dport vmap @verdicts
		meta protocol ip6 counter
		ether type ip counter
		@nh,72,8 0x11 counter
		counter drop
	}
}`

// crossing is the three namespaces.
func crossing(t *testing.T) *nodetest.Cluster {
	c := nodetest.New(t)
	c.Add("a", "n", "b")
	for i, end := range []string{"a", "b"} {
		dev := "to" + end
		c.In("n",
			"ip link add "+dev+" type veth peer name eth0 netns @"+end,
			fmt.Sprintf("ip addr add 10.%d.0.1/24 dev %s", i+1, dev), fmt.Sprintf("ip addr add fd0%d::1/64 dev %s nodad", i+1, dev),
			"ip link set "+dev+" up")
		c.In(end,
			fmt.Sprintf("ip addr add 10.%d.0.2/24 dev eth0", i+1), fmt.Sprintf("ip addr add fd0%d::2/64 dev eth0 nodad", i+1),
			"ip link set eth0 up",
			fmt.Sprintf("ip route add default via 10.%d.0.1", i+1), fmt.Sprintf("ip -6 route add default via fd0%d::1", i+1))
	}
	c.In("n", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	return c
}

// probe is a packet sent and what Walk is told of it.
type probe struct {
	name string
	send func() error
	p    packet.Packet
	// open is how many rules may be left open: those that look at the link
	// layer, and for ICMP those that take its checksum for a port.
	open int
}

// dial sends the first packet of a connection; nobody answers.
func dial(network, local, remote string) func() error {
	return func() error {
		d := net.Dialer{Timeout: 200 * time.Millisecond}
		if local != "" {
			a, err := net.ResolveUDPAddr("udp", local)
			if err != nil {
				return err
			}
			d.LocalAddr = a
		}
		conn, err := d.Dial(network, remote)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
		return conn.Close()
	}
}

// echo sends an echo request from a raw socket.
func echo() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	msg := []byte{8, 0, 0xf7, 0xfe, 0, 0, 0, 1}
	return unix.Sendto(fd, msg, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 2, 0, 2}})
}

func probes() []probe {
	base := func(family, src, dst string, proto uint8) packet.Packet {
		return packet.Packet{
			Family: family, Hook: "FORWARD", Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: proto,
			TTL: packet.Known(uint8(63)), TOS: packet.Known(uint8(0)), Fragment: packet.Known(false),
			In: packet.Known("toa"), Out: packet.Known("tob"), Mark: packet.Known(uint32(0)),
			Length: packet.Known(uint32(60)),
			CT:     packet.Conntrack{State: packet.Known(packet.StateNew), Reply: packet.Known(false)},
		}
	}
	udp, udp6 := base("ip", "10.1.0.2", "10.2.0.2", 17), base("ip6", "fd01::2", "fd02::2", 17)
	for _, p := range []*packet.Packet{&udp, &udp6} {
		p.SrcPort, p.DstPort = packet.Known(uint16(5000)), packet.Known(uint16(53))
	}
	tcp := base("ip", "10.1.0.2", "10.2.0.2", 6)
	tcp.DstPort, tcp.TCPFlags = packet.Known(uint16(80)), packet.Known(uint8(2))
	icmp := base("ip", "10.1.0.2", "10.2.0.2", 1)
	icmp.ICMPType, icmp.ICMPCode = packet.Known(uint8(8)), packet.Known(uint8(0))
	return []probe{
		{"udp", dial("udp4", "10.1.0.2:5000", "10.2.0.2:53"), udp, 1},
		{"tcp", dial("tcp4", "", "10.2.0.2:80"), tcp, 0},
		{"icmp", echo, icmp, 22},
		{"udp6", dial("udp6", "[fd01::2]:5000", "[fd02::2]:53"), udp6, 1},
	}
}

var counted = regexp.MustCompile(`counter packets (\d+) bytes \d+.*# handle (\d+)$`)

// counters gives the packets each rule counted, by handle.
func counters(t *testing.T, c *nodetest.Cluster) map[uint64]int {
	t.Helper()
	all := map[uint64]int{}
	for line := range strings.SplitSeq(c.In("n", "nft -a list table inet w"), "\n") {
		if m := counted.FindStringSubmatch(line); m != nil {
			n, err1 := strconv.Atoi(m[1])
			h, err2 := strconv.ParseUint(m[2], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			all[h] = n
		}
	}
	return all
}

func TestWalkMatchesWhatTheCountersSay(t *testing.T) {
	c := crossing(t)
	c.InStdin("n", walkRules, "nft", "-f", "-")
	var rs *Ruleset
	inNetns(t, c.Path("n"), func() (err error) { rs, err = Read(t.Context()); return err })
	for _, pr := range probes() {
		t.Run(pr.name, func(t *testing.T) {
			before := counters(t, c)
			inNetns(t, c.Path("a"), pr.send)
			after := settled(t, c, before)
			w, err := rs.Walk(&pr.p, nil, FamilyInet, "w", "first")
			if err != nil {
				t.Fatal(err)
			}
			compareSteps(t, rs, w, before, after, pr.open)
		})
	}
}

// settled waits until the packet has been counted.
func settled(t *testing.T, c *nodetest.Cluster, before map[uint64]int) map[uint64]int {
	t.Helper()
	for range 50 {
		after := counters(t, c)
		for h, n := range after {
			if n > before[h] {
				time.Sleep(20 * time.Millisecond)
				return counters(t, c)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the packet was not counted")
	return nil
}

// compareSteps compares the rules a walk says match with those that counted.
func compareSteps(t *testing.T, rs *Ruleset, w Walk, before, after map[uint64]int, mayOpen int) {
	t.Helper()
	o, certain := w.Certain()
	if !certain {
		t.Fatalf("%d outcomes, complete %v, not known: %v", len(w.Outcomes), w.Complete, w.Unknown)
	}
	said, open := map[uint64]int{}, map[uint64]bool{}
	for _, s := range o.Steps {
		if s.Match.Rule == nil {
			continue // the policy, told below
		}
		said[s.Match.Rule.Handle]++
		if !s.Certain {
			open[s.Match.Rule.Handle] = true
		}
	}
	var compared int
	for h, n := range after {
		if open[h] {
			continue
		}
		compared++
		if n-before[h] != said[h] {
			r, _ := rs.Rule(FamilyInet, "w", "", h)
			t.Errorf("counted %d, walk says %d: %s %s", n-before[h], said[h], r.Chain, rs.Text(r))
		}
	}
	if d := o.Deciding(); o.Verdict != "drop" || d.Rule == nil || after[d.Rule.Handle] <= before[d.Rule.Handle] {
		t.Errorf("walk ends with %q, policy %v", o.Verdict, d.Rule == nil)
	}
	if compared+len(open) < 70 || len(open) > mayOpen {
		t.Errorf("%d rules compared, %d left open", compared, len(open))
	}
	t.Logf("%d rules compared, %d matched, %d left open: %v", compared, len(o.Steps), len(open), slices.Clone(w.Unknown))
}
