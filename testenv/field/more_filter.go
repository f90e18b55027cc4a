// SPDX-License-Identifier: Apache-2.0

// Further faults of packet filters: rules and policies, their sets and marks, shapers,
// IPsec.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// routerPolicy is how kube-router lets members of a set ask the server, and nobody
// else.
func routerPolicy() []string {
	i := "node1: iptables-nft "
	return []string{
		"node1: sysctl -qw net.bridge.bridge-nf-call-iptables=1",
		"node1: ipset create KUBE-SRC-ABC hash:ip && ipset add KUBE-SRC-ABC 10.244.1.99 && ipset add KUBE-SRC-ABC $CLIENT",
		i + "-N KUBE-ROUTER-FORWARD", i + "-N KUBE-POD-FW-B", i + "-N KUBE-NWPLCY-X",
		i + "-A FORWARD -m comment --comment 'kube-router netpol - 4IA2OSFRMVNDXBVV' -j KUBE-ROUTER-FORWARD",
		i + "-A KUBE-ROUTER-FORWARD -d $SERVER -m comment --comment 'rule to jump traffic destined to POD name:db namespace: prod to chain KUBE-POD-FW-B' -j KUBE-POD-FW-B",
		i + "-A KUBE-POD-FW-B -m comment --comment 'rule for stateful firewall for pod' -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		i + "-A KUBE-POD-FW-B -d $SERVER -m comment --comment 'run through nw policy allow-web' -j KUBE-NWPLCY-X",
		i + "-A KUBE-NWPLCY-X -m set --match-set KUBE-SRC-ABC src -p tcp -m tcp --dport 8080 -m comment --comment 'rule to mark traffic matching a network policy' -j MARK --set-xmark 0x10000/0x10000",
		i + "-A KUBE-NWPLCY-X -m mark --mark 0x10000/0x10000 -m comment --comment 'rule to RETURN traffic matching a network policy' -j RETURN",
		i + "-A KUBE-POD-FW-B -m mark ! --mark 0x10000/0x10000 -m comment --comment 'rule to REJECT traffic destined for POD name:db namespace: prod' -j REJECT --reject-with icmp-port-unreachable",
	}
}

// balancerFirewall is how kube-proxy lets sources of a range ask a load balancer's
// address, and nobody else.
func balancerFirewall() []string {
	i := "node1: iptables-nft "
	return []string{
		i + "-t nat -N KUBE-SERVICES", i + "-t nat -N KUBE-FW-ABCDEF", i + "-t nat -N KUBE-EXT-ABCDEF", i + "-N KUBE-PROXY-FIREWALL",
		i + "-t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
		i + "-t nat -A KUBE-SERVICES -d 203.0.113.5/32 -p tcp -m comment --comment 'prod/web:http loadbalancer IP' -m tcp --dport 80 -j KUBE-FW-ABCDEF",
		i + "-t nat -A KUBE-FW-ABCDEF -s $CLIENT -m comment --comment 'prod/web:http loadbalancer IP' -j KUBE-EXT-ABCDEF",
		i + "-t nat -A KUBE-FW-ABCDEF -m comment --comment 'other traffic to prod/web:http will be dropped by KUBE-PROXY-FIREWALL'",
		i + "-t nat -A KUBE-EXT-ABCDEF -p tcp -j DNAT --to-destination $SERVER:8080",
		i + "-A FORWARD -m conntrack --ctstate NEW -m comment --comment 'kubernetes load balancer firewall' -j KUBE-PROXY-FIREWALL",
		i + "-A KUBE-PROXY-FIREWALL -d 203.0.113.5/32 -p tcp -m comment --comment 'prod/web:http traffic not accepted by KUBE-FW-ABCDEF' -m tcp --dport 80 -j DROP",
	}
}

// toHostAction is how Calico treats what pods send to their node.
func toHostAction() []string {
	i := "node1: iptables-legacy "
	return []string{
		i + "-N cali-INPUT", i + "-N cali-wl-to-host", i + "-N cali-from-wl-dispatch",
		i + "-A INPUT -m comment --comment cali:Cz_u1IQiXIMmKD4c -j cali-INPUT",
		i + "-A cali-INPUT -i cali+ -m comment --comment cali:FewJpBykm9iJ-YNH -g cali-wl-to-host",
		i + "-A cali-wl-to-host -m comment --comment cali:Ee9Sbo10IpVujdIY -j cali-from-wl-dispatch",
		i + "-A cali-wl-to-host -m comment --comment cali:3xIeqPkH_U4Pk0Cf -m comment --comment 'Configured DefaultEndpointToHostAction' -j ACCEPT",
	}
}

// transparentProxy is a pod whose requests a sidecar takes by TPROXY.
func transparentProxy() []string {
	i := "server: iptables-legacy -t mangle "
	return []string{
		i + "-N ISTIO_INBOUND", i + "-N ISTIO_TPROXY", i + "-A PREROUTING -p tcp -j ISTIO_INBOUND",
		i + "-A ISTIO_INBOUND -p tcp -m tcp --dport 8080 -j ISTIO_TPROXY",
		i + "-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff",
		"server: ip rule add fwmark 1337 lookup 133 && ip route add local default dev lo table 133",
		"server: python3 -c 'import os,socket\nopen(os.environ[\"DIR\"]+\"/proxy\",\"w\").write(str(os.getpid()))\ns=socket.socket();s.setsockopt(0,19,1);s.bind((\"0.0.0.0\",15006));s.listen(9)\nwhile 1:\n c,_=s.accept()\n for d in iter(lambda:c.recv(999),b\"\"): c.sendall(d)' &",
		"server: for i in $(seq 100); do ss -lnt | grep -q :15006 && exit 0; sleep 0.1; done; exit 1",
	}
}

func moreFilterCases() []Case {
	return append(strangersRules(), append(pluginsRules(), shapersAndIPsec()...)...)
}

// pluginsRules are those where a rule of the cluster's own decides.
func pluginsRules() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	return []Case{
		{
			Name: "balancer-ranges", Reports: []string{"kubernetes/kubernetes#109575"},
			Essence: "a pod asks for a load balancer's address, and the pods' network is not among the sources that it lets in",
			Node:    calico, Setup: balancerFirewall(),
			Break:   []string{"node1: iptables-nft -t nat -R KUBE-FW-ABCDEF 1 -s 192.0.2.0/24 -m comment --comment 'prod/web:http loadbalancer IP' -j KUBE-EXT-ABCDEF"},
			Command: knock("client", "203.0.113.5", "80"), Src: client, Dst: "203.0.113.5",
			Want: Want{Code: "rule-drop", Direction: model.Forward,
				Says: []string{`loadBalancerSourceRanges`, `prod/web:http`, `KUBE-PROXY-FIREWALL`}, Never: []string{`iptables-nft -D`}},
		},
		{
			Name: "host-endpoint-action", Reports: []string{"projectcalico/calicoctl#1639", "projectcalico/calicoctl#1575"},
			Essence: "Calico is told to drop what pods send to their own node",
			Node:    calico, Setup: toHostAction(),
			Break:   []string{"node1: iptables-legacy -R cali-wl-to-host 2 -m comment --comment cali:3xIeqPkH_U4Pk0Cf -m comment --comment 'Configured DefaultEndpointToHostAction' -j DROP"},
			Traffic: exchange("icmp", client, "172.30.0.1"),
			Want: Want{Code: "rule-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`DefaultEndpointToHostAction`, `own node`}, Never: []string{`iptables-legacy -D`}},
		},
		{
			Name: "policy-set-stale", Reports: []string{"cloudnativelabs/kube-router#2059", "k0sproject/k0s#2261"},
			Essence: "a policy allows the pod, and the set by which kube-router knows that lacks it",
			Node:    plain(cluster.FlannelNFT, 1), Setup: routerPolicy(),
			Break:   []string{"node1: ipset del KUBE-SRC-ABC $CLIENT"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "policy-deny", Direction: model.Forward,
				Says: []string{`KUBE-SRC-ABC`, `10\.244\.1\.2 is (not in|no member of)`, `prod/db`, `kube-router`}, Never: []string{`prod/allow-web .* does not allow it`}},
		},
		{
			Name: "mark-clash", Reports: []string{"kubernetes/kubernetes#113659", "cilium/cilium#8516"},
			Essence: "a VPN's socket marks its packets, and the mark has the bit by which the kubelet's rule drops",
			Node:    calico,
			Setup: []string{"node1: iptables-legacy -N KUBE-FIREWALL && iptables-legacy -A OUTPUT -j KUBE-FIREWALL",
				"node1: iptables-legacy -A KUBE-FIREWALL -m comment --comment 'kubernetes firewall for dropping marked packets' -m mark --mark 0x8000/0x8000 -j DROP"},
			Command: `node1: python3 -c 'import os,socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(1,36,0xca6c);s.sendto(b"wg",(os.environ["EXTERNAL"],8080))'`,
			Src:     "node", Dst: "${EXTERNAL}",
			Healthy: &traffic.Spec{Proto: "udp", Src: "node1", Dst: "external", Count: 2},
			Want: Want{Code: "rule-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`0xca6c`, `KUBE-FIREWALL`, `kubelet`, `socket|sender`}, Never: []string{`kube-proxy's rule`, `kube-proxy is told`}},
		},
		{
			Name: "tproxy-unheard", Reports: []string{"istio/istio#8059"},
			Essence: "a sidecar that takes requests by TPROXY is not up, and the rule drops what no socket takes",
			Node:    calico, Setup: transparentProxy(),
			Break:   []string{"server: kill $(cat $DIR/proxy)"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says: []string{`15006`, `ISTIO_TPROXY`, `nothing listens|no socket`}, Never: []string{`a table that is not known`, `it came, or was gone`}},
		},
	}
}

// strangersRules are those of others on the node: Docker, VPNs, firewalls.
func strangersRules() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	return []Case{
		{
			Name: "bridged-forward-policy", Reports: []string{"docker/docs#7370", "moby/moby#39439", "seapath/ansible#909"},
			Essence: "Docker sets FORWARD to drop, which meets traffic between two ports of another bridge, since bridged frames pass iptables",
			Node:    plain(cluster.FlannelNFT, 1),
			Setup: []string{"node1: sysctl -qw net.bridge.bridge-nf-call-iptables=1",
				"node1: iptables-nft -N DOCKER-USER && iptables-nft -N DOCKER-FORWARD && iptables-nft -A FORWARD -j DOCKER-USER && iptables-nft -A FORWARD -j DOCKER-FORWARD && iptables-nft -A DOCKER-FORWARD -i docker0 -j ACCEPT"},
			Break:   []string{"node1: iptables-nft -P FORWARD DROP"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "forward-policy", Direction: model.Forward,
				Says: []string{`policy of FORWARD`, `net\.bridge\.bridge-nf-call-iptables = 1`, `Docker`}},
		},
		{
			Name: "input-policy", Reports: []string{"antrea-io/antrea#4464", "k3s-io/k3s#2087"},
			Essence: "the node's firewall drops in INPUT what no rule accepts, and none accepts the pods' network",
			Node:    calico,
			Setup: []string{"node1: iptables-legacy -N ufw-user-input && iptables-legacy -A INPUT -i lo -j ACCEPT && iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && iptables-legacy -A INPUT -j ufw-user-input",
				"node1: iptables-legacy -A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT && iptables-legacy -A ufw-user-input -s 192.168.0.0/16 -j ACCEPT && iptables-legacy -P INPUT DROP"},
			Break:   []string{"node1: iptables-legacy -D ufw-user-input -s 192.168.0.0/16 -j ACCEPT"},
			Traffic: exchange("icmp", client, "172.30.0.1"),
			Want: Want{Code: "rule-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`policy of filter/INPUT`, `no rule`, `accept`}},
		},
		{
			Name: "burst-guard", Reports: []string{"akash-network/support#659"},
			Essence: "a guard drops a pod's new connections above a rate: of a burst some take a second longer",
			Node:    calico,
			Break:   []string{`node1: iptables-legacy -A FORWARD -i cali+ -p tcp --syn -m hashlimit --hashlimit-above 1/sec --hashlimit-burst 5 --hashlimit-mode srcip,dstip --hashlimit-name egress-guard -m comment --comment "tenant egress guard" -j DROP`},
			Command: `client: python3 -c 'import os,socket
for i in range(7): socket.create_connection((os.environ["SERVER"],8080),6).close()'`,
			Src: client, Dst: server,
			Want: Want{Code: "rule-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`hashlimit-above 1/sec`, `above|more than|over`, `raise`}, Never: []string{`if nobody needs it`}},
		},
		{
			Name: "vpn-range", Reports: []string{"tailscale/tailscale#12555", "tailscale/tailscale#12829", "tailscale/tailscale#1381"},
			Essence: "Tailscale's rule drops all of a range that it uses itself if it comes by another interface, and an answer is from there",
			Node:    calico,
			Setup: []string{"outside: ip addr add 100.100.0.9/32 dev lo", "node1: ip route add 100.100.0.9 via $GATEWAY",
				"node1: iptables-nft -N ts-input && iptables-nft -A INPUT -j ts-input && iptables-nft -A ts-input -s 100.82.80.46/32 -i lo -j ACCEPT && iptables-nft -A ts-input -s 100.115.92.0/23 ! -i tailscale0 -j RETURN"},
			Break:   []string{"node1: iptables-nft -A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP"},
			Command: "node1: ping -c2 -i0.3 -W1 100.100.0.9", Src: "node", Dst: "100.100.0.9",
			Want: Want{Code: "rule-drop", Direction: model.Return,
				Says: []string{`-A ts-input -s 100\.64\.0\.0/10 ! -i tailscale0 -j DROP`, `tailscaled|Tailscale's|Tailscale \(`}, Never: []string{`iptables-nft -D`}},
		},
		{
			Name: "vpn-dns-guard", Reports: []string{"mullvad/mullvadvpn-app#3733"},
			Essence: "a VPN client's own table rejects all DNS but its resolver's, the pods' too",
			Node:    calico,
			Setup: []string{"node1: nft add table inet mullvad && nft add chain inet mullvad forward '{ type filter hook forward priority 0; policy drop; }'",
				"node1: nft add rule inet mullvad forward ip daddr 192.168.0.0/16 accept && nft add rule inet mullvad forward ip saddr 192.168.0.0/16 accept"},
			Break:   []string{"node1: nft insert rule inet mullvad forward udp dport 53 reject"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Port: 53, Count: 2},
			Want: Want{Code: "rule-drop", Direction: model.Forward,
				Says: []string{`udp dport 53 reject`, `inet mullvad`, `rejects`}},
		},
	}
}

// shapersAndIPsec are those that no rule of netfilter decides.
func shapersAndIPsec() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	return []Case{
		{
			Name: "shaper-rate", Reports: []string{"kubernetes/kubernetes#67438"},
			Essence: "the bandwidth plugin gives a pod a thousandth of the rate that was asked for",
			Node:    calico,
			Setup:   []string{"node1: tc qdisc add dev $SERVER_IF root tbf rate 8mbit burst 1600 limit 4000"},
			Break:   []string{"node1: tc qdisc change dev $SERVER_IF root tbf rate 8kbit burst 1600 limit 4000"},
			Command: "client: ping -c12 -i0.1 -s 800 -W1 $SERVER", Src: client, Dst: server,
			Want: Want{Code: "queue-full", Direction: model.Forward, Confidence: "certain",
				Says: []string{`tbf`, `rate 8\s?kbit`, `cali7715d358f22`, `bandwidth`}},
		},
		{
			Name: "ipsec-unencrypted", Reports: []string{"flannel-io/flannel#1131"},
			Essence: "plain answers meet an IPsec policy that demands ESP",
			Node:    calico,
			Setup:   []string{"outside: ip route add $CLIENT via $NODE1"},
			Break:   []string{"node1: ip xfrm policy add src $EXTERNAL/32 dst $CLIENT/32 dir fwd priority 0 tmpl src 172.30.0.2 dst $NODE1 proto esp reqid 11 mode tunnel"},
			Traffic: exchange("tcp", client, "external"),
			Want: Want{Code: "ipsec-policy", Direction: model.Return,
				Says: []string{`dir fwd`, `src 172\.30\.0\.9/32`, `esp`, `reqid 11`, `ip xfrm policy`, `unencrypted|not encrypted|came plain`}},
		},
	}
}
