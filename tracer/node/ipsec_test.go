// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestIPsec(t *testing.T) {
	c := nodetest.New(t)
	c.Add("x")
	n := openNode(t, c.Path("x"))
	if all, err := n.IPsec(c.Inode("x")); err != nil || len(all.Policies)+len(all.States) != 0 {
		t.Errorf("of a fresh namespace: %+v, %v", all, err)
	}
	c.In("x",
		"ip xfrm policy add dir in priority 1 action block src 0.0.0.0/0 dst 10.99.9.9/32",
		"ip xfrm policy add src ::/0 dst fd00:3::/64 dir fwd priority 2 tmpl proto ah mode transport",
		"ip xfrm policy add src 10.99.2.0/24 dst 10.99.1.2/32 proto tcp dport 80 dir fwd priority 7 tmpl src 172.31.9.2 dst 172.31.9.1 proto esp reqid 11 mode tunnel",
		"ip xfrm policy add src fd00:2::/64 dst fd00:1::2/128 dir out action block priority 9",
		"ip xfrm policy add src 10.99.3.0/24 dst 10.99.1.0/24 dir in mark 0x20 mask 0xff tmpl proto esp mode transport level use")
	add := append([]string{"netns", "exec", c.Name("x"), "ip", "xfrm", "state", "add"}, strings.Fields("src 172.31.9.2 dst 172.31.9.1 proto esp spi 0x100 reqid 11 mode tunnel enc ecb(cipher_null)")...)
	says, noESP := exec.Command("ip", append(add, "", "auth", "digest_null", "")...).CombinedOutput()
	if noESP != nil {
		t.Logf("states are not tried, this kernel has no ESP: %s", says)
	}
	all, err := n.IPsec(c.Inode("x"))
	if err != nil {
		t.Fatal(err)
	}
	tunnel := IPsecTemplate{Src: netip.MustParseAddr("172.31.9.2"), Dst: netip.MustParseAddr("172.31.9.1"), Proto: "esp", Mode: "tunnel", ReqID: 11}
	prefix := netip.MustParsePrefix
	want := map[string]IPsecPolicy{
		"in 1": {Src: prefix("0.0.0.0/0"), Dst: prefix("10.99.9.9/32"), Dir: "in", Priority: 1, Block: true},
		"fwd 2": {Src: prefix("::/0"), Dst: prefix("fd00:3::/64"), Dir: "fwd", Priority: 2,
			Templates: []IPsecTemplate{{Src: netip.IPv6Unspecified(), Dst: netip.IPv6Unspecified(), Proto: "ah", Mode: "transport"}}},
		"fwd 7": {Src: prefix("10.99.2.0/24"), Dst: prefix("10.99.1.2/32"), Proto: 6, DstPort: 80, Dir: "fwd", Priority: 7, Templates: []IPsecTemplate{tunnel}},
		"out 9": {Src: prefix("fd00:2::/64"), Dst: prefix("fd00:1::2/128"), Dir: "out", Priority: 9, Block: true},
		"in 0": {Src: prefix("10.99.3.0/24"), Dst: prefix("10.99.1.0/24"), Dir: "in", Mark: 0x20, Mask: 0xff,
			Templates: []IPsecTemplate{{Src: netip.IPv4Unspecified(), Dst: netip.IPv4Unspecified(), Proto: "esp", Mode: "transport", Optional: true}}},
	}
	for _, p := range all.Policies {
		w := want[fmt.Sprint(p.Dir, " ", p.Priority)]
		w.Index = p.Index
		if !reflect.DeepEqual(p, w) {
			t.Errorf("policy %+v, want %+v", p, w)
		}
	}
	if len(all.Policies) != len(want) {
		t.Errorf("%d policies, want %d", len(all.Policies), len(want))
	}
	if state := (IPsecState{tunnel.Src, tunnel.Dst, "esp", "tunnel", 11}); noESP == nil && (len(all.States) != 1 || all.States[0] != state) {
		t.Errorf("states %+v, want %+v", all.States, state)
	}
}

// An address whose question comes back fails; one that is still asked about is
// tentative only.
func TestTentativeAddresses(t *testing.T) {
	c := nodetest.New(t)
	c.Add("x", "y")
	c.In("x", "ip link add eth0 type veth peer name eth0 netns @y", "ip link set eth0 up")
	c.In("y", "ip link set eth0 up", "ip addr add fd00:9::1/64 dev eth0 nodad")
	c.In("x", "sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=5")
	n, addr := openNode(t, c.Path("x")), netip.MustParseAddr("fd00:9::1")
	c.In("x", "ip addr add fd00:9::1/64 dev eth0", "ip addr add fd00:9::2/64 dev eth0")
	var links []Link
	for range 50 {
		var err error
		if links, err = n.Links(c.Inode("x")); err != nil {
			t.Fatal(err)
		}
		if len(links) == 2 && len(links[1].Duplicate) > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got := fmt.Sprint(links[1].Duplicate, links[1].Tentative); got != fmt.Sprintf("[%s] [%s fd00:9::2]", addr, addr) && got != fmt.Sprintf("[%s] [fd00:9::2 %s]", addr, addr) {
		t.Errorf("duplicate and tentative are %s", got)
	}
}
