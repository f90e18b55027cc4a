// SPDX-License-Identifier: Apache-2.0

// Faults of IPsec of which the kernel gives no reason.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func ipsecCases() []Case {
	return []Case{{
		Name: "ipsec-no-state", Reports: []string{"cilium/cilium#37552"},
		Essence: "a policy wants the packets encrypted, and no state fits its template: the kernel discards them and only counts that",
		Node:    plain(cluster.CalicoLegacy, 1),
		Break:   []string{"client: ip xfrm policy add src $CLIENT/32 dst $SERVER/32 dir out tmpl src $CLIENT dst $SERVER proto esp reqid 7 mode transport"},
		Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: server, Count: 2},
		Want: Want{Code: "ipsec-policy", Direction: model.Forward, Confidence: "likely",
			Says:  []string{`dir out`, `there is no such state`, `XfrmOutNoStates \d+`, `esp \(transport`, `reqid 7`},
			Never: []string{`blackhole`, `XFRM_POLICY`}},
	}}
}
