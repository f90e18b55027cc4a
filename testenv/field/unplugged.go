// SPDX-License-Identifier: Apache-2.0

// Faults that are a near miss: an interface that hangs on no bridge or another one, an
// address that the node has and does not answer for, a server that listens elsewhere,
// keys of two ends that differ.

package field

import (
	"slices"
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
	// askThere sends the reader away from the node that keeps silent.
	noKnownCause = `no known cause|not known: why`
)

// long is an exchange whose sender waits until the kernel has given up asking for an
// address.
func long(proto, src, dst string) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: src, Dst: dst, Count: 2, Timeout: 4 * time.Second}
}

// listening starts a server of Python in a place that writes its process down when it
// listens: how it makes its socket s is given.
func listening(place, pidfile, socket string) []string {
	return []string{
		place + ": python3 -c 'import socket,os,sys\n" + socket + "\nopen(os.environ[\"DIR\"]+\"/" + pidfile + "\",\"w\").write(str(os.getpid()))\nwhile 1:\n c,_=s.accept();c.close()' &",
		place + ": for i in $(seq 100); do [ -s $DIR/" + pidfile + " ] && exit 0; sleep 0.1; done; exit 1",
	}
}

// opened asks for a TCP port once.
func opened(place, address, port string) string {
	return place + ": timeout 4 bash -c 'exec 3<>/dev/tcp/" + address + "/" + port + "'"
}

func nearMissCases() []Case {
	return slices.Concat(unpluggedCases(), unansweredCases(), elsewhereCases(), signedCases())
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

func unansweredCases() []Case { return nil }

// elsewhereCases are those of a server that listens, but not for what was sent.
func elsewhereCases() []Case {
	calico := plain(cluster.CalicoLegacy, 1)
	v6 := func(only string) string {
		return "s=socket.socket(socket.AF_INET6);s.setsockopt(1,2,1);s.setsockopt(41,26," + only + ");s.bind((\"::\",7070));s.listen(9)"
	}
	v4 := func(address, more string) string {
		return "s=socket.socket();s.setsockopt(1,2,1);" + more + "s.bind((\"" + address + "\",7070));s.listen(9)"
	}
	case_ := func(name, essence string, reports []string, well, ill string, setup []string, want Want) Case {
		want.Code, want.Direction, want.Confidence = "no-listener", model.Forward, "certain"
		return Case{Name: name, Reports: reports, Essence: essence, Node: calico, Setup: join(setup, listening("server", "well", well)),
			Break:   join([]string{"server: kill $(cat $DIR/well); sleep 0.2"}, listening("server", "ill", ill)),
			Command: opened("client", "$SERVER", "7070"), Src: client, Dst: server, Want: want}
	}
	return []Case{
		case_("listener-v6only", "the server listens on all IPv6 addresses and refuses IPv4, which is what the service's endpoint is",
			[]string{"kubernetes/ingress-nginx#2591", "haproxy/haproxy#1"}, v6("0"), v6("1"), nil,
			Want{Says: []string{`python3 \(pid \d+\) listens on \[::\]:7070 there, which takes IPv6 only`, `IPV6_V6ONLY`, `0\.0\.0\.0:7070`}, Never: []string{`127\.0\.0\.1`}}),
		case_("listener-loopback", "the server listens on 127.0.0.1 only",
			[]string{"kubernetes/kubernetes#40476"}, v4("0.0.0.0", ""), v4("127.0.0.1", ""), nil,
			Want{Says: []string{`python3 \(pid \d+\) listens on 127\.0\.0\.1:7070 there`, `instead of 127\.0\.0\.1`}, Never: []string{guessLoopback}}),
		case_("listener-device", "the server is bound to the pod's second interface",
			[]string{"k8snetworkplumbingwg/multus-cni#226"}, v4("0.0.0.0", ""), v4("0.0.0.0", "s.setsockopt(1,25,b\"net1\");"),
			[]string{"server: ip link add net1 type bridge && ip addr add 198.51.100.7/24 dev net1 && ip link set net1 up"},
			Want{Says: []string{`bound to net1 \(SO_BINDTODEVICE\), while this came in by eth0`, `0\.0\.0\.0%net1:7070`}, Never: []string{`127\.0\.0\.1`}}),
		case_("listener-address", "the server listens on the address of the pod's second interface only",
			[]string{"k8snetworkplumbingwg/multus-cni#226"}, v4("0.0.0.0", ""), v4("198.51.100.7", ""),
			[]string{"server: ip link add net1 type bridge && ip addr add 198.51.100.7/24 dev net1 && ip link set net1 up"},
			Want{Says: []string{`listens on 198\.51\.100\.7:7070 there, which is another address than 192\.168\.166\.130`}, Never: []string{`127\.0\.0\.1`}}),
		case_("listener-udp", "the server has the port of UDP, and the service says TCP",
			[]string{"kubernetes/kubernetes#39188"}, v4("0.0.0.0", ""),
			"import time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind((\"0.0.0.0\",7070));s.accept=lambda:(time.sleep(9),s)\nsocket.socket.close=lambda x:0", nil,
			Want{Says: []string{`listens on 0\.0\.0\.0:7070 there, by UDP, while this is TCP`, `ss -lnu: 0\.0\.0\.0:7070`, `none on port 7070`}, Never: []string{`127\.0\.0\.1`}}),
		case_("listener-other-port", "the container listens on another port than the service's targetPort",
			[]string{"kubernetes/kubernetes#13358"}, v4("0.0.0.0", ""), "s=socket.socket();s.bind((\"0.0.0.0\",7171));s.listen(9)", nil,
			Want{Says: []string{`none on port 7070 at \S+, but on .*7171`, `targetPort`}, Never: []string{`127\.0\.0\.1`}}),
	}
}

func signedCases() []Case { return nil }
