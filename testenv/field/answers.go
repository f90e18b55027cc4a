// SPDX-License-Identifier: Apache-2.0

// Faults of which the answer comes from another address than was asked, of NAT that is
// done by half, of conntrack's zones, of two NAT rules for one address, and of policies
// that nearly allow it.

package field

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	vip     = "172.30.0.50"  // a second address of the node
	other   = "198.51.100.9" // of a balancer outside
	natRule = "node1: iptables-legacy -t nat "
	// silentServer is what must not be said of a server that answers.
	silentServer = `did not answer|nothing of the flow came back|does not read`
)

// echoUDP answers what comes to an address and port, by another socket where there is
// one, and writes down who it is.
func echoUDP(place, address, port, by, pidfile string) []string {
	socket := `a=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);a.bind(("` + address + `",` + by + `))`
	if by == "" {
		socket = "a=s"
	}
	return []string{
		place + `: python3 -c 'import socket,os
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(("` + address + `",` + port + `))
` + socket + `
open(os.environ["DIR"]+"/` + pidfile + `","w").write(str(os.getpid()))
while 1:
 d,c=s.recvfrom(999)
 try:a.sendto(d,c)
 except OSError:pass' &`,
		place + ": for i in $(seq 100); do [ -s $DIR/" + pidfile + " ] && exit 0; sleep 0.1; done; exit 1",
	}
}

// askTwice asks an address and port by UDP with a socket that is connected.
func askTwice(place, address, port string) string {
	return place + `: python3 -c 'import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(0.7);s.connect(("'` + address + `'",` + port + `))
bad=0
for i in range(2):
 s.send(b"query %d"%i)
 try: s.recv(99)
 except OSError: bad=1
raise SystemExit(bad)'`
}

// ended ends the server that wrote its number down.
func ended(place, pidfile string) []string {
	return []string{place + ": kill $(cat $DIR/" + pidfile + "); sleep 0.2"}
}

func answerCases() []Case {
	return slices.Concat(elsewhereCases(), hairpinCases(), zoneCases(), rivalCases(), allowedButCases())
}

func elsewhereCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	return []Case{
		{
			Name: "udp-reply-source", Reports: []string{"traefik/traefik#7430", "AdguardTeam/AdGuardHome#1257", "esnet/iperf#637"}, Tools: []string{"python3"},
			Essence: "a server of two addresses listens on all of them, and its answers bear the first one, which the client had not asked",
			Node:    calico,
			Setup: join([]string{"server: ip addr add 192.168.166.150/32 dev lo", "node1: ip route add 192.168.166.150 dev $SERVER_IF"},
				echoUDP("server", "192.168.166.150", "5353", "", "bound")),
			Break:   join(ended("server", "bound"), echoUDP("server", "0.0.0.0", "5353", "", "wild")),
			Command: askTwice("client", "192.168.166.150", "5353"), Src: client, Dst: "192.168.166.150",
			Want: Want{Code: "answer-from-elsewhere", Direction: model.Return, Confidence: "likely",
				Says: []string{`asked at 192\.168\.166\.150:5353 and answers from 192\.168\.166\.130`, `bound to all addresses \(0\.0\.0\.0:5353\)`, `UdpNoPorts .* is \d`, `IP_PKTINFO`}, Never: []string{silentServer}},
		},
		{
			Name: "udp-reply-source-node", Reports: []string{"moby/moby#15127", "moby/moby#11998"}, Tools: []string{"python3"},
			Essence: "the same of a server on the node's own network, whose second address floats",
			Node:    calico,
			Setup:   join([]string{"node1: ip addr add " + vip + "/24 dev eth0"}, echoUDP("node1", vip, "5353", "", "bound")),
			Break:   join(ended("node1", "bound"), echoUDP("node1", "0.0.0.0", "5353", "", "wild")),
			Command: askTwice("client", vip, "5353"), Src: client, Dst: vip,
			Want: Want{Code: "answer-from-elsewhere", Direction: model.Return, Confidence: "likely",
				Says: []string{`asked at 172\.30\.0\.50:5353 and answers from 172\.30\.0\.1`, `bound to all addresses`}, Never: []string{silentServer}},
		},
		{
			Name: "udp-reply-port", Reports: []string{"docker/for-win#1791"}, Tools: []string{"python3"},
			Essence: "a server answers by another socket than it was asked at, and the client's socket takes the asked port only",
			Node:    calico,
			Setup:   echoUDP("server", "0.0.0.0", "5353", "", "one"),
			Break:   join(ended("server", "one"), echoUDP("server", "0.0.0.0", "5353", "5354", "two")),
			Command: askTwice("client", "$SERVER", "5353"), Src: client, Dst: server,
			Want: Want{Code: "answer-from-elsewhere", Direction: model.Return, Confidence: "certain",
				Says: []string{`answers from port 5354`, `which asked port 5353`}, Never: []string{silentServer, `is closed`}},
		},
		{
			Name: "nodeport-triangle", Reports: []string{"kubernetes/kubernetes#74383", "kubernetes/kubernetes#44916", "kubernetes/kubernetes#66062"},
			Essence: "a pod asks another node's port; that node translates the destination to a pod beside the asker and not the source, so the answer comes straight from the pod",
			Node:    plain(cluster.CalicoLegacy, 2),
			Setup: []string{"node2: iptables-legacy -t nat -A PREROUTING -d $NODE2 -p tcp -m tcp --dport 30080 -m comment --comment 'default/web:http' -j DNAT --to-destination $SERVER:8080",
				"node2: iptables-legacy -t nat -A POSTROUTING -d $SERVER -p tcp -m tcp --dport 8080 -m comment --comment 'kubernetes service traffic requiring SNAT' -j MASQUERADE"},
			Break:   []string{"node2: iptables-legacy -t nat -F POSTROUTING"},
			Command: knock("client", "172.30.0.2", "30080"), Src: client, Dst: "${NODE2}",
			Want: Want{Code: "reply-not-translated", Direction: model.Return, Confidence: "certain",
				Says: []string{`from 192\.168\.166\.130:8080, while 172\.30\.0\.2:30080 had been asked`, `translated the request's destination and not its source`, `came back by (vxlan\.calico|eth0), in a tunnel packet from 172\.30\.0\.2`, `externalTrafficPolicy`}, Never: []string{silentServer, `in good order`, `bridge-nf-call`}},
		},
		{
			Name: "balancer-triangle", Reports: []string{"cilium/cilium#22812"},
			Essence: "the same at a balancer outside, on the node's own link",
			Node:    calico,
			Setup: []string{"outside: sysctl -qw net.bridge.bridge-nf-call-iptables=0 && ip addr add " + other + "/32 dev lo && ip route add $PODNET1 via $NODE1",
				"outside: iptables-legacy -t nat -A PREROUTING -d " + other + " -p tcp -m tcp --dport 443 -j DNAT --to-destination $SERVER:8080",
				"outside: iptables-legacy -t nat -A POSTROUTING -d $SERVER -j MASQUERADE"},
			Break:   []string{"outside: iptables-legacy -t nat -F POSTROUTING"},
			Command: knock("client", other, "443"), Src: client, Dst: other,
			Want: Want{Code: "reply-not-translated", Direction: model.Return,
				Says: []string{`from 192\.168\.166\.130:8080, while 198\.51\.100\.9:443 had been asked`, `translated the request's destination and not its source`, `left this node by eth0 and came back by eth0`}, Never: []string{silentServer, `in good order`, `bridge-nf-call`}},
		},
	}
}

// ofKubeProxy are kube-proxy's chains for a service whose only endpoint is the client.
func ofKubeProxy() []string {
	return []string{
		natRule + "-N KUBE-SERVICES && iptables-legacy -t nat -N KUBE-EXT-W && iptables-legacy -t nat -N KUBE-SVC-W && iptables-legacy -t nat -N KUBE-SEP-W && iptables-legacy -t nat -N KUBE-MARK-MASQ && iptables-legacy -t nat -N KUBE-POSTROUTING",
		natRule + "-A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
		natRule + "-A POSTROUTING -m comment --comment 'kubernetes postrouting rules' -j KUBE-POSTROUTING",
		natRule + "-A KUBE-SERVICES -d 203.0.113.20/32 -p tcp -m comment --comment 'default/web:https loadbalancer IP' -m tcp --dport 443 -j KUBE-EXT-W",
		natRule + "-A KUBE-EXT-W -m comment --comment 'masquerade traffic for default/web:https external destinations' -j KUBE-MARK-MASQ",
		natRule + "-A KUBE-EXT-W -j KUBE-SVC-W",
		natRule + "-A KUBE-SVC-W -m comment --comment 'default/web:https' -j KUBE-SEP-W",
		natRule + "-A KUBE-SEP-W -p tcp -m comment --comment default/web:https -m tcp -j DNAT --to-destination $CLIENT:8080",
		natRule + "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
		natRule + "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
		natRule + "-A KUBE-POSTROUTING -m comment --comment 'kubernetes service traffic requiring SNAT' -j MASQUERADE",
	}
}

// opensMartian fits fixes that would have a pod take what comes from itself.
const opensMartian = `rp_filter=[02]|accept_local=1`

func hairpinCases() []Case {
	calico, flannel := plain(cluster.CalicoLegacy, 1), plain(cluster.FlannelLegacy, 1)
	cases := []Case{
		{
			Name: "hairpin-unmasqueraded", Reports: []string{"projectcalico/cni-plugin#40", "containernetworking/plugins#68", "cloudnativelabs/kube-router#189"},
			Essence: "a pod asks for itself by its service's address, and the source is not rewritten: it gets a packet from its own address, and refuses that",
			Node:    calico,
			Setup: []string{natRule + "-A PREROUTING -d 10.96.3.45/32 -p tcp -m tcp --dport 80 -m comment --comment 'default/web:http cluster IP' -j DNAT --to-destination $CLIENT:8080",
				natRule + "-A POSTROUTING -s $CLIENT -d $CLIENT -m comment --comment 'kubernetes service traffic requiring SNAT' -j MASQUERADE"},
			Break:   []string{natRule + "-F POSTROUTING"},
			Command: knock("client", "10.96.3.45", "80"), Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "rp-filter", Direction: model.Forward, Confidence: "certain",
				Says:  []string{`asked 10\.96\.3\.45:80, which .* translated to itself \(192\.168\.166\.129:8080\), and its source was not rewritten \(masqueraded\)`, `no rule of this node rewrites sources`, `-s 192\.168\.166\.129 -d 192\.168\.166\.129 -j MASQUERADE`},
				Never: []string{opensMartian, `who sends it back`}},
		},
		{
			Name: "hairpin-balancer", Reports: []string{"kubernetes/kubernetes#53775", "projectcalico/cni-plugin#40"},
			Essence: "the same at a balancer's address: kube-proxy's rule that marks it for masquerade is gone",
			Node:    calico, Setup: ofKubeProxy(),
			Break:   []string{natRule + "-D KUBE-EXT-W 1"},
			Command: knock("client", "203.0.113.20", "443"), Src: client, Dst: "203.0.113.20",
			Want: Want{Code: "rp-filter", Direction: model.Forward, Confidence: "certain",
				Says:  []string{`asked 203\.0\.113\.20:443, which .*KUBE-SEP-W.* translated to itself`, `source was not rewritten`, `it met no rule with -j KUBE-MARK-MASQ`, `kube-proxy write its rules again`},
				Never: []string{opensMartian, `who sends it back`}},
		},
		{
			Name: "hairpin-hostport", Reports: []string{"containernetworking/plugins#68"},
			Essence: "the same by the pod's host port, on a bridge: the portmap plugin's mark is not set",
			Node:    flannel,
			Setup: []string{"node1: bridge link set dev $CLIENT_IF hairpin on",
				natRule + "-N CNI-HOSTPORT-DNAT && iptables-legacy -t nat -N CNI-DN-0 && iptables-legacy -t nat -N CNI-HOSTPORT-SETMARK && iptables-legacy -t nat -N CNI-HOSTPORT-MASQ",
				natRule + "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
				natRule + "-A POSTROUTING -m comment --comment 'CNI portfwd requiring masquerade' -j CNI-HOSTPORT-MASQ",
				natRule + "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 8443 -j CNI-DN-0",
				natRule + "-A CNI-DN-0 -s $CLIENT/32 -p tcp -m tcp --dport 8443 -j CNI-HOSTPORT-SETMARK",
				natRule + "-A CNI-DN-0 -p tcp -m tcp --dport 8443 -j DNAT --to-destination $CLIENT:8080",
				natRule + "-A CNI-HOSTPORT-SETMARK -m comment --comment 'CNI portfwd masquerade mark' -j MARK --set-xmark 0x2000/0x2000",
				natRule + "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE"},
			Break:   []string{natRule + "-D CNI-DN-0 1"},
			Command: knock("client", "$NODE1", "8443"), Src: "${CLIENT}", Dst: "${NODE1}",
			Want: Want{Code: "rp-filter", Direction: model.Forward, Confidence: "certain",
				Says:  []string{`asked 172\.30\.0\.1:8443, which .*CNI-DN-0.* translated to itself`, `source was not rewritten`, `it met no rule with -j CNI-HOSTPORT-SETMARK`, `portmap plugin write its rules again`},
				Never: []string{opensMartian, `who sends it back`}},
		},
	}
	for i := range cases { // before 6.18 the kernel gives no reason for a martian source, and VMs have older ones
		sure := cases[i].Want
		sure.Confidence = ""
		cases[i].Less = map[string]Want{"fentry": sure}
	}
	return cases
}

// zoneGone is what must not be said of a connection that conntrack has in another zone.
const zoneGone = `timed out|was deleted|connect again|who deletes entries|br_netfilter|bridge-nf-call|be_liberal`

func zoneCases() []Case {
	raw := "node1: iptables-legacy -t raw -%s PREROUTING -i $CLIENT_IF -p udp -m udp --dport 53 -j CT --zone"
	return []Case{
		{
			Name: "conntrack-zone", Reports: []string{"istio/istio#46935", "istio/istio#33469", "metal-stack/firewall-controller#223"},
			Essence: "a raw rule puts requests into a conntrack zone of their own, and the answers are looked for in another: nobody translates them back",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{serviceRule("udp", "kube-system/kube-dns:dns"), fmt.Sprintf(raw, "A") + "-orig 1"},
			Break:   []string{fmt.Sprintf(raw, "D") + "-orig 1", fmt.Sprintf(raw, "A") + " 1"},
			Traffic: toService("udp"),
			Want: Want{Code: "reply-not-translated", Direction: model.Return, Confidence: "certain",
				Says: []string{`conntrack has its connection in zone 1, and looks for the reply in zone 0: rule 1 of PREROUTING in raw puts the request into zone 1`, service + `:53`, `conntrack -L: udp .* zone=1$|conntrack -L: udp .* zone=1\n`, `--zone-orig 1`}, Never: []string{zoneGone}},
		},
		{
			Name: "conntrack-zone-tcp", Reports: []string{"metal-stack/firewall-controller#223"},
			Essence: "the same of TCP with rules of nft: the answer to a SYN is invalid in the zone where it is looked for",
			Node:    plain(cluster.CalicoNFTables, 1),
			Setup: []string{
				"node1: nft add table ip svc && nft add chain ip svc pre '{ type nat hook prerouting priority dstnat; }' && nft add rule ip svc pre ip daddr " + service + " tcp dport 80 dnat to $SERVER:8080",
				"node1: nft add table ip zones && nft add chain ip zones pre '{ type filter hook prerouting priority raw; }'"},
			Break:   []string{"node1: nft add rule ip zones pre iifname $CLIENT_IF ip daddr " + service + " ct zone set 7"},
			Command: knock("client", service, "80"), Src: client, Dst: service,
			Want: Want{Code: "reply-not-translated", Direction: model.Return,
				Says: []string{`conntrack has its connection in zone 7, and looks for the reply in zone 0`, `ct zone set 7`, service + `:80`}, Never: []string{zoneGone}},
		},
		{
			Name: "conntrack-zone-policy", Reports: []string{"istio/istio#33469"},
			Essence: "a raw rule puts what the server answers into a zone of its own, where it is new, so that the client's policy does not know it",
			Node:    plain(cluster.CalicoLegacy, 1), Setup: podPolicy(),
			Break:   []string{"node1: iptables-legacy -t raw -A PREROUTING -s $SERVER/32 -p udp -m udp --sport 8080 -j CT --zone 3"},
			Traffic: exchange("udp", client, server),
			Want: Want{Code: "conntrack-unknown", Direction: model.Return, Confidence: "certain",
				Says: []string{`conntrack has its connection in zone 0, and looks for the reply in zone 3: rule 1 of PREROUTING in raw puts the reply into zone 3`, `one zone`, `open no policy`}, Never: []string{zoneGone, opensPolicy}},
		},
	}
}

// hostPort are the portmap plugin's chains, for one port of the node.
func hostPort(port, chain, to string) []string {
	return []string{
		natRule + "-N " + chain,
		natRule + "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment 'dnat name: \"cbr0\" id: \"68a1d52c4c84bffde369\"' -m multiport --dports " + port + " -j " + chain,
		natRule + "-A " + chain + " -p tcp -m tcp --dport " + port + " -j DNAT --to-destination " + to,
	}
}

func rivalCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	portmap := []string{natRule + "-N CNI-HOSTPORT-DNAT", natRule + "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"}
	proxied := []string{natRule + "-N KUBE-SERVICES && iptables-legacy -t nat -N KUBE-EXT-W && iptables-legacy -t nat -A KUBE-EXT-W -p tcp -j DNAT --to-destination $SERVER:8080",
		natRule + "-A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"}
	return []Case{
		{
			Name: "hostport-takes-service", Reports: []string{"containernetworking/plugins#222", "kubernetes/kubernetes#66103", "kubernetes/kubernetes#72522"},
			Essence: "a cloud's guest agent makes a balancer's address local, so that the portmap plugin's rule, which stands first, takes the service's port for a host port of a pod",
			Node:    calico,
			Setup: join(portmap, hostPort("443", "CNI-DN-b4d64f818a29e7e9789e6", "$SERVER:9443"), proxied,
				[]string{natRule + "-A KUBE-SERVICES -d 203.0.113.20/32 -p tcp -m comment --comment 'default/web:https loadbalancer IP' -m tcp --dport 443 -j KUBE-EXT-W"}),
			Break:   []string{"node1: ip route add local 203.0.113.20/32 dev eth0 proto 66 table local"},
			Command: knock("client", "203.0.113.20", "443"), Src: client, Dst: "203.0.113.20",
			Want: Want{Code: "no-listener", Direction: model.Forward, Confidence: "certain",
				Says: []string{`203\.0\.113\.20:443 was asked, and redirected .*CNI-DN-b4d64f818a29e7e9789e6`, `rule 1 of KUBE-SERVICES in nat \(default/web:https loadbalancer IP\) names 203\.0\.113\.20:443 itself, but comes after`,
					`takes LOCAL addresses, and 203\.0\.113\.20 is one by the route "local 203\.0\.113\.20/32 dev eth0" of table local \(proto 66\)`, `guest agent`},
				Never: []string{`compare its targetPort`}},
		},
		{
			Name: "hostport-takes-nodeport", Reports: []string{"cloudnativelabs/kube-router#612"},
			Essence: "a pod's host port is a service's node port: the portmap plugin's rule stands first",
			Node:    calico,
			Setup: join(portmap, proxied, []string{natRule + "-N KUBE-NODEPORTS", natRule + "-A KUBE-SERVICES -m comment --comment 'kubernetes service nodeports; NOTE: this must be the last rule in this chain' -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
				natRule + "-A KUBE-NODEPORTS -p tcp -m comment --comment default/web:http -m tcp --dport 30080 -j KUBE-EXT-W"}),
			Break:   hostPort("30080", "CNI-DN-1", "$SERVER:9443"),
			Command: knock("client", "172.30.0.1", "30080"), Src: client, Dst: "${NODE1}",
			Want: Want{Code: "no-listener", Direction: model.Forward, Confidence: "certain",
				Says: []string{`rule 1 of KUBE-NODEPORTS in nat( \(default/web:http\))? claims tcp port 30080 as well, but comes after`, `CNI-DN-1`, `another hostPort`}, Never: []string{`compare its targetPort`}},
		},
		{
			Name: "hostport-left", Reports: []string{"containernetworking/plugins#683", "projectcalico/calico#3412"},
			Essence: "the host port of a pod that is gone was left, before that of the pod that has it now",
			Node:    calico,
			Setup:   join(portmap, []string{"node1: ip route replace blackhole $PODNET1 proto 80"}, hostPort("8443", "CNI-DN-2", "$SERVER:8080")),
			Break: []string{natRule + "-N CNI-DN-1", natRule + "-I CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 8443 -j CNI-DN-1",
				natRule + "-A CNI-DN-1 -p tcp -m tcp --dport 8443 -j DNAT --to-destination 192.168.166.140:8080"},
			Command: knock("client", "172.30.0.1", "8443"), Src: client, Dst: "${NODE1}",
			Want: Want{Code: "blackhole-route", Direction: model.Forward,
				Says: []string{`rule 2 of CNI-HOSTPORT-DNAT in nat.* claims tcp port 8443 as well, but comes after`, `192\.168\.166\.140`, `rules were left`}},
		},
	}
}

// felixSide is how Felix has one side of a pod's policies: tw with pi into it, fw with po
// out of it; allow is what the one policy takes.
func felixSide(iface, dispatch, flag, chain, policy, name, allow string) []string {
	i := "node1: iptables-legacy "
	return []string{
		i + "-N " + dispatch + " && iptables-legacy -N " + chain + " && iptables-legacy -N " + policy,
		i + "-A FORWARD " + flag + " cali+ -m comment --comment cali:8ZoYfO5HKXWbB3pk -j " + dispatch,
		i + "-A " + dispatch + " " + flag + " " + iface + " -m comment --comment cali:Y9SnsnOqkR2d-e76 -g " + chain,
		i + "-A " + chain + " -m comment --comment cali:RHBZIX17f-Y7Wxrr -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		i + "-A " + chain + " -m comment --comment cali:ithDBeFwgewiwQft -j MARK --set-xmark 0x0/0x30000",
		i + "-A " + chain + " -m comment --comment cali:ROH6wwg6LkqeOzVm -m mark --mark 0x0/0x20000 -j " + policy,
		i + "-A " + chain + " -m comment --comment cali:OOMN9RrdE6JNt9ec -m comment --comment 'Return if policy accepted' -m mark --mark 0x10000/0x10000 -j RETURN",
		i + "-A " + chain + " -m comment --comment cali:N3FucY-tAME8ezQa -m comment --comment 'End of tier default. Drop if no policies passed packet' -m mark --mark 0x0/0x20000 -j DROP",
		i + "-A " + policy + " -m comment --comment cali:yebg-D0lArGxQvRL -m comment --comment '" + name + "' " + allow + " -j MARK --set-xmark 0x10000/0x10000",
	}
}

const (
	ingressPolicy = "cali-pi-_0EoDlAMicMSWivwSe1B"
	egressPolicy  = "cali-po-_0EoDlAMicMSWivwSe1B"
)

func ingress(allow string) []string {
	return felixSide("$SERVER_IF", "cali-to-wl-dispatch", "-o", "cali-tw-$SERVER_IF", ingressPolicy, "NetworkPolicy default/web-ingress ingress", allow)
}

func egress(allow string) []string {
	return felixSide("$CLIENT_IF", "cali-from-wl-dispatch", "-i", "cali-fw-$CLIENT_IF", egressPolicy, "NetworkPolicy default/client-egress egress", allow)
}

// allows puts another rule in place of what a policy allows.
func allows(policy, name, what string) string {
	return "node1: iptables-legacy -R " + policy + " 1 -m comment --comment cali:yebg-D0lArGxQvRL -m comment --comment '" + name + "' " + what + " -j MARK --set-xmark 0x10000/0x10000"
}

func allowedButCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	proxied := []string{natRule + "-N KUBE-SVC-W && iptables-legacy -t nat -A PREROUTING -d 10.96.3.45/32 -p tcp -m comment --comment 'default/web:http cluster IP' -m tcp --dport 80 -j KUBE-SVC-W",
		natRule + "-A KUBE-SVC-W -p tcp -m comment --comment default/web:http -m tcp -j DNAT --to-destination $SERVER:8080"}
	const wrongLead = `compare the labels`
	return []Case{
		{
			Name: "policy-service-port", Reports: []string{"projectcalico/calico#8049", "projectcalico/felix#2836", "kubescape/node-agent#943"},
			Essence: "a pod's policy allows the service's port, and the pod listens on another one, to which the service translates before the policy is asked",
			Node:    calico, Setup: join(ingress("-p tcp -m multiport --dports 80,8080"), proxied),
			Break:   []string{allows(ingressPolicy, "NetworkPolicy default/web-ingress ingress", "-p tcp -m multiport --dports 80")},
			Command: knock("client", "10.96.3.45", "80"), Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "policy-deny", Direction: model.Forward, Confidence: "certain",
				Says: []string{`NetworkPolicy default/web-ingress.* does not allow it`, `rule 1 of cali-pi-_0EoDlAMicMSWivwSe1B in filter.* allows tcp port 80, the service's port, which was asked for \(10\.96\.3\.45:80\)`, `after the translation, when the port is the pod's, 8080`, `targetPort`}, Never: []string{wrongLead}},
		},
		{
			Name: "policy-service-address", Reports: []string{"projectcalico/calico#10664", "cloudnativelabs/kube-router#905"},
			Essence: "a pod's egress policy allows the service's address, which is translated before the policy is asked",
			Node:    calico, Setup: join(egress("-p tcp -m multiport --dports 80,8080"), proxied),
			Break:   []string{allows(egressPolicy, "NetworkPolicy default/client-egress egress", "-d 10.96.3.45/32 -p tcp -m multiport --dports 80")},
			Command: knock("client", "10.96.3.45", "80"), Src: client, Dst: "10.96.3.45",
			Want: Want{Code: "policy-deny", Direction: model.Forward, Confidence: "certain",
				Says: []string{`NetworkPolicy default/client-egress.* does not allow it`, `allows the service's address 10\.96\.3\.45, which was asked for`, `after the translation, when it is the pod's, 192\.168\.166\.130:8080`}, Never: []string{wrongLead}},
		},
		{
			Name: "policy-protocol", Reports: []string{"projectcalico/calico#2199"},
			Essence: "a pod's policy allows a port of TCP, and what asks is UDP",
			Node:    calico, Setup: ingress("-p udp -m multiport --dports 8080"),
			Break:   []string{allows(ingressPolicy, "NetworkPolicy default/web-ingress ingress", "-p tcp -m multiport --dports 8080")},
			Traffic: exchange("udp", client, server),
			Want: Want{Code: "policy-deny", Direction: model.Forward, Confidence: "certain",
				Says: []string{`allows port 8080 of tcp, and this is udp`, `protocol: UDP`}, Never: []string{wrongLead}},
		},
		{
			Name: "policy-source", Reports: []string{"aws/eks-anywhere#4406", "projectcalico/calico#1683"},
			Essence: "a pod's policy allows a network which the sender is not in",
			Node:    calico, Setup: ingress("-p tcp -m multiport --dports 8080"),
			Break:   []string{allows(ingressPolicy, "NetworkPolicy default/web-ingress ingress", "-s 10.0.0.0/8 -p tcp -m multiport --dports 8080")},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "policy-deny", Direction: model.Forward, Confidence: "certain",
				Says: []string{`allows tcp port 8080 from 10\.0\.0\.0/8, and this comes from 192\.168\.166\.129`}, Never: []string{wrongLead, `masqueraded at`}},
		},
		{
			Name: "policy-tunnel-source", Reports: []string{"projectcalico/calico#1987", "rancher/rke2#1227", "projectcalico/calico#721"},
			Essence: "a policy allows the other node's address, and what that node sends itself comes through the tunnel with the tunnel interface's address",
			Node:    plain(cluster.CalicoLegacy, 2),
			Setup: join(ingress("-p tcp -m multiport --dports 8080"), []string{"node1: iptables-legacy -I cali-pi-_0EoDlAMicMSWivwSe1B 1 -m comment --comment 'NetworkPolicy default/web-ingress ingress' -s $VTEP2/32 -p tcp -m multiport --dports 8080 -j MARK --set-xmark 0x10000/0x10000",
				"node1: iptables-legacy -R cali-pi-_0EoDlAMicMSWivwSe1B 2 -m comment --comment 'NetworkPolicy default/web-ingress ingress' -s $NODE2/32 -p tcp -m multiport --dports 8080 -j MARK --set-xmark 0x10000/0x10000"}),
			Break:   []string{"node1: iptables-legacy -D cali-pi-_0EoDlAMicMSWivwSe1B 1"},
			Command: knock("node2", "$SERVER", "8080"), Src: "${VTEP2}", Dst: "${SERVER}",
			Want: Want{Code: "policy-deny", Direction: model.Forward,
				Says: []string{`192\.168\.104\.0`, `172\.30\.0\.2`, `tunnel`}},
		},

		{
			Name: "policy-set-without", Reports: []string{"projectcalico/calico#2580", "projectcalico/felix#1347"},
			Essence: "a pod's policy allows what a set of pods holds, and that lacks the sender",
			Node:    calico, Setup: join([]string{"node1: ipset create cali40s:web hash:net && ipset add cali40s:web 192.168.166.200 && ipset add cali40s:web $CLIENT"}, ingress("-p tcp -m set --match-set cali40s:web src -m multiport --dports 8080")),
			Break:   []string{"node1: ipset del cali40s:web $CLIENT"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "policy-deny", Direction: model.Forward, Confidence: "certain",
				Says: []string{`NetworkPolicy default/web-ingress`, `192\.168\.166\.129 is not in the set cali40s:web`, `rule 1 of cali-pi-_0EoDlAMicMSWivwSe1B in filter`, `ipset list cali40s:web`, `not known: whether the set is as the policy wants it`}, Never: []string{`does not allow it`, wrongLead}},
		},
		{
			Name: "policy-set-port", Reports: []string{"projectcalico/calico#8049"},
			Essence: "a pod's policy allows another port to a set of pods that holds the sender: the port is told, and not the set",
			Node:    calico, Setup: join([]string{"node1: ipset create cali40s:web hash:net && ipset add cali40s:web $CLIENT"}, ingress("-p tcp -m set --match-set cali40s:web src -m multiport --dports 8080")),
			Break:   []string{allows(ingressPolicy, "NetworkPolicy default/web-ingress ingress", "-p tcp -m set --match-set cali40s:web src -m multiport --dports 8081:8090")},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "policy-deny", Direction: model.Forward, Confidence: "certain",
				Says: []string{`NetworkPolicy default/web-ingress.* does not allow it`, `allows tcp ports 8081-8090, and this is port 8080, the next one`}, Never: []string{`asks the set`, `is not in`, wrongLead}},
		},
	}
}
