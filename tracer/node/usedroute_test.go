// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// routeAnswer is an answer of the kernel's: struct rtmsg and attributes.
func routeAnswer(family uint8, flags uint32, attrs ...[]byte) []byte {
	msg := make([]byte, unix.SizeofRtMsg)
	msg[0] = family
	binary.NativeEndian.PutUint32(msg[8:], flags)
	for _, a := range attrs {
		msg = append(msg, a...)
	}
	return msg
}

func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestParseUsedRoute(t *testing.T) {
	number := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	oif, gateway := attribute(unix.RTA_OIF, number(2)), attribute(unix.RTA_GATEWAY, []byte{172, 30, 0, 77})
	expires := func(ticks uint32) []byte {
		return attribute(unix.RTA_CACHEINFO, append(make([]byte, 8), append(number(ticks), make([]byte, 20)...)...))
	}
	mtu := attribute(unix.RTA_METRICS, attribute(unix.RTAX_MTU, number(1200)))
	other := netip.MustParseAddr("172.30.0.77")
	for name, tc := range map[string]struct {
		msg  []byte
		want UsedRoute
	}{
		"table's":              {routeAnswer(unix.AF_INET, unix.RTM_F_CLONED, oif, gateway, expires(0)), UsedRoute{LinkIndex: 2, Gateway: other}},
		"redirected":           {routeAnswer(unix.AF_INET, unix.RTM_F_CLONED|rtcfRedirected, oif, gateway), UsedRoute{LinkIndex: 2, Gateway: other, Learned: true, Redirected: true}},
		"too narrow":           {routeAnswer(unix.AF_INET, unix.RTM_F_CLONED, oif, gateway, mtu, expires(59800)), UsedRoute{LinkIndex: 2, Gateway: other, Learned: true, MTU: 1200, Expires: 598 * time.Second}},
		"MTU of the table's":   {routeAnswer(unix.AF_INET, unix.RTM_F_CLONED, oif, gateway, mtu), UsedRoute{LinkIndex: 2, Gateway: other, MTU: 1200}},
		"IPv6, the table's":    {routeAnswer(unix.AF_INET6, 0, oif), UsedRoute{LinkIndex: 2}},
		"IPv6, beside it":      {routeAnswer(unix.AF_INET6, unix.RTM_F_CLONED, oif), UsedRoute{LinkIndex: 2, Learned: true}},
		"that has run out":     {routeAnswer(unix.AF_INET, unix.RTM_F_CLONED, oif, expires(0xffffff00)), UsedRoute{LinkIndex: 2}},
		"gateway of the other": {routeAnswer(unix.AF_INET, unix.RTM_F_CLONED, oif, attribute(unix.RTA_VIA, append([]byte{unix.AF_INET6, 0}, netip.MustParseAddr("fd30::77").AsSlice()...))), UsedRoute{LinkIndex: 2, Gateway: netip.MustParseAddr("fd30::77")}},
	} {
		got, err := parseUsedRoute(tc.msg)
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tc.want)
		}
	}
	for _, short := range [][]byte{nil, make([]byte, 5), routeAnswer(unix.AF_INET, 0, attribute(unix.RTA_OIF, []byte{1})), routeAnswer(unix.AF_INET, 0, attribute(unix.RTA_CACHEINFO, make([]byte, 8)))} {
		if got, err := parseUsedRoute(short); err == nil {
			t.Errorf("%x: read as %+v", short, got)
		}
	}
}

// The kernel is asked, on a node whose routes use objects, told with the route or not.
func TestUsedRoute(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "ip link add net0 type veth peer name far", "ip link set dev far up", "ip addr add 192.0.2.1/24 dev net0", "ip link set net0 up",
		"ip nexthop add id 1 via 192.0.2.2 dev net0", "ip nexthop add id 2 via 192.0.2.3 dev net0", "ip nexthop add id 9 group 1/2,3",
		"ip route add 198.51.100.0/24 nhid 1", "ip route add 203.0.113.0/24 nhid 9", "ip route add 198.18.0.0/15 nexthop via 192.0.2.2 dev net0 weight 1 nexthop via 192.0.2.3 dev net0 weight 5")
	ns, err := OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	node, addr := ns.Node().Inode, netip.MustParseAddr
	used, ok, err := ns.UsedRoute(node, RouteQuestion{Dst: addr("198.51.100.7"), Proto: unix.IPPROTO_TCP, SrcPort: 40000, DstPort: 80})
	if err != nil || !ok || used.Gateway != addr("192.0.2.2") || used.Learned || used.MTU != 0 {
		t.Errorf("the way of a route is told as %+v, %v, %v", used, ok, err)
	}
	if used, ok, err := ns.UsedRoute(node, RouteQuestion{Dst: addr("192.88.99.1")}); err != nil || ok {
		t.Errorf("there is no way, but told: %+v, %v, %v", used, ok, err)
	}
	for _, mode := range []string{"1", "0"} {
		c.In("n", "sysctl -qw net.ipv4.nexthop_compat_mode="+mode)
		routes, err := ns.Routes(node)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, r := range routes {
			var weights []int
			for _, h := range r.NextHops {
				weights = append(weights, h.Weight)
			}
			switch r.Dst.String() {
			case "198.51.100.0/24":
				if seen++; r.Gateway != addr("192.0.2.2") || r.NHID != 1 || r.LinkIndex == 0 {
					t.Errorf("mode %s: one next hop: %+v", mode, r)
				}
			case "203.0.113.0/24":
				if seen++; len(r.NextHops) != 2 || r.NextHops[0].Gateway != addr("192.0.2.2") || r.NextHops[1].Gateway != addr("192.0.2.3") || r.NextHops[1].Weight != 3 || r.NHID != 9 {
					t.Errorf("mode %s: a group: %+v", mode, r)
				}
			case "198.18.0.0/15":
				if seen++; len(weights) != 2 || weights[0] != 1 || weights[1] != 5 || r.NHID != 0 {
					t.Errorf("mode %s: several: %+v", mode, r)
				}
			}
		}
		if seen != 3 {
			t.Errorf("mode %s: %d of the routes are listed", mode, seen)
		}
	}
}
