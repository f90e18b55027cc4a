// SPDX-License-Identifier: Apache-2.0

package tracer

// Ends that move under a running trace, on a node in namespaces. What a whole
// restart of a pod looks like to a user is tested in testenv/scenario.

import (
	"context"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// eventually waits for something to become true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// hasLink tells whether a namespace has a link of that name.
func hasLink(c *nodetest.Cluster, in, name string) bool {
	return strings.Contains(c.In(in, "ip -br link"), name+"@")
}

// liveSink keeps what a running trace tells, for others to read meanwhile.
type liveSink struct {
	collector
	mu     sync.Mutex
	heard  []*model.Packet
	events []model.NodeEvent
}

func (l *liveSink) Packet(p *model.Packet) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, p)
	return nil
}

func (l *liveSink) Node(e *model.NodeEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, *e)
	return nil
}

// delivered are the packets of one direction that arrived.
func (l *liveSink) delivered(d model.Direction) (all []*model.Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.heard {
		if p.Direction == d && p.Outcome == model.Delivered {
			all = append(all, p)
		}
	}
	return all
}

func (l *liveSink) told() []model.NodeEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// underTrace runs a trace of the node n1 until the test ends.
func underTrace(t *testing.T, c *nodetest.Cluster, src, dst string) *liveSink {
	t.Helper()
	tr, err := New(context.Background(), Config{Src: src, Dst: dst, Backend: "tracepoint", Proto: "icmp", NetnsPath: c.Path("n1"), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	sink := &liveSink{}
	stop := running(t, tr, sink)
	t.Cleanup(func() {
		stop()
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return sink
}

// A pod whose namespace ends under a trace vanishes from the node at once, as it
// does without one: nothing of ours keeps it.
func TestEndedPodVanishes(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.Delete("c")
	underTrace(t, c, "caliaa", "vethbb")
	if !hasLink(c, "n1", "caliaa") || !hasLink(c, "n1", "vethbb") {
		t.Fatal("no links to begin with")
	}
	for pod, link := range map[string]string{"a": "caliaa", "b": "vethbb"} {
		c.Delete(pod)
		eventually(t, link+" vanishes", func() bool { return !hasLink(c, "n1", link) })
	}
}

// An address given as such is followed to the pod that has it next.
func TestAddressMoves(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1", "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.proxy_arp=1 net.ipv4.neigh.caliaa.proxy_delay=0")
	sink := underTrace(t, c, "10.244.1.2", "10.244.2.2")
	ping := func(from string) {
		t.Helper()
		before := len(sink.delivered(model.Forward))
		if out, err := exec.Command("nsenter", "--net="+c.Path(from), "ping", "-q", "-c", "2", "-i", "0.01", "-W", "2", "10.244.2.2").CombinedOutput(); err != nil {
			t.Fatalf("ping: %v: %s", err, out)
		}
		eventually(t, "pings from "+from+" are told", func() bool { return len(sink.delivered(model.Forward)) >= before+2 })
	}
	ping("a")
	began := time.Now()
	c.In("n1", "ip link del caliaa")
	c.Add("d")
	c.CalicoPod("n1", "d", "calidd", "10.244.1.2", "")
	eventually(t, "the move is told", func() bool {
		return slices.ContainsFunc(sink.told(), func(e model.NodeEvent) bool {
			return e.What == model.EndpointChanged && e.Object == "10.244.1.2" && strings.Contains(e.Text, "behind calidd")
		})
	})
	for _, e := range sink.told() {
		t.Logf("%v: %s", e.Time.Sub(began), e.Text)
	}
	c.In("n1", "sysctl -qw net.ipv4.neigh.calidd.proxy_delay=0")
	ping("d")
	if !net.ParseIP("10.244.1.2").Equal(net.IP(sink.delivered(model.Forward)[0].Src.AsSlice())) {
		t.Errorf("told %v", sink.delivered(model.Forward)[0])
	}
}
