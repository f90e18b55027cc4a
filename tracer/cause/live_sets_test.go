// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// TestInSet asks the kernel about sets of the types that kube-proxy's ipvs mode makes.
func TestInSet(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n",
		"ipset create KUBE-LOOP-BACK hash:ip,port,ip", "ipset add KUBE-LOOP-BACK 10.244.1.2,tcp:8080,10.244.1.2",
		"ipset create KUBE-CLUSTER-IP hash:ip,port", "ipset add KUBE-CLUSTER-IP 10.96.0.20,tcp:80",
		"ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6", "ipset add KUBE-6-CLUSTER-IP fd00:96::20,udp:80",
		"ipset create KUBE-SRC-ABC hash:ip", "ipset add KUBE-SRC-ABC 10.244.1.2", "ipset create cali40s:abc hash:net", "ipset add cali40s:abc 10.244.0.0/23",
		"ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535", "ipset add KUBE-NODE-PORT-TCP 30080")
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	live := NewLive(ns, standing{t.Context(), ns})
	pod, virtual, six := netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.96.0.20"), netip.MustParseAddr("fd00:96::20")
	for _, tc := range []struct {
		set   string
		e     setEntry
		want  setHolding
		fails bool
	}{
		{"KUBE-LOOP-BACK", setEntry{pod, pod, "tcp", 8080}, setHolds, false},
		{"KUBE-LOOP-BACK", setEntry{pod, virtual, "tcp", 8080}, setWithout, false},
		{"KUBE-LOOP-BACK", setEntry{addr: pod, proto: "tcp", port: 8080}, setMissing, true},
		{"KUBE-CLUSTER-IP", setEntry{addr: virtual, proto: "tcp", port: 80}, setHolds, false},
		{"KUBE-CLUSTER-IP", setEntry{addr: virtual, proto: "udp", port: 80}, setWithout, false},
		{"KUBE-CLUSTER-IP", setEntry{addr: virtual, proto: "tcp", port: 81}, setWithout, false},
		{"KUBE-6-CLUSTER-IP", setEntry{addr: six, proto: "udp", port: 80}, setHolds, false},
		{"KUBE-SRC-ABC", setEntry{addr: pod}, setHolds, false},
		{"KUBE-SRC-ABC", setEntry{addr: virtual}, setWithout, false},
		{"KUBE-SRC-ABC", setEntry{addr: pod, proto: "tcp", port: 8080}, setMissing, true},
		{"cali40s:abc", setEntry{addr: pod}, setHolds, false},
		{"cali40s:abc", setEntry{addr: virtual}, setWithout, false},
		{"KUBE-NODE-PORT-TCP", setEntry{proto: "tcp", port: 30080}, setHolds, false},
		{"KUBE-NODE-PORT-TCP", setEntry{proto: "tcp", port: 30081}, setWithout, false},
		{"KUBE-EXTERNAL-IP", setEntry{addr: virtual, proto: "tcp", port: 80}, setMissing, false},
	} {
		got, err := live.InSet(live.Node(), tc.set, tc.e)
		if got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s, %s: %v, %v; want %v", tc.set, tc.e, got, err, tc.want)
		}
	}
}
