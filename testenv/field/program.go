// SPDX-License-Identifier: Apache-2.0

// Faults of eBPF programs, and of what a program or script writes into sysctls.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// attach starts a process that attaches a program which drops packets of a protocol,
// and waits until it is there.
func attach(place, mode, target, protocol string) []string {
	return []string{
		place + ": rm -f $DIR/attached",
		place + `: "$SELF" attach-program ` + mode + " " + target + " " + protocol + " $DIR/attached &",
		place + ": for i in $(seq 100); do [ -e $DIR/attached ] && exit 0; sleep 0.05; done; exit 1",
	}
}

const icmp, tcp, udp = "1", "6", "17"

// connect asks the server by TCP, in the case's cgroup where that is wanted.
const connect = "client: timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'"

func programCases() []Case {
	inCgroup := "client: echo 0 > $CGROUP/cgroup.procs; timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'"
	return append(settingCases(), []Case{
		{
			Name: "cgroup-egress", Reports: []string{"systemd/systemd#6764"},
			Essence: "a program on the client's cgroup lets none of its TCP out",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: mkdir -p $CGROUP"},
			Break:   attach("node1", "cgroup-egress", "$CGROUP", tcp),
			Command: inCgroup, Src: client, Dst: server,
			Want: Want{Code: "program-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`egress_guard \(id \d+\) on cgroup /pathtrace`, `tag [0-9a-f]{16}`, `held by field.test \(pid \d+\)`, `socket is that of bash`, `bpftool cgroup tree`}},
		},
		{
			Name: "cgroup-ingress", Reports: []string{"systemd/systemd#6764"},
			Essence: "a program on the client's cgroup lets no TCP in, so that the answer dies",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: mkdir -p $CGROUP"},
			Break:   attach("node1", "cgroup-ingress", "$CGROUP", tcp),
			Command: inCgroup, Src: client, Dst: server,
			Want: Want{Code: "program-drop", Direction: model.Return},
		},
		{
			Name: "cgroup-ping", Reports: []string{"systemd/systemd#6764"},
			Essence: "a program on the client's cgroup lets none of its pings out",
			Node:    plain(cluster.FlannelNFT, 1),
			Setup:   []string{"node1: mkdir -p $CGROUP"},
			Break:   attach("node1", "cgroup-egress", "$CGROUP", icmp),
			Command: "client: echo 0 > $CGROUP/cgroup.procs; ping -c2 -W1 $SERVER", Src: "${CLIENT}", Dst: "${SERVER}",
			Want: Want{Code: "program-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`egress_guard \(id \d+\) on cgroup /pathtrace`, `socket is that of ping`}},
		},
		{
			Name: "tc-two", Reports: []string{"projectcalico/calico#5358"}, Since: "6.6",
			Essence: "two programs of two agents on one interface, one of which drops it",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   append(attach("node1", "tcx-egress", "$SERVER_IF", udp), attach("node1", "tc-egress", "$SERVER_IF", tcp)...),
			Command: connect, Src: client, Dst: server,
			Want: Want{Code: "tc-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`one of 2 that are attached there`, `tcx_guard \(id`, `cls_guard \(id`, `not known: which of them`}},
		},
		{
			Name: "socket-filter", Reports: []string{"iovisor/bcc#3437"},
			Essence: "the server's own socket has a filter that takes nothing",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"server: true"},
			Break:   attach("server", "socket", "$SERVER:9999", udp),
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Port: 9999, Count: 2},
			Healthy: &traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2},
			Want: Want{Code: "program-drop", Direction: model.Forward, Confidence: "likely",
				Says: []string{`filter of the socket for udp port 9999 in \S+, that of field.test \(pid \d+\),`, `ss -anp`}},
		},
		{
			Name: "cgroup-connect", Reports: []string{"systemd/systemd#6764"},
			Essence: "a program on the client's cgroup refuses connect(), so that nothing is sent at all",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: mkdir -p $CGROUP", "client: sleep 60 &", "client: for p in $(ip netns pids $NS_client); do echo $p > $CGROUP/cgroup.procs || true; done"},
			Break:   attach("node1", "cgroup-connect", "$CGROUP", tcp),
			Command: inCgroup, Src: client, Dst: server,
			Want: Want{Code: "not-sent", Direction: model.Forward, Confidence: "likely", Exit: 3,
				Says: []string{`connect_guard \(id \d+, tag [0-9a-f]{16}\), cgroup connect4 of /pathtrace`, `held by field.test`, `EPERM`}},
		},
		interfaceProgram("xdp-uplink", "xdp-native", "node1", "eth0", `XDP \(native\) of eth0`, `xdp_guard \(id \d+`).from("external"),
		interfaceProgram("tc-egress", "tc-egress", "node1", "$SERVER_IF", `tc filter pref 7 bpf handle 0x1 guard\.o:\[cls\] direct-action with eBPF program cls_guard`, `tc filter show dev \S+ egress`),
		interfaceProgram("tcx-egress", "tcx-egress", "node1", "$SERVER_IF", `tcx egress of cali`, `tcx_guard \(id \d+`, `held by field.test`, `bpftool net show`).since("6.6"),
		interfaceProgram("tcx-ingress", "tcx-ingress", "node1", "$CLIENT_IF", `tcx ingress of cali`, `tcx_guard \(id \d+`, `held by field.test`).since("6.6"),
		interfaceProgram("xdp-native", "xdp-native", "node1", "$CLIENT_IF", `XDP \(native\) of cali`, `xdp_guard \(id \d+`, `held by field.test`, `ip -d link show`),
		interfaceProgram("xdp-generic", "xdp-generic", "node1", "$CLIENT_IF", `XDP \(generic\) of cali`, `xdp_guard \(id \d+`, `held by field.test`),
		interfaceProgram("xdp-in-pod", "xdp-native", "server", "eth0", `XDP \(native\) of eth0`, `xdp_guard \(id \d+`, `nsenter`, `held by field.test`),
	}...)
}

// metadata is where pods ask an agent of their node, which listens on loopback.
const metadata = "169.254.170.2"

// settingCases are faults of sysctls and of a pair's two ends.
func settingCases() []Case {
	wide := []string{"node1: ip link set $CLIENT_IF mtu 9000 && ip link set $SERVER_IF mtu 9000", "client: ip link set eth0 mtu 9000", "server: ip link set eth0 mtu 9000"}
	return []Case{
		{
			Name: "route-localnet", Reports: []string{"aws/amazon-ecs-init#334"},
			Essence: "a pod's request is redirected to a loopback address of the node, and route_localnet is 0 on the interface it comes in by",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup: []string{
				"node1: python3 -m http.server 51679 --bind 127.0.0.1 &",
				"node1: for i in $(seq 100); do bash -c 'exec 3<>/dev/tcp/127.0.0.1/51679' 2>/dev/null && exit 0; sleep 0.1; done; exit 1",
				"node1: iptables-legacy -t nat -A PREROUTING -d " + metadata + " -p tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679",
				"node1: sysctl -qw net.ipv4.conf.$CLIENT_IF.route_localnet=1",
			},
			Break:   []string{"node1: sysctl -qw net.ipv4.conf.$CLIENT_IF.route_localnet=0"},
			Command: "client: timeout 2 bash -c 'exec 3<>/dev/tcp/" + metadata + "/80'",
			Src:     client, Dst: metadata,
			Want: Want{Code: "sysctl-drop", Direction: model.Forward,
				Says: []string{`route_localnet is 0`, `net\.ipv4\.conf\.cali\w+\.route_localnet = 0, net\.ipv4\.conf\.all\.route_localnet = 0`, `the rule that translates ` + metadata}},
		},
		{
			Name: "own-source", Reports: []string{"cloudnativelabs/kube-router#511"},
			Essence: "a pod sends with an address of the node as its source, and accept_local is off",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"client: ip addr add $NODE1/32 dev lo", "node1: sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.$CLIENT_IF.rp_filter=0"},
			// the gateway does not answer ARP of that source, so it has to be known
			Break:   []string{"node1: sysctl -qw net.ipv4.conf.$CLIENT_IF.accept_local=0", "client: ping -qc1 -W1 $SERVER"},
			Command: "client: ping -c2 -W1 -I $NODE1 $SERVER", Src: "${NODE1}", Dst: "${SERVER}",
			Healthy: &traffic.Spec{Proto: "icmp", Src: "node1", Dst: server, Count: 2},
			Want: Want{Code: "rp-filter", Direction: model.Forward,
				Says:  []string{`martian source`, `eth0 of this node has \S+ itself`, `accept_local = 0`},
				Never: []string{`rp_filter=2`, `accept_local=1`}},
		},
		{
			Name: "ipv6-disabled", Reports: []string{"projectcalico/libnetwork-plugin#162"},
			Essence: "IPv6 is switched off on the interface that a pod's packets come in by",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: sysctl -qw net.ipv6.conf.$CLIENT_IF.disable_ipv6=1"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2, IPv6: true},
			Want: Want{Code: "sysctl-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`IPv6 is disabled on node \(cali`, `net\.ipv6\.conf\.cali\w+\.disable_ipv6 = 1`}},
		},
		{
			Name: "veth-mtu", Reports: []string{"rancher/rancher#10498", "moby/moby#4282"},
			Essence: "the two ends of a pod's veth pair have different MTUs, and the node's end takes less",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   wide,
			Break:   []string{"node1: ip link set $CLIENT_IF mtu 1500"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2, Size: 4000, DontFragment: true},
			Want: Want{Code: "mtu", Direction: model.Forward, Confidence: "likely",
				Says: []string{`cali\w+ on this node has an MTU of 1500, eth0 has 9000`, `4028 bytes`}},
		},
		{
			Name: "source-route", Reports: []string{"rahulinux/compliance#1"},
			Essence: "a request with a source route in its IP options, which the node is set to refuse",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.$CLIENT_IF.accept_source_route=1", "server: sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.eth0.accept_source_route=1"},
			Break:   []string{"node1: sysctl -qw net.ipv4.conf.all.accept_source_route=0"},
			Command: `client: python3 -c 'import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.setsockopt(0,4,bytes([131,7,4])+socket.inet_aton("'$SERVER'")+b"\0"); s.settimeout(1); s.sendto(b"x"*20,("'$SERVER'",8080)); s.recv(99)'`,
			Src:     client, Dst: server,
			Want: Want{Code: "sysctl-drop", Direction: model.Forward, Confidence: "likely",
				Says: []string{`source route`, `accept_source_route = 1, net.ipv4.conf.all.accept_source_route = 0`, `not known: that it has a source route`}},
		},
	}
}

func (c Case) since(kernel string) Case {
	c.Since = kernel
	return c
}

// from lets the client ask a host outside, whose answers the program drops.
func (c Case) from(outside string) Case {
	c.Command, c.Src, c.Dst = "", "", ""
	c.Setup = []string{"outside: ip route add $PODNET1 via $NODE1"}
	c.Traffic = traffic.Spec{Proto: "tcp", Src: client, Dst: outside, Count: 2}
	c.Want.Direction = model.Return
	return c
}

// interfaceProgram is a program on an interface that drops the client's TCP.
func interfaceProgram(name, mode, place, target string, says ...string) Case {
	return Case{
		Name: name, Reports: []string{"projectcalico/calico#5358", "projectcalico/calico#5250"},
		Essence: "a program on an interface drops it: " + mode,
		Node:    plain(cluster.CalicoLegacy, 1),
		Break:   attach(place, mode, target, tcp),
		Command: connect, Src: client, Dst: server,
		Want: Want{Code: "tc-drop", Direction: model.Forward, Confidence: "certain", Says: says},
	}
}
