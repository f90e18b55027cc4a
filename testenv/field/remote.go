// SPDX-License-Identifier: Apache-2.0

// Faults whose cause is not where the packet was last seen: a route's own limit, a rule
// that asks for the way back, a program behind a device, a socket that cannot be bound.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// tunReader is a program that serves a tun device, as flanneld does with its udp
// backend: here it answers pings itself.
const tunReader = `node1: python3 -c 'import fcntl,struct,os
os.path.exists("/dev/net/tun") or os.system("modprobe -q tun")
f=os.open("/dev/net/tun",os.O_RDWR);fcntl.ioctl(f,0x400454ca,struct.pack("16sH",b"flannel0",0x1001))
os.system("ip addr add 10.99.0.0/32 dev flannel0; ip link set flannel0 up mtu 1472; ip route add 10.99.0.0/16 dev flannel0")
open(os.environ["DIR"]+"/tun","w").write(str(os.getpid()))
def ck(b):
 s=sum(struct.unpack("!%dH"%(len(b)//2),b));s=(s>>16)+(s&65535);return ~(s+(s>>16))&65535
while 1:
 p=os.read(f,2000)
 if p[0]>>4!=4 or p[9]!=1: continue
 i=bytes([0,0,0,0])+p[24:];i=i[:2]+struct.pack("!H",ck(i+b"\0"*(len(i)%2)))+i[4:]
 os.write(f,p[:12]+p[16:20]+p[12:16]+i)' &`

func remoteCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	const nat = "node1: iptables-legacy -t nat "
	return []Case{
		{
			Name: "rule-by-port", Reports: []string{"peacey/split-vpn#218", "RMerl/asuswrt-merlin#1229"},
			Essence: "a policy rule that asks for protocol and port looks up a table of its own, which refuses",
			Node:    calico,
			Setup:   []string{"node1: ip route add blackhole default table 207"},
			Break:   []string{"node1: ip rule add pref 500 ipproto tcp dport 8080 iif $CLIENT_IF lookup 207"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "blackhole-route", Direction: model.Forward,
				Says: []string{`rule 500`, `dport 8080`, `table 207`}, Never: []string{`by now`, `rule 32766 looks up table main`}},
		},

		{
			Name: "route-mtu", Reports: []string{"cilium/cilium#14679", "edgelesssys/constellation#3239"},
			Essence: "the route to the pod has an MTU of its own, which is smaller than the interface's",
			Node:    calico,
			Setup:   []string{"node1: ip route del $SERVER; ip route add $SERVER dev $SERVER_IF"},
			Break:   []string{"node1: ip route change $SERVER dev $SERVER_IF mtu 1000"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2, Size: 1200, DontFragment: true},
			Want: Want{Code: "mtu", Direction: model.Forward, Confidence: "certain",
				Says: []string{`route`, `mtu 1000|1000`, `1450`}, Never: []string{`cali7715d358f22 has an MTU of 1000`, `ip link set`}},
		},

		{
			Name: "rpf-rule6", Reports: []string{"firewalld/firewalld#1046"},
			Essence: "firewalld's own reverse path rule for IPv6 drops what comes by an interface by which the source is not reached: the node's route to the pod is lost",
			Node:    calico,
			Setup:   []string{"node1: nft add table inet firewalld && nft add chain inet firewalld filter_PREROUTING '{ type filter hook prerouting priority -290; policy accept; }' && nft add rule inet firewalld filter_PREROUTING icmpv6 type '{ nd-router-advert, nd-neighbor-solicit }' accept && nft add rule inet firewalld filter_PREROUTING meta nfproto ipv6 fib saddr . mark . iif oif missing drop"},
			Break:   []string{"node1: ip -6 route del $CLIENT6 dev $CLIENT_IF"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2, IPv6: true},
			Want: Want{Code: "rule-drop", Direction: model.Forward,
				Says: []string{`fib saddr`, `filter_PREROUTING`, `firewalld`, `no route|route (back )?to fd00:10:166:1::81|rpfilter|reverse`}, Never: []string{`nft delete rule`}},
		},

		{
			Name: "nodeport-addresses", Reports: []string{"kubernetes/kubernetes#111863", "kubernetes/kubernetes#75443", "cilium/cilium#21471"},
			Essence: "kube-proxy translates node ports on the node's first address only, and the second one is asked",
			Node:    calico,
			Setup: []string{"node1: ip addr add 172.30.0.61/24 dev eth0", nat + "-N KUBE-NODEPORTS && iptables-legacy -t nat -A PREROUTING -m comment --comment 'kubernetes service nodeports; NOTE: this must be the last rule in this chain' -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
				nat + "-A KUBE-NODEPORTS -p tcp -m comment --comment default/web:http -m tcp --dport 30080 -j DNAT --to-destination $SERVER:8080", "outside: ip route add $PODNET1 via $NODE1"},
			Break:   []string{nat + "-R PREROUTING 1 -d $NODE1/32 -m comment --comment 'kubernetes service nodeports; NOTE: this must be the last rule in this chain' -j KUBE-NODEPORTS"},
			Command: knock("outside", "172.30.0.61", "30080"), Src: "172.30.0.254", Dst: "172.30.0.61",
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says: []string{`30080`, `default/web`, `172\.30\.0\.1\b`, `nodeport-addresses|nodePortAddresses|first address|only`}},
		},

		{
			Name: "tun-unread", Reports: []string{"flannel-io/flannel#87", "flannel-io/flannel#105"},
			Essence: "packets go into a tun device whose program hangs and reads nothing",
			Node:    calico,
			Setup:   []string{tunReader, "node1: for i in $(seq 100); do [ -s $DIR/tun ] && exit 0; sleep 0.1; done; exit 1"},
			Break:   []string{"node1: kill -STOP $(cat $DIR/tun)"},
			Traffic: exchange("icmp", client, "10.99.3.4"),
			Want: Want{Code: "unanswered", Direction: model.Forward, Exit: wellHere,
				Says: []string{`flannel0`, `tun device`, `python3? \(pid \d+\)`, `is stopped: it reads nothing`, `kill -CONT`}, Never: []string{`in good order`, `on the node that has`}},
		},

		{
			Name: "ports-exhausted", Reports: []string{"cilium/cilium#36427", "envoyproxy/envoy#44747", "emqx/emqx#17893"},
			Essence: "a pod has no local port left towards one destination: connect() fails, and nothing is sent",
			Node:    calico,
			Setup:   []string{"client: sysctl -qw net.ipv4.ip_local_port_range='40000 40003'"},
			Break: []string{`client: python3 -c 'import socket,os,time
l=[]
try:
 while 1: l.append(socket.create_connection((os.environ["SERVER"],8080),2))
except OSError as e: open(os.environ["DIR"]+"/full","w").write(str(e))
time.sleep(60)' &`, "client: for i in $(seq 100); do [ -s $DIR/full ] && exit 0; sleep 0.1; done; exit 1"},
			Command: knock("client", "$SERVER", "8080"), Src: client, Dst: server,
			Want: Want{Code: "not-sent", Direction: model.Forward, Exit: 3,
				Says: []string{`ip_local_port_range|local ports?|ephemeral`, `40000`}},
		},

		{
			Name: "service-range-overlap", Reports: []string{"flannel-io/flannel#1707", "dell/omnia#270", "projectcalico/calico#4604"},
			Essence: "the service range holds the site's own network: a service has the address of a host beside the node, and takes what is for it",
			Node:    calico,
			Setup: []string{"outside: ip route add $PODNET1 via $NODE1",
				nat + "-N KUBE-SERVICES && iptables-legacy -t nat -N KUBE-SVC-Z && iptables-legacy -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
				nat + "-A KUBE-SVC-Z -p tcp -m comment --comment 'prod/registry:http' -j DNAT --to-destination $SERVER:5000"},
			Break:   []string{nat + "-A KUBE-SERVICES -d $EXTERNAL/32 -p tcp -m comment --comment 'prod/registry:http cluster IP' -m tcp --dport 8080 -j KUBE-SVC-Z"},
			Traffic: exchange("tcp", client, "external"),
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says: []string{`172\.30\.0\.9:8080`, `prod/registry`, `KUBE-SVC-Z`, `172\.30\.0\.0/24|link of eth0|eth0's (own )?(net|subnet)|overlap`}},
		},
		{
			Name: "service-by-net1", Reports: []string{"kubernetes/kubernetes#53089", "k8snetworkplumbingwg/multus-cni#1183"},
			Essence: "the pod's default route leads by its second interface, so that what it asks a service for never meets the node's rules",
			Node:    calico, Places: []string{"lan"},
			Setup: []string{"client: ip link add net1 type veth peer name eth0 netns $NS_lan && ip link set net1 up && ip addr add 172.31.20.2/24 dev net1",
				"lan: ip link set eth0 up && ip addr add 172.31.20.1/24 dev eth0",
				nat + "-A PREROUTING -d 10.96.3.45/32 -p tcp -m comment --comment 'default/web:http cluster IP' -m tcp --dport 80 -j DNAT --to-destination $SERVER:8080"},
			Break:   []string{"client: ip route replace default via 172.31.20.1 dev net1"},
			Command: knock("client", "10.96.3.45", "80"), Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "not-sent", Direction: model.Forward, Exit: 3,
				Says: []string{`net1`, `default via 172\.31\.20\.1 dev net1`, `service|default/web`}, Never: []string{`in good order`, `nothing was sent`}},
		},
		{
			Name: "masquerade6-link-local", Reports: []string{"(own)"},
			Essence: "the uplink has no global IPv6 address, so that masquerading takes its link-local one, which no router passes on",
			Node:    calico,
			Setup: []string{"outside: ip -6 addr add fe80::1/64 dev br0 nodad; ip -6 addr add 2001:db8:99::7/128 dev lo; sysctl -qw net.ipv6.conf.all.forwarding=1; ip -6 addr add 2001:db8:1::ff/64 dev br0 nodad",
				"node1: ip -6 addr add 2001:db8:1::1/64 dev eth0 nodad; ip -6 route replace default via fe80::1 dev eth0; ip6tables-legacy -t nat -A POSTROUTING -s fd00:10:166::/48 ! -d fd00:10:166::/48 -m comment --comment cali:nat-outgoing -j MASQUERADE"},
			Break:   []string{"node1: ip -6 addr del 2001:db8:1::1/64 dev eth0; ip -6 route replace default via fe80::1 dev eth0", "outside: ip -6 route add blackhole fe80::/10 metric 1; nft add table ip6 r; nft add chain ip6 r i '{ type filter hook prerouting priority 0; }'; nft add rule ip6 r i ip6 saddr fe80::/10 ip6 daddr 2001:db8:99::7 drop"},
			Command: "client: ping -6 -c2 -i0.3 -W1 2001:db8:99::7", Src: "${CLIENT6}", Dst: "2001:db8:99::7",
			Want: Want{Code: "left-node", Direction: model.Forward, Exit: wellHere,
				Says: []string{`fe80::`, `link-local`, `MASQUERADE`, `no global`}, Never: []string{`in good order`}},
		},
	}
}
