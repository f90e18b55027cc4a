// SPDX-License-Identifier: Apache-2.0

// probe_test.go runs the program with --probe on a node in namespaces, with a
// session made up: what the probe says is real. What traces of probes show is
// tested with the scenarios.

package main

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestProbe(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1", "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.caliaa.proxy_arp=1 net.ipv4.neigh.caliaa.proxy_delay=0")
	c.In("a", "ip route add prohibit 10.66.0.0/16")
	at := func(args ...string) []string { return append([]string{"--netns", c.Path("n1")}, args...) }
	for _, w := range []struct {
		args []string
		want string // in a line of its own on standard error
	}{
		{at("-s", "10.244.1.2", "-d", "10.244.2.2", "--probe", "icmp"), "probe icmp 10.244.1.2 -> 10.244.2.2: answered in "},
		{at("-s", "caliaa", "-d", "10.244.2.2", "--probe", "tcp:81"), "probe tcp caliaa -> 10.244.2.2:81: connection refused after "},
		{at("-s", "if:caliaa", "-d", "vethbb", "--probe", "udp:81"), "probe udp if:caliaa -> 10.244.2.2:81: connection refused after "},
		{at("-s", "caliaa", "-d", "10.66.0.1", "--probe", "icmp"), "probe icmp caliaa -> 10.66.0.1: permission denied after "},
		{at("-s", "node", "-d", "10.244.2.2", "--probe", "icmp"), "probe icmp node -> 10.244.2.2: answered in "},
	} {
		r := finish(t, play(t, "delivered", w.args...))
		r.want(t, 0, "\n"+w.want)
		// It is sent when the trace is ready, and told once more with the verdict.
		proto, rest, _ := strings.Cut(strings.TrimPrefix(w.want, "probe "), " ")
		verdict := "\nprobe    " + strings.ToUpper(proto) + " " + strings.ReplaceAll(rest, "->", ">")
		if strings.Index(r.stderr, "tracing ") > strings.Index(r.stderr, "probe ") || strings.Count(r.stdout, verdict) != 1 {
			t.Errorf("%q:\n%s%s", w.args, r.stderr, r.stdout)
		}
	}
}

// What makes a probe impossible is said before anything is attached.
func TestProbeRefused(t *testing.T) {
	c := nodetest.TwoNodes(t)
	for _, w := range []struct{ src, dst, want string }{
		{"8.8.8.8", "10.244.2.2", "8.8.8.8 is no pod of this node that can be entered"},
		{"10.244.2.0/24", "10.244.1.2", "10.244.2.0/24 is no pod of this node"},
		{"caliaa", "any", "any has none: name a pod, a service or an address"},
		{"caliaa", "10.244.2.0/24", "10.244.2.0/24 has none"},
		{"vethbb", "nothing-here", `destination: endpoint "nothing-here": `},
		{"calibb", "10.244.2.2", `source: endpoint "calibb": `},
	} {
		r := finish(t, play(t, "fail-open", "--netns", c.Path("n1"), "-s", w.src, "-d", w.dst, "--probe", "icmp"))
		r.want(t, 1, w.want)
		if strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "pathtrace: ") || strings.Contains(r.stderr, "invalid mem access") {
			t.Errorf("%s to %s: %s", w.src, w.dst, r.stderr)
		}
	}
}

// A trace that ends first takes the probe along.
func TestProbeCutShort(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1", "nft add table ip f", "nft add chain ip f c { type filter hook input priority 0; policy drop; }")
	r := finish(t, play(t, "delivered", "--netns", c.Path("n1"), "-s", "caliaa", "-d", "10.99.0.1", "--probe", "icmp", "--duration", "400ms"))
	r.want(t, 0, "probe icmp caliaa -> 10.99.0.1: timed out: no answer within ")
}
