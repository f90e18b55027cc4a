// SPDX-License-Identifier: Apache-2.0

// Further faults of routing: addresses that ought to be this node's own, forwarding,
// multicast.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// notFarther are sentences that send the reader away from a node that has the fault.
var notFarther = []string{`in good order`, `on the node that has`}

// knock opens a connection and closes it.
func knock(place, to, port string) string {
	return place + ": timeout 2 bash -c 'exec 3<>/dev/tcp/'" + to + "'/" + port + "'"
}

// answering starts a server of one's own on an address and port, and waits for it.
func answering(place, proto, address, port string) []string {
	kind, wait := "STREAM", "bash -c 'exec 3<>/dev/tcp/"+address+"/"+port+"' 2>/dev/null"
	loop := "s.listen(9)\nwhile 1:\n c,_=s.accept();c.close()"
	if proto == "udp" {
		kind, wait = "DGRAM", "ss -lnu | grep -q "+address+":"+port
		loop = "while 1:\n d,a=s.recvfrom(999)\n try:s.sendto(d,a)\n except OSError:pass"
	}
	return []string{
		place + ": python3 -c 'import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_" + kind + ");s.setsockopt(1,2,1);s.bind((\"" + address + "\"," + port + "))\n" + loop + "' &",
		place + ": for i in $(seq 100); do " + wait + " && exit 0; sleep 0.1; done; exit 1",
	}
}

// join puts lines together.
func join(all ...[]string) (lines []string) {
	for _, l := range all {
		lines = append(lines, l...)
	}
	return lines
}

func moreRoutingCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	const vip, dns = "203.0.113.10", "169.254.20.10"
	return []Case{
		{
			Name: "local-route-lost", Reports: []string{"systemd/systemd#25451", "systemd/systemd#29716"},
			Essence: "the route that makes a load balancer's address this node's own is deleted, so packets for it go back out by the interface that they came by",
			Node:    calico,
			Setup: join([]string{"node1: ip route add local " + vip + " dev eth0 proto 66 table local", "outside: ip route add " + vip + " via $NODE1"},
				answering("node1", "tcp", vip, "443")),
			During:  []string{knock("outside", vip, "443"), "node1: ip route del local " + vip + " dev eth0 table local"},
			Command: knock("outside", vip, "443"), Src: "172.30.0.254", Dst: vip,
			Want: Want{Code: "address-not-local", Direction: model.Forward,
				Says: []string{vip, `eth0`, `local`, `(was|were) (deleted|delivered|taken in)`}, Never: notFarther},
		},
		{
			Name: "local-dns-bare", Reports: []string{"kubernetes/dns#282"},
			Essence: "the node's own DNS cache has lost its link-local address, and the pods' questions leave by the default route",
			Node:    calico,
			Setup:   join([]string{"node1: ip addr add " + dns + "/32 dev lo"}, answering("node1", "udp", dns, "53")),
			Break:   []string{"node1: ip addr del " + dns + "/32 dev lo"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: dns, Port: 53, Count: 2},
			Want: Want{Code: "address-not-local", Direction: model.Forward,
				Says: []string{dns, `no interface of this node has`, `link-local`, `default`}, Never: notFarther},
		},
		{
			Name: "uplink-unforwarding", Reports: []string{"moby/moby#14185", "systemd/systemd#468"},
			Essence: "forwarding is off for the uplink alone, so the answers die although net.ipv4.ip_forward is 1",
			Node:    calico,
			Setup:   []string{"outside: ip route add $CLIENT via $NODE1"},
			Break:   []string{"node1: sysctl -qw net.ipv4.conf.eth0.forwarding=0"},
			Traffic: exchange("tcp", client, "external"),
			Want: Want{Code: "ip-forward-off", Direction: model.Return, Confidence: "certain",
				Says: []string{`net\.ipv4\.conf\.eth0\.forwarding = 0`, `net\.ipv4\.ip_forward = 1`, `sysctl -w net\.ipv4\.conf\.eth0\.forwarding=1`}},
		},
		{
			Name: "multicast-unrouted", Reports: []string{"flannel-io/flannel#179", "flannel-io/flannel#52"},
			Essence: "a pod sends to a multicast group, and the node does not route multicast",
			Node:    calico,
			Command: `client: python3 -c 'import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(0,33,8);s.sendto(b"hello",("239.1.1.1",5000))'`,
			Src:     client, Dst: "any",
			Healthy: &traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2},
			Want: Want{Code: "multicast", Direction: model.Forward,
				Says: []string{`239\.1\.1\.1`, `multicast`, `mc_forwarding = 0`}},
		},
		{
			Name: "route-taken-over", Reports: []string{"projectcalico/calicoctl#256"},
			Essence: "a network manager takes over a pod's interface and the pod's route goes, so its packets leave by the default route",
			Node:    calico,
			Setup:   []string{"node1: ip route del blackhole 192.168.166.128/26", "outside: ip route add blackhole $SERVER/32"},
			During:  []string{knock("client", "$SERVER", "8080"), "node1: ip route del $SERVER/32 dev $SERVER_IF"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "no-route", Direction: model.Forward,
				Says: []string{`route \S+/32\b.* deleted`, `default via 172\.30\.0\.254`}, Never: notFarther},
		},
	}
}
