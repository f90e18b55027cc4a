// SPDX-License-Identifier: Apache-2.0

// Faults of routing: policy rules, tables, two uplinks, loops.

package field

import (
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
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

// mesh gives node1 an interface tailscale0 to a place of that name, and a table 52
// that sends all pods' addresses there: no rule looks it up yet.
func mesh(address string, more ...string) []string {
	return append([]string{
		"node1: ip link add tailscale0 type veth peer name eth0 netns $NS_mesh && ip addr add " + address + " dev tailscale0 && ip link set tailscale0 up",
		"mesh: ip link set eth0 up",
		"node1: ip route add 192.168.0.0/16 dev tailscale0 table 52",
	}, more...)
}

// marked has replies go back by the uplink that the request came by, by a mark that
// the connection keeps.
func marked() []string {
	return append(secondUplink(),
		"node1: ip rule del from $SERVER lookup 3 pref 1536 && ip rule add fwmark 0x80/0x80 lookup 3 pref 1024",
		"node1: iptables-legacy -w -t mangle -A PREROUTING -i up2 -j CONNMARK --set-xmark 0x80/0x80",
		"node1: iptables-legacy -w -t mangle -A PREROUTING -i cali+ -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80",
	)
}

// refusing is a case of a policy rule that refuses what the client sends.
func refusing(action string, v6 bool) Case {
	c := Case{
		Name: "policy-rule-" + action, Reports: []string{"tailscale/tailscale#19876"},
		Essence: "a policy rule of somebody's says " + action + " of what the pod sends",
		Node:    plain(cluster.CalicoLegacy, 1),
		Break:   []string{"node1: ip rule add pref 900 from $CLIENT to $SERVER " + action},
		Traffic: exchange("tcp", client, server),
		Want: Want{Code: "blackhole-route", Direction: model.Forward,
			Says:  []string{`policy rule 900 of this node refuses`, `900: from \S+ to \S+ ` + action, `ip( -6)? rule del pref 900`},
			Never: []string{`by now`, `a blackhole route`, `ip route del`}},
	}
	if v6 {
		c.Name += "-6"
		c.Traffic.IPv6 = true
		c.Break = []string{"node1: ip -6 rule add pref 900 from $CLIENT6 to $SERVER6 " + action}
	}
	return c
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
				Says: []string{`leaves? by eth0`, `came (in )?by up2`, `rule 32766`, `table main`, `table 3 would lead back by up2`}},
		},
		{
			Name: "rule-of-uplink-lost-ping", Reports: []string{"aws/amazon-vpc-cni-k8s#1600"},
			Essence: "the same, asked for by ping, traced from the one who answers",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"router"}, Setup: secondUplink(),
			Break:   []string{"node1: ip rule del from $SERVER lookup 3 pref 1536"},
			Command: "router: ping -c2 -i0.3 -W1 $SERVER",
			Src:     "${SERVER}", Dst: "192.0.2.7",
			Want: Want{Code: "asymmetric-return", Confidence: "likely", Direction: model.Forward,
				Says: []string{`leaves? by eth0`, `came (in )?by up2`, `rule 32766`, `table 3 would lead back by up2`}},
		},
		{
			Name: "other-uplink-blocked", Reports: []string{"antrea-io/antrea#678", "aws/amazon-vpc-cni-k8s#75"},
			Essence: "replies leave by another uplink than requests come by, which worked until the network there stopped passing them on",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"router"},
			Setup: append(secondUplink(), "node1: ip rule del from $SERVER lookup 3 pref 1536 && ip route flush table 3",
				"outside: ip route del blackhole 192.0.2.0/24",
				"outside: ip link add tor type veth peer name eth1 netns $NS_router && ip addr add 172.31.11.1/24 dev tor && ip link set tor up",
				"router: ip addr add 172.31.11.2/24 dev eth1 && ip link set eth1 up && sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0",
				"outside: ip route add 192.0.2.0/24 via 172.31.11.2"),
			Break:   []string{"outside: ip route replace blackhole 192.0.2.0/24"},
			Command: "router: timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'",
			Src:     "192.0.2.7", Dst: "${SERVER}",
			Want: Want{Code: "asymmetric-return", Confidence: "likely", Direction: model.Return,
				Says: []string{`leaves? by eth0`, `came (in )?by up2`, `rule 32766 looks up table main: default via`}},
		},
		{
			Name: "reply-mark-lost", Reports: []string{"aws/amazon-vpc-cni-k8s#75", "antrea-io/antrea#678", "cilium/cilium#12098"},
			Essence: "the rule that gives replies the mark of their connection was flushed, so the policy rule that asks for it does not apply",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"router"}, Setup: marked(),
			Break:   []string{"node1: iptables-legacy -w -t mangle -F PREROUTING"},
			Command: "router: timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'",
			Src:     "192.0.2.7", Dst: "${SERVER}",
			Want: Want{Code: "asymmetric-return", Confidence: "likely", Direction: model.Return,
				Says: []string{`leaves? by eth0`, `came (in )?by up2`, `rule 1024`, `fwmark 0x80/0x80`, `mark is 0x0`}},
		},
		{
			Name: "marked-source-check", Reports: []string{"trueforge-org/truecharts#1076", "aws/amazon-vpc-cni-k8s#75"},
			Essence: "two uplinks told apart by a mark, and a strict source check that does not look at marks",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"router"},
			Setup: append(secondUplink(), "node1: ip rule del from $SERVER lookup 3 pref 1536 && ip rule add fwmark 0x80/0x80 lookup 3 pref 1024",
				"node1: ip route add $SERVER dev $SERVER_IF table 3",
				"node1: iptables-legacy -w -t mangle -A PREROUTING -j MARK --set-xmark 0x80/0x80",
				"node1: sysctl -qw net.ipv4.conf.up2.src_valid_mark=1 net.ipv4.conf.up2.rp_filter=1",
				"router: sysctl -qw net.ipv4.conf.all.arp_announce=2"), // an ARP request bears no mark
			Break:   []string{"node1: sysctl -qw net.ipv4.conf.up2.src_valid_mark=0"},
			Command: "router: timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'",
			Src:     "192.0.2.7", Dst: "${SERVER}",
			Want: Want{Code: "rp-filter", Confidence: "certain", Direction: model.Forward,
				Says:  []string{`src_valid_mark = 0`, `mark 0x80`, `rule 1024 \(fwmark 0x80/0x80\) looks up table 3: default via 172.31.10.2 dev up2`, `rule 32766 looks up table main: default via`, `src_valid_mark=1`},
				Never: []string{`rp_filter=2`}},
		},
		{
			Name: "pod-second-interface", Reports: []string{"projectcalico/calico#6358", "spidernet-io/spiderpool#3683"},
			Essence: "a pod's second interface has taken its default route: requests come by the first, replies leave by the second",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"lan"},
			Setup: []string{"server: ip link add net1 type veth peer name eth0 netns $NS_lan && ip link set net1 up && ip addr add 172.31.20.2/24 dev net1",
				"lan: ip link set eth0 up && ip addr add 172.31.20.1/24 dev eth0"},
			Break:   []string{"server: ip route replace default via 172.31.20.1 dev net1"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "asymmetric-return", Confidence: "likely", Direction: model.Return,
				Says: []string{`leaves? by net1`, `came (in )?by eth0`, `rule 32766 looks up table main: default via 172.31.20.1 dev net1`}},
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
		{
			Name: "main-rule-lost-6", Reports: []string{"systemd/systemd#41350"},
			Essence: "the same of IPv6, where a VPN's rule asks main for its own packets only",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: ip -6 rule add pref 5210 fwmark 0x80000/0xff0000 lookup main"},
			Break:   []string{"node1: ip -6 rule del pref 32766"},
			Traffic: func() (t traffic.Spec) { t = exchange("udp", client, server); t.IPv6 = true; return t }(),
			Want: Want{Code: "no-route", Direction: model.Forward,
				Says: []string{`no policy rule looks up (the )?(table )?main`, `32766`}, Never: []string{`by now there is one`, `puts them back`}},
		},
		{
			Name: "vpn-table-first", Reports: []string{"k3s-io/k3s#7772", "tailscale/tailscale#14706"},
			Essence: "a VPN's policy rule and table come before main, and send the pods' addresses to the VPN's interface",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"mesh"}, Setup: mesh("100.64.0.1/32"),
			Break:   []string{"node1: ip rule add pref 5270 lookup 52"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: server, Count: 2, Timeout: 6 * time.Second},
			Want: Want{Code: "neighbor-failed",
				Says: []string{`tailscale0`, `rule 5270 looks up table 52`, `192.168.0.0/16 dev tailscale0`, `table main would lead to cali`}, Never: []string{`arping`}},
		},
		{
			Name: "vpn-table-takes", Reports: []string{"k3s-io/k3s#8372"},
			Essence: "the same with an interface that asks nobody: what is for a pod of this node leaves it",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"mesh"}, Setup: mesh("100.64.0.1/10", "node1: ip link set tailscale0 arp off"),
			Break:   []string{"node1: ip rule add pref 5270 lookup 52"},
			Traffic: exchange("udp", client, server),
			Want: Want{Code: "misrouted", Direction: model.Forward, Confidence: "certain",
				Says: []string{`tailscale0`, `rule 5270 looks up table 52`, `192.168.0.0/16 dev tailscale0`, `table main would lead to cali`}, Never: []string{`good order`}},
		},
		{
			Name: "vpn-kill-switch", Reports: []string{"passteque/gluetun#2471"},
			Essence: "a VPN's rules let main have what it has a route of its own for, and refuse the rest while the tunnel is down",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup: []string{"node1: ip route add unreachable default table 51820 && ip rule add pref 32764 lookup main suppress_prefixlength 0",
				"outside: ip addr add 198.51.77.7/32 dev lo && ip route add $PODNET1 via $NODE1"},
			Break:   []string{"node1: ip rule add pref 32765 not fwmark 0xca6c lookup 51820"},
			Traffic: exchange("icmp", client, "198.51.77.7"),
			Want: Want{Code: "blackhole-route", Direction: model.Forward,
				Says:  []string{`rule 32765 \(not fwmark 0xca6c\) looks up table 51820: unreachable default`, `table main would lead to: default via`},
				Never: []string{`by now`}},
		},
		refusing("prohibit", false), refusing("blackhole", false), refusing("unreachable", false), refusing("prohibit", true),
		{
			Name: "subnet-twice", Reports: []string{"flannel-io/flannel#1013", "kubernetes/kubernetes#59687"},
			Essence: "docker0 was given the subnet of cni0, and its route comes first",
			Node:    plain(cluster.FlannelNFT, 1),
			Setup: []string{"node1: ip link add docker0 type bridge && ip link add dk0 type veth peer name dk1 && ip link set dk0 master docker0 up && ip link set dk1 up && ip link set docker0 up",
				"node1: ip route del $PODNET1 dev cni0 && ip route add $PODNET1 dev cni0 metric 10"},
			Break:   []string{"node1: ip route add $PODNET1 dev docker0"},
			Command: "node1: timeout 4 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'",
			Src:     "node", Dst: "${SERVER}",
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`two routes to`, `docker0`, `cni0, behind which the pod is`}, Never: []string{`arping`}},
		},
		{
			Name: "circle-with-router", Reports: []string{"projectcalico/confd#322", "projectcalico/calico#3269", "projectcalico/felix#210"},
			Essence: "an address that is gone: the node sends it to its router, and the router sends it back",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"outside: ip addr add 198.51.77.7/32 dev lo && ip route add $PODNET1 via $NODE1"},
			Break:   []string{"outside: ip addr del 198.51.77.7/32 dev lo && ip route add 198.51.77.7 via $NODE1"},
			Command: "client: ping -c2 -i0.3 -W1 198.51.77.7",
			Src:     "${CLIENT}", Dst: "198.51.77.7",
			Want: Want{Code: "loop", Confidence: "certain", Direction: model.Forward,
				Says: []string{`circle between this node and 172.30.0.254`, `eth0`, `31 times|32 times`}, Never: []string{`good order`}},
		},
	}
}
