// SPDX-License-Identifier: Apache-2.0

// Faults of eBPF programs, and of what a program or script writes into sysctls.

package field

import (
	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// attach starts a process that attaches a program which drops packets of a protocol,
// and waits until it is there.
func attach(place, mode, target, protocol string) []string {
	return []string{
		place + ": rm -f $DIR/attached",
		place + `: "$SELF" attach-program ` + mode + " " + target + " " + protocol + " $DIR/attached &",
		place + ": for i in $(seq 100); do [ -e $DIR/attached ] && exit 0; sleep 0.05; done; exit 1",
	}
}

const tcp, udp = "6", "17"

// connect asks the server by TCP, in the case's cgroup where that is wanted.
const connect = "client: timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'"

func programCases() []Case {
	inCgroup := "client: echo 0 > $CGROUP/cgroup.procs; timeout 2 bash -c 'exec 3<>/dev/tcp/'$SERVER'/8080'"
	return []Case{
		{
			Name: "cgroup-egress", Reports: []string{"systemd/systemd#6764"},
			Essence: "a program on the client's cgroup lets none of its TCP out",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: mkdir -p $CGROUP"},
			Break:   attach("node1", "cgroup-egress", "$CGROUP", tcp),
			Command: inCgroup, Src: client, Dst: server,
			Want: Want{Code: "program-drop", Direction: model.Forward, Confidence: "certain",
				Says: []string{`egress_guard \(id \d+\) on cgroup /pathtrace`, `tag [0-9a-f]{16}`, `held by field.test \(pid \d+\)`, `socket is that of bash`, `bpftool cgroup tree`}},
		},
		{
			Name: "cgroup-ingress", Reports: []string{"systemd/systemd#6764"},
			Essence: "a program on the client's cgroup lets no TCP in, so that the answer dies",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"node1: mkdir -p $CGROUP"},
			Break:   attach("node1", "cgroup-ingress", "$CGROUP", tcp),
			Command: inCgroup, Src: client, Dst: server,
			Want: Want{Code: "program-drop", Direction: model.Return},
		},
		{
			Name: "socket-filter", Reports: []string{"systemd/systemd#6764"},
			Essence: "the server's own socket has a filter that takes nothing",
			Node:    plain(cluster.CalicoLegacy, 1),
			Setup:   []string{"server: true"},
			Break:   attach("server", "socket", "$SERVER:9999", udp),
			Traffic: traffic.Spec{Proto: "udp", Src: client, Dst: server, Port: 9999, Count: 2},
			Healthy: &traffic.Spec{Proto: "udp", Src: client, Dst: server, Count: 2},
			Want: Want{Code: "program-drop", Direction: model.Forward, Confidence: "likely",
				Says: []string{`filter of the socket for udp port 9999, which field.test \(pid \d+\) has`, `ss -anp`}},
		},
		interfaceProgram("tc-egress", "tc-egress", "node1", "$SERVER_IF", `tc filter pref 7 bpf handle 0x1 guard\.o:\[cls\] direct-action with eBPF program cls_guard`, `tc filter show dev \S+ egress`),
		interfaceProgram("tcx-egress", "tcx-egress", "node1", "$SERVER_IF", `tcx egress of cali`, `tcx_guard \(id \d+`, `held by field.test`, `bpftool net show`),
		interfaceProgram("tcx-ingress", "tcx-ingress", "node1", "$CLIENT_IF", `tcx ingress of cali`, `tcx_guard \(id \d+`, `held by field.test`),
		interfaceProgram("xdp-native", "xdp-native", "node1", "$CLIENT_IF", `XDP \(native\) of cali`, `xdp_guard \(id \d+`, `held by field.test`, `ip -d link show`),
		interfaceProgram("xdp-generic", "xdp-generic", "node1", "$CLIENT_IF", `XDP \(generic\) of cali`, `xdp_guard \(id \d+`, `held by field.test`),
		interfaceProgram("xdp-in-pod", "xdp-native", "server", "eth0", `XDP \(native\) of eth0`, `xdp_guard \(id \d+`, `nsenter`, `held by field.test`),
	}
}

// interfaceProgram is a program on an interface that drops the client's TCP.
func interfaceProgram(name, mode, place, target string, says ...string) Case {
	return Case{
		Name: name, Reports: []string{"projectcalico/calico#5358", "projectcalico/calico#5250"},
		Essence: "a program on an interface drops it: " + mode,
		Node:    plain(cluster.CalicoLegacy, 1),
		Break:   attach(place, mode, target, tcp),
		Command: connect, Src: client, Dst: server,
		Want: Want{Code: "tc-drop", Direction: model.Forward, Confidence: "certain", Says: says},
	}
}
