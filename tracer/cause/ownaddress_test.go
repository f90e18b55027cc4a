// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// silenceOf is what is told of a trace from outside to an address that saw nothing.
func silenceOf(t *testing.T, state State, src, dst string) model.Finding {
	t.Helper()
	c := New(state, func(line string) { t.Errorf("could not be asked: %s", line) })
	end := func(given string) model.End {
		e := model.End{Given: given}
		if a, err := netip.ParseAddr(given); err == nil {
			e.Addresses = model.Prefixes{netip.PrefixFrom(a, a.BitLen())}
		}
		return e
	}
	c.Start(&model.Start{Type: model.TypeStart, Src: end(src), Dst: end(dst)})
	found := c.Findings()
	if len(found) != 1 || found[0].Code != "not-sent" || found[0].Confidence != Likely {
		t.Fatalf("told %+v, want not-sent", found)
	}
	return found[0]
}

// Why this node does not answer for an address that it has is told where it does not, and
// only there.
func TestOwnSilence(t *testing.T) {
	const vip, vip6, asker, router = "172.30.0.50", "fd00:172:30::50", "172.30.0.9", "203.0.113.9"
	prefix := netip.MustParsePrefix
	has := func(link, addr string) func(*recordedPlace) {
		return func(p *recordedPlace) {
			for i := range p.Links {
				if p.Links[i].Name == link {
					p.Links[i].Addrs = append(p.Links[i].Addrs, prefix(addr))
				}
			}
			if a := prefix(addr); a.IsSingleIP() {
				p.Routes = append(p.Routes, node.Route{Dst: a, LinkIndex: 1, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL})
			}
		}
	}
	set := func(name, value string) func(*recordedPlace) {
		return func(p *recordedPlace) { p.Sysctls[name] = value }
	}
	on := func(link string, change func(*node.Link)) func(*recordedPlace) {
		return func(p *recordedPlace) {
			for i := range p.Links {
				if p.Links[i].Name == link {
					change(&p.Links[i])
				}
			}
		}
	}
	unlocal := func(p *recordedPlace) { p.Routes = p.Routes[:len(p.Routes)-1] }
	policy := func(p *recordedPlace) {
		p.RouteRules = append([]node.PolicyRule{{Family: unix.AF_INET, Priority: 1000, Action: node.ActTable, Table: 77, Src: prefix(vip + "/32"), SuppressPrefixLength: -1, SuppressGroup: -1}}, node.DefaultRules()...)
		p.Routes = append(p.Routes, node.Route{Dst: prefix("0.0.0.0/0"), LinkIndex: 3, Table: 77, Type: unix.RTN_UNICAST})
	}
	for name, tc := range map[string]struct {
		src, dst string
		is       []func(*recordedPlace)
		says     []string // none: the node's own side is not the fault
	}{
		"strict, on lo":       {asker, vip, []func(*recordedPlace){has("lo", vip+"/32"), set("ipv4/conf/all/arp_ignore", "1")}, []string{"does not answer ARP for it on eth0, by which 172.30.0.9 is reached: lo has it", "net.ipv4.conf.all.arp_ignore = 1", "ip addr: eth0 of this node has no 172.30.0.50", "ip addr add 172.30.0.50/32 dev eth0"}},
		"strict, by a router": {router, vip, []func(*recordedPlace){has("lo", vip+"/32"), set("ipv4/conf/eth0/arp_ignore", "1")}, []string{"net.ipv4.conf.eth0.arp_ignore = 1"}},
		"strict, on eth0":     {asker, vip, []func(*recordedPlace){has("eth0", vip+"/32"), set("ipv4/conf/all/arp_ignore", "1")}, nil},
		"not strict, on lo":   {asker, vip, []func(*recordedPlace){has("lo", vip+"/32")}, nil},
		"any source":          {"any", vip, []func(*recordedPlace){has("lo", vip+"/32"), set("ipv4/conf/all/arp_ignore", "1")}, []string{"does not answer ARP for it on eth0: lo has it"}},
		"it asks itself":      {"172.30.0.1", vip, []func(*recordedPlace){has("lo", vip+"/32"), set("ipv4/conf/all/arp_ignore", "1")}, nil},
		"not in the subnet":   {asker, "10.96.0.10", []func(*recordedPlace){has("lo", "10.96.0.10/32"), set("ipv4/conf/all/arp_ignore", "1")}, nil},
		"not ours":            {asker, vip, []func(*recordedPlace){set("ipv4/conf/all/arp_ignore", "1")}, nil},
		"a pod asks":          {podA.String(), vip, []func(*recordedPlace){has("lo", vip+"/32"), set("ipv4/conf/all/arp_ignore", "1")}, nil},
		"level 2, its subnet": {asker, vip, []func(*recordedPlace){has("eth0", vip+"/32"), set("ipv4/conf/all/arp_ignore", "2")}, nil},
		"level 2, a stranger": {"198.51.100.9", vip, []func(*recordedPlace){has("eth0", vip+"/32"), set("ipv4/conf/all/arp_ignore", "2"), func(p *recordedPlace) {
			p.Routes = append(p.Routes, node.Route{Dst: prefix("198.51.100.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST})
		}}, []string{"net.ipv4.conf.all.arp_ignore = 2"}},
		"level 8":            {asker, "172.30.0.1", []func(*recordedPlace){set("ipv4/conf/eth0/arp_ignore", "8")}, []string{"it answers for none of its addresses", "net.ipv4.conf.eth0.arp_ignore = 8"}},
		"filtered":           {asker, vip, []func(*recordedPlace){has("eth0", vip+"/32"), set("ipv4/conf/all/arp_filter", "1"), policy}, []string{"net.ipv4.conf.all.arp_filter = 1", "does not lead by eth0", "rule 1000"}},
		"filtered, same way": {asker, vip, []func(*recordedPlace){has("eth0", vip+"/32"), set("ipv4/conf/all/arp_filter", "1")}, nil},
		"NOARP":              {asker, vip, []func(*recordedPlace){has("eth0", vip+"/32"), on("eth0", func(l *node.Link) { l.NoARP = true })}, []string{"ip link: eth0 is NOARP", "ip link set eth0 arp on"}},
		"no local route":     {asker, vip, []func(*recordedPlace){has("eth0", vip+"/32"), unlocal}, []string{"ip route show table local: none to 172.30.0.50"}},
		"IPv6 on lo":         {"fd00:172:30::9", vip6, []func(*recordedPlace){has("eth0", "fd00:172:30::1/64"), has("lo", vip6+"/128"), set("ipv6/conf/eth0/proxy_ndp", "0")}, []string{"does not answer neighbour discovery for it on eth0", "net.ipv6.conf.eth0.proxy_ndp = 0", "nodad"}},
		"IPv6 on eth0":       {"fd00:172:30::9", vip6, []func(*recordedPlace){has("eth0", "fd00:172:30::1/64"), has("eth0", vip6+"/128")}, nil},
		"IPv6, tentative": {"fd00:172:30::9", vip6, []func(*recordedPlace){has("eth0", "fd00:172:30::1/64"), has("eth0", vip6+"/128"), on("eth0", func(l *node.Link) {
			l.Tentative = []netip.Addr{netip.MustParseAddr(vip6)}
		})}, []string{"tentative"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			p := state.Places[nodeNS]
			p.Links = append([]node.Link{{Index: 1, Name: "lo", Loopback: true, Up: true, Carrier: true, MTU: 65536}}, p.Links...)
			p.Routes = append(p.Routes, node.Route{Dst: prefix("172.30.0.0/24"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				node.Route{Dst: prefix("fd00:172:30::/64"), LinkIndex: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
				node.Route{Dst: prefix("172.30.0.1/32"), LinkIndex: 2, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL})
			for _, change := range tc.is {
				change(p)
			}
			f := silenceOf(t, state, tc.src, tc.dst)
			told := strings.Contains(f.Summary, "is an address of this node, but it does not answer")
			if told != (len(tc.says) > 0) || told == strings.Contains(words(f), "trace on the node that has the source") {
				t.Errorf("told of this node's side: %v\n%s", told, words(f))
			}
			for _, part := range tc.says {
				if !says(f, part) {
					t.Errorf("does not say %q:\n%s", part, words(f))
				}
			}
		})
	}
}
