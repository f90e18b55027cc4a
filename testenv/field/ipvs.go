// SPDX-License-Identifier: Apache-2.0

// Faults of services that IPVS balances (kube-proxy's ipvs mode), and of services
// without endpoints in its other modes.

package field

import (
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// balanced is the address of the service that IPVS balances.
	balanced = "10.96.0.20"
	// empty is that of a service that has no endpoints.
	empty = "10.96.0.30"
	// goneServer is an address of this node's block of pods that no pod has.
	goneServer = "192.168.166.190"
)

// ipvsNode is what kube-proxy sets up in ipvs mode for one service: its address on a
// dummy interface, the virtual service with one real server, the sets, and the rules
// that masquerade and that keep what is no service from the node's own sockets
// (pkg/proxy/ipvs/proxier.go and ipset.go, Kubernetes 1.27 and later).
func ipvsNode() []string {
	return []string{
		"node1: ip link add kube-ipvs0 type dummy && ip addr add " + balanced + "/32 dev kube-ipvs0",
		"node1: sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.expire_nodest_conn=1 net.ipv4.vs.expire_quiescent_template=1",
		"node1: ipvsadm -A -t " + balanced + ":80 -s rr && ipvsadm -a -t " + balanced + ":80 -r $SERVER:8080 -m -w 1",
		"node1: ipvsadm -A -u " + balanced + ":80 -s rr && ipvsadm -a -u " + balanced + ":80 -r $SERVER:8080 -m -w 1",
		"node1: ipset create KUBE-CLUSTER-IP hash:ip,port && ipset add KUBE-CLUSTER-IP " + balanced + ",tcp:80 && ipset add KUBE-CLUSTER-IP " + balanced + ",udp:80",
		"node1: ipset create KUBE-IPVS-IPS hash:ip && ipset add KUBE-IPVS-IPS " + balanced,
		"node1: ipset create KUBE-LOOP-BACK hash:ip,port,ip && ipset add KUBE-LOOP-BACK $SERVER,tcp:8080,$SERVER",
		"node1: ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535 && ipset create KUBE-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535",
		"node1: for s in EXTERNAL-IP EXTERNAL-IP-LOCAL LOAD-BALANCER LOAD-BALANCER-LOCAL; do ipset create KUBE-$s hash:ip,port; done",
		`node1: iptables-legacy-restore -n <<'RULES'
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES ! -s 192.168.0.0/16 -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
COMMIT
*filter
:KUBE-IPVS-FILTER - [0:0]
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable
COMMIT
RULES`,
	}
}

// ipvsTools and ipvsModules are what IPVS takes.
var (
	ipvsTools   = []string{"ipvsadm", "ipset"}
	ipvsModules = []string{"ip_vs", "ip_vs_rr", "dummy", "ip_set_hash_ipportip"}
)

// toBalanced is a client that asks for the service.
func toBalanced(proto string) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: client, Dst: balanced, Port: 80, Count: 2}
}

func ipvsCases() []Case { return slices.Concat(ipvsOneNode(), ipvsTwoNodes(), emptyServices()) }

func ipvsOneNode() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	service := balanced + `:80`
	at := func(c Case) Case {
		c.Node, c.Tools, c.Modules = calico, ipvsTools, ipvsModules
		c.Setup = join(ipvsNode(), c.Setup)
		return c
	}
	return []Case{
		at(Case{
			Name: "ipvs-no-server", Reports: []string{"kubernetes/kubernetes#71071"},
			Essence: "the service's virtual server in IPVS has no real server: IPVS drops what comes, and no rule has a part in it",
			Break:   []string{"node1: ipvsadm -d -t " + service + " -r $SERVER:8080"},
			Traffic: toBalanced("tcp"),
			Want: Want{Code: "service-no-backend", Direction: model.Forward, Confidence: "certain",
				Says:  []string{service, `no real server`, `\brr\b`, `ipvsadm -Ln`, `ready endpoint`},
				Never: []string{`which of these`, `ipvsadm -a`}},
		}),
		at(Case{
			Name: "ipvs-weight-zero", Reports: []string{"kubernetes/kubernetes#77903", "kubernetes/kubernetes#71071"},
			Essence: "the only real server of the service has weight 0: it gets no new connections",
			Break:   []string{"node1: ipvsadm -e -u " + service + " -r $SERVER:8080 -m -w 0"},
			Traffic: toBalanced("udp"),
			Want: Want{Code: "service-no-backend", Direction: model.Forward, Confidence: "certain",
				Says:  []string{service, `weight 0`, `192\.168\.166\.130:8080`, `\brr\b`},
				Never: []string{`which of these`}},
		}),
		at(Case{
			Name: "ipvs-stale-server", Reports: []string{"kubernetes/kubernetes#72270"},
			Essence: "the service's only real server is a pod that is gone: its address falls to the blackhole over the node's block",
			Break:   []string{"node1: ipvsadm -d -t " + service + " -r $SERVER:8080", "node1: ipvsadm -a -t " + service + " -r " + goneServer + ":8080 -m -w 1"},
			Traffic: toBalanced("tcp"),
			Want: Want{Code: "blackhole-route", Direction: model.Forward,
				Says: []string{service, `IPVS`, `192\.168\.166\.190:8080`, `blackhole 192\.168\.166\.128/26`, `ipvsadm -Ln`}},
		}),
		at(Case{
			Name: "ipvs-silent-server", Reports: []string{"kubernetes/kubernetes#72270"},
			Essence: "the service's only real server is an address next to the node that nobody has any more",
			Break:   []string{"node1: ipvsadm -d -t " + service + " -r $SERVER:8080", "node1: ipvsadm -a -t " + service + " -r 172.30.0.77:8080 -m -w 1"},
			Command: "client: timeout 5 bash -c 'exec 3<>/dev/tcp/" + balanced + "/80' || true",
			Src:     client, Dst: balanced,
			Want: Want{Code: "neighbor-failed", Direction: model.Forward,
				Says: []string{service, `IPVS`, `172\.30\.0\.77`, `ipvsadm -Ln`}},
		}),
		at(Case{
			Name: "ipvs-own-stale", Reports: []string{"kubernetes/kubernetes#72270"},
			Essence: "the node itself asks a service, from an address of its own, and the real server has nobody who listens any more",
			Break:   []string{"node1: ipvsadm -d -t " + service + " -r $SERVER:8080", "node1: ipvsadm -a -t " + service + " -r $SERVER:8099 -m"},
			Traffic: traffic.Spec{Proto: "tcp", Src: "node1", Source: netip.MustParseAddr("172.30.0.1"), Dst: balanced, Port: 80, Count: 2}, Src: "node", Dst: balanced,
			Want: Want{Code: "no-listener", Direction: model.Forward,
				Says: []string{`8099`, service + ` was asked, and redirected there by IPVS of this node`, `ipvsadm -Ln: -> 192\.168\.166\.130:8099`}, Never: []string{`nat rule`, `conntrack's entry`}},
		}),
		at(Case{
			Name: "ipvs-input-rule", Reports: []string{"kubernetes/kubernetes#98465", "cloudnativelabs/kube-router#604"},
			Essence: "a firewall's rule in INPUT drops packets for a service, which IPVS takes from there",
			Break:   []string{`node1: iptables-legacy -I INPUT -s $CLIENT/32 -p tcp --dport 80 -m comment --comment "no web on nodes" -j DROP`},
			Traffic: toBalanced("tcp"),
			Want: Want{Code: "rule-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`rule 1 of INPUT in filter`, `no web on nodes`, `IPVS`, service}},
		}),
		at(Case{
			Name: "ipvs-address-lost", Reports: []string{"kubernetes/kubernetes#121042"},
			Essence: "kube-ipvs0 has lost the service's address, so the node routes out what IPVS was to take",
			Break:   []string{"node1: ip addr del " + balanced + "/32 dev kube-ipvs0"},
			Traffic: toBalanced("udp"),
			Want: Want{Code: "service-untranslated", Direction: model.Forward,
				Says: []string{service, `IPVS`, `kube-ipvs0`, `no interface of this node has`}, Never: notFarther},
		}),
		at(Case{
			Name: "ipvs-other-port", Reports: []string{"kubernetes/kubernetes#72236"},
			Essence: "a client asks the service's address for a port that the service has not",
			Break:   []string{"node1: ipset del KUBE-CLUSTER-IP " + balanced + ",tcp:80 && ipvsadm -D -t " + service},
			Traffic: toBalanced("tcp"),
			Want: Want{Code: "rule-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`KUBE-IPVS-FILTER`, `none of its ports`, `KUBE-IPVS-IPS`}, Never: []string{`-D KUBE-IPVS-FILTER`}},
		}),
		at(Case{
			Name: "ipvs-entry-ended", Reports: []string{"kubernetes/kubernetes#80298", "cloudnativelabs/kube-router#521"},
			Essence: "a connection rests longer than IPVS keeps its entry, and is reset by the node",
			Setup: join([]string{"node1: ipvsadm -A -t " + balanced + ":90 -s rr && ipvsadm -a -t " + balanced + ":90 -r $SERVER:9090 -m && ipset add KUBE-CLUSTER-IP " + balanced + ",tcp:90"},
				echoing("server", "192.168.166.130", "9090")),
			Break: []string{"node1: ipvsadm --set 2 2 2"},
			Command: `client: python3 -c 'import socket,time
s=socket.create_connection(("` + balanced + `",90),2);s.sendall(b"one");s.recv(9);time.sleep(6);s.sendall(b"two");s.recv(9)'`,
			Src: client, Dst: balanced,
			Want: Want{Code: "ipvs-unknown", Direction: model.Forward,
				Says:  []string{balanced + `:90`, `no entry`, `first segment`, `ipvsadm -Ln --timeout`, `keepalive`, `by IPVS`},
				Never: []string{`nothing listens`, `conntrack's entry`}},
		}),
		at(Case{
			Name: "ipvs-pinned", Reports: []string{"kubernetes/kubernetes#76664", "kubernetes/kubernetes#71358"},
			Essence: "the real server of a running flow is taken out, and IPVS drops what its entry still leads there (expire_nodest_conn=0)",
			Setup:   []string{"node1: rm -f $DIR/asked"},
			Break:   []string{"node1: sysctl -qw net.ipv4.vs.expire_nodest_conn=0"},
			During:  []string{"node1: sh -c 'while ! [ -e $DIR/asked ]; do sleep 0.1; done; ipvsadm -d -u " + service + " -r $SERVER:8080; touch $DIR/removed' &"},
			Command: `client: python3 -c 'import os,socket,time
d=os.environ["DIR"];s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(("",5353));s.settimeout(1);s.sendto(b"one",("` + balanced + `",80))
try: s.recv(9)
except TimeoutError: pass
open(d+"/asked","w").close()
for i in range(50):
 if os.path.exists(d+"/removed"): break
 time.sleep(0.1)
for i in range(3): s.sendto(b"two",("` + balanced + `",80)); time.sleep(0.2)'`,
			Healthy: &traffic.Spec{Proto: "udp", Src: client, Dst: balanced, Port: 80, Count: 2},
			Src:     client, Dst: balanced,
			Want: Want{Code: "service-no-backend", Direction: model.Forward,
				Says: []string{service, `192\.168\.166\.130:8080`, `expire_nodest_conn`}},
		}),
		at(Case{
			Name: "ipvs-hairpin", Reports: []string{"kubernetes/kubernetes#85877", "kubernetes/kubernetes#53775", "cloudnativelabs/kube-router#189"},
			Essence: "a pod asks its own service, IPVS sends it back to the pod, and the set of what is masqueraded for that lacks it",
			Setup:   []string{"node1: ipvsadm -d -t " + service + " -r $SERVER:8080 && ipvsadm -a -t " + service + " -r $CLIENT:8080 -m && ipset add KUBE-LOOP-BACK $CLIENT,tcp:8080,$CLIENT"},
			Break:   []string{"node1: ipset del KUBE-LOOP-BACK $CLIENT,tcp:8080,$CLIENT"},
			Traffic: toBalanced("tcp"), Twin: true,
			Want: Want{Code: "masquerade-missing", Direction: model.Forward,
				Says:  []string{service, `the one who asks`, `ipset KUBE-LOOP-BACK does not hold 192\.168\.166\.129,tcp:8080,192\.168\.166\.129`, `by IPVS`, `start it again|write its sets and rules again`},
				Never: []string{`accept_local`, `another host with the same address`}},
		}),
		at(Case{
			Name: "ipvs-server-ending", Reports: []string{"kubernetes/kubernetes#81775"},
			Essence: "a real server is ending (weight 0), and a client that crashed connects from its old port again: IPVS drops the SYN, to choose another one",
			Setup: append([]string{"node1: rm -f $DIR/asked $DIR/ending; ipvsadm -A -t " + balanced + ":90 -s rr && ipvsadm -a -t " + balanced + ":90 -r $SERVER:9090 -m && ipset add KUBE-CLUSTER-IP " + balanced + ",tcp:90"},
				closing("server", "192.168.166.130", "9090")...),
			During: []string{"node1: sh -c 'while ! [ -e $DIR/asked ]; do sleep 0.1; done; ipvsadm -e -t " + balanced + ":90 -r $SERVER:9090 -m -w 0; ipvsadm -a -t " + balanced + ":90 -r $SERVER:8080 -m; touch $DIR/ending' &"},
			// nothing tells the server, or the node, that the first connection is over
			Break: []string{"client: iptables-legacy -A OUTPUT -p tcp -m mark --mark 7 -j DROP"},
			Command: `client: python3 -c 'import os,socket,struct,time
def connect():
 s=socket.socket();s.setsockopt(1,2,1);s.bind(("",5353));s.settimeout(5);s.connect(("` + balanced + `",90));return s
d=os.environ["DIR"];s=connect();s.sendall(b"one");s.recv(9);s.setsockopt(1,13,struct.pack("ii",1,0))
s.setsockopt(1,36,7);s.close();open(d+"/asked","w").close()
for i in range(100):
 if os.path.exists(d+"/ending"): break
 time.sleep(0.1)
s=connect();s.sendall(b"two");s.recv(9)'`,
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: balanced, Port: 80, Count: 2},
			Src:     client, Dst: balanced,
			Want: Want{Code: "ipvs-rescheduled", Direction: model.Forward, Besides: []string{"rule-drop"},
				Says: []string{balanced + `:90`, `192\.168\.166\.130:9090, to which IPVS has sent this connection`, `has weight 0`, `expire_nodest_conn = 1`, `conntrack's state of it`, `gets another real server`}},
		}),
		at(Case{
			Name: "ipvs-port-reused", Reports: []string{"kubernetes/kubernetes#70747", "cloudnativelabs/kube-router#544", "kubernetes/kubernetes#81775"},
			Essence: "a client connects from the port of a connection whose last ACK was lost: IPVS drops the SYN to choose a real server anew, and takes it a second later",
			Setup: append([]string{"node1: ipvsadm -A -t " + balanced + ":90 -s rr && ipvsadm -a -t " + balanced + ":90 -r $SERVER:9090 -m && ipset add KUBE-CLUSTER-IP " + balanced + ",tcp:90",
				"node1: sysctl -qw net.ipv4.vs.conn_reuse_mode=0", "client: sysctl -qw net.ipv4.tcp_tw_reuse=1"}, closing("server", "192.168.166.130", "9090")...),
			Break: []string{"node1: sysctl -qw net.ipv4.vs.conn_reuse_mode=1", // the kernel's default
				"client: iptables-legacy -A OUTPUT -p tcp -m mark --mark 7 --tcp-flags FIN,SYN,RST,ACK ACK -j DROP"},
			// the client's last ACK is lost on its way out, so that conntrack waits for it
			Command: `client: python3 -c 'import socket,time
def connect():
 s=socket.socket();s.setsockopt(1,2,1);s.bind(("",5353));s.settimeout(5);s.connect(("` + balanced + `",90));return s
s=connect();s.sendall(b"one");s.recv(9)
s.setsockopt(1,36,7);s.close();time.sleep(1.5)
s=connect();s.sendall(b"two");s.recv(9)'`,
			Healthy: &traffic.Spec{Proto: "tcp", Src: client, Dst: balanced, Port: 80, Count: 2},
			Src:     client, Dst: balanced,
			Want: Want{Code: "ipvs-rescheduled", Direction: model.Forward, Besides: []string{"rule-drop"},
				Says: []string{balanced + `:90`, `first segment of a connection`, `port of the client's \(5353\)`, `conn_reuse_mode = 1`, `vs\.conntrack = 1`, `a second later`, `established`}},
		}),
	}
}

// closing listens, and closes what it has answered once.
func closing(place, address, port string) []string {
	return []string{
		place + ": python3 -c 'import socket\ns=socket.create_server((\"" + address + "\"," + port + "))\nwhile 1:\n c,_=s.accept()\n for d in iter(lambda:c.recv(999),b\"\"): c.sendall(d)\n c.close()' &",
		place + ": for i in $(seq 100); do bash -c 'exec 3<>/dev/tcp/" + address + "/" + port + "' 2>/dev/null && exit 0; sleep 0.1; done; exit 1",
	}
}

const (
	// balancer is the address of a balancer in the nodes' own network.
	balancer = "172.30.0.100"
	// direct is the address of a service that IPVS balances by direct routing.
	direct = "10.96.0.40"
)

// ipvsTwoNodes: the real server is not on the node that balances.
func ipvsTwoNodes() []Case {
	at := func(c Case) Case {
		c.Node, c.Tools, c.Modules = plain(cluster.CalicoLegacy, 2), ipvsTools, ipvsModules
		c.Setup = join(ipvsNode(), []string{"node1: ipset add KUBE-NODE-PORT-TCP 30080 && ipvsadm -A -t $NODE1:30080 -s rr && ipvsadm -a -t $NODE1:30080 -r $WEB2:8080 -m"}, c.Setup)
		return c
	}
	fromOutside := traffic.Spec{Proto: "tcp", Src: "external", Source: cluster.ExternalAddr, Dst: "172.30.0.1", Port: 30080, Count: 2}
	return []Case{
		at(Case{
			Name: "ipvs-nodeport-source", Reports: []string{"kubernetes/kubernetes#53393", "kubernetes/kubernetes#73300"},
			Essence: "a node port's real server is on another node, and the set by which it is masqueraded lacks the port: answers go to the client past the node",
			Break:   []string{"node1: ipset del KUBE-NODE-PORT-TCP 30080"},
			Traffic: fromOutside, Twin: true,
			Want: Want{Code: "masquerade-missing", Direction: model.Forward,
				Says: []string{`172\.30\.0\.1:30080`, `ipset KUBE-NODE-PORT-TCP does not hold 30080`, `with the source 172\.30\.0\.9`, `past this node`, `by IPVS`}},
		}),
		at(Case{
			Name: "ipvs-untracked", Reports: []string{"kubernetes/kubernetes#53393", "cloudnativelabs/kube-router#544"},
			Essence: "net.ipv4.vs.conntrack was set to 0: IPVS takes what it sends out of conntrack, and nothing masquerades it",
			Break:   []string{"node1: sysctl -qw net.ipv4.vs.conntrack=0"},
			Traffic: fromOutside,
			Want: Want{Code: "masquerade-missing", Direction: model.Forward,
				Says: []string{`172\.30\.0\.1:30080`, `net\.ipv4\.vs\.conntrack = 0`, `sysctl -w net\.ipv4\.vs\.conntrack=1`}},
		}),
		at(Case{
			Name: "ipvs-own-source", Reports: []string{"kubernetes/kubernetes#65158"},
			Essence: "the node itself asks a service with the service's own address as source, and no rule marks it to be masqueraded",
			Setup:   []string{"node1: ipvsadm -d -t " + balanced + ":80 -r $SERVER:8080 && ipvsadm -a -t " + balanced + ":80 -r $WEB2:8080 -m"},
			Break:   []string{"node1: iptables-legacy -t nat -D KUBE-SERVICES 1"},
			Traffic: traffic.Spec{Proto: "tcp", Src: "node1", Dst: balanced, Port: 80, Count: 2}, Src: "any", Dst: balanced, Twin: true,
			Want: Want{Code: "masquerade-missing", Direction: model.Forward,
				Says: []string{balanced + `:80`, `with the source 10\.96\.0\.20`, `kube-ipvs0`, `no rule of KUBE-SERVICES has --match-set KUBE-CLUSTER-IP dst,dst and -j KUBE-MARK-MASQ`, `by IPVS`}},
		}),
		at(Case{
			Name: "ipvs-arp-answered", Reports: []string{"metallb/metallb#153", "kubermatic/kubermatic#7309"},
			Essence: "a node without an endpoint answers ARP for a balancer's address, which it has on kube-ipvs0 (no strictARP), and gets what MetalLB gave to another node",
			Setup: []string{"node1: sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
				"node1: ip addr add " + balancer + "/32 dev kube-ipvs0 && ipset add KUBE-LOAD-BALANCER " + balancer + ",tcp:80 && ipset add KUBE-LOAD-BALANCER-LOCAL " + balancer + ",tcp:80 && ipvsadm -A -t " + balancer + ":80 -s rr",
				"node1: iptables-legacy -I KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN",
				"node2: ip link add kube-ipvs0 type dummy && ip addr add " + balancer + "/32 dev kube-ipvs0 && ipvsadm -A -t " + balancer + ":80 -s rr && ipvsadm -a -t " + balancer + ":80 -r $WEB2:8080 -m"},
			// both answer now; the router takes what came from node1
			Break: []string{"node1: sysctl -qw net.ipv4.conf.all.arp_ignore=0",
				"outside: ping -qc1 -W2 $NODE1 >/dev/null; set -- $(ip neigh show $NODE1); ip neigh replace " + balancer + " lladdr $5 dev $3"},
			Traffic: traffic.Spec{Proto: "tcp", Src: "external", Source: cluster.ExternalAddr, Dst: balancer, Port: 80, Count: 2},
			Want: Want{Code: "service-no-backend", Confidence: "certain", Direction: model.Forward,
				Says: []string{balancer + `:80`, `no real server`, `answers ARP for 172\.30\.0\.100 on eth0`, `arp_ignore = 0`, `strictARP`, `arping`}},
		}),
		at(Case{
			Name: "ipvs-direct", Reports: []string{"acassen/keepalived#1551", "acassen/keepalived#1827"},
			Essence: "direct routing (ipvsadm -g): the real server does not take what it is sent, and its answers never pass this node anyway",
			// none of kube-proxy's, whose rules would masquerade it
			Setup: join([]string{"node1: ip addr add " + direct + "/32 dev kube-ipvs0 && ipvsadm -A -t " + direct + ":8181 -s rr && ipvsadm -a -t " + direct + ":8181 -r $NODE2 -g",
				"node2: sysctl -qw net.ipv4.conf.all.arp_ignore=1 && ip addr add " + direct + "/32 dev lo", "outside: ip route add " + direct + "/32 via $NODE1"},
				closing("node2", direct, "8181")),
			Break:   []string{"node2: iptables-legacy -I INPUT -p tcp --dport 8181 -j DROP"},
			Traffic: traffic.Spec{Proto: "tcp", Src: "external", Source: cluster.ExternalAddr, Dst: direct, Port: 8181, Count: 2},
			Want: Want{Code: "left-node", Direction: model.Forward, Exit: wellHere,
				Says:  []string{direct + `:8181`, `IPVS sent it on with its destination as it was`, `ipvsadm -Ln: -> 172\.30\.0\.2:8181 Route`, `method Route`, `do not come back this way`, `on the real server 172\.30\.0\.2`},
				Never: []string{`kubectl`}},
		}),
	}
}

// emptyServices are those without endpoints in kube-proxy's other modes.
func emptyServices() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	return []Case{
		{
			Name: "empty-service", Reports: []string{"projectcalico/calico#2024", "kubernetes/kubernetes#97360"},
			Essence: "a service has no endpoints, and kube-proxy rejects what is for it",
			Node:    calico,
			Setup:   []string{"node1: iptables-legacy -t nat -A PREROUTING -d " + empty + "/32 -p tcp --dport 80 -j DNAT --to-destination $SERVER:8080"},
			Break: []string{"node1: iptables-legacy -t nat -F PREROUTING", "node1: iptables-legacy -N KUBE-SERVICES && iptables-legacy -A FORWARD -m conntrack --ctstate NEW -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
				"node1: iptables-legacy -A KUBE-SERVICES -d " + empty + "/32 -p tcp -m comment --comment 'default/web:http has no endpoints' -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable"},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: empty, Port: 80, Count: 2},
			Want: Want{Code: "service-no-backend", Direction: model.Forward,
				Says: []string{`default/web:http has no endpoints`, `rule 1 of KUBE-SERVICES in filter`, `tcp port 80 of ` + empty, `endpointslices`},
				// the rule is right: it goes when an endpoint comes
				Never: []string{`-D KUBE-SERVICES`}},
		},
		{
			Name: "empty-service-nft", Reports: []string{"kubernetes/kubernetes#97360"},
			Essence: "the same in kube-proxy's nftables mode",
			Node:    plain(cluster.CalicoNFTables, 1),
			Setup:   []string{"node1: nft add table ip svc && nft add chain ip svc pre '{ type nat hook prerouting priority -100; }' && nft add rule ip svc pre ip daddr " + empty + " tcp dport 80 dnat to $SERVER:8080"},
			Break: []string{"node1: nft delete table ip svc", `node1: nft -f - <<'RULES'
table ip kube-proxy {
	map no-endpoint-services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { ` + empty + ` . tcp . 80 comment "default/web:http" : goto reject-chain }
	}
	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		ct state new jump service-endpoints-check
	}
	chain service-endpoints-check {
		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}
	chain reject-chain {
		reject
	}
}
RULES`},
			Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: empty, Port: 80, Count: 2},
			Want: Want{Code: "service-no-backend", Direction: model.Forward,
				Says: []string{`default/web:http has no endpoints`, `rule 1 of reject-chain`, `vmap @no-endpoint-services`, `tcp port 80 of ` + empty, `endpointslices`}, Never: []string{`nft delete`}},
			// the element, which bears the name, is told of rules that were seen matching
			Less: map[string]Want{"tracepoint": {Code: "service-no-backend", Direction: model.Forward, Confidence: "likely",
				Says: []string{`has no endpoints`, `rule 1 of reject-chain`, `vmap @no-endpoint-services`, `tcp port 80 of ` + empty, `endpointslices`}, Never: []string{`nft delete`}}},
		},
	}
}
