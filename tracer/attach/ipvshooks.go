// SPDX-License-Identifier: Apache-2.0

package attach

// Where IPVS hangs, for kernels that do not list their hooks: right before the nat table
// in INPUT, so that a death there is not taken for that table's.

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/node"
)

const (
	ipvsTakes   = "ip_vs_in_hook"
	ipvsAnswers = "ip_vs_out_hook"
)

// ipvsHooks are those that the first service of a family brings (ip_vs_ops4, ip_vs_ops6,
// net/netfilter/ipvs/ip_vs_core.c, 5.17 to 7.3): none where there is no service. The one
// of FORWARD that looks at ICMP errors is left out: it drops none of ours.
func ipvsHooks(services []node.VirtualService) (all []node.Hook) {
	for _, f := range []struct {
		name string
		v6   bool
	}{{"ip", false}, {"ip6", true}} {
		if !slices.ContainsFunc(services, func(s node.VirtualService) bool { return s.IPv6 == f.v6 }) {
			continue
		}
		for _, h := range []struct {
			hook     int
			prio     int32
			function string
		}{{journey.LocalIn, 98, ipvsAnswers}, {journey.LocalIn, 99, ipvsTakes}, // NF_IP_PRI_NAT_SRC - 2, - 1
			{journey.LocalOut, -99, ipvsAnswers}, {journey.LocalOut, -98, ipvsTakes}, // NF_IP_PRI_NAT_DST + 1, + 2
			{unix.NF_INET_FORWARD, 100, ipvsAnswers}} {
			all = append(all, node.Hook{Family: f.name, HookNum: h.hook, Priority: h.prio, Function: h.function})
		}
	}
	return all
}
