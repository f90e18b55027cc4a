// SPDX-License-Identifier: Apache-2.0

// Further faults of NAT and of services.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// echoing starts a TCP server that gives back what it gets, as often as asked.
func echoing(place, address, port string) []string {
	return []string{
		place + ": python3 -c 'import socket,threading\ns=socket.create_server((\"" + address + "\"," + port + "))\ndef serve(c):\n for d in iter(lambda:c.recv(999),b\"\"): c.sendall(d)\nwhile 1: threading.Thread(target=serve,args=(s.accept()[0],),daemon=True).start()' &",
		place + ": for i in $(seq 100); do bash -c 'exec 3<>/dev/tcp/" + address + "/" + port + "' 2>/dev/null && exit 0; sleep 0.1; done; exit 1",
	}
}

func moreNATCases() []Case {
	calico, flannel := plain(cluster.CalicoLegacy, 1), plain(cluster.FlannelNFT, 1)
	return []Case{
		{
			Name: "hostport-stale", Reports: []string{"containers/podman#27516", "containernetworking/plugins#683"},
			Essence: "the rule that sends a host port to the container before stands first, and nobody has that address",
			Node:    flannel,
			Setup: []string{"node1: nft add table ip netavark && nft add chain ip netavark NETAVARK-HOSTPORT-DNAT && " +
				"nft add chain ip netavark PREROUTING '{ type nat hook prerouting priority -100; policy accept; }'",
				"node1: nft add rule ip netavark PREROUTING fib daddr type local jump NETAVARK-HOSTPORT-DNAT",
				"node1: nft add rule ip netavark NETAVARK-HOSTPORT-DNAT tcp dport 3001 dnat to $SERVER:8080"},
			Break:   []string{"node1: nft insert rule ip netavark NETAVARK-HOSTPORT-DNAT tcp dport 3001 dnat to 10.244.1.20:3001"},
			Command: "outside: timeout 4 bash -c 'exec 3<>/dev/tcp/'$NODE1'/3001'", Src: "172.30.0.254", Dst: "${NODE1}",
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{`10\.244\.1\.20`, `172\.30\.0\.1:3001`, `dnat to 10\.244\.1\.20:3001`}},
		},
		{
			Name: "masquerade-vip", Reports: []string{"cilium/cilium#16849", "projectcalico/calico#2222"},
			Essence: "masquerading takes a floating address for the source, which has moved to another host: the answers go there",
			Node:    calico, Places: []string{"other"},
			Setup: []string{"outside: ip link add vip0 type veth peer name eth0 netns $NS_other && ip link set vip0 up && ip route add 172.30.0.50/32 dev vip0",
				"other: ip link set eth0 up && ip addr add 172.30.0.50/24 dev eth0",
				"node1: iptables-legacy -t nat -A POSTROUTING -s 192.168.0.0/16 ! -d 192.168.0.0/16 -m comment --comment cali:nat-outgoing -j MASQUERADE"},
			Break:   []string{"node1: ip -4 addr flush dev eth0 && ip addr add 172.30.0.50/24 dev eth0 && ip addr add $NODE1/24 dev eth0 && ip route add default via $GATEWAY"},
			Traffic: exchange("tcp", client, "external"),
			Want: Want{Code: "left-node", Direction: model.Forward, Exit: wellHere,
				Says: []string{`172\.30\.0\.50 in place of`, `172\.30\.0\.1\b`, `MASQUERADE`, `cali:nat-outgoing`, `floating`}, Never: []string{`in good order`}},
		},
		{
			Name: "service-rules-flushed", Reports: []string{"rancher/rke2#10469", "Leberkas-org/spatiumddi#382"},
			Essence: "something flushes all rules, kube-proxy's too, and a service's address is routed out as it is",
			Node:    calico,
			Setup: []string{"node1: iptables-nft -t nat -N KUBE-SERVICES && iptables-nft -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
				"node1: iptables-nft -t nat -N KUBE-SVC-TCOU7JCQXEZGVUNU && iptables-nft -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment 'default/web cluster IP' -m tcp --dport 80 -j KUBE-SVC-TCOU7JCQXEZGVUNU",
				"node1: iptables-nft -t nat -A KUBE-SVC-TCOU7JCQXEZGVUNU -p tcp -m comment --comment default/web -j DNAT --to-destination $SERVER:8080"},
			During:  []string{knock("client", "10.96.0.10", "80"), "node1: nft flush ruleset"},
			Command: knock("client", "10.96.0.10", "80"), Src: client, Dst: "10.96.0.10",
			Want: Want{Code: "service-untranslated", Direction: model.Forward,
				Says: []string{`10\.96\.0\.10`, `no (NAT )?rule`, `by nft \(pid`, `kube-proxy`}, Never: notFarther},
		},
		{
			Name: "backend-switched", Reports: []string{"antrea-io/antrea#324", "kubermatic/kubelb#539", "kubernetes/kubernetes#80298"},
			Essence: "conntrack's entry of a live connection to a service is gone, so its next segment goes to another backend, which resets it",
			Node:    calico, Places: []string{"second"},
			Setup: join([]string{
				"node1: ip link add calisecond address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns $NS_second && ip link set calisecond up && sysctl -qw net.ipv4.conf.calisecond.proxy_arp=1 net.ipv4.neigh.calisecond.proxy_delay=0",
				"second: ip link set eth0 up && ip addr add 192.168.166.140/32 dev eth0 && ip route add 169.254.1.1 dev eth0 scope link && ip route add default via 169.254.1.1",
				"node1: ip route add 192.168.166.140/32 dev calisecond",
				"node1: iptables-legacy -t nat -N KUBE-SVC-X && iptables-legacy -t nat -A PREROUTING -d 10.96.0.50/32 -p tcp --dport 80 -m comment --comment 'prod/db cluster IP' -j KUBE-SVC-X",
				"node1: iptables-legacy -t nat -A KUBE-SVC-X -p tcp -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination $SERVER:8080",
				"node1: iptables-legacy -t nat -A KUBE-SVC-X -p tcp -j DNAT --to-destination 192.168.166.140:8080"},
				echoing("second", "192.168.166.140", "8080")),
			// by turns: what is new to conntrack next goes to the other one
			Command: `client: python3 -c 'import os,socket,time
s=socket.create_connection(("10.96.0.50",80),2);s.sendall(b"one");s.recv(9);open(os.environ["DIR"]+"/asked","w").close();time.sleep(1.5);s.sendall(b"two");s.recv(9)'`,
			Src: client, Dst: "10.96.0.50",
			Break:  []string{"node1: rm -f $DIR/asked"},
			During: []string{`node1: sh -c 'while ! [ -e $DIR/asked ]; do sleep 0.1; done; conntrack -D -d 10.96.0.50' &`},
			Want: Want{Code: "conntrack-unknown", Direction: model.Forward,
				Says: []string{`192\.168\.166\.140`, `192\.168\.166\.130`, `reset`, `entry`}, Never: []string{`nothing listens`}},
		},
		{
			Name: "snat-ports-used-up", Reports: []string{"projectcalico/calico#7489", "projectcalico/calico#6324"},
			Essence: "the ports that a rule may take for new sources are used up towards one destination",
			Node:    calico,
			Setup:   []string{"node1: iptables-legacy -t nat -A POSTROUTING -s 192.168.0.0/16 ! -d 192.168.0.0/16 -p tcp -m comment --comment cali:nat-outgoing -j SNAT --to-source $NODE1:40000-49000"},
			Break:   []string{"node1: iptables-legacy -t nat -R POSTROUTING 1 -s 192.168.0.0/16 ! -d 192.168.0.0/16 -p tcp -m comment --comment cali:nat-outgoing -j SNAT --to-source $NODE1:40000-40001"},
			Command: `client: python3 -c 'import os,socket;l=[socket.create_connection((os.environ["EXTERNAL"],8080),1.5) for i in range(3)]'`,
			Src:     client, Dst: "${EXTERNAL}",
			Want: Want{Code: "conntrack-insert", Direction: model.Forward,
				Says: []string{`40000-40001`, `172\.30\.0\.9:8080`, `cali:nat-outgoing`}, Never: []string{`^A rule of one of several`, `^Something in hook`, `which of these`}},
		},
	}
}
