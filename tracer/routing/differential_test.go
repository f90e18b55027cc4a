// SPDX-License-Identifier: Apache-2.0

package routing

// The kernel itself is asked (RTM_GETROUTE, what `ip route get fibmatch` sends)
// about random rules and routes. Each rule has a table of its own, so that the
// table tells which rule it was.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

const (
	roundsOfRules     = 6
	questionsPerRound = 250
)

// world makes rules, routes and questions of one family.
type world struct {
	r       *rand.Rand
	v6      bool
	links   []string
	vrf     bool
	dsts    []netip.Addr
	nets    []netip.Prefix
	srcs    []netip.Addr
	srcNets []string
}

func newWorld(r *rand.Rand, v6, vrf bool) *world {
	w := &world{r: r, v6: v6, vrf: vrf, links: []string{"va", "vb", "vc", "vd"}}
	dsts, nets := []string{"10.1.2.3", "10.1.2.77", "10.1.9.1", "10.200.0.1", "192.0.2.1", "10.9.1.9"}, []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/24"}
	srcs, srcNets := []string{"172.20.1.1", "172.20.2.1", "172.21.0.1"}, []string{"172.20.0.0/15", "172.20.1.0/24", "172.20.2.1/32"}
	if v6 {
		dsts, nets = []string{"fd00:1:2::3", "fd00:1:2::77", "fd00:1:9::1", "fd00:200::1", "2001:db8::1", "fd09:1::9"}, []string{"::/0", "fd00::/16", "fd00:1::/32", "fd00:1:2::/48", "fd00:1:2::3/128", "2001:db8::/64"}
		srcs, srcNets = []string{"fd20:1::1", "fd20:2::1", "fd21::1"}, []string{"fd20::/15", "fd20:1::/32", "fd20:2::1/128"}
	}
	for _, a := range dsts {
		w.dsts = append(w.dsts, netip.MustParseAddr(a))
	}
	for _, p := range nets {
		w.nets = append(w.nets, netip.MustParsePrefix(p))
	}
	for _, a := range srcs {
		w.srcs = append(w.srcs, netip.MustParseAddr(a))
	}
	w.srcNets = srcNets
	return w
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// rules are `ip rule add` lines, and the tables that they look up.
func (w *world) rules() (lines []string, tables []int) {
	// what every namespace begins with: main may be gone
	if w.r.IntN(4) == 0 {
		lines = append(lines, "rule del pref 32766")
	}
	for i := range 14 {
		table := 1000 + i
		pref := 100 + 100*i + w.r.IntN(90)
		line := fmt.Sprintf("rule add pref %d", pref)
		if w.r.IntN(7) == 0 {
			line += " not"
		}
		selectors := []string{
			"from " + pick(w.r, w.srcNets), "to " + pick(w.r, w.nets[1:]).String(), "iif " + pick(w.r, append(w.links, "lo", "gone0")),
			fmt.Sprintf("fwmark %#x", 1+w.r.IntN(3)), "fwmark 0x10/0x30", "fwmark 0/0x1", "ipproto tcp dport 80-90", "ipproto tcp dport 80", "dport 53", "ipproto udp", "sport 5000-6000",
			"uidrange 0-10", "uidrange 1000-2000", "oif " + pick(w.r, w.links), "tos 0x10",
		}
		for range 1 + w.r.IntN(2) - w.r.IntN(8)/7 {
			line += " " + pick(w.r, selectors)
		}
		switch n := w.r.IntN(20); {
		case n == 0:
			line += " prohibit"
		case n == 1:
			line += " blackhole"
		case n == 2:
			line += " unreachable"
		case n == 3:
			line += " nop"
		case n == 4 || n == 5:
			line += fmt.Sprintf(" goto %d", 100+100*(i+1+w.r.IntN(3))+w.r.IntN(3)*200)
		case n == 6 && w.vrf:
			line = fmt.Sprintf("rule add pref %d l3mdev", pref)
		default:
			line += fmt.Sprintf(" lookup %d", table)
			if w.r.IntN(4) == 0 {
				line += fmt.Sprintf(" suppress_prefixlength %d", pick(w.r, []int{0, 8, 16, 24, 32}))
			}
			if w.r.IntN(8) == 0 {
				line += " suppress_ifgroup 7"
			}
		}
		lines, tables = append(lines, line), append(tables, table)
	}
	// goto lines have somewhere to go
	for i := range 4 {
		lines = append(lines, fmt.Sprintf("rule add pref %d nop", 300+200*i))
	}
	return lines, tables
}

// routes are `ip route add` lines.
func (w *world) routes(tables []int) (lines []string) {
	for _, table := range append(tables, 254, 77) {
		for range 1 + w.r.IntN(5) {
			to := pick(w.r, w.nets).String()
			line := fmt.Sprintf("table %d metric %d", table, pick(w.r, []int{1, 10, 20}))
			if !w.v6 && w.r.IntN(8) == 0 {
				line += " tos 0x10"
			}
			switch n := w.r.IntN(12); {
			case n < 4:
				to = []string{"blackhole ", "unreachable ", "prohibit ", "throw "}[n] + to
			case n == 4 && !w.v6:
				line += " nexthop dev va weight 1 nexthop dev vb weight 1"
			case n == 4:
				line += " nexthop via fd09:1::9 dev va nexthop via fd09:2::9 dev vb"
			default:
				line += " dev " + pick(w.r, w.links)
			}
			lines = append(lines, "route append "+to+" "+line)
		}
	}
	return lines
}

// question makes one that the kernel can be asked: its own packets carry no source
// but their own addresses.
func (w *world) question(f *FIB) Question {
	q := Question{Dst: pick(w.r, w.dsts), IIF: Loopback, Mark: Of(pick(w.r, []uint32{0, 0, 1, 2, 3, 0x10, 0x11, 0x30})), UID: Of(uint32(0)), TOS: Of(uint8(0)), Proto: Of(uint8(unix.IPPROTO_UDP))}
	if !w.v6 && w.r.IntN(4) == 0 {
		q.TOS = Of(uint8(0x10))
	}
	switch w.r.IntN(3) {
	case 0:
		q.Proto, q.SrcPort, q.DstPort = Of(uint8(unix.IPPROTO_TCP)), pick(w.r, []uint16{4000, 5500}), pick(w.r, []uint16{79, 80, 85, 91})
	case 1:
		q.Proto, q.SrcPort, q.DstPort = Of(uint8(unix.IPPROTO_UDP)), pick(w.r, []uint16{4000, 5500}), 53
	}
	if w.r.IntN(3) > 0 {
		q.Src, q.IIF = pick(w.r, w.srcs), f.index(pick(w.r, w.links))
		return q
	}
	switch w.r.IntN(3) {
	case 0:
		q.OIF = f.index(pick(w.r, w.links))
	case 1:
		q.UID = Of(uint32(1500))
	}
	return q
}

func (f *FIB) index(name string) int {
	return f.Links[slices.IndexFunc(f.Links, func(l node.Link) bool { return l.Name == name })].Index
}

// truth is the kernel's answer.
type truth struct {
	table  uint32
	kind   uint8
	bits   int
	metric uint32
	devs   []int
	errno  unix.Errno
}

// asked asks the calling thread's namespace.
func asked(q Question) (truth, error) {
	const lookupTable, fibMatch = 0x1000, 0x2000 // RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH
	family := uint8(unix.AF_INET)
	if q.Dst.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	head := &nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: uint8(q.Dst.BitLen()), Tos: q.TOS.Value, Flags: lookupTable | fibMatch}}
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, q.Dst.AsSlice()))
	if q.Src.IsValid() {
		head.Src_len = uint8(q.Src.BitLen())
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, q.Src.AsSlice()))
	}
	number := func(kind int, n uint32) { req.AddData(nl.NewRtAttr(kind, nl.Uint32Attr(n))) }
	if q.IIF != Loopback {
		number(unix.RTA_IIF, uint32(q.IIF))
	}
	if q.OIF != 0 {
		number(unix.RTA_OIF, uint32(q.OIF))
	}
	number(unix.RTA_MARK, q.Mark.Value)
	number(unix.RTA_UID, q.UID.Value)
	req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{q.Proto.Value}))
	if q.DstPort != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, q.SrcPort)))
		req.AddData(nl.NewRtAttr(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.DstPort)))
	}
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return truth{errno: errno}, nil
	}
	if err != nil || len(msgs) != 1 {
		return truth{}, fmt.Errorf("%d answers: %w", len(msgs), err)
	}
	m := msgs[0]
	t := truth{bits: int(m[1]), table: uint32(m[4]), kind: m[7]}
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
	if err != nil {
		return t, err
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_TABLE:
			t.table = binary.NativeEndian.Uint32(a.Value)
		case unix.RTA_PRIORITY:
			t.metric = binary.NativeEndian.Uint32(a.Value)
		case unix.RTA_OIF:
			t.devs = append(t.devs, int(binary.NativeEndian.Uint32(a.Value)))
		case unix.RTA_MULTIPATH:
			for b := a.Value; len(b) >= unix.SizeofRtNexthop; b = b[min(len(b), (int(binary.NativeEndian.Uint16(b))+3)&^3):] {
				t.devs = append(t.devs, int(binary.NativeEndian.Uint32(b[4:])))
			}
		}
	}
	return t, nil
}

// fits tells whether an answer is the kernel's.
func (t truth) fits(a Answer) bool {
	if t.errno != 0 || a.Error != 0 {
		return t.errno == a.Error
	}
	// of IPv6 routes with several ways netlink tells one
	led := slices.ContainsFunc(t.devs, a.Leads)
	return t.table == a.Table && int(t.kind) == a.Route.Type && t.bits == a.Route.Dst.Bits() && int(t.metric) == a.Route.Metric && (led || len(t.devs) == 0)
}

func TestAgainstTheKernel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ROUTING_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("ROUTING_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	for round := range roundsOfRules {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/v6=%v", round, v6), func(t *testing.T) { against(t, r, v6) })
		}
	}
}

func against(t *testing.T, r *rand.Rand, v6 bool) {
	c := nodetest.New(t)
	c.Add("n")
	for i, name := range []string{"va", "vb", "vc", "vd"} {
		c.In("n", fmt.Sprintf("ip link add %s type veth peer name p%s", name, name), "ip link set p"+name+" up", "ip link set "+name+" up",
			fmt.Sprintf("ip addr add 10.9.%d.1/24 dev %s", i+1, name), fmt.Sprintf("ip addr add fd09:%d::1/32 dev %s nodad", i+1, name))
	}
	c.In("n", "ip link set vc group 7", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0")
	for _, name := range []string{"va", "vb", "vc", "vd"} {
		c.In("n", "sysctl -qw net.ipv4.conf."+name+".rp_filter=0")
	}
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	w := newWorld(r, v6, hasVRF(c))
	rules, tables := w.rules()
	family := "-4"
	if v6 {
		family = "-6"
	}
	batch := strings.Join(append(rules, w.routes(tables)...), "\n") + "\n"
	// some lines are refused: the same route twice
	c.Exec(batch, "sh", "-c", fmt.Sprintf("ip netns exec %s ip %s -force -batch - >/dev/null 2>&1 || true", c.Name("n"), family))
	f := read(t, ns, c.Inode("n"))
	if n := len(f.Rules); n < 15 {
		t.Fatalf("%d rules were taken", n)
	}
	known, doubted, refused := 0, 0, 0
	err = ns.Do(c.Inode("n"), func() error {
		for range questionsPerRound {
			q := w.question(f)
			real, err := asked(q)
			if err != nil {
				return err
			}
			if q.OIF != 0 && !v6 && slices.ContainsFunc(f.Lookup(q).Answers, func(a Answer) bool { return a.Error != 0 }) {
				continue // a packet that is bound to an interface needs no route (ip_route_output_key_hash_rcu)
			}
			a, sure := f.Lookup(q).Sure()
			if !sure || !real.fits(a) {
				t.Errorf("asked %+v\nthe kernel: %+v\ntold:       %s", q, real, told(f.Lookup(q)))
				return nil
			}
			known++
			if real.errno != 0 {
				refused++
			}
			// what is not known of a packet makes no wrong answer
			q.Mark.Known, q.TOS.Known, q.UID.Known = false, false, false
			if r.IntN(2) == 0 {
				q.Proto.Known = false
			}
			less := f.Lookup(q)
			if !less.open && !slices.ContainsFunc(less.Answers, real.fits) {
				t.Errorf("asked with less known %+v\nthe kernel: %+v\ntold:       %s", q, real, told(less))
				return nil
			}
			if _, sure := less.Sure(); !sure {
				doubted++
				if len(less.Doubts) == 0 {
					t.Errorf("not sure, without saying why: %s", told(less))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d questions, %d of them refused; %d not sure with less known", known, refused, doubted)
	if t.Failed() {
		t.Logf("rules:\n%s\nroutes:\n%s", c.In("n", "ip "+family+" rule"), c.In("n", "ip "+family+" route show table all"))
	}
}

// hasVRF makes a VRF with one of the interfaces, where the kernel has them.
func hasVRF(c *nodetest.Cluster) bool {
	out := c.Exec("", "sh", "-c", fmt.Sprintf("ip -n %s link add red type vrf table 77 2>&1 && ip -n %s link set red up && ip -n %s link set vd master red && echo made || true", c.Name("n"), c.Name("n"), c.Name("n")))
	return strings.Contains(out, "made")
}

func read(t *testing.T, ns *node.Namespaces, inode uint32) *FIB {
	t.Helper()
	rules, err1 := ns.PolicyRules(inode)
	routes, err2 := ns.Routes(inode)
	links, err3 := ns.Links(inode)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return &FIB{Rules: rules, Routes: routes, Links: links}
}

func told(r Result) string {
	var says []string
	for _, a := range r.Answers {
		s := fmt.Sprintf("error %d table %d", a.Error, a.Table)
		if a.Rule != nil {
			s += fmt.Sprintf(" rule %d", a.Rule.Priority)
		}
		if a.Route != nil {
			s += fmt.Sprintf(" route %+v", *a.Route)
		}
		says = append(says, s)
	}
	return strings.Join(says, " | ") + " doubts: " + strings.Join(r.Doubts, "; ")
}
