// SPDX-License-Identifier: Apache-2.0

// Every dataplane comes up, carries traffic, shows the outcomes that were
// recorded on the real nodes, and leaves nothing behind.

package testenv

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// newTestEnv builds an environment for one test.
func newTestEnv(t *testing.T, opts cluster.Options) *cluster.Env {
	t.Helper()
	if os.Geteuid() != 0 {
		if testing.Short() {
			t.Skip("building test nodes needs root")
		}
		t.Fatal("building test nodes needs root: run the tests as root, or with -short to leave these out")
	}
	start := time.Now()
	e, err := cluster.New(t.Context(), opts)
	if errors.Is(err, cluster.ErrLacking) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s with %d nodes stood after %v", opts.Dataplane, len(e.Nodes), time.Since(start).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if left := netnsOf(t, envName(e)); len(left) > 0 {
			t.Errorf("Close left %v", left)
		}
		if _, err := os.Stat(e.StateDir); err == nil {
			t.Errorf("Close left %s", e.StateDir)
		}
	})
	return e
}

// envName is how the names of an environment's namespaces begin.
func envName(e *cluster.Env) string { return strings.TrimSuffix(e.Underlay.Name, "-underlay") }

// netnsOf lists named namespaces that begin with name.
func netnsOf(t *testing.T, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(netns.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), name) {
			found = append(found, entry.Name())
		}
	}
	return found
}

// outcomeCase is an exchange and what must become of it.
type outcomeCase struct {
	traffic traffic.Spec
	want    traffic.Outcome
}

func runCases(t *testing.T, e *cluster.Env, cases []outcomeCase) {
	t.Helper()
	for _, c := range cases {
		if c.traffic.Count == 0 {
			c.traffic.Count = 1
		}
		if c.traffic.Timeout == 0 && c.want == traffic.TimedOut {
			c.traffic.Timeout = 300 * time.Millisecond
		}
		r, err := traffic.Send(context.Background(), e, c.traffic)
		if err != nil {
			t.Errorf("%+v: %v", c.traffic, err)
			continue
		}
		if r.Outcome != c.want {
			t.Errorf("%v; want %s", r, c.want)
		}
	}
}

const (
	client = "default/client"
	server = "default/server"
	db     = "prod/db"
	web2   = "default/web2"
)

// TestCalicoKnownOutcomes: what real traffic did on the recorded Calico nodes. The way
// to the other node, and who serves services, changes none of it.
func TestCalicoKnownOutcomes(t *testing.T) {
	for _, d := range []cluster.Dataplane{cluster.CalicoLegacy, cluster.CalicoNFT, cluster.CalicoNFTables, cluster.CalicoIPIP, cluster.CalicoWireGuard, cluster.CalicoIPVS} {
		t.Run(string(d), func(t *testing.T) {
			runCases(t, newTestEnv(t, cluster.Options{Dataplane: d, Nodes: 2}), []outcomeCase{
				{traffic.Spec{Proto: "icmp", Src: client, Dst: server}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: server}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: server, Port: 9999}, traffic.TimedOut},
				{traffic.Spec{Proto: "tcp", Src: db, Dst: server}, traffic.TimedOut},
				{traffic.Spec{Proto: "icmp", Src: db, Dst: server}, traffic.TimedOut},
				{traffic.Spec{Proto: "icmp", Src: client, Dst: db}, traffic.TimedOut},
				{traffic.Spec{Proto: "icmp", Src: server, Dst: db}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: server, Dst: db}, traffic.Answered},
				{traffic.Spec{Proto: "udp", Src: server, Dst: db}, traffic.Answered},
				{traffic.Spec{Proto: "udp", Src: server, Dst: client}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: server, Dst: client, Port: 9999}, traffic.Refused},
				{traffic.Spec{Proto: "udp", Src: server, Dst: client, Port: 9999}, traffic.Refused},
				{traffic.Spec{Proto: "tcp", Src: web2, Dst: server}, traffic.Answered},
				{traffic.Spec{Proto: "icmp", Src: web2, Dst: server}, traffic.TimedOut},
				{traffic.Spec{Proto: "icmp", Src: client, Dst: web2}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: web2}, traffic.Answered},
				{traffic.Spec{Proto: "udp", Src: client, Dst: web2}, traffic.Answered},
				{traffic.Spec{Proto: "icmp", Src: client, Dst: cluster.BadNetAddr.String()}, traffic.TimedOut},
				{traffic.Spec{Proto: "icmp", Src: client, Dst: "external"}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: "external"}, traffic.Answered},
				{traffic.Spec{Proto: "icmp", Src: "node1", Dst: server}, traffic.Answered},
				{traffic.Spec{Proto: "icmp", Src: client, Dst: server, IPv6: true}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: server, IPv6: true, Size: 4000}, traffic.Answered},
				{traffic.Spec{Proto: "udp", Src: client, Dst: server, IPv6: true}, traffic.Answered},
			})
		})
	}
}

// TestFlannelOutcomes: a flannel node lets everything through.
func TestFlannelOutcomes(t *testing.T) {
	for _, d := range []cluster.Dataplane{cluster.FlannelLegacy, cluster.FlannelNFT, cluster.FlannelNFTables, cluster.FlannelHostGW, cluster.FlannelWireGuard, cluster.FlannelIPIP} {
		t.Run(string(d), func(t *testing.T) {
			e := newTestEnv(t, cluster.Options{Dataplane: d, Nodes: 2})
			var cases []outcomeCase
			for _, proto := range []string{"icmp", "tcp", "udp"} {
				cases = append(cases,
					outcomeCase{traffic.Spec{Proto: proto, Src: client, Dst: server}, traffic.Answered},
					outcomeCase{traffic.Spec{Proto: proto, Src: client, Dst: server, IPv6: true}, traffic.Answered},
					outcomeCase{traffic.Spec{Proto: proto, Src: client, Dst: server, Size: 4000}, traffic.Answered},
					outcomeCase{traffic.Spec{Proto: proto, Src: client, Dst: web2}, traffic.Answered},
					outcomeCase{traffic.Spec{Proto: proto, Src: web2, Dst: client, Size: 3000}, traffic.Answered},
					outcomeCase{traffic.Spec{Proto: proto, Src: db, Dst: "external"}, traffic.Answered},
				)
			}
			cases = append(cases, outcomeCase{traffic.Spec{Proto: "tcp", Src: client, Dst: server, Port: 9999}, traffic.Refused})
			cases = append(cases, outcomeCase{traffic.Spec{Proto: "tcp", Src: "external", Dst: "node1", Port: 8088}, traffic.Answered}) // hostPort of the recorded portmap rules
			runCases(t, e, cases)
			if got := e.Pod(client).IPv4.String() + " " + e.Pod(server).IPv4.String(); got != "10.244.1.2 10.244.1.3" {
				t.Errorf("host-local gave %s; the recorded rules name 10.244.1.2 10.244.1.3", got)
			}
		})
	}
}

// TestServices: service addresses lead to real pods in every kube-proxy mode.
func TestServices(t *testing.T) {
	for _, d := range cluster.Dataplanes() {
		t.Run(string(d), func(t *testing.T) {
			runCases(t, newTestEnv(t, cluster.Options{Dataplane: d, Nodes: 2, KubeProxy: true}), []outcomeCase{
				{traffic.Spec{Proto: "tcp", Src: client, Dst: "svc:demo/one", Count: 3}, traffic.Answered},
				{traffic.Spec{Proto: "udp", Src: server, Dst: "svc:kube-system/kube-dns", Count: 3}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: "node1", Dst: "svc:demo/one"}, traffic.Answered},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: "svc:demo/empty"}, traffic.Refused},
				{traffic.Spec{Proto: "tcp", Src: client, Dst: server}, traffic.Answered},
			})
		})
	}
}
