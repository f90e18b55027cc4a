// SPDX-License-Identifier: Apache-2.0

// Faults of tunnels other than VXLAN: Calico's IPIP and WireGuard between two nodes.
// The pods are at hand in both directions, so node1, which is traced, sends or receives.

package field

import (
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func tunnelCases() []Case { return slices.Concat(ipipCases(), wireGuardCases()) }

// onBoth gives the lines of one node for each of the two: ME and YOU are their numbers.
func onBoth(lines ...string) (all []string) {
	for _, n := range []string{"1", "2"} {
		me, you := n, map[string]string{"1": "2", "2": "1"}[n]
		for _, l := range lines {
			all = append(all, "node"+n+": ME="+me+" YOU="+you+"; eval \"OWN=\\$VTEP$ME OTHER=\\$VTEP$YOU FAR=\\$NODE$YOU PODS=\\$PODNET$YOU\"; "+l)
		}
	}
	return all
}

// ipip makes the nodes' tunnel one of IPIP, as Felix and BIRD do: tunl0 with an address
// of the node's block, and routes of protocol 12 to the other node itself.
func ipip() []string {
	return onBoth("ip link del $TUNNEL",
		"ip link show tunl0 >/dev/null 2>&1 || ip link add tunl0 type ipip",
		"ip link set tunl0 mtu 1480 up && ip addr add $OWN/32 dev tunl0",
		"ip route add $PODS via $FAR dev tunl0 onlink proto 12")
}

const calicoHosts = `-p 4 -m comment --comment "cali:p8Wwvr6qydjU36AQ" -m comment --comment "Drop IPIP packets from non-Calico hosts" -m set ! --match-set cali40all-hosts-net src`

func ipipCases() []Case {
	modules := []string{"ipip"}
	two := plain(cluster.CalicoLegacy, 2)
	return []Case{
		{
			Name: "ipip-output", Reports: []string{"projectcalico/calico#1357"},
			Essence: "a rule of the sending node lets only protocols through that its author knew: IPIP is none",
			Node:    two, Modules: modules, Setup: ipip(), Twin: true,
			Break:   []string{"node1: iptables-legacy -A OUTPUT -p 4 -m comment --comment only-known-protocols -j DROP"},
			Traffic: exchange("tcp", client, web2),
			Want: Want{Code: "tunnel-blocked", Confidence: "certain", Direction: model.Forward,
				Says: []string{`IPIP, IP protocol 4`, `-A OUTPUT -p (4|ipencap|ipip|ipv4) .*only-known-protocols`, `inside ipip, from 172\.30\.0\.1 to 172\.30\.0\.2`}, Never: []string{`UDP port`}},
		},
		{
			Name: "ipip-unknown-host", Reports: []string{"projectcalico/calico#1357"},
			Essence: "the receiving node's Calico does not know the sending node, and drops its IPIP packets",
			Node:    two, Modules: modules, Setup: ipip(),
			Break: []string{"node1: ipset create cali40all-hosts-net hash:net && iptables-legacy -N cali-INPUT && iptables-legacy -A INPUT -j cali-INPUT",
				"node1: iptables-legacy -A cali-INPUT " + calicoHosts + " -j DROP"},
			Traffic: exchange("tcp", web2, server),
			Want: Want{Code: "tunnel-blocked", Confidence: "certain", Direction: model.Forward,
				Says: []string{`IPIP, IP protocol 4`, `does not know as a node`, `calicoctl get nodes`}},
		},
		{
			Name: "ipip-output-return", Reports: []string{"projectcalico/calico#1357"},
			Essence: "the same rule on the node that answers: requests come in, answers die in the tunnel",
			Node:    two, Modules: modules, Setup: ipip(),
			Break:   []string{"node1: iptables-legacy -A OUTPUT -p 4 -j DROP"},
			Traffic: exchange("udp", web2, server),
			Want: Want{Code: "tunnel-blocked", Confidence: "certain", Direction: model.Return,
				Says: []string{`IPIP, IP protocol 4`, `inside ipip, from 172\.30\.0\.1 to 172\.30\.0\.2`}},
		},
		{
			Name: "ipip-down", Reports: []string{"projectcalico/calicoctl#772"},
			Essence: "tunl0 of the receiving node is down, so that nothing takes what comes in the tunnel",
			Node:    two, Modules: modules, Setup: ipip(),
			Break:   []string{"node1: ip link set tunl0 down"},
			Traffic: exchange("tcp", web2, server),
			Want: Want{Code: "tunnel-broken", Direction: model.Forward,
				Says: []string{`IPIP packet from another node`, `tunl0 of this node is set down`}},
		},
		{
			Name: "ipip-no-gateway", Reports: []string{"projectcalico/cni-plugin#314"},
			Essence: "the route into tunl0 has no gateway: the tunnel does not know to which node",
			Node:    two, Modules: modules, Setup: ipip(),
			Break:   []string{"node1: ip route replace $PODNET2 dev tunl0 proto 12"},
			Traffic: exchange("tcp", client, web2),
			Want: Want{Code: "tunnel-broken", Direction: model.Forward,
				Says: []string{`route into the tunnel tunl0 names no node`, `dev tunl0`}},
		},
		{
			Name: "ipip-nobody", Reports: []string{"projectcalico/calico#8700"},
			Essence: "the tunnel leads to an address that the node had once",
			Node:    two, Modules: modules, Setup: ipip(),
			Break:   []string{"node1: ip route replace $PODNET2 via 172.30.0.77 dev tunl0 onlink proto 12"},
			Traffic: patient("tcp", client, web2),
			Want: Want{Code: "tunnel-broken", Direction: model.Forward,
				Says: []string{`tunl0 sends what is for \S+ to node 172\.30\.0\.77, and nobody`, `172\.30\.0\.77`}},
		},
	}
}

// wireGuard makes the nodes' tunnel one of WireGuard, as Felix does: its own table by
// a rule for what WireGuard itself has not sent, the plain way in table main.
func wireGuard() []string {
	return slices.Concat([]string{"node1: umask 077; for n in 1 2; do wg genkey >$DIR/key$n; wg pubkey <$DIR/key$n >$DIR/pub$n; done"},
		onBoth("ip link del $TUNNEL",
			"ip link add wireguard.cali mtu 1440 type wireguard",
			"wg set wireguard.cali listen-port 51820 fwmark 0x100000 private-key $DIR/key$ME peer $(cat $DIR/pub$YOU) allowed-ips $PODS,$OTHER/32 endpoint $FAR:51820",
			"ip addr add $OWN/32 dev wireguard.cali && ip link set wireguard.cali up",
			"ip route add $PODS via $FAR dev eth0 proto 80 && ip route add $PODS dev wireguard.cali table 1",
			"ip rule add not fwmark 0x100000/0x100000 lookup 1 priority 99"))
}

// keyed has both nodes agree on a key before anything breaks.
const keyed = "web2: ping -c1 -W3 $SERVER >/dev/null"

func wireGuardCases() []Case {
	modules, tools := []string{"wireguard"}, []string{"wg"}
	two := plain(cluster.CalicoLegacy, 2)
	return []Case{
		{
			Name: "wireguard-no-peer", Reports: []string{"projectcalico/calico#9751"},
			Essence: "the other node's peer lacks the block of its pods among the allowed IPs",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(), Twin: true,
			Break:   []string{"node1: wg set wireguard.cali peer $(cat $DIR/pub2) allowed-ips $VTEP2/32"},
			Traffic: exchange("tcp", client, web2),
			Want: Want{Code: "wireguard", Direction: model.Forward,
				Says: []string{`no peer whose allowed IPs hold \S+`, `via 172\.30\.0\.2 dev eth0`, `\(172\.30\.0\.2:51820\)`, `wg show wireguard\.cali allowed-ips: \S{44} \S+/32`}},
		},
		{
			Name: "wireguard-foreign-source", Reports: []string{"projectcalico/calico#9751"},
			Essence: "the receiving node's peer may not send from the pod's address",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(),
			Break:   []string{"node1: wg set wireguard.cali peer $(cat $DIR/pub2) allowed-ips $VTEP2/32"},
			Traffic: exchange("tcp", web2, server),
			Want: Want{Code: "wireguard", Confidence: "certain", Direction: model.Forward,
				Says: []string{`not among the allowed IPs of the peer that sent it, peer \S{44} \(172\.30\.0\.2:51820\)`, `wg show wireguard\.cali allowed-ips: \S{44} \S+/32`, `none of their allowed IPs holds`}},
			Less: map[string]Want{"tracepoint": {Code: "not-sent", Confidence: "likely", Direction: model.Forward, Exit: 3, Says: []string{`WireGuard \(wireguard\.cali\) would take none from it`, `none of their allowed IPs holds`}}},
		},
		{
			Name: "wireguard-wrong-key", Reports: []string{"cilium/cilium#35750"},
			Essence: "the node holds another key of its peer than the peer has: no handshake is answered",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(),
			Break: []string{"node1: wg set wireguard.cali peer $(cat $DIR/pub2) remove",
				"node1: wg set wireguard.cali peer $(wg genkey | wg pubkey) allowed-ips $PODNET2 endpoint $NODE2:51820"},
			Traffic: exchange("tcp", client, web2),
			Want: Want{Code: "wireguard", Direction: model.Forward,
				Says: []string{`wait in WireGuard \(wireguard\.cali\) for a key: there was no handshake with peer \S{44} \(172\.30\.0\.2:51820\)`, `latest-handshakes: \S{44} 0`, `udp port 51820`}},
		},
		{
			Name: "wireguard-no-endpoint", Reports: []string{"flannel-io/flannel#1889"},
			Essence: "the peer has the address, and nobody said where the peer is",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(),
			Break: []string{"node1: wg set wireguard.cali peer $(cat $DIR/pub2) remove",
				"node1: wg set wireguard.cali peer $(cat $DIR/pub2) allowed-ips $PODNET2", "node2: wg set wireguard.cali peer $(cat $DIR/pub1) remove"},
			Traffic: exchange("udp", client, web2),
			Want: Want{Code: "wireguard", Direction: model.Forward,
				Says: []string{`does not know where the peer is that has \S+: it has no endpoint`, `endpoints: \S{44} \(none\)`}},
		},
		{
			Name: "wireguard-input", Reports: []string{"flannel-io/flannel#1770"},
			Essence: "the receiving node's own firewall drops the encrypted packets, so that nothing of the flow is seen there",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(), Twin: true,
			Break:   []string{keyed, "node1: iptables-legacy -I INPUT -p udp --dport 51820 -m comment --comment only-known-ports -j DROP"},
			Traffic: traffic.Spec{Proto: "udp", Src: web2, Dst: server, Count: 2, Timeout: time.Second},
			Want: Want{Code: "tunnel-blocked", Confidence: "likely", Direction: model.Forward,
				Says: []string{`so died \d+ encrypted packets? of WireGuard \(wireguard\.cali\) from peer \S{44} \(172\.30\.0\.2:51820\), and nothing of the flow from \S+, which is behind that peer`,
					`-A INPUT -p udp .*--dport 51820 .*only-known-ports`, `encrypted packets from 172\.30\.0\.2:51820 died in hook INPUT at node \(eth0\)`, `not known: what was inside`}},
		},
		{
			Name: "wireguard-input-return", Reports: []string{"flannel-io/flannel#1770"},
			Essence: "the sending node's own firewall drops the encrypted answers",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(),
			Break:   []string{keyed, "node1: nft add table ip edge && nft add chain ip edge in '{ type filter hook prerouting priority -150; }' && nft add rule ip edge in iif eth0 udp dport 51820 counter drop"},
			Traffic: exchange("udp", client, web2),
			Want: Want{Code: "tunnel-blocked", Confidence: "likely", Direction: model.Return,
				Says: []string{`so died \d+ encrypted packets? of WireGuard \(wireguard\.cali\) from peer \S{44} \(172\.30\.0\.2:51820\), and no answer from \S+ \(udp\), which is behind that peer`,
					`udp dport 51820 counter( packets \d+ bytes \d+)? drop`, `died in hook PREROUTING at node \(eth0\)`}},
		},
		{
			Name: "wireguard-input-handshake", Reports: []string{"flannel-io/flannel#1770"},
			Essence: "the sending node's own firewall drops the answers to its handshakes, so that there never is a key",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(),
			Break: []string{"node1: iptables-legacy -I INPUT -p udp --dport 51820 -j DROP", "node1: wg set wireguard.cali peer $(cat $DIR/pub2) remove",
				"node1: wg set wireguard.cali peer $(cat $DIR/pub2) allowed-ips $PODNET2,$VTEP2/32 endpoint $NODE2:51820"},
			Traffic: exchange("tcp", client, web2),
			Want: Want{Code: "tunnel-blocked", Confidence: "likely", Direction: model.Forward, Besides: []string{"wireguard"},
				Says: []string{`packets wait there for a key, which takes an answer of that peer's`, `-A INPUT -p udp .*--dport 51820 -j DROP`}},
		},
		{
			Name: "wireguard-port", Reports: []string{"flannel-io/flannel#1770"},
			Essence: "the other node's firewall does not let the tunnel's port in",
			Node:    two, Modules: modules, Tools: tools, Setup: wireGuard(),
			Break:   []string{"node2: iptables-legacy -I INPUT -p udp --dport 51820 -j DROP"},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: web2, Count: 2, Timeout: time.Second},
			Want: Want{Code: "left-node", Direction: model.Forward, Exit: wellHere,
				Says: []string{`sent in wireguard to node 172\.30\.0\.2, port 51820`, `UDP port 51820 is let through`, `latest-handshakes: \S{44} \d+`}},
		},
	}
}
