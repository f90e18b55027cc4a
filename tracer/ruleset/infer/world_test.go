// SPDX-License-Identifier: Apache-2.0

package infer_test

// The questions that rules ask about the node, compared with the kernel's own
// answers: a router with rules that do nothing but ask, in iptables' words and in
// nft's, and packets from and to addresses of every kind. The kernel's trace
// tells which rules matched.
//
//	a 10.1.0.2 ---- 10.1.0.1 ra [r] rb 10.2.0.1 ---- 10.2.0.2 b

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// router is the node in the middle, and what a sends with.
type router struct {
	*place
	c   *nodetest.Cluster
	a   *place
	mac net.HardwareAddr // of ra
}

func newRouter(t *testing.T) *router {
	t.Helper()
	c := nodetest.New(t)
	c.Add("a", "r", "b")
	c.In("r",
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
		"ip link add ra type veth peer name eth0 netns @a", "ip addr add 10.1.0.1/24 dev ra", "ip addr add fd00:1::1/64 dev ra nodad",
		"ip link set ra up",
		"ip link add rb type veth peer name eth0 netns @b", "ip addr add 10.2.0.1/24 dev rb", "ip addr add fd00:2::1/64 dev rb nodad",
		"ip link set rb up")
	c.In("a", "ip addr add 10.1.0.2/24 dev eth0", "ip link set eth0 up", "ip route add default via 10.1.0.1")
	c.In("b", "ip addr add 10.2.0.2/24 dev eth0", "ip link set eth0 up", "ip route add default via 10.2.0.1")
	r := &router{place: openPlace(t, c.Path("r")), c: c, a: openPlace(t, c.Path("a"))}
	r.do(func() error {
		link, err := net.InterfaceByName("ra")
		r.mac = link.HardwareAddr
		return err
	})
	return r
}

// send puts a UDP packet on the wire from a, whatever a's own routes say.
func (r *router) send(src, dst string) {
	r.t.Helper()
	frame := append(append([]byte{}, r.mac...), 2, 0, 0, 0, 0, 1)
	frame = append(frame, datagram(netip.MustParseAddr(src), netip.MustParseAddr(dst))...)
	r.a.do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
	})
}

// datagram is an Ethernet type and a UDP packet to port 7 without checksum
// (IPv6: a packet that no host will take, but every router forwards).
func datagram(src, dst netip.Addr) []byte {
	udp := []byte{0x12, 0x34, 0, 7, 0, 12, 0, 0, 'p', 'i', 'n', 'g'}
	if src.Is6() {
		head := []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(udp)), unix.IPPROTO_UDP, 64}
		return append(append(append(head, src.AsSlice()...), dst.AsSlice()...), udp...)
	}
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	ip = append(append(ip, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(udp)))
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum&0xffff))
	return append(append([]byte{0x08, 0}, ip...), udp...)
}

// questions are rules that ask about the node, for IPv4 and IPv6.
func questions(family string) (native, iptables string) {
	var n, x strings.Builder
	fmt.Fprintf(&n, "table %s asks { chain first { type filter hook prerouting priority -440; udp sport 4660 udp dport 7 %s daddr %s meta mark set 1; }\n"+
		"chain questions { type filter hook prerouting priority -250;\n", family, family, map[string]string{"ip": "10.2.0.9", "ip6": "fd00:2::9"}[family])
	x.WriteString("*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n")
	for _, kind := range []string{"unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"} {
		for _, selector := range []string{"daddr", "saddr", "daddr . iif", "saddr . iif"} {
			fmt.Fprintf(&n, "fib %s type %s counter\nfib %s type != %s counter\n", selector, kind, selector, kind)
		}
		if family == "ip6" && (kind == "broadcast" || kind == "blackhole" || kind == "prohibit") {
			continue // ip6tables' addrtype does not know them
		}
		for _, limit := range []string{"", " --limit-iface-in"} {
			fmt.Fprintf(&x, "-A PREROUTING -m addrtype --dst-type %[1]s%[2]s\n-A PREROUTING -m addrtype ! --dst-type %[1]s%[2]s\n"+
				"-A PREROUTING -m addrtype --src-type %[1]s%[2]s\n", strings.ToUpper(kind), limit)
		}
	}
	for _, selector := range []string{"saddr . iif", "saddr", "saddr . mark . iif", "saddr . mark"} {
		fmt.Fprintf(&n, "fib %s oif missing counter\nfib %s oif exists counter\n", selector, selector)
	}
	for _, options := range []string{"", "--loose", "--validmark", "--validmark --loose", "--accept-local", "--invert", "--loose --invert"} {
		fmt.Fprintf(&x, "-A PREROUTING -m rpfilter %s\n", options)
	}
	n.WriteString("}\n}\n")
	x.WriteString("COMMIT\n")
	return n.String(), x.String()
}

// ask sends packets and compares what Infer says of each question with what the
// kernel found. It gives how many questions there were, and how many of them were
// left open.
func (r *router) ask(t *testing.T, l *listener, book *asker, packets [][2]string) (asked, open int) {
	t.Helper()
	l.take() // what the hosts say of themselves
	for _, p := range packets {
		r.send(p[0], p[1])
	}
	s := newScore()
	seen := map[string]bool{}
	for _, x := range l.take() {
		if x.packet.SrcPort != packet.Known[uint16](0x1234) || x.verdict == "" {
			continue
		}
		seen[x.packet.Src.String()+" "+x.packet.Dst.String()] = true
		s.inferAll(t, book, r.inode(), []*traversal{x})
		native, iptables := questions(x.packet.Family)
		switch x.chain {
		case "questions":
			asked += strings.Count(native, "counter")
		case "PREROUTING":
			asked += strings.Count(iptables, "-A ")
		}
		open += len(book.Infer(r.inode(), x.target(), &x.packet, x.verdict).Unevaluated)
	}
	if s.exact != s.total() {
		t.Errorf("%d of %d rulings name no policy", s.total()-s.exact, s.total())
	}
	if len(seen) != len(packets) {
		t.Errorf("%d of %d packets were traced", len(seen), len(packets))
	}
	return asked, open
}

// prepare gives the router rules and routes of every kind.
func (r *router) prepare() *listener {
	r.c.In("r",
		"ip route add blackhole 10.66.0.0/24", "ip route add unreachable 10.67.0.0/24", "ip route add prohibit 10.68.0.0/24",
		"ip route add throw 10.69.0.0/24", "ip route add local 10.70.0.0/24 dev lo", "ip route add 10.70.0.128/25 via 10.2.0.2",
		"ip route add broadcast 10.71.0.1 dev rb", "ip route add 10.80.0.0/24 nexthop dev ra nexthop dev rb",
		"ip route add 10.81.0.0/24 via 10.1.0.2", "ip route add 10.82.0.0/24 via 10.2.0.2",
		"ip -6 route add blackhole fd00:66::/64", "ip -6 route add unreachable fd00:67::/64", "ip -6 route add prohibit fd00:68::/64",
		"ip -6 route add local fd00:70::/64 dev lo", "ip -6 route add fd00:81::/64 via fd00:1::2", "ip -6 route add fd00:82::/64 via fd00:2::2",
		"ip -6 route add fd00:80::/64 nexthop via fd00:1::2 nexthop via fd00:2::2", "ip -6 route add anycast fd00:71::1 dev rb")
	for family, restore := range map[string]string{"ip": "iptables-nft-restore", "ip6": "ip6tables-nft-restore"} {
		native, iptables := questions(family)
		r.run(native, "nft", "-f", "-")
		r.run(iptables, restore)
	}
	return r.listen()
}

// addresses4 and addresses6 are one of each kind.
func addresses4() []string {
	return []string{"10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2", "10.2.0.9", "10.1.0.255", "10.2.0.255", "10.1.0.0", "255.255.255.255",
		"224.0.0.5", "239.1.2.3", "10.66.0.1", "10.67.0.1", "10.68.0.1", "10.69.0.1", "10.70.0.1", "10.70.0.200", "10.71.0.1",
		"10.80.0.1", "10.81.0.1", "10.82.0.1", "10.99.0.1", "127.0.0.1", "0.0.0.0", "0.0.0.7"}
}

func addresses6() []string {
	return []string{"fd00:1::1", "fd00:2::1", "fd00:1::2", "fd00:2::2", "fd00:2::9", "fd00:1::", "fd00:2::", "ff02::1", "ff05::2", "fd00:66::1",
		"fd00:67::1", "fd00:68::1", "fd00:70::1", "fd00:71::1", "fd00:80::1", "fd00:81::1", "fd00:82::1", "fd00:82::", "fd00:99::1", "fe80::1"}
}

// pairs are packets to each address, and from each.
func pairs(addrs []string, src, dst string) [][2]string {
	var all [][2]string
	for _, a := range addrs {
		all = append(all, [2]string{src, a})
		if addr := netip.MustParseAddr(a); a != src && !(addr.Is6() && addr.IsMulticast()) { // which IPv6 drops before any hook
			all = append(all, [2]string{a, dst})
		}
	}
	return all
}

func TestQuestionsAboutTheNode(t *testing.T) {
	r := newRouter(t)
	l := r.prepare()
	all := pairs(addresses4(), "10.1.0.2", "10.2.0.3")
	all = append(all, pairs(addresses6(), "fd00:1::2", "fd00:2::3")...)
	all = append(all, [2]string{"0.0.0.0", "255.255.255.255"}, [2]string{"10.81.0.1", "10.2.0.9"})
	tests := []struct {
		about string
		rules []string
		least int // percent of the questions that have to be left open
		most  int // percent that may be
	}{
		{"the kernel's own policy rules", nil, 0, 5},
		{"a table for marked packets", []string{"ip rule add fwmark 0x1 lookup 100", "ip route add local default dev lo table 100",
			"ip -6 rule add fwmark 0x1 lookup 100", "ip -6 route add local default dev lo table 100"}, 0, 5},
		{"a rule by destination", []string{"ip rule add to 10.82.0.0/24 lookup 102", "ip route add 10.82.0.0/24 dev ra table 102"}, 0, 5},
		{"a rule by source", []string{"ip rule add from 10.2.0.3 lookup 101", "ip route add default dev rb table 101",
			"ip -6 rule add from fd00:2::3 lookup 101", "ip -6 route add default dev rb table 101"}, 10, 60},
		{"the local table late", []string{"ip rule add pref 40000 lookup local", "ip rule del pref 0"}, 10, 90},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			if len(test.rules) > 0 {
				r.c.In("r", test.rules...)
			}
			asked, open := r.ask(t, l, newAsker(t, r.ns), all)
			t.Logf("%d questions, %d left open", asked, open)
			if asked < 5000 || open*100 > asked*test.most || open*100 < asked*test.least {
				t.Errorf("of %d questions %d were left open, want %d%% to %d%%", asked, open, test.least, test.most)
			}
		})
	}
}

func TestWorldOfANamespaceThatIsGone(t *testing.T) {
	r := newRouter(t)
	w := infer.NewWorld(r.ns, 1)
	p := &packet.Packet{Family: "ip", Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.2.0.2"), In: packet.Known("ra")}
	for what, answer := range map[string]packet.Answer{
		"address type": w.AddrType(p.Dst, "local", ""), "reverse path": w.ReversePath(p, false, false),
	} {
		if answer != packet.Unknown {
			t.Errorf("%s: %s, want unknown", what, answer)
		}
	}
	if err := w.Trouble(); err == nil || !strings.Contains(err.Error(), "no such network namespace") {
		t.Errorf("trouble: %v", err)
	}
}
