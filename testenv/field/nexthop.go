// SPDX-License-Identifier: Apache-2.0

// Faults of the next hop: one of several is dead, another one is used than the route
// names, the route that was meant is not the one that wins, and an address that nobody
// outside knows the way back to.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	natTable = "node1: iptables-legacy -t nat "
	offLink  = "198.51.77.7" // of a network behind the gateway
	offLink6 = "fd77::7"
)

// secondRouter puts a host 172.30.0.77 (fd30::77) on the link between the nodes, and the
// addresses of offLink behind both.
func secondRouter(forwards string) []string {
	return []string{
		"outside: ip addr add " + offLink + "/32 dev lo && ip route add $PODNET1 via $NODE1 && ip link add oth0 type veth peer name eth0 netns $NS_other && ip link set oth0 master br0 up",
		"other: ip link set eth0 up && ip addr add 172.30.0.77/24 dev eth0 && sysctl -qw net.ipv4.ip_forward=" + forwards + " && ip route add default via 172.30.0.254",
	}
}

// secondRouter6 gives both routers and the node IPv6 addresses, and offLink6 to the first.
func secondRouter6() []string {
	return []string{
		"outside: ip addr add fd30::254/64 dev br0 nodad && ip addr add " + offLink6 + "/128 dev lo nodad && ip -6 route add fd00:10:166::/48 via fd30::1",
		"other: ip addr add fd30::77/64 dev eth0 nodad && sysctl -qw net.ipv6.conf.all.forwarding=1 && ip -6 route add default via fd30::254",
		"node1: ip addr add fd30::1/64 dev eth0 nodad && sysctl -qw net.ipv6.fib_multipath_hash_policy=1 && for i in $(seq 30); do ping -6 -qc1 -W1 fd30::77 && ping -6 -qc1 -W1 fd30::254 && exit 0; sleep 0.1; done; exit 1",
		"node1: ip -6 route add fd77::/64 proto bird nexthop via fd30::254 dev eth0 weight 2 nexthop via fd30::77 dev eth0 weight 3",
	}
}

// answering6 starts a server on an IPv6 address.
func answering6(place, address, port string) []string {
	return []string{
		place + ": python3 -c 'import socket\ns=socket.socket(socket.AF_INET6);s.setsockopt(1,2,1);s.bind((\"" + address + "\"," + port + "))\ns.listen(9)\nwhile 1:\n c,_=s.accept();c.close()' &",
		place + ": for i in $(seq 100); do ss -lnt | grep -q :" + port + " && exit 0; sleep 0.1; done; exit 1",
	}
}

// otherAnswers waits until the second router does.
const otherAnswers = "node1: for i in $(seq 20); do ping -qc1 -W1 172.30.0.77 && exit 0; sleep 0.1; done; exit 1"

// knockAll opens a connection from each of some ports, until two have failed.
func knockAll(family, to string) string {
	return `client: python3 -c 'import socket
bad=0
for p in range(41000,41010):
 s=socket.socket(socket.` + family + `);s.settimeout(4);s.setsockopt(1,2,1);s.bind(("",p))
 try: s.connect(("` + to + `",8080))
 except OSError as e: bad+=1
 s.close()
 if bad>1: break
raise SystemExit(bad)'`
}

// redirect tells the node that the way to an address leads by another router.
const redirect = `outside: python3 -c 'import socket,struct
def ck(b):
 s=sum(struct.unpack("!%dH"%(len(b)//2),b));s=(s>>16)+(s&65535);return ~(s+(s>>16))&65535
ip=struct.pack("!BBHHHBBH4s4s",69,0,84,1,0,64,1,0,socket.inet_aton("172.30.0.1"),socket.inet_aton("198.51.77.7"))
ip=ip[:10]+struct.pack("!H",ck(ip))+ip[12:]+bytes([0,0,255,253,0,1,0,1])
h=struct.pack("!BBH4s",5,1,0,socket.inet_aton("172.30.0.77"))
p=h+ip;p=p[:2]+struct.pack("!H",ck(p))+p[4:]
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,1);s.bind(("172.30.0.254",0));s.sendto(p,("172.30.0.1",0))'`

// narrow tells the node that the way to an address takes 1200 bytes.
const narrow = `outside: python3 -c 'import socket,struct
def ck(b):
 s=sum(struct.unpack("!%dH"%(len(b)//2),b));s=(s>>16)+(s&65535);return ~(s+(s>>16))&65535
ip=struct.pack("!BBHHHBBH4s4s",69,0,1400,1,0x4000,64,1,0,socket.inet_aton("172.30.0.1"),socket.inet_aton("198.51.77.7"))
ip=ip[:10]+struct.pack("!H",ck(ip))+ip[12:]+bytes([0,0,255,253,0,1,0,1])
h=struct.pack("!BBHHH",3,4,0,0,1200)
p=h+ip;p=p[:2]+struct.pack("!H",ck(p))+p[4:]
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,1);s.bind(("172.30.0.254",0));s.sendto(p,("172.30.0.1",0))'`

// maskAgent are the rules of ip-masq-agent, as it writes them.
func maskAgent() []string {
	return []string{natTable + "-N IP-MASQ-AGENT",
		natTable + "-A POSTROUTING -m comment --comment 'ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain' -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT",
		natTable + "-A IP-MASQ-AGENT -d 192.168.0.0/16 -m comment --comment 'ip-masq-agent: local traffic is not subject to MASQUERADE' -j RETURN",
		natTable + "-A IP-MASQ-AGENT -m comment --comment 'ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)' -j MASQUERADE"}
}

func nexthopCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	twoHops := "node1: sysctl -qw net.ipv4.fib_multipath_hash_policy=1 && ip route add 198.51.77.0/24 proto bird nexthop via 172.30.0.254 dev eth0 nexthop via 172.30.0.77 dev eth0"
	return []Case{
		{
			Name: "multipath-dead", Reports: []string{"ovn-org/ovn#320", "projectcalico/calico#8938"},
			Essence: "a route has two next hops, of which one is dead: some connections work, others do not, as their ports fall",
			Node:    calico, Places: []string{"other"},
			Setup:   join(secondRouter("1"), []string{twoHops}, answering("outside", "tcp", offLink, "8080")),
			Break:   []string{"other: ip link set eth0 down", "node1: ip neigh flush dev eth0 to 172.30.0.77", "node1: ping -qc1 -W2 172.30.0.254"},
			Command: knockAll("AF_INET", offLink), Src: client, Dst: offLink,
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says:  []string{`^nobody answers for the gateway 172\.30\.0\.77 `, `one of the 2 next hops`, `others go (on )?by 172\.30\.0\.254`},
				Never: []string{`[Nn]obody answers for the gateway 172\.30\.0\.254`, `(arping -I eth0|flush dev eth0 to) 172\.30\.0\.254`}},
		},
		{
			Name: "multipath-dead-6", Reports: []string{"ovn-org/ovn#320"},
			Essence: "the same of IPv6",
			Node:    calico, Places: []string{"other"},
			Setup:   join(secondRouter("1"), secondRouter6(), answering6("outside", offLink6, "8080")),
			Break:   []string{"other: ip link set eth0 down", "node1: ip -6 neigh flush dev eth0"},
			Command: knockAll("AF_INET6", offLink6), Src: client, Dst: offLink6,
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says:  []string{`^nobody answers for the gateway fd30::77 `, `one of the 2 next hops`, `fd30::77 dev eth0 weight 3`},
				Never: []string{`[Nn]obody answers for the gateway fd30::254`, `flush dev eth0 to fd30::254`, `arping`}},
		},
		{
			Name: "nexthop-object-dead", Reports: []string{"ovn-org/ovn#320"},
			Essence: "a route names its next hop by an object alone (nhid), and nobody answers for that",
			Node:    calico, Places: []string{"other"},
			Setup: append(secondRouter("1"), "node1: sysctl -qw net.ipv4.nexthop_compat_mode=0 && ip nexthop add id 2 via 172.30.0.77 dev eth0 && ip route add 198.51.77.0/24 proto bird nhid 2",
				otherAnswers),
			Break:   []string{"other: ip link set eth0 down", "node1: ip neigh flush dev eth0"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: offLink, Count: 2, Timeout: 4e9},
			Want: Want{Code: "neighbor-failed", Direction: model.Forward, Confidence: "certain",
				Says:  []string{`^nobody answers for the gateway 172\.30\.0\.77 `, `198\.51\.77\.0/24 nhid 2 via 172\.30\.0\.77 dev eth0`},
				Never: []string{`[Nn]obody answers for 198`}},
		},
		{
			Name: "redirect-dead", Reports: []string{"sapcc/kubernikus#65"},
			Essence: "the router that a redirect named is gone, and nobody answers for it",
			Node:    calico, Places: []string{"other"},
			Setup: append(secondRouter("1"),
				"node1: sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.eth0.accept_redirects=1 net.ipv4.conf.all.secure_redirects=0 net.ipv4.conf.eth0.secure_redirects=0",
				otherAnswers),
			Break: []string{"node1: ping -qc1 -W1 172.30.0.77; ping -qc1 -W1 " + offLink, redirect, "node1: sleep 0.3; ip route get " + offLink + " | grep -q 172.30.0.77",
				"other: ip link set eth0 down", "node1: ip neigh flush dev eth0 to 172.30.0.77"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: offLink, Count: 1, Timeout: 4e9},
			Want: Want{Direction: model.Forward, Code: "neighbor-failed",
				Says:  []string{`172\.30\.0\.77`, `redirect`, `ip route flush cache`},
				Never: []string{`in good order`, `[Nn]obody answers for the gateway 172\.30\.0\.254`, `the way it was sent: .*172\.30\.0\.254`}},
		},
		{
			Name: "mtu-learned", Reports: []string{"sapcc/kubernikus#65"},
			Essence: "the node was told once that the way to a destination is narrow, and goes by that for all who it forwards",
			Node:    calico,
			Setup: []string{"outside: ip addr add " + offLink + "/32 dev lo && ip route add $PODNET1 via $NODE1",
				"node1: sysctl -qw net.ipv4.ip_forward_use_pmtu=1 && ping -qc1 -W1 " + offLink},
			Break:   []string{narrow, "node1: sleep 0.3; ip route get " + offLink + " | grep -q 'mtu 1200'"},
			Command: "client: ping -c2 -i0.3 -W1 -M do -s 1300 " + offLink, Src: client, Dst: offLink,
			Want: Want{Code: "mtu", Direction: model.Forward, Confidence: "certain",
				Says: []string{`1200 bytes, which this node has learned for the way to 198\.51\.77\.7`, `ip route flush cache`}},
		},
		{
			Name: "masquerade-missing", Reports: []string{"kubernetes-sigs/ip-masq-agent#9"},
			Essence: "the rules that masquerade are gone, and pods' packets leave with their own addresses",
			Node:    calico, Setup: maskAgent(),
			Break:   []string{natTable + "-F POSTROUTING", natTable + "-F IP-MASQ-AGENT"},
			Traffic: exchange("udp", client, "external"),
			Want: Want{Code: "left-node", Direction: model.Forward, Confidence: "likely", Exit: wellHere,
				Says: []string{`with the pod's own address 192\.168\.166\.129`, `no rule that rewrites IPv4 sources`, `route back to 192\.168\.166\.129`}, Never: []string{`in good order`, `exempts`}},
		},
		{
			Name: "masquerade-other-uplink", Reports: []string{"kubernetes-sigs/ip-masq-agent#9"},
			Essence: "the rule that masquerades names an uplink that the packets do not leave by any more",
			Node:    calico,
			Setup:   []string{natTable + "-A POSTROUTING -s 192.168.0.0/16 ! -d 192.168.0.0/16 -o eth0 -m comment --comment 'pods to the world' -j MASQUERADE"},
			Break:   []string{natTable + "-R POSTROUTING 1 -s 192.168.0.0/16 ! -d 192.168.0.0/16 -o ens3 -m comment --comment 'pods to the world' -j MASQUERADE"},
			Traffic: exchange("icmp", client, "external"),
			Want: Want{Code: "left-node", Direction: model.Forward, Confidence: "likely", Exit: wellHere,
				Says: []string{`with the pod's own address 192\.168\.166\.129`, `leaves by ens3`, `-o ens3 .*-j MASQUERADE`, `left this node by eth0`}, Never: []string{`in good order`, `exempts`}},
		},
		{
			Name: "masquerade-missing-6", Reports: []string{"kubernetes-sigs/ip-masq-agent#9"},
			Essence: "an IPv6 pool of unique local addresses without NAT: pods' packets leave with these",
			Node:    calico,
			Setup: []string{"outside: ip addr add fd30::254/64 dev br0 nodad && ip addr add 2001:db8:77::7/128 dev lo nodad",
				"node1: ip addr add fd30::1/64 dev eth0 nodad && ip -6 route add default via fd30::254 dev eth0",
				"node1: ip6tables-legacy -t nat -A POSTROUTING -s fd00:10:166::/48 ! -d fd00:10::/32 -m comment --comment cali:nat-outgoing -j MASQUERADE",
				"node1: for i in $(seq 30); do ping -6 -qc1 -W1 fd30::254 && exit 0; sleep 0.1; done; exit 1"},
			Break:   []string{"node1: ip6tables-legacy -t nat -F POSTROUTING"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: "2001:db8:77::7", Count: 2, IPv6: true},
			Want: Want{Code: "left-node", Direction: model.Forward, Confidence: "likely", Exit: wellHere,
				Says: []string{`with the pod's own address fd00:10:166:1::`, `no rule that rewrites IPv6 sources`}, Never: []string{`in good order`}},
		},
		{
			Name: "masquerade-exempt", Reports: []string{"kubernetes-sigs/ip-masq-agent#9", "kubernetes/website#1759", "kubernetes/kubernetes#40761"},
			Essence: "the masquerade agent counts the site's network as one that knows the pods: packets leave with the pod's own address, and answers go nowhere",
			Node:    calico, Setup: maskAgent(),
			Break:   []string{natTable + "-I IP-MASQ-AGENT -d 172.16.0.0/12 -m comment --comment 'ip-masq-agent: local traffic is not subject to MASQUERADE' -j RETURN"},
			Traffic: exchange("tcp", client, "external"),
			Want: Want{Code: "left-node", Direction: model.Forward, Confidence: "likely", Exit: wellHere,
				Says: []string{`with the pod's own address 192\.168\.166\.129`, `rule 1 of IP-MASQ-AGENT in nat: -A IP-MASQ-AGENT -d 172\.16\.0\.0/12 .* -j RETURN`, `-j MASQUERADE`, `route (back )?to 192\.168\.166\.129`}, Never: []string{`in good order`}},
		},
		{
			Name: "redirect-learned", Reports: []string{"sapcc/kubernikus#65", "rancher/rancher#9548"},
			Essence: "the node has learned another router for a destination by an ICMP redirect, which no route shows, and that router does not pass it on",
			Node:    calico, Places: []string{"other"},
			Setup: append(secondRouter("0"),
				"node1: sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.eth0.accept_redirects=1 net.ipv4.conf.all.secure_redirects=0 net.ipv4.conf.eth0.secure_redirects=0",
				otherAnswers),
			Break:   []string{"node1: ping -qc1 -W1 172.30.0.77; ping -qc1 -W1 " + offLink, redirect, "node1: sleep 0.3; ip route get " + offLink + " | grep -q 172.30.0.77"},
			Traffic: exchange("icmp", client, offLink),
			Want: Want{Direction: model.Forward, Code: "misrouted", Confidence: "likely",
				Says:  []string{`172\.30\.0\.77`, `redirect`, `ip route flush cache`, `accept_redirects`, `default via 172\.30\.0\.254`},
				Never: []string{`in good order`, `the way to it: rule 32766 looks up table main: default via 172\.30\.0\.254`}},
		},
		{
			Name: "veth-default-route", Reports: []string{"NetworkConfiguration/dhcpcd#531", "raspberrypi/linux#4092"},
			Essence: "a DHCP client gave a pod's interface on the node a link-local address and a default route, which comes before that of the uplink",
			Node:    calico,
			Setup: []string{"node1: ip route del default && ip route add default via $GATEWAY dev eth0 proto dhcp src $NODE1 metric 202",
				"outside: ip addr add " + offLink + "/32 dev lo && ip route add $PODNET1 via $NODE1"},
			Break:   []string{"node1: ip addr add 169.254.77.7/16 dev $SERVER_IF noprefixroute && ip route add 169.254.0.0/16 dev $SERVER_IF scope link src 169.254.77.7 metric 110 && ip route add default dev $SERVER_IF scope link src 169.254.77.7 metric 110"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: offLink, Count: 2, Timeout: 4e9},
			Want: Want{Direction: model.Forward, Code: "neighbor-failed",
				Says:  []string{`rule 32766 looks up table main: default dev cali7715d358f22 metric 110`, `default via 172\.30\.0\.254 dev eth0 metric 202`, `ip route del default dev cali7715d358f22`, `169\.254\.77\.7`},
				Never: []string{`arping`, `kubectl get pod -A -o wide`}},
		},
		{
			Name: "bridge-wide-route", Reports: []string{"NetworkConfiguration/dhcpcd#531"},
			Essence: "a route that is too wide sends a network outside to a container bridge, where nobody has its addresses",
			Node:    calico,
			Setup: []string{"outside: ip addr add " + offLink + "/32 dev lo && ip route add $PODNET1 via $NODE1",
				"node1: ip link add docker0 type bridge && ip link add dk0 type veth peer name dk1 && ip link set dk0 master docker0 up && ip link set dk1 up && ip link set docker0 up && ip addr add 172.17.0.1/16 dev docker0"},
			Break:   []string{"node1: ip route add 198.51.0.0/16 dev docker0"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: offLink, Count: 2, Timeout: 4e9},
			Want: Want{Direction: model.Forward, Code: "neighbor-failed",
				Says:  []string{`198\.51\.0\.0/16 dev docker0`, `default via 172\.30\.0\.254 dev eth0`, `ip route del 198\.51\.0\.0/16 dev docker0`},
				Never: []string{`arping`, `kubectl get pod -A -o wide`}},
		},
		{
			Name: "lan-in-pod-range-bridge", Reports: []string{"kubernetes/kubeadm#1185", "projectcalico/calico#2720"},
			Essence: "a host of the site's network has an address in the pods' range of flannel's bridge: the pod looks for it beside itself",
			Node:    plain(cluster.FlannelNFT, 1),
			Setup: []string{"node1: iptables-legacy -t nat -A PREROUTING -d $NODE1 -p tcp -m comment --comment 'default/web:http' -m tcp --dport 30080 -j DNAT --to-destination $SERVER:8080",
				"outside: ip addr add 10.244.1.50/32 dev lo", "node1: ip route add 10.244.1.50 via $GATEWAY dev eth0", "server: ip route add 10.244.1.50 via 10.244.1.1"},
			Break:   []string{"node1: ip route del 10.244.1.50", "server: ip route del 10.244.1.50"},
			Command: "outside: python3 -c 'import socket;s=socket.socket();s.settimeout(4);s.bind((\"10.244.1.50\",0));s.connect((\"172.30.0.1\",30080))'",
			Src:     "10.244.1.50", Dst: "${NODE1}",
			Want: Want{Code: "neighbor-failed", Direction: model.Return,
				Says:  []string{`10\.244\.1\.50`, `10\.244\.1\.0/24 dev eth0`, `came in by eth0`, `overlap`, `outside`},
				Never: []string{`arping`, `calico-node`, `kubectl get pod -A -o wide`}},
		},
		{
			Name: "lan-in-pod-range", Reports: []string{"kubernetes/kubeadm#1185", "projectcalico/calico#2720", "kubernetes-sigs/cluster-api-provider-openstack#419"},
			Essence: "a host of the site's network has an address in the pods' range: it asks a node port, and the answer falls to the blackhole of the node's block",
			Node:    calico,
			Setup: []string{"node1: ip route del blackhole $PODNET1",
				natTable + "-A PREROUTING -d $NODE1 -p tcp -m comment --comment 'default/web:http' -m tcp --dport 30080 -j DNAT --to-destination $SERVER:8080",
				"outside: ip addr add 192.168.166.140/32 dev lo"},
			Break:   []string{"node1: ip route add blackhole $PODNET1 proto 80"},
			Command: "outside: python3 -c 'import socket;s=socket.socket();s.settimeout(2);s.bind((\"192.168.166.140\",0));s.connect((\"172.30.0.1\",30080))'",
			Src:     "192.168.166.140", Dst: "${NODE1}",
			Want: Want{Code: "blackhole-route", Direction: model.Return,
				Says:  []string{`192\.168\.166\.140`, `blackhole 192\.168\.166\.128/26`, `came in by eth0`, `overlap`, `outside`},
				Never: []string{`kubectl get pod -A -o wide`, `Felix write its routes`, `calico-node`, `see why its route is missing`}},
		},
	}
}
