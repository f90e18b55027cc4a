// SPDX-License-Identifier: Apache-2.0

// Further faults of links, tunnels, bridges and neighbours.

package field

import (
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// peerTunnelMAC is that of node2's tunnel interface of a Flannel node, ownTunnelMAC
	// that of node1's.
	peerTunnelMAC = "2e:84:f0:d6:f9:08"
	ownTunnelMAC  = "86:a9:84:b0:89:54"
	// arpForIPv6 is a command that cannot help: IPv6 has no ARP.
	arpForIPv6 = `arping`
)

// untilGivenUp is one exchange whose sender waits longer than the kernel asks for an
// address.
func untilGivenUp(proto, src, dst string, ipv6 bool) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: src, Dst: dst, IPv6: ipv6, Count: 1, Timeout: 4500 * time.Millisecond}
}

func moreLinkCases() []Case {
	flannel := plain(cluster.FlannelLegacy, 1)
	return []Case{
		{
			Name: "vtep-self", Reports: []string{"flannel-io/flannel#535", "kubernetes-sigs/kubespray#2114", "coreos/bugs#2223"},
			Essence: "all nodes have one address on the interface that the tunnel took, so the other node's tunnel endpoint is this node itself",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break:   []string{"node1: bridge fdb replace " + peerTunnelMAC + " dev $TUNNEL dst $NODE1"},
			Traffic: exchange("tcp", client, web2),
			Want: Want{Code: "vxlan-broken", Direction: model.Forward,
				Says:  []string{peerTunnelMAC, `172\.30\.0\.1\b`, `address of this node`, `forwarding entry|bridge fdb`},
				Never: []string{`two nodes each hold the other`}},
		},
		{
			Name: "vtep-mac-twice", Reports: []string{"submariner-io/submariner#4024"},
			Essence: "the tunnel interfaces of both nodes have one MAC, and the kernel takes a frame from its own MAC for a loop",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break: []string{"node2: ip link set $TUNNEL address " + ownTunnelMAC + " && ip neigh replace $VTEP1 lladdr " + ownTunnelMAC + " dev $TUNNEL nud permanent",
				"node1: bridge fdb add " + ownTunnelMAC + " dev $TUNNEL dst $NODE2 && ip neigh replace $VTEP2 lladdr " + ownTunnelMAC + " dev $TUNNEL nud permanent"},
			Traffic: exchange("tcp", web2, server),
			Want: Want{Code: "vxlan-broken", Direction: model.Forward,
				Says:  []string{ownTunnelMAC, `same MAC|its own MAC|MAC of its own`, `LOCAL_MAC|loop`},
				Never: []string{`VNI or header differ`}},
		},
		{
			Name: "dad-failed", Reports: []string{"kubernetes/kubernetes#32291"},
			Essence: "a bridge port in hairpin mode sends a pod's own probe for a doubled address back, so its IPv6 address is never used",
			Node:    flannel,
			Setup:   []string{"node1: bridge link set dev $SERVER_IF hairpin off"},
			Break: []string{"node1: bridge link set dev $SERVER_IF hairpin on",
				"server: sysctl -qw net.ipv6.conf.all.enhanced_dad=0 net.ipv6.conf.eth0.enhanced_dad=0 net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=1",
				"server: ip addr del $SERVER6/64 dev eth0 && ip addr add $SERVER6/64 dev eth0",
				"server: for i in $(seq 50); do ip -6 addr show dev eth0 | grep -q dadfailed && exit 0; sleep 0.1; done; exit 1",
				"client: ip -6 neigh flush all"},
			Traffic: untilGivenUp("icmp", client, server, true),
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`fd00:10:244:1::3`, `dadfailed`, `hairpin`}, Never: []string{arpForIPv6}},
		},
		{
			Name: "macvlan-parent", Reports: []string{"k8snetworkplumbingwg/multus-cni#226", "k8snetworkplumbingwg/multus-cni#463", "k8snetworkplumbingwg/multus-cni#671"},
			Essence: "the node asks for a macvlan of its own pod by that macvlan's parent, and the kernel does not deliver between the two",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"attached"},
			Setup: []string{"node1: ip link add mv0 link eth0 type macvlan mode bridge && ip link set mv0 netns $NS_attached name net1",
				"attached: ip link set net1 up && ip addr add 172.30.0.50/24 dev net1",
				"node1: ip link add shim link eth0 type macvlan mode bridge && ip link set shim up && ip route add 172.30.0.50/32 dev shim src $NODE1"},
			Break:   []string{"node1: ip route del 172.30.0.50/32 dev shim && ip link del shim"},
			Command: "node1: ping -c1 -W4 172.30.0.50", Src: "node", Dst: "172.30.0.50",
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`172\.30\.0\.50`, `macvlan`, `parent|eth0`}, Never: []string{`no pod of this node has`}},
		},
		{
			Name: "stp-listening", Reports: []string{"OpenNebula/one-deploy#290", "xapi-project/xen-api#1994"},
			Essence: "the bridge speaks the spanning tree protocol, so a new port listens and learns for half a minute before it forwards",
			Node:    flannel,
			Break: []string{"node1: ip link set cni0 type bridge stp_state 1 forward_delay 3000",
				"node1: ip link set $CLIENT_IF nomaster && ip link set $CLIENT_IF master cni0"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward,
				Says: []string{`state (listening|learning)`, `STP|spanning tree`, `forward.delay`}},
		},
		{
			Name: "bridge-bare", Reports: []string{"kubernetes/kubernetes#67183"},
			Essence: "the bridge has no address, so the pods' gateway does not exist",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break:   []string{"node1: ip -4 addr flush dev cni0", "client: ip neigh flush all"},
			Traffic: untilGivenUp("tcp", client, web2, false),
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`10\.244\.1\.1\b`, `cni0 has no (IPv4 )?address`}, Never: []string{`no pod of this node has`}},
		},
		{
			Name: "solicitation-dropped", Reports: []string{"moby/moby#45460", "k3s-io/k3s#9797", "cloudnativelabs/kube-router#1895"},
			Essence: "an isolation rule drops the neighbour solicitation on the bridge, since its multicast destination is not in the subnet",
			Node:    flannel,
			Setup:   []string{"node1: sysctl -qw net.bridge.bridge-nf-call-ip6tables=1"},
			Break: []string{"node1: ip6tables-legacy -N DOCKER-ISOLATION-STAGE-1 && ip6tables-legacy -A FORWARD -j DOCKER-ISOLATION-STAGE-1",
				"node1: ip6tables-legacy -A DOCKER-ISOLATION-STAGE-1 ! -s fd00:10:244:1::/64 -o cni0 -j DROP",
				"node1: ip6tables-legacy -A DOCKER-ISOLATION-STAGE-1 ! -d fd00:10:244:1::/64 -i cni0 -j DROP",
				"client: ip -6 neigh flush all"},
			Traffic: untilGivenUp("icmp", client, server, true),
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`fd00:10:244:1::3`, `DOCKER-ISOLATION-STAGE-1`, `neighbou?r (solicitation|discovery)`}, Never: []string{arpForIPv6}},
		},
		{
			Name: "mac-twice", Reports: []string{"moby/moby#48082", "moby/moby#48595", "docker/for-linux#589"},
			Essence: "two pods of one bridge have one MAC, and the bridge has learned it behind the other's port last",
			Node:    flannel, Places: []string{"stranger"},
			Setup: []string{"node1: ip link add vethstranger type veth peer name eth0 netns $NS_stranger && ip link set vethstranger master cni0 up",
				"stranger: sysctl -qw net.ipv4.ip_forward=0; ip link set eth0 up && ip addr add 10.244.1.77/24 dev eth0"},
			Break: []string{"stranger: ip link set eth0 down && ip link set eth0 address $SERVER_MAC && ip link set eth0 up"},
			// it goes on, or the other pod's next frame teaches the bridge its own port again
			During:  []string{"stranger: sh -c 'ping -c1 -W1 10.244.1.1; ping -q -i0.2 -c40 10.244.1.1 >/dev/null 2>&1 &'"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "duplicate-address", Direction: model.Forward,
				Says: []string{`MAC`, `vethstranger`, `10\.244\.1\.77|stranger`}, Never: []string{`ip_forward=1`}},
		},
		{
			Name: "veth-uneven", Reports: []string{"rancher/rancher#10498", "moby/moby#4282"},
			Essence: "the node's end of a pod's interface has a smaller MTU than the pod's own, and refuses what is larger without a word",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: ip link set $CLIENT_IF mtu 1400"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: server, Count: 2, Size: 1420},
			Want: Want{Code: "mtu", Direction: model.Forward,
				Says: []string{`cali\S+.*MTU of 1400|MTU 1400|mtu 1400`, `1450`, `eth0`}},
		},
		{
			Name: "ipv6-off-in-pod", Reports: []string{"containernetworking/cni#531", "moby/moby#33099"},
			Essence: "IPv6 is switched off in the pod, so it has lost the address that the node has a route to",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: ip neigh del $SERVER6 dev $SERVER_IF"},
			Break:   []string{"server: sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "node1: ip -6 neigh flush dev $SERVER_IF"},
			Traffic: untilGivenUp("icmp", client, server, true),
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`disable_ipv6 = 1`, `no (longer|IPv6) `}, Never: []string{`a pod of this node has`, arpForIPv6}},
		},
		{
			Name: "vip-twice", Reports: []string{"kube-vip/kube-vip#996", "kube-vip/kube-vip#1385", "kube-vip/kube-vip#1288"},
			Essence: "a floating address stays on two nodes, and this one refuses the rightful holder's packets: their source is its own",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"outside: ip addr add 172.30.0.100/32 dev br0 && ip route add $SERVER via $NODE1"},
			Break:   []string{"node1: ip addr add 172.30.0.100/32 dev eth0"},
			// who has that address as its own gets no answer to ARP from it
			During:  []string{"outside: ping -c1 -W1 -I 172.30.0.254 $NODE1"},
			Command: `outside: timeout 2 python3 -c 'import socket;socket.create_connection(("'$SERVER'",8080),2,("172.30.0.100",0))'`,
			Src:     "172.30.0.100", Dst: "${SERVER}",
			// before 6.14 the kernel gives no reason: likely there
			Want: Want{Code: "rp-filter", Direction: model.Forward,
				Says:  []string{`172\.30\.0\.100`, `an address of (its own|this node)`, `eth0 of this node has`, `ip addr del`},
				Never: []string{`or none that may be a source`, `rp_filter=2`}},
		},
	}
}
