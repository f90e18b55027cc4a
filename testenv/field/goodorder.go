// SPDX-License-Identifier: Apache-2.0

// Faults of which it was said that all had left "in good order", or nothing at all.

package field

import (
	"slices"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func goodOrderCases() []Case {
	return slices.Concat(besideCases(), onwardCases(), forgottenCases(), itselfCases(), harmCases())
}

// serviceRules are kube-proxy's of one service with one port.
func serviceRules(proto string) []string {
	nat := "node1: iptables-legacy -t nat "
	return []string{nat + "-N KUBE-SERVICES && iptables-legacy -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
		nat + "-A KUBE-SERVICES -d 10.96.3.45/32 -p " + proto + " -m comment --comment 'default/web:http cluster IP' -m " + proto + " --dport 80 -j DNAT --to-destination $SERVER:8080",
		"outside: ip route add blackhole 10.96.0.0/12"}
}

func besideCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	never := []string{`in good order`, `on the node that has`, `kube-proxy write its rules again`}
	return []Case{
		{
			Name: "ping-service", Reports: []string{"kubernetes/kubernetes#47156", "kubernetes/minikube#5644", "projectcalico/calico#2921"},
			Essence: "a pod pings a service's address: kube-proxy translates the service's ports only, and the echo requests leave by the default route",
			Node:    calico, Setup: serviceRules("tcp"),
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: "10.96.3.45", Port: 80, Count: 2},
			Command: "client: ping -c2 -i0.3 -W1 10.96.3.45", Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "service-untranslated", Direction: model.Forward,
				Says: []string{`10\.96\.3\.45 is the address of a service \(default/web:http\)`, `translates tcp port 80 only, not icmp`, `leave by eth0 as they are`, `need not answer ping`}, Never: never},
		},
		{
			Name: "service-target-port", Reports: []string{"kubernetes/kubernetes#57556"},
			Essence: "a service is asked at its pods' port, which is not its own",
			Node:    calico, Setup: serviceRules("tcp"),
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: "10.96.3.45", Port: 80, Count: 2},
			Command: knock("client", "10.96.3.45", "8080"), Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "service-untranslated", Direction: model.Forward,
				Says: []string{`default/web:http`, `translates tcp port 80 only, not tcp port 8080`, `a pod's port`}, Never: never},
		},
		{
			Name: "service-other-protocol", Reports: []string{"kubernetes/kubernetes#57556"},
			Essence: "a service of TCP is asked by UDP",
			Node:    calico, Setup: serviceRules("tcp"),
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: "10.96.3.45", Port: 80, Count: 2},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: "10.96.3.45", Port: 80, Count: 2},
			Want: Want{Code: "service-untranslated", Direction: model.Forward,
				Says: []string{`translates tcp port 80 only, not udp port 80`}, Never: never},
		},
	}
}

// twoHops gives the node a route with two next hops, of which each connection takes one by
// its ports: the gateway, and a further router.
func twoHops() []string {
	return []string{"outside: ip addr add " + farAway + "/32 dev lo && ip route add $PODNET1 via $NODE1 && ip link add oth0 type veth peer name eth0 netns $NS_other && ip link set oth0 master br0 up",
		"other: ip link set eth0 up && ip addr add 172.30.0.77/24 dev eth0 && sysctl -qw net.ipv4.ip_forward=1 && ip route add default via 172.30.0.254",
		"node1: sysctl -qw net.ipv4.fib_multipath_hash_policy=1 && ip route add 198.51.77.0/24 proto bird nexthop via 172.30.0.254 dev eth0 nexthop via 172.30.0.77 dev eth0"}
}

// farAway is an address behind the gateway.
const farAway = "198.51.77.7"

// eightPorts opens a connection from each of eight ports.
const eightPorts = `client: python3 -c 'import socket
bad=0
for p in range(42000,42008):
 s=socket.socket();s.settimeout(0.8);s.setsockopt(1,2,1);s.bind(("0.0.0.0",p))
 try: s.connect(("198.51.77.7",8080))
 except OSError as e: bad+=1
 s.close()
raise SystemExit(bad)'`

func onwardCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	return []Case{
		{
			Name: "gateway-mac", Reports: []string{"cilium/cilium#14962", "cilium/cilium#14322"},
			Essence: "the node holds a permanent neighbour entry for its gateway with a MAC that the gateway has no more: what leaves is for nobody",
			Node:    calico,
			Setup:   []string{"outside: ip addr add " + farAway + "/32 dev lo && ip route add $PODNET1 via $NODE1"},
			Break:   []string{"node1: ip neigh replace $GATEWAY lladdr 02:00:5e:00:01:33 dev eth0 nud permanent"},
			Traffic: exchange("icmp", client, farAway),
			Want: Want{Code: "left-node", Confidence: "likely", Direction: model.Forward, Exit: wellHere,
				Says: []string{`172\.30\.0\.254 at 02:00:5e:00:01:33, an entry that was written by hand \(PERMANENT\)`, `ip neigh: 172\.30\.0\.254 lladdr 02:00:5e:00:01:33 dev eth0 PERMANENT`, `ip neigh del 172\.30\.0\.254 dev eth0`}, Never: []string{`in good order`}},
		},
		{
			Name: "node-mac", Reports: []string{"cilium/cilium#14322"},
			Essence: "the same of another node: what is in the tunnel is for a MAC that the node has no more",
			Node:    plain(cluster.CalicoLegacy, 2),
			Break:   []string{"node1: ip neigh replace $NODE2 lladdr 02:00:5e:00:01:33 dev eth0 nud permanent"},
			Traffic: patient("tcp", client, web2),
			Want: Want{Code: "left-node", Confidence: "likely", Direction: model.Forward, Exit: wellHere,
				Says: []string{`172\.30\.0\.2 at 02:00:5e:00:01:33, an entry that was written by hand`, `sent in vxlan to node 172\.30\.0\.2`}, Never: []string{`in good order`}},
		},
		{
			Name: "gateway-own-mac", Reports: []string{"cilium/cilium#14962"},
			Essence: "the gateway's entry bears the MAC of the node itself, as cloned machines and scripts leave it",
			Node:    calico,
			Setup:   []string{"outside: ip addr add " + farAway + "/32 dev lo && ip route add $PODNET1 via $NODE1"},
			Break:   []string{"node1: ip neigh replace $GATEWAY lladdr $(ip -br link show dev eth0 | awk '{print $3}') dev eth0 nud permanent"},
			Traffic: exchange("icmp", client, farAway),
			Want: Want{Code: "left-node", Confidence: "likely", Direction: model.Forward, Exit: wellHere,
				Says: []string{`which is the MAC of this node's own eth0`, `ip link: eth0 has MAC`}, Never: []string{`in good order`}},
		},
		{
			Name: "multipath-silent", Reports: []string{"ovn-org/ovn#320", "Nordix/xcluster#43"},
			Essence: "one of two next hops of a route answers ARP and passes nothing on",
			Node:    calico, Places: []string{"other"},
			Setup:   join(twoHops(), answering("outside", "tcp", farAway, "8080")),
			Break:   []string{"other: sysctl -qw net.ipv4.ip_forward=0"},
			Command: eightPorts, Src: client, Dst: farAway,
			Want: Want{Code: "left-node", Direction: model.Forward, Exit: wellHere,
				Says:  []string{`\d of 8 connections got no answer, while \d were answered`, `2 next hops \(172\.30\.0\.254, 172\.30\.0\.77\), of which each connection takes one`, `ip route get 198\.51\.77\.7 from \S+ iif \S+ ipproto tcp sport 42\d+ dport 8080`},
				Never: []string{`in good order`, `no answer came back`}},
		},
		{
			Name: "some-ports", Reports: []string{"ovn-org/ovn#320"},
			Essence: "a filter on the way eats some connections, by their ports: others are answered",
			Node:    calico,
			Setup:   join([]string{"outside: ip addr add " + farAway + "/32 dev lo && ip route add $PODNET1 via $NODE1"}, answering("outside", "tcp", farAway, "8080")),
			Break:   []string{"outside: iptables-legacy -I INPUT -p tcp --sport 42002:42004 -j DROP"},
			Command: eightPorts, Src: client, Dst: farAway,
			Want: Want{Code: "left-node", Direction: model.Forward, Exit: wellHere,
				Says: []string{`3 of 8 connections got no answer, while 5 were answered`, `\b5 of 8 connections \(tcp\) to 198\.51\.77\.7:8080 were answered`}, Never: []string{`in good order`, `no answer came back`, `next hops`}},
		},
	}
}

// slowAnswer is a server outside that takes its time, and askSlowly a client of it.
func slowAnswer(seconds string) []string {
	return []string{"node1: iptables-legacy -t nat -A POSTROUTING -s 192.168.0.0/16 ! -d 192.168.0.0/16 -m comment --comment cali:nat-outgoing -j MASQUERADE --random-fully",
		`outside: python3 -c 'import socket,time,os
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(("172.30.0.9",5354))
while 1:
 d,a=s.recvfrom(99);open(os.environ["DIR"]+"/asked","w").close();time.sleep(` + seconds + `);s.sendto(d,a)' &`, "outside: for i in $(seq 100); do ss -lnu | grep -q 172.30.0.9:5354 && exit 0; sleep 0.1; done; exit 1"}
}

const askSlowly = `client: python3 -c 'import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(3);s.connect(("172.30.0.9",5354));s.send(b"query");s.recv(9)'`

func forgottenCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	never := []string{`in good order`, `no answer came`, `nothing listens`, `readiness`, `targetPort`, `0\.0\.0\.0`}
	return []Case{
		{
			Name: "late-answer", Reports: []string{"docker/for-mac#7346"},
			Essence: "a UDP answer comes after conntrack has forgotten the request, and is for the node then, which knows nothing of it",
			Node:    calico, Setup: slowAnswer("1.6"),
			Break:   []string{"node1: sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1"},
			Command: askSlowly, Src: client, Dst: "${EXTERNAL}",
			Want: Want{Code: "conntrack-unknown", Confidence: "certain", Direction: model.Return,
				Says: []string{`answer of 172\.30\.0\.9:5354 \(udp\) came to 172\.30\.0\.1:\d+, the source that packets to it had left with in place of 192\.168\.166\.129:\d+`,
					`after 1\.[67] s`, `1 s only \(nf_conntrack_udp_timeout\)`, `net\.netfilter\.nf_conntrack_udp_timeout = 1`, `sysctl -w net\.netfilter\.nf_conntrack_udp_timeout=30`}, Never: never},
		},
		{
			Name: "late-answer-dropped", Reports: []string{"docker/for-mac#7346"},
			Essence: "the same where the node lets in only what belongs to a connection",
			Node:    calico,
			Setup:   join(slowAnswer("1.6"), []string{"node1: iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && iptables-legacy -A INPUT -i eth0 -j DROP"}),
			Break:   []string{"node1: sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1"},
			Command: askSlowly, Src: client, Dst: "${EXTERNAL}",
			Want: Want{Code: "conntrack-unknown", Direction: model.Return,
				Says: []string{`reply is not known to conntrack`, `1 s only \(nf_conntrack_udp_timeout\)`, `open no policy for it`}, Never: append([]string{`if nobody needs it`}, never...)},
		},
		{
			Name: "answer-after-flush", Reports: []string{"ovn-kubernetes/ovn-kubernetes#6598"},
			Essence: "somebody deletes conntrack's entries between a UDP request and its answer",
			Node:    calico, Setup: slowAnswer("1"),
			Break:   []string{"node1: rm -f $DIR/asked"},
			During:  []string{`node1: sh -c 'while ! [ -e $DIR/asked ]; do sleep 0.1; done; conntrack -F' &`},
			Command: askSlowly, Src: client, Dst: "${EXTERNAL}",
			Want: Want{Code: "conntrack-unknown", Direction: model.Return,
				Says: []string{`answer of 172\.30\.0\.9:5354`, `conntrack does not know its connection`, `net\.netfilter\.nf_conntrack_udp_timeout = 30`, `conntrack -E -e DESTROY`}, Never: append([]string{`nf_conntrack_udp_timeout=`}, never...)},
		},
	}
}

// sctpTalk makes SCTP packets of one chunk, with a check sum that is as wrong as bad says.
const sctpTalk = `import socket,struct,os,sys
def crc(b):
 c=0xffffffff
 for x in b:
  c^=x
  for _ in range(8): c=(c>>1)^(0x82f63b78 if c&1 else 0)
 return c^0xffffffff
def packet(sp,dp,tag,kind,bad):
 ch=struct.pack("!BBHIIHHI",kind,0,20,7,65535,1,1,9)
 p=struct.pack("!HHII",sp,dp,tag,0)+ch
 return p[:8]+struct.pack("<I",crc(p)^bad)+p[12:]
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,132)
`

// badUDP sends a datagram of a raw socket, and with bad in DIR another check sum than its
// own.
const badUDP = `client: python3 -c 'import socket,struct,os
bad=int(open(os.environ["DIR"]+"/bad").read())
a,b=socket.inet_aton(os.environ["CLIENT"]),socket.inet_aton(os.environ["SERVER"])
d=b"query!";n=8+len(d)
def ck(x):
 t=sum(struct.unpack("!%dH"%(len(x)//2),x));t=(t>>16)+(t&65535);return ~(t+(t>>16))&65535
h=struct.pack("!HHHH",5000,8080,n,0)
c=ck(a+b+struct.pack("!HH",17,n)+h+d)^bad
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,17)
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);u.bind(("0.0.0.0",5000));u.settimeout(1)
s.sendto(h[:6]+struct.pack("!H",c)+d,(os.environ["SERVER"],0));u.recv(99)'`

func itselfCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	felix := `node1: iptables-legacy -A FORWARD -i cali+ -m comment --comment 'cali:nrRYKNz5iJPxLbvb' -m conntrack --ctstate INVALID -j DROP`
	never := []string{`other direction`, `both directions`, `asymmetric`, `let the client connect again`}
	return []Case{
		{
			Name: "sctp-checksum", Reports: []string{"projectcalico/calico#2570", "kubernetes/kubernetes#72121"},
			Essence: "SCTP packets whose checksum nobody has put in are invalid to conntrack, and Felix' rule drops them",
			Node:    calico,
			Setup: []string{"server: python3 -c '" + sctpTalk + `
while 1:
 d,a=s.recvfrom(999);h=d[(d[0]&15)*4:];sp,dp=struct.unpack("!HH",h[:4])
 if h[12]==1: s.sendto(packet(dp,sp,7,2,0),(a[0],0))' &`, "node1: sleep 0.5", felix, "node1: echo 0 > $DIR/bad"},
			Break: []string{"node1: echo 1 > $DIR/bad"},
			Command: "client: python3 -c '" + sctpTalk + `
bad=int(open(os.environ["DIR"]+"/bad").read());s.settimeout(1)
s.sendto(packet(5000,38412,0,1,bad),(os.environ["SERVER"],0));s.recv(99)'`, Src: client, Dst: server,
			Want: Want{Code: "conntrack-invalid", Direction: model.Forward,
				Says: []string{`association's first \(INIT\), only the packet itself can be the reason: its checksum, or its length`, `net\.netfilter\.nf_conntrack_checksum = 1`, `nf_conntrack_log_invalid=132`, `tx-checksum-sctp off`}, Never: never},
		},
		{
			Name: "udp-checksum", Reports: []string{"projectcalico/calico#2570"},
			Essence: "the same of UDP: a datagram with a wrong checksum is invalid to conntrack",
			Node:    calico, Setup: []string{felix, "node1: echo 0 > $DIR/bad"},
			Break:   []string{"node1: echo 4660 > $DIR/bad"},
			Command: badUDP, Src: client, Dst: server,
			Want: Want{Code: "conntrack-invalid", Direction: model.Forward,
				Says: []string{`a connection may begin with such a packet \(udp\), so that only the packet itself can be the reason: its checksum, or its length`, `nf_conntrack_log_invalid=17`}, Never: never},
		},
		{
			Name: "link-local-source", Reports: []string{"containers/netavark#745", "dennypage/mdns-bridge#1"},
			Essence: "the pod has lost its global IPv6 address, sends with its link-local one, and no router passes that on",
			Node:    calico,
			Break:   []string{"client: ip -6 addr del $CLIENT6/128 dev eth0"},
			Command: "client: ping -6 -c2 -i0.3 -W1 $SERVER6", Src: "any", Dst: "${SERVER6}",
			Want: Want{Code: "link-local-source", Confidence: "certain", Direction: model.Forward,
				Says: []string{`its source fe80::\S+ is link-local`, `no router passes that on`, `has no other IPv6 address`, `was told: icmp-beyond-scope`}, Never: []string{`forwarding is off`, `unreachable`}},
		},
		{
			Name: "link-local-chosen", Reports: []string{"containers/netavark#745"},
			Essence: "an application sends from its link-local address, though the pod has another",
			Node:    calico,
			Setup:   []string{"client: echo -W1 > $DIR/source"},
			Break:   []string{"client: echo -I $(ip -6 -br addr show dev eth0 scope link | grep -o 'fe80[^/ ]*')%eth0 > $DIR/source"},
			Command: "client: ping -6 -c2 -i0.3 -W1 $(cat $DIR/source) $SERVER6", Src: "any", Dst: "${SERVER6}",
			Want: Want{Code: "link-local-source", Confidence: "certain", Direction: model.Forward,
				Says: []string{`source fe80::\S+ is link-local`, `has fd00:10:166:1::81`, `application chose its source`}, Never: []string{`forwarding is off`, `no other IPv6`}},
		},
	}
}

func harmCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	nat := "node1: iptables-legacy -t nat "
	noHole := []string{`nft delete rule`, `iptables\S* -D`, `if nobody needs it`}
	return []Case{
		{
			Name: "ifb-down", Reports: []string{"containernetworking/plugins#857", "firewalla/firewalla#2805"},
			Essence: "a shaper hands what a pod sends to an ifb device, which is down: all of it is dropped at the door",
			Node:    calico,
			Setup: []string{"node1: ip link add bwp0 type ifb && ip link set bwp0 up && tc qdisc add dev $CLIENT_IF ingress && tc filter add dev $CLIENT_IF parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev bwp0",
				"node1: tc qdisc add dev bwp0 root tbf rate 80mbit burst 16000 limit 40000"},
			Break:   []string{"node1: ip link set bwp0 down"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "tc-drop", Confidence: "certain", Direction: model.Forward,
				Says: []string{`hands it to bwp0 \(mirred redirect\), which is set down`, `bwp0 <DOWN`, `ip link set bwp0 up`}, Never: []string{`none of its actions`, `none is attached`, `Cilium`}},
		},
		{
			Name: "ban-left", Reports: []string{"NethServer/dev#7635", "crowdsecurity/crowdsec#1976"},
			Essence: "an intrusion guard has banned a pod's address for a while, by an element of a set",
			Node:    plain(cluster.CalicoNFTables, 1),
			Setup:   []string{"node1: nft add table ip crowdsec && nft add set ip crowdsec crowdsec-blacklists-crowdsec '{ type ipv4_addr; flags timeout; }' && nft add chain ip crowdsec crowdsec-chain-forward '{ type filter hook forward priority -10; policy accept; }' && nft add rule ip crowdsec crowdsec-chain-forward ip saddr @crowdsec-blacklists-crowdsec counter drop"},
			Break:   []string{"node1: nft add element ip crowdsec crowdsec-blacklists-crowdsec '{ '$CLIENT' timeout 4h, 134.199.207.24 timeout 1h }'"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "rule-drop", Direction: model.Forward,
				Says: []string{`192\.168\.166\.129 is in the set crowdsec-blacklists-crowdsec`, `nft delete element ip crowdsec crowdsec-blacklists-crowdsec \{ 192\.168\.166\.129 \}`, `cscli decisions delete --ip 192\.168\.166\.129`}, Never: noHole},
		},
		{
			Name: "ban-ipset", Reports: []string{"NethServer/dev#7635"},
			Essence: "the same by an ipset and iptables, of what is sent to",
			Node:    calico,
			Setup:   []string{"node1: ipset create f2b-sshd hash:ip timeout 600 && iptables-legacy -A FORWARD -m set --match-set f2b-sshd dst -j DROP"},
			Break:   []string{"node1: ipset add f2b-sshd $SERVER"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "rule-drop", Direction: model.Forward,
				Says: []string{`192\.168\.166\.130 is in the set f2b-sshd`, `ipset del f2b-sshd 192\.168\.166\.130`, `fail2ban-client unban 192\.168\.166\.130`}, Never: noHole},
		},
		{
			Name: "affinity-stuck", Reports: []string{"kubernetes/kubernetes#110302", "kubernetes/kubernetes#114018"},
			Essence: "a service's affinity keeps sending a client to an endpoint that is not ready any more, as long as it asks often enough",
			Node:    calico,
			Setup: []string{nat + "-N KUBE-SVC-A && iptables-legacy -t nat -N KUBE-SEP-OLD && iptables-legacy -t nat -N KUBE-SEP-NEW",
				nat + "-A PREROUTING -d 10.96.3.45/32 -p tcp -m comment --comment 'default/web:http cluster IP' -m tcp --dport 80 -j KUBE-SVC-A",
				nat + "-A KUBE-SVC-A -m comment --comment 'default/web:http -> 192.168.166.130:9090' -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-OLD --mask 255.255.255.255 --rsource -j KUBE-SEP-OLD",
				nat + "-A KUBE-SVC-A -m comment --comment 'default/web:http -> 192.168.166.130:8080' -j KUBE-SEP-NEW",
				nat + "-A KUBE-SEP-OLD -p tcp -m comment --comment default/web:http -m recent --set --name KUBE-SEP-OLD --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination $SERVER:9090",
				nat + "-A KUBE-SEP-NEW -p tcp -m comment --comment default/web:http -m tcp -j DNAT --to-destination $SERVER:8080"},
			Break:   []string{"node1: echo +$CLIENT > /proc/net/xt_recent/KUBE-SEP-OLD"},
			Command: knock("client", "10.96.3.45", "80"), Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says: []string{`10\.96\.3\.45:80`, `192\.168\.166\.130:9090`, `rule 1 of KUBE-SEP-OLD in nat: -A KUBE-SEP-OLD .*--to-destination 192\.168\.166\.130:9090`, `session affinity a client stays there for 10800 s`, `xt_recent/KUBE-SEP-OLD`}, Never: []string{`conntrack's entry of its connection`}},
		},
	}
}
