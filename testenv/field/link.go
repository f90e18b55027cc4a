// SPDX-License-Identifier: Apache-2.0

// Faults of layer 2: MACs that changed, neighbours that do not answer, bridge ports
// that may not, addresses that two have.

package field

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// patient sends one thing and waits until the kernel has given up asking for an
// address.
func patient(proto, src, dst string) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: src, Dst: dst, Count: 1, Timeout: 4500 * time.Millisecond}
}

// twin makes a place a Calico pod that has an address of another's.
func twin(place, iface, address string) []string {
	return []string{
		"node1: ip link add " + iface + " address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns $NS_" + place,
		"node1: ip link set " + iface + " up && sysctl -qw net.ipv4.conf." + iface + ".proxy_arp=1 net.ipv4.conf." + iface + ".rp_filter=0",
		place + ": ip link set eth0 up && ip addr add " + address + "/32 dev eth0 && ip route add 169.254.1.1 dev eth0 scope link && ip route add default via 169.254.1.1",
	}
}

// bridgePod makes a place a third pod on the bridge.
func bridgePod(place, iface, address string) []string {
	return []string{
		"node1: ip link add " + iface + " type veth peer name eth0 netns $NS_" + place,
		"node1: ip link set " + iface + " master cni0 up",
		place + ": ip link set eth0 up && ip addr add " + address + "/24 dev eth0",
	}
}

// serviceOnBridge makes a service's address that the node translates on the bridge.
func serviceOnBridge() []string {
	return []string{
		"node1: sysctl -qw net.bridge.bridge-nf-call-iptables=1",
		"node1: iptables-legacy -t nat -A PREROUTING -d 10.96.0.77/32 -p tcp --dport 80 -m comment --comment 'shop/cart cluster IP' -j DNAT --to-destination $SERVER:8080",
		"node1: iptables-legacy -t nat -A POSTROUTING -s $SERVER -d $SERVER -j MASQUERADE",
	}
}

const (
	noSuchMAC  = "02:00:00:00:00:99"
	falseProxy = `the node answers for it by proxy ARP`
	loosen     = `rp_filter=2`
)

// secondAddr is one that a pod was not given.
var secondAddr = netip.MustParseAddr("192.0.2.77")

func linkCases() []Case {
	return slices.Concat(silentCases(), portCases(), frameCases(), twiceCases())
}

// silentCases are those where nobody answers ARP or neighbour discovery.
func silentCases() []Case {
	return []Case{
		{
			Name: "gateway-uncovered", Reports: []string{"projectcalico/calico#3243", "projectcalico/calico#4186", "projectcalico/calico#1947"},
			Essence: "the node has no default route, so that proxy ARP has no route that covers the pods' gateway",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: ip route del default", "client: ip neigh flush all"},
			Traffic: patient("tcp", client, server),
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`no route that covers 169\.254\.1\.1`, `ip route`, `proxy_arp = 1`}, Never: []string{falseProxy}},
		},
		{
			Name: "forwarding-off-cold", Reports: []string{"projectcalico/calico#3243"},
			Essence: "forwarding is off, and the pod has to ask for its gateway first: proxy ARP is silent then",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: sysctl -qw net.ipv4.ip_forward=0", "client: ip neigh flush all"},
			Traffic: patient("tcp", client, server),
			Want: Want{Code: "ip-forward-off", Direction: model.Forward,
				Says: []string{`net\.ipv4\.ip_forward = 0`, `proxy ARP`, `169\.254\.1\.1`}, Never: []string{falseProxy}},
		},
		{
			Name: "source-unproxied", Reports: []string{"projectcalico/calico#4630"},
			Essence: "the pod asks for its gateway under a second address, and the strict reverse path filter refuses ARP with that source",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"client: ip addr add 192.0.2.77/32 dev eth0", "node1: ip route add 192.0.2.77/32 dev $CLIENT_IF"},
			Break:   []string{"node1: ip route del 192.0.2.77/32 && sysctl -qw net.ipv4.conf.$CLIENT_IF.rp_filter=1", "client: ip neigh flush all"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: server, Count: 1, Timeout: 4500 * time.Millisecond, Source: secondAddr},
			Src:     "192.0.2.77", Dst: "${SERVER}",
			Want: Want{Code: "rp-filter", Direction: model.Forward,
				Says: []string{`192\.0\.2\.77`, `ARP`, `169\.254\.1\.1`, `rp_filter = 1`}, Never: []string{falseProxy, loosen}},
		},
		{
			Name: "gateway6-off", Reports: []string{"projectcalico/calico#2191"},
			Essence: "IPv6 is switched off on the node's end, so the pod's IPv6 gateway does not answer",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: sysctl -qw net.ipv6.conf.$CLIENT_IF.disable_ipv6=1", "client: ip -6 neigh flush all"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: server, IPv6: true, Count: 1, Timeout: 4500 * time.Millisecond},
			Want:    Want{Code: "neighbor-failed", Direction: model.Forward, Says: []string{`IPv6 is off on`, `disable_ipv6 = 1`}},
		},
		{
			Name: "vtep-nobody", Reports: []string{"flannel-io/flannel#654"},
			Essence: "the tunnel's forwarding entry leads to an address that no node has",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break:   []string{"node1: bridge fdb replace $(bridge fdb show dev $TUNNEL | awk '/dst/{print $1;exit}') dev $TUNNEL dst 172.30.0.77"},
			Traffic: patient("icmp", client, web2),
			Want: Want{Code: "vxlan-broken", Direction: model.Forward,
				Says: []string{`172\.30\.0\.77`, `forwarding entry`, `bridge fdb: .* dst 172\.30\.0\.77`}, Never: []string{`nobody answers for the gateway`}},
		},
		{
			Name: "lo-down", Reports: []string{"pelagos-containers/pelagos#331", "kubernetes/kubernetes#28561"},
			Essence: "the pod's loopback is down, which is no fault for what comes from outside: nothing listens on that port",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"server: ip link set lo down"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: server, Port: 8099, Count: 1},
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: server, Count: 1},
			Want:    Want{Code: "no-listener", Direction: model.Forward, Says: []string{`nothing listens on tcp port 8099`, `tcp-reset`}, Never: []string{`was to leave by it`, `lo .*is set down`}},
		},
	}
}

// portCases are those of a bridge's ports.
func portCases() []Case {
	flannel := plain(cluster.FlannelLegacy, 1)
	return []Case{
		{
			Name: "hairpin-off", Reports: []string{"rancher/rancher#18721", "kubernetes/kubernetes#20475"},
			Essence: "a pod asks for itself by its service's address, and its bridge port has no hairpin mode",
			Node:    flannel, Setup: serviceOnBridge(),
			Break:   []string{"node1: bridge link set dev $SERVER_IF hairpin off"},
			Command: "server: timeout 2 bash -c 'exec 3<>/dev/tcp/10.96.0.77/80'",
			Src:     "${SERVER}", Dst: "10.96.0.77",
			Want: Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`no hairpin mode`, `hairpin off`, `bridge link set dev \S+ hairpin on`}},
		},
		{
			Name: "ports-isolated", Reports: []string{"containernetworking/plugins#1135"},
			Essence: "both pods' bridge ports are isolated",
			Node:    flannel,
			Break:   []string{"node1: bridge link set dev $CLIENT_IF isolated on && bridge link set dev $SERVER_IF isolated on"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely", Says: []string{`both isolated`, `isolated on`}},
		},
		{
			Name: "ports-isolated-cold", Reports: []string{"containernetworking/plugins#1135"},
			Essence: "the same, and the pod has to ask for the other's MAC first",
			Node:    flannel,
			Break:   []string{"node1: bridge link set dev $CLIENT_IF isolated on && bridge link set dev $SERVER_IF isolated on", "client: ip neigh flush all", "server: ip neigh flush all"},
			Traffic: patient("tcp", client, server),
			Want:    Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`both isolated`, `ARP`}},
		},
		{
			Name: "port-learning", Reports: []string{"containernetworking/cni#285"},
			Essence: "the pod's bridge port does not forward: its STP state is learning",
			Node:    flannel,
			// a port's timer runs from its coming up, without STP too, and ends the
			// state learning (br_forward_delay_timer_expired): it is set afresh, to 300 s
			Break: []string{"node1: ip link set cni0 type bridge forward_delay 30000 && ip link set $CLIENT_IF down && ip link set $CLIENT_IF up",
				"client: ping -c3 -i0.2 -W3 $SERVER >/dev/null"},
			During:  []string{"node1: bridge link set dev $CLIENT_IF state 2"},
			Traffic: exchange("tcp", client, server),
			// the kernel says so itself since 6.14
			Want: Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`state learning`, `takes no frames in`}},
		},
		{
			Name: "port-disabled", Reports: []string{"containernetworking/cni#285"},
			Essence: "the other pod's bridge port is in state disabled",
			Node:    flannel,
			Break:   []string{"node1: bridge link set dev $SERVER_IF state 0"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`state disabled`, `sends no frames out`}},
		},
		{
			Name: "port-locked", Reports: []string{"containernetworking/plugins#1135"},
			Essence: "the pod's bridge port is locked, and the bridge does not know its MAC",
			Node:    flannel,
			Break:   []string{"node1: bridge link set dev $CLIENT_IF locked on && bridge fdb del $CLIENT_MAC dev $CLIENT_IF master"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`is locked`, `locked on`}},
		},
		{
			Name: "port-unflooded", Reports: []string{"containernetworking/cni#88"},
			Essence: "the bridge does not know where the pod's MAC is, and the pod's port gets no unknown frames",
			Node:    flannel,
			Break:   []string{"node1: bridge link set dev $SERVER_IF learning off flood off && bridge fdb del $SERVER_MAC dev $SERVER_IF master"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`flood off`, `unknown MACs`, `learning off`}},
		},
		{
			Name: "port-vlan", Reports: []string{"containernetworking/plugins#667"},
			Essence: "the bridge filters VLANs, and the other pod's port is in another one",
			Node:    flannel, Modules: []string{"8021q"},
			Break: []string{"node1: sysctl -qw net.bridge.bridge-nf-call-iptables=0; ip link set cni0 type bridge vlan_filtering 1",
				"node1: bridge vlan del dev $SERVER_IF vid 1 && bridge vlan add dev $SERVER_IF vid 20 pvid untagged"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "bridge-port", Direction: model.Forward, Says: []string{`frame is in VLAN 1`, `VLAN 20`, `vlan_filtering 1`}},
		},
		{
			Name: "bridge-rule", Reports: []string{"kubernetes/kubernetes#43953"},
			Essence: "a rule of the bridge family, against spoofing, drops the reply",
			Node:    flannel,
			Break: []string{"node1: nft add table bridge guard && nft add chain bridge guard pass '{ type filter hook forward priority -200; }' && " +
				"nft add rule bridge guard pass iifname $SERVER_IF ip protocol tcp tcp sport 8080 counter drop comment '\"no-spoofing\"'"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "rule-drop", Direction: model.Return, Says: []string{`bridge`, `FORWARD`, `no-spoofing`}},
		},
	}
}

// frameCases are those where a frame is for another MAC than it should.
func frameCases() []Case {
	flannel := plain(cluster.FlannelLegacy, 1)
	return []Case{
		{
			Name: "vtep-mac", Reports: []string{"flannel-io/flannel#1155", "flannel-io/flannel#1795"},
			Essence: "the tunnel interface has another MAC than the other node holds of it",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break:   []string{"node1: ip link set $TUNNEL address 02:00:00:00:99:99"},
			Traffic: exchange("tcp", web2, server),
			Want: Want{Code: "vxlan-broken", Direction: model.Forward, Confidence: "certain",
				Says: []string{`another MAC than that of flannel\.1`, `02:00:00:00:99:99`, `OTHERHOST`, `MACAddressPolicy`}},
		},
		{
			Name: "pod-mac-permanent", Reports: []string{"moby/moby#36069", "cilium/cilium#14962"},
			Essence: "the pod's MAC is not that of the permanent neighbour entry that the node has of it",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"server: ip link set eth0 address 02:00:00:00:77:77"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "stale-neighbor", Direction: model.Forward, Says: []string{`02:00:00:00:77:77`, `PERMANENT`, `OTHERHOST`, `ip neigh del`}},
		},
		{
			Name: "neighbor-nobody", Reports: []string{"containernetworking/plugins#858", "aws/amazon-vpc-cni-k8s#3628"},
			Essence: "the pod holds a MAC for the other pod that nobody has any more",
			Node:    flannel,
			Break:   []string{"client: ip neigh replace $SERVER lladdr " + noSuchMAC + " dev eth0 nud permanent"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "stale-neighbor", Direction: model.Forward, Says: []string{noSuchMAC, `no interface there has`, `PERMANENT`}},
		},
		{
			Name: "neighbor-other-pod", Reports: []string{"containernetworking/cni#88"},
			Essence: "the pod holds the MAC of a third pod for the other one, which gets the packets and has no use for them",
			Node:    flannel, Places: []string{"third"}, Setup: bridgePod("third", "veththird", "10.244.1.77"),
			Break:   []string{"client: ip neigh replace $SERVER lladdr $(ip netns exec $NS_third cat /sys/class/net/eth0/address) dev eth0 nud permanent"},
			Traffic: exchange("udp", client, server),
			Want:    Want{Code: "stale-neighbor", Direction: model.Forward, Says: []string{`veththird`, `PERMANENT`}, Never: []string{`ip_forward=1`}},
		},
		{
			Name: "bridge-mac", Reports: []string{"flannel-io/flannel#1381", "kubernetes/kubernetes#30783"},
			Essence: "the bridge's MAC changed under the pods, which hold the old one for their gateway",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break:   []string{"node1: ip link set cni0 address 02:00:00:00:66:66"},
			Traffic: exchange("udp", client, web2),
			Want:    Want{Code: "stale-neighbor", Direction: model.Forward, Says: []string{`02:00:00:00:66:66`, `cni0`, `10\.244\.1\.1`}},
		},
		{
			Name: "fdb-wrong-port", Reports: []string{"containernetworking/cni#88"},
			Essence: "the bridge's table has a pod's MAC behind a third pod's port",
			Node:    flannel, Places: []string{"third"}, Setup: bridgePod("third", "veththird", "10.244.1.77"),
			Break:   []string{"node1: bridge link set dev $SERVER_IF learning off && bridge fdb replace $SERVER_MAC dev veththird master static"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "stale-neighbor", Direction: model.Forward, Says: []string{`sends frames for MAC \S+ by veththird`, `bridge fdb`}},
		},
	}
}

// twiceCases are those of an address that two have.
func twiceCases() []Case {
	both := `(?s)cali\S+.*calidouble`
	return []Case{
		{
			Name: "address-twice", Reports: []string{"projectcalico/calico#13858", "projectcalico/calico#6243"},
			Essence: "two pods of one node have one address, and the reply goes to the other",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"double"},
			Break:   append(twin("double", "calidouble", "$CLIENT"), "node1: ip route replace $CLIENT/32 dev calidouble metric 1024"),
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "duplicate-address", Direction: model.Return, Confidence: "certain",
				Says: []string{both, `2 interfaces have the address`, `did not ask`}, Never: []string{loosen}},
		},
		{
			Name: "address-twice-ping", Reports: []string{"projectcalico/calico#6243"},
			Essence: "the same with ping: the other pod takes the reply without a word",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"double"},
			Break:   append(twin("double", "calidouble", "$CLIENT"), "node1: ip route replace $CLIENT/32 dev calidouble metric 1024"),
			Traffic: exchange("icmp", client, server),
			Want:    Want{Code: "duplicate-address", Direction: model.Return, Says: []string{both, `did not ask`}, Never: []string{loosen}},
		},
		{
			Name: "address-twice-strict", Reports: []string{"projectcalico/calico#13858"},
			Essence: "the same with a strict reverse path filter",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"double"},
			Break: append(twin("double", "calidouble", "$CLIENT"), "node1: ip route replace $CLIENT/32 dev calidouble metric 1024",
				"node1: sysctl -qw net.ipv4.conf.$CLIENT_IF.rp_filter=1"),
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "duplicate-address", Direction: model.Forward, Confidence: "certain",
				Says: []string{both, `IP_RPFILTER`}, Never: []string{loosen}},
		},
		{
			Name: "address-of-node", Reports: []string{"projectcalico/calicoctl#1523"},
			Essence: "the node itself has the pod's address",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: ip addr add $CLIENT/32 dev eth0"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "duplicate-address", Direction: model.Forward, Says: []string{`eth0 of this node`, `cali`}, Never: []string{loosen}},
		},
		{
			Name: "server-twice", Reports: []string{"aws/amazon-vpc-cni-k8s#711", "kubernetes/kubernetes#43910"},
			Essence: "a pod that nothing listens in has the server's address too, and gets its requests",
			Node:    plain(cluster.CalicoLegacy, 1), Places: []string{"double"},
			Break:   append(twin("double", "calidouble", "$SERVER"), "node1: ip route replace $SERVER/32 dev calidouble metric 1024"),
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "duplicate-address", Direction: model.Forward, Says: []string{both, `nothing listens`}, Never: []string{loosen}},
		},
	}
}
