// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"strconv"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// TestHairpin has a pod reach itself by an address that the node translates back
// to it. All arrives, though the node's own ICMP redirect dies in its NAT: nothing
// is to be found, and the trace ends well.
func TestHairpin(t *testing.T) {
	p := readPlan(t)
	e := newEnv(t, cluster.Options{Dataplane: cluster.CalicoLegacy})
	const address, port = "10.98.9.9", 7341
	pod, node := e.Pod("default/client"), e.Node(1).Netns
	if err := e.Serve(pod.Netns, "udp", port); err != nil {
		t.Fatal(err)
	}
	self := pod.IPv4.String()
	for _, rule := range [][]string{
		{"-t", "nat", "-A", "PREROUTING", "-d", address, "-p", "udp", "--dport", strconv.Itoa(port), "-j", "DNAT", "--to-destination", self + ":" + strconv.Itoa(port)},
		{"-t", "nat", "-A", "POSTROUTING", "-s", self, "-d", self, "-j", "MASQUERADE"},
	} {
		if _, err := node.Run(t.Context(), "", "iptables-legacy", append([]string{"-w"}, rule...)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Sysctl(netns.Setting{Path: "ipv4/conf/all/send_redirects", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	tr := traffic.Spec{Proto: "udp", Src: "default/client", Dst: address, Port: port, Count: 2, Timeout: answerWithin}
	trace, err := StartTrace(t.Context(), p.bin, "--backend", p.backend, "--netns", node.Path, "--src", self, "--dst", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trace.Kill)
	send(t, e, tr, traffic.Answered)
	settle(p)
	wantFindings(t, trace)
	redirects := 0
	for _, pk := range trace.Packets() {
		if pk.Outcome.Died() {
			t.Errorf("told as a death: %s", tell(pk))
		}
		if pk.ICMP == "redirect" {
			redirects++
			if pk.Outcome != model.Consumed {
				t.Errorf("the node's own redirect: %s", tell(pk))
			}
		}
	}
	if redirects == 0 {
		t.Error("the node sent no redirect: this proves nothing")
	}
	if code, err := trace.Wait(); err != nil || code != 0 {
		t.Errorf("exit status %d, %v", code, err)
	}
}
