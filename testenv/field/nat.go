// SPDX-License-Identifier: Apache-2.0

// Faults of conntrack and NAT, and of the answers that a node makes.

package field

import (
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// service is an address that rules of the cases translate.
	service = "10.96.3.45"
	// opensPolicy fits a fix that would let in whoever sends from the server's port.
	opensPolicy = `let a policy allow|-I FORWARD .*-j ACCEPT|-P FORWARD ACCEPT`
)

// podPolicy lets replies into the client, and nothing else.
func podPolicy() []string {
	return []string{
		"node1: iptables-legacy -N cali-tw-$CLIENT_IF && iptables-legacy -A FORWARD -o $CLIENT_IF -j cali-tw-$CLIENT_IF",
		"node1: iptables-legacy -A cali-tw-$CLIENT_IF -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		`node1: iptables-legacy -A cali-tw-$CLIENT_IF -m comment --comment "End of tier default. Drop if no policies passed packet" -j DROP`,
	}
}

// serviceRule sends the service's port 53 to the server.
func serviceRule(proto, comment string) string {
	return "node1: iptables-legacy -t nat -A PREROUTING -d " + service + "/32 -p " + proto + ` --dport 53 -m comment --comment "` + comment + `" -j DNAT --to-destination $SERVER:8080`
}

// notrack exempts what the server answers.
const notrack = `node1: iptables-legacy -t raw -A PREROUTING -s $SERVER/32 -p udp --sport 8080 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j CT --notrack`

func toService(proto string) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: client, Dst: service, Port: 53, Count: 2}
}

func natCases() []Case {
	return []Case{
		{
			Name: "notrack-policy", Reports: []string{"kubernetes/kubernetes#98758"},
			Essence: "a raw rule exempts replies from conntrack, so the pod's policy, which lets replies in, does not know them",
			Node:    plain(cluster.CalicoLegacy, 1), Setup: podPolicy(),
			Break:   []string{notrack},
			Traffic: exchange("udp", client, server),
			Want: Want{Code: "conntrack-unknown", Direction: model.Return, Confidence: "certain",
				Says:  []string{`reply is not known to conntrack`, `rule 1 of PREROUTING in raw`, `NOTRACK`, `untracked`, `open no policy`},
				Never: []string{opensPolicy}},
		},
		{
			Name: "notrack-policy-nft", Reports: []string{"kubernetes/kubernetes#98758"},
			Essence: "the same with rules of nft",
			Node:    plain(cluster.CalicoNFTables, 1),
			Setup: []string{
				"node1: nft add table ip fw && nft add chain ip fw gate '{ type filter hook forward priority 0; policy drop; }'",
				"node1: nft add rule ip fw gate ct state established,related accept && nft add rule ip fw gate iifname $CLIENT_IF accept",
			},
			Break:   []string{"node1: nft add table ip bypass && nft add chain ip bypass pre '{ type filter hook prerouting priority raw; }' && nft add rule ip bypass pre ip saddr $SERVER udp sport 8080 notrack"},
			Traffic: exchange("udp", client, server),
			Want: Want{Code: "conntrack-unknown", Direction: model.Return,
				Says: []string{`reply is not known to conntrack`, `pre in bypass`, `notrack`, `untracked`}, Never: []string{opensPolicy}},
		},
		{
			Name: "notrack-service", Reports: []string{"coredns/coredns#3097"},
			Essence: "requests are translated, and a raw rule exempts the replies from conntrack: the client hears from an address that it did not ask",
			Node:    plain(cluster.CalicoLegacy, 1), Setup: []string{serviceRule("udp", "kube-system/kube-dns:dns")},
			Break:   []string{notrack},
			Traffic: toService("udp"),
			Want: Want{Code: "reply-not-translated", Direction: model.Return, Confidence: "certain",
				Says:  []string{service + `:53 had been asked`, `because rule 1 of PREROUTING in raw exempts it`, `kube-dns`},
				Never: []string{`another way`, `it is not the bridge`}},
		},
		{
			Name: "invalid-segment", Reports: []string{"kubernetes/kubernetes#74839"}, Tools: []string{"python3"},
			Essence: "a late segment of the server is invalid to conntrack, is not translated back, and the client resets the connection",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup: []string{
				"node1: sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0",
				"node1: iptables-legacy -t nat -A PREROUTING -d " + service + "/32 -p tcp --dport 80 -j DNAT --to-destination $SERVER:7070",
				"server: python3 -c '" + lateSegments + "' $SERVER $DIR/late &",
			},
			Break:   []string{"server: touch $DIR/late"},
			Command: "client: timeout 2 bash -c 'exec 3<>/dev/tcp/" + service + "/80; cat <&3' || true",
			Src:     client, Dst: service,
			Want: Want{Code: "reply-not-translated", Direction: model.Return, Confidence: "certain",
				Says:  []string{`because conntrack calls it invalid`, service + `:80 had been asked`, `nf_conntrack_tcp_be_liberal`},
				Never: []string{`another way`, `it is not the bridge`}},
		},
		{
			Name: "stale-entry", Reports: []string{"kubernetes/kubernetes#125467", "kubernetes/kubernetes#66651"},
			Essence: "a UDP flow that never rests keeps going to a backend that is gone; the rule names another by now",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup: []string{
				serviceRule("udp", "kube-system/kube-dns:dns"),
				"client: bash -c 'exec 3<>/dev/udp/" + service + "/53; while sleep 0.2; do printf q >&3; done' &",
			},
			Break: []string{
				"node1: iptables-legacy -t nat -R PREROUTING 1 -d " + service + "/32 -p udp --dport 53 -j DNAT --to-destination 192.168.166.140:8080",
				"node1: ip route replace blackhole $PODNET1 proto 80 && ip route del $SERVER",
			},
			Command: "client: sleep 1.5", Src: client, Dst: service,
			Want: Want{Code: "stale-conntrack", Direction: model.Forward, Confidence: "certain",
				Says:  []string{`stale conntrack entry: ` + service + `:53 still goes to \S+:8080, no rule does`, `conntrack -L`, `192\.168\.166\.140`, `conntrack -D -p udp`},
				Never: []string{`Felix write its routes`}},
		},
		{
			Name: "stale-entry-left", Reports: []string{"kubernetes/kubernetes#125467"},
			Essence: "the same, where the gone backend's address leads off the node",
			Node:    plain(cluster.FlannelLegacy, 1),
			Setup: []string{
				"node1: iptables-legacy -t nat -A PREROUTING -d " + service + "/32 -p udp --dport 53 -j DNAT --to-destination $EXTERNAL:8080",
				"client: bash -c 'exec 3<>/dev/udp/" + service + "/53; while sleep 0.2; do printf q >&3; done' &",
				"node1: iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
			},
			Break: []string{
				"node1: iptables-legacy -t nat -R PREROUTING 1 -d " + service + "/32 -p udp --dport 53 -j DNAT --to-destination $SERVER:8080",
				"outside: iptables-legacy -A INPUT -p udp --dport 8080 -j DROP",
			},
			Command: "client: sleep 1.5", Src: "${CLIENT}", Dst: service,
			Want: Want{Code: "stale-conntrack", Direction: model.Forward,
				Says: []string{`stale conntrack entry: ` + service + `:53 still goes to \S+:8080, no rule does`, `no answer came`}},
		},
		{
			Name: "entry-before-rule", Reports: []string{"kubernetes/kubernetes#48370", "moby/moby#8795"},
			Essence: "a UDP flow began before its service had rules: its entry has no translation, and no packet asks the rules again",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup: []string{
				"outside: ip route add blackhole 10.96.0.0/12",
				"node1: iptables-legacy -t nat -A PREROUTING -d 10.96.0.1/32 -p tcp --dport 443 -j DNAT --to-destination $NODE1:6443",
				serviceRule("udp", "kube-system/kube-dns:dns"),
			},
			Break: []string{
				"node1: iptables-legacy -t nat -D PREROUTING 2",
				"client: bash -c 'exec 3<>/dev/udp/" + service + "/53; while printf q >&3; do sleep 0.2; done' &",
				"client: sleep 0.5",
				serviceRule("udp", "kube-system/kube-dns:dns"),
			},
			Command: "client: sleep 1.5", Src: client, Dst: service,
			Healthy: &traffic.Spec{Proto: "udp", Src: client, Dst: service, Port: 53, Count: 2},
			Want: Want{Code: "stale-conntrack", Direction: model.Forward,
				Says: []string{`stale conntrack entry: ` + service + `:53 goes on untranslated, though rule 2 of PREROUTING in nat would translate it`, `conntrack -D -p udp`}},
		},
		{
			Name: "idle-forgotten", Reports: []string{"kubernetes/kubernetes#32457", "moby/moby#31208"},
			Essence: "conntrack has forgotten an idle connection to a service: its next segment is invalid, and goes on untranslated",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{serviceRule("tcp", "default/web"), "node1: sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0", "outside: ip route add blackhole 10.96.0.0/12"},
			Break:   []string{"node1: sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=1"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: service, Port: 53, Count: 2, Interval: 3 * time.Second},
			Want: Want{Code: "conntrack-unknown", Direction: model.Forward, Confidence: "likely",
				Says: []string{`segment of a connection that is under way`, `conntrack calls it invalid`, `no answer came`, `was translated from ` + service + `:53`}},
		},
		{
			Name: "source-ports-used-up", Reports: []string{"kubernetes/kubernetes#56903", "weaveworks/weave#3287"},
			Essence: "the rule that rewrites sources has one port left: a second connection finds no place in conntrack's table",
			Node:    plain(cluster.FlannelLegacy, 1),
			Setup:   []string{"node1: iptables-legacy -t nat -A POSTROUTING -s $PODNET1 -o eth0 -p udp -j SNAT --to-source $NODE1:5000-5999"},
			Break: []string{
				"node1: iptables-legacy -t nat -R POSTROUTING 1 -s $PODNET1 -o eth0 -p udp -j SNAT --to-source $NODE1:5000",
				"client: bash -c 'exec 3<>/dev/udp/$EXTERNAL/8080; while printf q >&3; do sleep 0.2; done' &",
				"client: sleep 0.5",
			},
			Traffic: exchange("udp", server, "external"),
			Want: Want{Code: "conntrack-insert", Direction: model.Forward, Confidence: "likely",
				Says: []string{`conntrack has no place`, `172\.30\.0\.1:5000`, `conntrack -L`, `insert_failed`, `SNAT --to-source`}},
		},
		{
			Name: "sidecar-down-outbound", Reports: []string{"istio/istio#16067"},
			Essence: "the pod's own rules send what it asks to a sidecar that does not run",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break: []string{
				"client: iptables-legacy -t nat -N ISTIO_REDIRECT && iptables-legacy -t nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
				"client: iptables-legacy -t nat -A OUTPUT -p tcp -j ISTIO_REDIRECT",
			},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says:  []string{`127\.0\.0\.1:15001|port 15001 of 127\.0\.0\.1`, `:8080 was asked, and redirected`, `client's own nat rule \(rule 1 of ISTIO_REDIRECT in nat\)`, `REDIRECT --to-ports 15001`, `sidecar`},
				Never: []string{`let it listen on 0\.0\.0\.0`}},
		},
		{
			Name: "sidecar-down-inbound", Reports: []string{"istio/istio#16067"},
			Essence: "the pod's own rules send what it is asked to a sidecar that does not run",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"server: iptables-legacy -t nat -A PREROUTING -p tcp -m comment --comment istio-inbound -j REDIRECT --to-ports 15006"},
			Traffic: exchange("tcp", client, server),
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says: []string{`port 15006`, `:8080 was asked, and redirected`, `server's own nat rule \(rule 1 of PREROUTING in nat\)`, `istio-inbound`}},
		},
		{
			Name: "too-big-unheard", Reports: []string{"aws/aws-network-policy-agent#561", "projectcalico/calico#8854"},
			Essence: "a packet is too large for the tunnel, and the ICMP error that would tell its sender is dropped by a rule",
			Node:    plain(cluster.FlannelLegacy, 2),
			Break: []string{
				"client: ip link set eth0 mtu 1500", "node1: ip link set $CLIENT_IF mtu 1500 && ip link set cni0 mtu 1500",
				"node1: iptables-legacy -A OUTPUT -p icmp -m comment --comment cis-hardening -j DROP",
			},
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: web2, Count: 2, Size: 1450, DontFragment: true},
			Healthy: &traffic.Spec{Proto: "udp", Src: client, Dst: web2, Count: 2},
			Want: Want{Code: "mtu", Direction: model.Forward, Confidence: "certain", Besides: []string{"rule-drop"},
				Says:  []string{`the MTU of flannel\.1`, `its sender does not learn of it`, `icmp-frag-needed`, `rule 1 of OUTPUT in filter`, `the sender was not told: packet #\d+`},
				Never: []string{`the sender was told`}},
		},
		{
			Name: "reset-unheard", Reports: []string{"projectcalico/calico#8854"},
			Essence: "nothing listens, and a rule drops the reset that would tell the client",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: iptables-legacy -A FORWARD -p tcp --tcp-flags RST RST -j DROP"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: server, Port: 9999, Count: 1},
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: server, Count: 1},
			Want: Want{Code: "no-listener", Direction: model.Forward, Besides: []string{"rule-drop"},
				Says: []string{`nothing listens`, `its sender does not learn of it: the answer \(tcp-reset\) died as well`}, Never: []string{`the sender was told`}},
		},
		{
			Name: "local-policy", Reports: []string{"kubernetes/kubernetes#121371"},
			Essence: "internalTrafficPolicy is Local, and this node has no endpoint",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: iptables-legacy -t nat -A PREROUTING -d 10.96.7.7/32 -p tcp --dport 80 -j DNAT --to-destination $SERVER:8080"},
			Break: []string{
				"node1: iptables-legacy -t nat -F PREROUTING",
				"node1: iptables-legacy -N KUBE-SERVICES && iptables-legacy -A FORWARD -m conntrack --ctstate NEW -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
				"node1: iptables-legacy -A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment 'default/web:http has no local endpoints' -m tcp --dport 80 -j DROP",
			},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: "10.96.7.7", Port: 80, Count: 1},
			Want:    Want{Code: "service-no-backend", Direction: model.Forward, Confidence: "certain", Says: []string{`no endpoints on this node`, `rule 1 of KUBE-SERVICES`, `no local endpoints`, `traffic policy is Local`}},
		},
		{
			Name: "zone-rejects", Reports: []string{"firewalld/firewalld#527", "k3s-io/k3s#977"},
			Essence: "firewalld's own table rejects what comes from the pods' interfaces",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break: []string{
				"node1: nft add table inet firewalld && nft add chain inet firewalld filter_FORWARD '{ type filter hook forward priority 10; policy accept; }' && nft add chain inet firewalld filter_FWD_public",
				"node1: nft add rule inet firewalld filter_FORWARD ct state established,related accept && nft add rule inet firewalld filter_FORWARD goto filter_FWD_public",
				"node1: nft add rule inet firewalld filter_FWD_public meta l4proto icmp accept && nft add rule inet firewalld filter_FWD_public reject with icmpx type admin-prohibited",
			},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "rule-drop", Direction: model.Forward, Says: []string{`firewalld`, `filter_FWD_public`, `rejects it`}},
		},
		{
			Name: "default-route-of-v6-gone", Reports: []string{"kubernetes/kubernetes#98465"},
			Essence: "the node's IPv6 default route came by router advertisements, which a forwarding kernel does not take",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup: []string{
				"node1: sysctl -qw net.ipv6.conf.all.forwarding=1; ip addr add fd00:9::1/64 dev eth0 nodad; ip -6 route add default via fd00:9::2 dev eth0",
				"outside: sysctl -qw net.ipv6.conf.all.forwarding=1; ip addr add fd00:9::2/64 dev br0 nodad; ip addr add 2001:db8::7/128 dev lo; ip -6 route add $CLIENT6 via fd00:9::1",
			},
			Break:   []string{"node1: ip -6 route del default"},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: "2001:db8::7", Count: 2},
			Src:     "${CLIENT6}", Dst: "2001:db8::7",
			Want: Want{Code: "no-route", Direction: model.Forward, Says: []string{`no route to 2001:db8::7`}},
		},
		{
			Name: "raw-drop", Reports: []string{"moby/moby#49325"},
			Essence: "docker drops in raw what comes to a container's address by another interface",
			Node:    plain(cluster.CalicoLegacy, 1),
			Break:   []string{"node1: iptables-nft -t raw -A PREROUTING -d $CLIENT/32 ! -i docker0 -j DROP"},
			Traffic: exchange("tcp", client, server),
			Want:    Want{Code: "rule-drop", Direction: model.Return, Says: []string{`PREROUTING`, `raw`, `! -i docker0`}},
		},
	}
}

// lateSegments is a server that sends segments far outside of the window that the
// connection has, as late duplicates are: half the space of numbers apart, since
// conntrack calls those invalid that lie above the window, and lets pass those below.
const lateSegments = `
import os,socket,struct,sys,threading,time
me=sys.argv[1]
def ck(b):
 b+=b"\0"*(len(b)%2);t=sum(struct.unpack("!%dH"%(len(b)//2),b));t=(t>>16)+(t&0xffff);t+=t>>16;return ~t&0xffff
def talk(c,a):
 c.sendall(b"hello\n");time.sleep(0.3)
 for i in range(2 if os.path.exists(sys.argv[2]) else 0):
  h=struct.pack("!HHIIBBHHH",7070,a[1],0x11111111+(i<<31),0x22222222,5<<4,0x18,500,0,0);d=b"late"
  p=socket.inet_aton(me)+socket.inet_aton(a[0])+struct.pack("!BBH",0,6,len(h)+len(d));h=h[:16]+struct.pack("!H",ck(p+h+d))+h[18:]
  r=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_TCP);r.bind((me,0));r.sendto(h+d,(a[0],0));time.sleep(0.3)
 time.sleep(5)
s=socket.create_server((me,7070))
while 1:
 threading.Thread(target=talk,args=s.accept(),daemon=True).start()
`
