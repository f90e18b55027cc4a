// SPDX-License-Identifier: Apache-2.0

package field

// What carries packets past the node's own stack is recognised, and traffic that is well
// there gives no finding.

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/scenario"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// planeCase is a node on which something carries packets another way.
type planeCase struct {
	Case
	device string   // a kind of device that has to be there
	planes []string // "kind end,end", all that is to be told
	says   []string // regular expressions that what is told of them fits
}

// ownService is a service's address, which nothing but the program of a case knows.
const ownService = "10.96.0.10"

// unused is a protocol that no packet here has: a program that drops it drops nothing.
const unused = "253"

// onParent are two pods, one and two, on a device of node1's; $1 is how it is made.
func onParent(kind string) (places, lines []string) {
	places = []string{"one", "two"}
	for i, name := range places {
		addr := []string{"172.30.0.50", "172.30.0.51"}[i]
		lines = append(lines, "node1: ip link add name up"+name+" link eth0 type "+kind+" && ip link set up"+name+" netns $NS_"+name+" name net1",
			name+": ip link set lo up; ip link set net1 up && ip addr add "+addr+"/24 dev net1")
	}
	return places, lines
}

func planeCases() []planeCase {
	stacked := func(name, kind, says string) planeCase {
		places, setup := onParent(kind)
		device, _, _ := strings.Cut(kind, " ")
		return planeCase{device: device, planes: []string{device + " src,dst"}, says: []string{`net1 in \S+-one is an? ` + says + ` on eth0`, `net1 in \S+-two is an?`},
			Case: Case{Name: name, Node: plain(cluster.CalicoLegacy, 1), Places: places, Setup: setup, Command: "one: ping -c2 -i0.2 -W2 172.30.0.51", Src: "172.30.0.50", Dst: "172.30.0.51"}}
	}
	l3s := stacked("ipvlan-l3s", "ipvlan mode l3s", `ipvlan \(mode l3s\)`)
	l3s.says = append(l3s.says, "pass PREROUTING and INPUT of the node")
	outward := stacked("macvlan-out", "macvlan mode bridge", `macvlan \(mode bridge\)`)
	outward.Dst, outward.Command, outward.planes, outward.says = "${GATEWAY}", "one: ping -c2 -i0.2 -W2 $GATEWAY", []string{"macvlan src"}, outward.says[:1]
	programs := func(name, mode, plane string, says ...string) planeCase {
		return planeCase{planes: []string{plane}, says: says, Case: Case{Name: name, Node: plain(cluster.CalicoLegacy, 1),
			Setup: attach("node1", mode, "$CLIENT_IF", unused), Traffic: traffic.Spec{Proto: "tcp", Src: client, Dst: server, Count: 2}}}
	}
	cilium := programs("cilium", "cilium-ingress", "cilium ", `eBPF program cil_from_contai \(id \d+, tag [0-9a-f]{16}\), tcx ingress of cali`, "cilium-dbg monitor -t drop", "no fault")
	cilium.Since = "6.6"
	peer := cilium // it hands packets from pod to pod, past all of the node
	peer.Name, peer.Setup = "cilium-redirect", append(attach("node1", "cilium-peer", "$CLIENT_IF,$SERVER_IF", unused), attach("node1", "cilium-peer", "$SERVER_IF,$CLIENT_IF", unused)...)
	other := programs("programs", "tcx-ingress", "programs ", `tcx_guard`, "tc-drop")
	other.Since = "6.6"
	vlans := func(name string, own string, planes ...string) planeCase {
		return planeCase{planes: planes, Case: Case{Name: name, Node: plain(cluster.FlannelLegacy, 1),
			Setup: []string{"node1: ip link set cni0 type bridge vlan_filtering 1",
				"node1: for d in $CLIENT_IF $SERVER_IF; do bridge vlan add dev $d vid 10 pvid untagged; done" + own},
			Traffic: traffic.Spec{Proto: "icmp", Src: client, Dst: server, Count: 2}}}
	}
	apart := vlans("bridge-vlan", "", "bridge-vlan src,dst")
	apart.says = []string{`is a port of bridge cni0 in VLAN 10, and cni0 itself is not in that VLAN`, "bridge-nf-call-iptables=1"}
	return []planeCase{
		{Case: Case{Name: "veth", Node: plain(cluster.CalicoLegacy, 1), Traffic: exchange("tcp", client, server)}},
		{Case: Case{Name: "veth-bridge", Node: plain(cluster.FlannelLegacy, 1), Traffic: exchange("tcp", client, server)}},
		stacked("macvlan", "macvlan mode bridge", `macvlan \(mode bridge\)`), outward,
		stacked("ipvlan-l2", "ipvlan mode l2", `ipvlan \(mode l2\)`), stacked("ipvlan-l3", "ipvlan mode l3", `ipvlan \(mode l3\)`), l3s,
		{device: "netkit", planes: []string{"netkit src"}, says: []string{`a netkit pair`, "as with a veth pair"},
			Case: Case{Name: "netkit", Node: plain(cluster.CalicoLegacy, 1), Places: []string{"one"},
				Setup: []string{"node1: ip link add nkone type netkit && ip link set nk0 netns $NS_one name eth0 && ip link set nkone up && ip route add 10.244.1.99/32 dev nkone",
					"one: ip link set lo up; ip link set eth0 up && ip addr add 10.244.1.99/32 dev eth0 && ip route add default dev eth0"},
				Command: "one: ping -c2 -i0.2 -W2 $SERVER", Src: "10.244.1.99", Dst: "${SERVER}"}},
		apart, vlans("bridge-vlan-own", "; bridge vlan add dev cni0 vid 10 self"),
		cilium, peer, other,
		programs("calico", "calico-ingress", "calico-ebpf ", `cali_tc_preambl`, "calico-node -bpf counters dump"),
		{planes: []string{"cilium "}, says: []string{`cil_sock4_conne \(id \d+, tag [0-9a-f]{16}\), cgroup connect4 of /`, "see connect\\(\\)"},
			Case: Case{Name: "connect", Node: plain(cluster.CalicoLegacy, 1), Setup: connected(),
				Command: byProgram, Src: client, Dst: server}},
	}
}

// byProgram asks a service's address from the case's cgroup.
const byProgram = "client: echo 0 > $CGROUP/cgroup.procs; timeout 2 bash -c 'exec 3<>/dev/tcp/" + ownService + "/80'"

// connected puts a program on the client's cgroup that gives a connection to a service
// the server's address before there is a packet.
func connected() []string {
	return append([]string{"node1: mkdir -p $CGROUP", "client: sleep 60 &", "client: for p in $(ip netns pids $NS_client); do echo $p > $CGROUP/cgroup.procs || true; done"},
		attach("node1", "cilium-connect", "$CGROUP,"+ownService+":80,$SERVER:8080", unused)...)
}

func TestPlanes(t *testing.T) {
	p := readPlan(t)
	for _, c := range planeCases() {
		t.Run(c.Name, func(t *testing.T) {
			needDevice(t, c)
			t.Parallel()
			tr, said, status := trace(t, p, stand(t, c.Case), true)
			t.Logf("%s, exit %d", said, status)
			for _, f := range tr.Findings() {
				t.Errorf("false alarm: %s", words(f))
			}
			sum := tr.Summary()
			if status != 0 || sum.Forward.Seen == 0 || sum.Return.Seen == 0 || sum.Forward.Unknown+sum.Return.Unknown > 0 {
				t.Errorf("exit %d, forward %+v, return %+v", status, sum.Forward, sum.Return)
			}
			held(t, tr, c)
		})
	}
}

// held wants the planes of a case, and no others.
func held(t *testing.T, tr *scenario.Trace, c planeCase) {
	t.Helper()
	var kinds []string
	var all strings.Builder
	for _, p := range tr.Start().Planes {
		kinds = append(kinds, p.Kind+" "+strings.Join(p.Ends, ","))
		all.WriteString(strings.Join(append(p.Evidence, p.Says...), "\n") + "\n")
	}
	t.Logf("told at the start: %v\n%s", kinds, all.String())
	if !slices.Equal(kinds, c.planes) {
		t.Errorf("planes %q, want %q", kinds, c.planes)
	}
	for _, want := range c.says {
		if !regexp.MustCompile(want).MatchString(all.String()) {
			t.Errorf("nothing says %s", want)
		}
	}
}

// needDevice leaves out a case whose kind of device this kernel has not.
func needDevice(t *testing.T, c planeCase) {
	t.Helper()
	switch {
	case strings.HasPrefix(c.Name, "bridge-vlan"):
		out, err := exec.Command("unshare", "-n", "ip", "link", "add", "name", "b", "type", "bridge", "vlan_filtering", "1").CombinedOutput()
		if err != nil {
			t.Skipf("no VLANs on bridges here: %s", out)
		}
	case c.device != "":
		below := "ip link add name p type veth peer name q && ip link add name x link p type " + c.device
		if c.device == "netkit" {
			below = "ip link add name x type netkit"
		}
		if out, err := exec.Command("unshare", "-n", "sh", "-c", below).CombinedOutput(); err != nil {
			t.Skipf("no %s here: %s", c.device, out)
		}
	}
}

// A service whose address a program takes away before there is a packet is never seen:
// that is told, and not as if the client had not sent.
func TestServiceByConnect(t *testing.T) {
	p := readPlan(t)
	t.Parallel()
	tr, said, status := trace(t, p, stand(t, Case{Name: "connect-service", Node: plain(cluster.CalicoLegacy, 1), Setup: connected(), Command: byProgram, Src: client, Dst: ownService}), true)
	t.Logf("%s, exit %d", said, status)
	findings := tr.Findings()
	if status != 3 || !strings.Contains(said, "succeeded") || len(findings) != 1 || findings[0].Code != "not-sent" || findings[0].Fault() {
		t.Fatalf("%s, exit %d, %d findings", said, status, len(findings))
	}
	t.Log(words(findings[0]))
	for _, want := range []string{`cil_sock4_conne`, `gives it another destination`, `may put a backend in the place of a service`, `--dst svc/NAME`} {
		if !slices.ContainsFunc(findings[0].Evidence, regexp.MustCompile(want).MatchString) {
			t.Errorf("nothing says %s", want)
		}
	}
}
