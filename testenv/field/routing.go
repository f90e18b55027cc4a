// SPDX-License-Identifier: Apache-2.0

// Faults of routing: policy rules, tables, two uplinks, loops.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// secondUplink gives node1 another interface up2 to a router of its own, behind which
// a host asks the server.
func secondUplink() []string {
	return []string{
		"node1: ip link add up2 type veth peer name eth0 netns $NS_router",
		"node1: ip addr add 172.31.10.1/24 dev up2 && ip link set up2 up && sysctl -qw net.ipv4.conf.up2.rp_filter=0",
		"router: ip addr add 172.31.10.2/24 dev eth0 && ip link set eth0 up && ip addr add 192.0.2.7/32 dev lo",
		"router: ip route add $SERVER via 172.31.10.1 src 192.0.2.7",
		"outside: ip route add blackhole 192.0.2.0/24",
		"node1: ip route add default via 172.31.10.2 dev up2 table 3 && ip rule add from $SERVER lookup 3 pref 1536",
	}
}

func routingCases() []Case {
	return []Case{
		{
			Name: "rule-of-uplink-lost", Reports: []string{"aws/amazon-vpc-cni-k8s#1600", "aws/amazon-vpc-cni-k8s#3309", "aws/amazon-vpc-cni-k8s#3524"},
			Essence: "the policy rule that sends a pod's packets out by the uplink that its requests come by is lost, so replies leave by the other one",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"router"}, Setup: secondUplink(),
			Break:   []string{"node1: ip rule del from $SERVER lookup 3 pref 1536"},
			Command: "router: timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'",
			Src:     "192.0.2.7", Dst: "${SERVER}",
			Want: Want{Code: "asymmetric-return", Direction: model.Return,
				Says: []string{`leaves? by eth0`, `came (in )?by up2`, `rule 32766`, `table main`}},
		},
		{
			Name: "main-rule-lost", Reports: []string{"systemd/systemd#41350"},
			Essence: "the policy rules that look up main and default are gone",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: ip rule del pref 32766 && ip rule del pref 32767"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "no-route", Direction: model.Forward, Confidence: "certain",
				Says: []string{`no policy rule looks up (the )?(table )?main`, `32766`}, Never: []string{`by now there is one`, `puts them back`}},
		},
	}
}
