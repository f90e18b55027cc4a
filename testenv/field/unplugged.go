// SPDX-License-Identifier: Apache-2.0

// Faults that are a near miss: an interface that hangs on no bridge or another one, an
// address that the node has and does not answer for, a server that listens elsewhere,
// keys of two ends that differ.

package field

import (
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// noSuchHolder is what a pod beside the bridge was told as.
	noSuchHolder = `no interface there has that address|ip neigh del`
	// guessLoopback is a guess that is not needed where the sockets are known.
	guessLoopback = `127\.0\.0\.1 only is not reached`
	// noKnownCause is said of what the kernel gives no reason for.
	noKnownCause = `no known cause|not known: why`
)

// long is an exchange whose sender waits until the kernel has given up asking for an
// address.
func long(proto, src, dst string) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: src, Dst: dst, Count: 2, Timeout: 4 * time.Second}
}

// listening starts a server of Python in a place that writes its process down when it
// listens: how it makes its socket s is given, and what it does again and again.
func listening(place, pidfile, socket, does string) []string {
	return []string{
		place + ": python3 -c 'import socket,os,struct\n" + socket + "\nopen(os.environ[\"DIR\"]+\"/" + pidfile + "\",\"w\").write(str(os.getpid()))\nwhile 1:\n " + does + "' &",
		place + ": for i in $(seq 100); do [ -s $DIR/" + pidfile + " ] && exit 0; sleep 0.1; done; exit 1",
	}
}

// accepts takes connections and closes them.
const accepts = "c,_=s.accept();c.close()"

// opened asks for a TCP port once.
func opened(place, address, port string) string {
	return place + ": timeout 4 bash -c 'exec 3<>/dev/tcp/" + address + "/" + port + "'"
}

func nearCases() []Case {
	return slices.Concat(unpluggedCases(), unansweredCases(), listenerCases(), signedCases(), unfitCases())
}

// unpluggedCases are those of a pod's interface that is not where it should be.
func unpluggedCases() []Case {
	flannel := plain(cluster.FlannelNFT, 1)
	return []Case{
		{
			Name: "port-unplugged", Reports: []string{"moby/moby#26492", "coreos/docker#30", "mniedermaier/CybICS#224"},
			Essence: "a network manager has taken the pod's interface out of the bridge: it is up, and belongs to no bridge",
			Node:    flannel,
			Break:   []string{"node1: ip link set $SERVER_IF nomaster"},
			Traffic: long("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely",
				Says:  []string{`not a port of bridge cni0, nor of any other`, `ip link: veth\S+ has no master`, `ip link set veth\S+ master cni0`, `NetworkManager`, `10\.244\.1\.3`},
				Never: []string{noSuchHolder, `on another node`}},
		},
		{
			Name: "port-unplugged-cold", Reports: []string{"moby/moby#26492"},
			Essence: "the same, and the client has to ask for the pod's MAC first",
			Node:    flannel,
			Break:   []string{"node1: ip link set $SERVER_IF nomaster", "client: ip neigh flush all", "server: ip neigh flush all"},
			Traffic: patient("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely",
				Says:  []string{`not a port of bridge cni0, nor of any other`, `nobody answers for 10\.244\.1\.3`, `ip link set veth\S+ master cni0`},
				Never: []string{noSuchHolder, `arping`}},
		},
		{
			Name: "sender-unplugged", Reports: []string{"coreos/docker#30"},
			Essence: "the interface of the one who asks was taken out of the bridge",
			Node:    flannel,
			Break:   []string{"node1: ip link set $CLIENT_IF nomaster"},
			Traffic: long("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely",
				Says:  []string{`not a port of bridge cni0, nor of any other`, `what it sends does not come to cni0`, `ip link set veth\S+ master cni0`},
				Never: []string{noSuchHolder, `proxy_arp`, loosen}},
		},
		{
			Name: "port-other-bridge", Reports: []string{"moby/moby#26492", "flannel-io/flannel#1077"},
			Essence: "two runtimes share the node, and the pod's interface came to the other one's bridge",
			Node:    flannel,
			Setup:   []string{"node1: ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up"},
			Break:   []string{"node1: ip link set $SERVER_IF master docker0"},
			Traffic: long("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely",
				Says:  []string{`is a port of docker0, not a port of bridge cni0`, `ip link: veth\S+ master docker0`, `ip link set veth\S+ master cni0`},
				Never: []string{noSuchHolder}},
		},
		{
			Name: "port-unasked", Reports: []string{"containernetworking/cni#88"},
			Essence: "the pod's bridge port gets no broadcasts, so it never hears who asks for it",
			Node:    flannel,
			Break:   []string{"node1: bridge link set dev $SERVER_IF bcast_flood off", "client: ip neigh flush all", "server: ip neigh flush all"},
			Traffic: patient("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely",
				Says: []string{`bcast_flood off`, `nobody answers`, `bridge link set dev veth\S+ bcast_flood on`}, Never: []string{`arping`}},
		},
		{
			Name: "port-moved-away", Reports: []string{"moby/moby#26492"},
			Essence: "the node's end of the pod's interface was moved to another network namespace",
			Node:    flannel, Places: []string{"thief"},
			Break:   []string{"node1: ip link set $SERVER_IF netns $NS_thief"},
			Traffic: long("tcp", client, server),
			Want: Want{Code: "bridge-port", Direction: model.Forward, Confidence: "likely",
				Says:  []string{`is not in this node's own network namespace`, `no port of bridge cni0`, `lsns -t net`},
				Never: []string{noSuchHolder}},
		},
	}
}

// unansweredCases are those of an address that the node has and does not answer for.
func unansweredCases() []Case {
	const vip = "172.30.0.50"
	calico := plain(cluster.CalicoLegacy, 1)
	silent := func(name, essence string, reports, setup, fault []string, says ...string) Case {
		return Case{Name: name, Reports: reports, Essence: essence, Node: calico,
			Setup:   join(setup, answering("node1", "tcp", vip, "443")),
			Break:   join(fault, []string{"outside: ip neigh flush dev br0"}),
			Command: opened("outside", vip, "443"), Src: "172.30.0.254", Dst: vip,
			Want: Want{Code: "not-sent", Direction: model.Forward, Confidence: "likely", Exit: 3,
				Says: append([]string{`172\.30\.0\.50 is an address of this node, but it does not answer ARP for it on eth0`}, says...), Never: []string{"trace on the node that has the source"}}}
	}
	return []Case{
		silent("arp-ignore", "a floating address is on the loopback, and strict ARP (arp_ignore=1) keeps the node from answering for it: nothing ever arrives",
			[]string{"kube-vip/kube-vip#1114", "metallb/metallb#153"},
			[]string{"node1: ip addr add " + vip + "/32 dev lo"},
			[]string{"node1: sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"},
			`lo of this node has 172\.30\.0\.50`, `eth0 of this node has no 172\.30\.0\.50`, `net\.ipv4\.conf\.all\.arp_ignore = 1`, `strictARP`, `ip addr add 172\.30\.0\.50/32 dev eth0`),
		silent("arp-ignore-all", "hardening has set arp_ignore to 8 on the uplink, so that the node answers for none of its addresses",
			[]string{"kubernetes/kubeadm#1847"},
			[]string{"node1: ip addr add " + vip + "/32 dev eth0"},
			[]string{"node1: sysctl -qw net.ipv4.conf.eth0.arp_ignore=8"},
			`answers for none of its addresses`, `net\.ipv4\.conf\.eth0\.arp_ignore = 8`),
		silent("arp-filter", "arp_filter is on, and a policy rule leads what has the floating address for its source by another interface",
			[]string{"kube-vip/kube-vip#1114"},
			[]string{"node1: ip addr add " + vip + "/32 dev eth0 && ip link add second type bridge && ip addr add 198.51.100.1/24 dev second && ip link set second up"},
			[]string{"node1: sysctl -qw net.ipv4.conf.all.arp_filter=1; ip route add default dev second table 77 && ip rule add from " + vip + " lookup 77 pref 1000"},
			`net\.ipv4\.conf\.all\.arp_filter = 1`, `rule 1000 .* looks up table 77: default dev second`),
		{
			Name: "vip6-on-loopback", Reports: []string{"kube-vip/kube-vip#1114"},
			Essence: "a floating IPv6 address is on the loopback: IPv6 answers for addresses of the interface that is asked only",
			Node:    calico,
			Setup:   []string{"node1: ip -6 addr add fd00:172:30::1/64 dev eth0 nodad && ip -6 addr add fd00:172:30::50/128 dev eth0 nodad", "outside: ip -6 addr add fd00:172:30::fe/64 dev br0 nodad"},
			Break:   []string{"node1: ip -6 addr del fd00:172:30::50/128 dev eth0 && ip -6 addr add fd00:172:30::50/128 dev lo nodad", "outside: ip -6 neigh flush dev br0"},
			Command: "outside: ping -6 -c1 -W4 fd00:172:30::50", Src: "fd00:172:30::fe", Dst: "fd00:172:30::50",
			Want: Want{Code: "not-sent", Direction: model.Forward, Confidence: "likely", Exit: 3,
				Says:  []string{`does not answer neighbour discovery for it on eth0`, `lo of this node has fd00:172:30::50`, `proxy_ndp = 0`, `ip -6 addr add fd00:172:30::50/128 dev eth0`},
				Never: []string{"trace on the node that has the source"}},
		},
	}
}

// listenerCases are those of a server that listens, but not for what was sent.
func listenerCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	v6 := func(only string) string {
		return "s=socket.socket(socket.AF_INET6);s.setsockopt(1,2,1);s.setsockopt(41,26," + only + ");s.bind((\"::\",7070));s.listen(9)"
	}
	v4 := func(address, more string) string {
		return "s=socket.socket();s.setsockopt(1,2,1);" + more + "s.bind((\"" + address + "\",7070));s.listen(9)"
	}
	net1 := []string{"server: ip link add net1 type bridge && ip addr add 198.51.100.7/24 dev net1 && ip link set net1 up"}
	listener := func(name, essence string, reports []string, well, ill string, setup []string, want Want) Case {
		does := accepts
		if strings.Contains(ill, "SOCK_DGRAM") {
			does = "s.recv(99)"
		}
		want.Code, want.Direction, want.Confidence = "no-listener", model.Forward, "certain"
		return Case{Name: name, Reports: reports, Essence: essence, Node: calico, Setup: join(setup, listening("server", "well", well, accepts)),
			Break:   join([]string{"server: kill $(cat $DIR/well); sleep 0.2"}, listening("server", "ill", ill, does)),
			Command: opened("client", "$SERVER", "7070"), Src: client, Dst: server, Want: want}
	}
	v4only := listener("listener-v4only", "the server listens on all IPv4 addresses only, and the pod is asked by IPv6",
		[]string{"nginx/docker-nginx#394", "percona/pmm#2709"}, v6("0"), v4("0.0.0.0", ""), nil,
		Want{Says: []string{`python3 \(pid \d+\) listens on 0\.0\.0\.0:7070 there, which takes IPv4 only`, `have it listen on \[::\]:7070`}, Never: []string{`listen on 0\.0\.0\.0 or`, `127\.0\.0\.1`}})
	v4only.Command, v4only.Src, v4only.Dst = opened("client", "$SERVER6", "7070"), "${CLIENT6}", "${SERVER6}"
	return []Case{v4only,
		listener("listener-v6only", "the server listens on all IPv6 addresses and refuses IPv4, which is what the service's endpoint is",
			[]string{"kubernetes/ingress-nginx#2591", "haproxy/haproxy#1"}, v6("0"), v6("1"), nil,
			Want{Says: []string{`python3 \(pid \d+\) listens on \[::\]:7070 there, which takes IPv6 only`, `IPV6_V6ONLY`, `0\.0\.0\.0:7070`}, Never: []string{`127\.0\.0\.1`}}),
		listener("listener-loopback", "the server listens on 127.0.0.1 only",
			[]string{"kubernetes/kubernetes#40476"}, v4("0.0.0.0", ""), v4("127.0.0.1", ""), nil,
			Want{Says: []string{`python3 \(pid \d+\) listens on 127\.0\.0\.1:7070 there`, `instead of 127\.0\.0\.1`}, Never: []string{guessLoopback}}),
		listener("listener-device", "the server is bound to the pod's second interface",
			[]string{"k8snetworkplumbingwg/multus-cni#226"}, v4("0.0.0.0", ""), v4("0.0.0.0", "s.setsockopt(1,25,b\"net1\");"), net1,
			Want{Says: []string{`bound to net1 \(SO_BINDTODEVICE\), while this came in by eth0`, `0\.0\.0\.0%net1:7070`}, Never: []string{`127\.0\.0\.1`}}),
		listener("listener-address", "the server listens on the address of the pod's second interface only",
			[]string{"k8snetworkplumbingwg/multus-cni#226"}, v4("0.0.0.0", ""), v4("198.51.100.7", ""), net1,
			Want{Says: []string{`listens on 198\.51\.100\.7:7070 there, which is another address than 192\.168\.166\.130`}, Never: []string{`127\.0\.0\.1`}}),
		listener("listener-udp", "the server has the port of UDP, and the service says TCP",
			[]string{"kubernetes/kubernetes#39188"}, v4("0.0.0.0", ""),
			"s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind((\"0.0.0.0\",7070))", nil,
			Want{Says: []string{`listens on 0\.0\.0\.0:7070 there, by UDP, while this is TCP`, `ss -lnu: 0\.0\.0\.0:7070`, `none on port 7070`}, Never: []string{`127\.0\.0\.1`}}),
		listener("listener-other-port", "the container listens on another port than the service's targetPort",
			[]string{"kubernetes/kubernetes#13358"}, v4("0.0.0.0", ""), "s=socket.socket();s.bind((\"0.0.0.0\",7171));s.listen(9)", nil,
			Want{Says: []string{`none on port 7070 at \S+, but on .*7171`, `targetPort`}, Never: []string{`127\.0\.0\.1`}}),
	}
}

// bgpKeys are a BGP speaker on the node and a router that asks it, each with a key of a
// file of its own; an empty one is none (TCP_MD5SIG, struct tcp_md5sig, linux/tcp.h).
func bgpKey(file, peer string) string {
	return `k=open(os.environ["DIR"]+"/` + file + `","rb").read()
if k: s.setsockopt(6,14,struct.pack("=HH4s120sBBHi80s",2,0,socket.inet_aton("` + peer + `"),b"",0,0,len(k),0,k))
`
}

// signedCases are those of TCP connections that are to be signed.
func signedCases() []Case {
	speaker := func(name, essence, before, after string, says ...string) Case {
		return Case{Name: name, Essence: essence, Reports: []string{"metallb/metallb#1125", "osrg/gobgp#2573", "FRRouting/frr#20740"}, Node: plain(cluster.CalicoLegacy, 1),
			Setup: join([]string{"node1: printf s3cret > $DIR/router", "node1: printf '" + before + "' > $DIR/speaker"},
				listening("node1", "bgp", "s=socket.socket();s.setsockopt(1,2,1)\n"+bgpKey("speaker", "172.30.0.254")+"s.bind((\"0.0.0.0\",179));s.listen(9)", accepts)),
			Break: []string{"node1: printf '" + after + "' > $DIR/router"},
			Command: "outside: python3 -c 'import socket,os,struct\ns=socket.socket();s.settimeout(2.5)\n" + bgpKey("router", "172.30.0.1") +
				"s.bind((\"172.30.0.254\",0));s.connect((\"172.30.0.1\",179))'",
			Src: "172.30.0.254", Dst: "${NODE1}",
			Want: Want{Code: "unexplained-drop", Direction: model.Forward, Confidence: "certain", Says: append([]string{`says why itself`, `BGP, TCP port 179`, `python3 \(pid \d+\) listens there`,
				`password of the BGP session`, `nstat -az TcpExtTCPMD5`}, says...), Never: []string{`nothing listens`, noKnownCause}}}
	}
	return []Case{
		speaker("bgp-password", "router and BGP speaker have two passwords: the speaker's kernel drops the router's SYN in silence, since its MD5 signature is not right",
			"s3cret", "other", `MD5 signature is wrong: the keys of the two ends differ`),
		speaker("bgp-no-password", "the BGP speaker wants a password, and the router has none set",
			"s3cret", "", `wants a TCP MD5 signature, and it has none`),
	}
}

// unfitCases are those of packets that a kernel does not take as they are.
func unfitCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	lost := Case{Reports: []string{"containers/netavark#745", "dennypage/mdns-bridge#1"}, Node: calico,
		Break:   []string{"client: ip -6 addr del $CLIENT6/128 dev eth0"},
		Command: "client: ping -6 -c2 -i0.3 -W1 $SERVER6", Dst: "${SERVER6}"}
	traced := lost
	traced.Name, traced.Essence, traced.Src = "source-lost", "the pod has lost its global IPv6 address, and is traced by it", "${CLIENT6}"
	traced.Want = Want{Code: "not-sent", Direction: model.Forward, Exit: 3,
		Says: []string{`eth0 of the source pod does not have fd00:10:166:1::81, so what it sends has another source`, `--src any`}, Never: []string{`nothing was sent while it was traced`}}
	return []Case{traced,
		{
			Name: "arp-rule", Reports: []string{"kubernetes/kubernetes#71555", "bbonev/eoip#38"},
			Essence: "a rule of the arp family, which no iptables shows, drops the pods' questions for their gateway",
			Node:    calico,
			Break: []string{"node1: nft add table arp filter && nft add chain arp filter INPUT '{ type filter hook input priority 0; policy accept; }' && nft add rule arp filter INPUT iifname '\"cali*\"' arp operation request counter drop",
				"client: ip neigh flush all"},
			Traffic: patient("tcp", client, server),
			Want: Want{Code: "neighbor-failed", Direction: model.Forward, Confidence: "likely",
				Says: []string{`rule 1 of INPUT in table arp filter of this node drops the ARP request for 169\.254\.1\.1`, `arp operation request`, `nft list table arp filter`}, Never: []string{falseProxy}},
		},
		{
			Name: "fragments-refused", Reports: []string{"antrea-io/antrea#348", "kubernetes/kubernetes#56706"},
			Essence: "hardening lets fragments take no memory, so that none can wait for the others of its packet",
			Node:    calico,
			Setup:   []string{"node1: iptables-legacy -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
			Break:   []string{"node1: sysctl -qw net.ipv4.ipfrag_low_thresh=0 net.ipv4.ipfrag_high_thresh=0"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2, Size: 4000},
			Want: Want{Code: "sysctl-drop", Direction: model.Forward, Confidence: "likely",
				Says: []string{`net\.ipv4\.ipfrag_high_thresh = 0`, `sysctl -w net\.ipv4\.ipfrag_high_thresh=4194304`, `ReasmFails`}, Never: []string{noKnownCause}},
		},
	}
}
