// SPDX-License-Identifier: Apache-2.0

package tracer

// What looking at a big rule set costs a traced packet, by the kernel's own BPF
// statistics. The figures go into docs/performance.md; the bound here only
// catches what has gone badly wrong, since the machine may be anything.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

const costPackets = 400

// worstTraversal bounds a traversal of 5,000 legacy rules where programs run as
// fast as the machine does. A quiet machine with cold caches needs about a fifth of it.
const worstTraversal = 300 * time.Microsecond

func TestTraversalCost(t *testing.T) {
	if testing.Short() {
		t.Skip("sends packets for some seconds")
	}
	for _, c := range []struct {
		table, chain string
		rules        int
	}{{"filter", "INPUT", 5000}, {"nat", "INPUT", 10000}} {
		t.Run(fmt.Sprintf("%s of %d", c.table, c.rules), func(t *testing.T) {
			few, backend := traversals(t, c.table, c.chain, 5)
			many, _ := traversals(t, c.table, c.chain, c.rules)
			each := (many - few) / (2 * costPackets) // the request in INPUT, the reply in OUTPUT
			t.Logf("%s, %s: a packet's way through the programs takes %v with 5 rules, %v with %d: %v a traversal of the table",
				backend, c.table, few/costPackets, many/costPackets, c.rules, each)
			if backend == "tracepoint" && each > worstTraversal {
				t.Errorf("%v a traversal, want no more than %v", each, worstTraversal)
			}
		})
	}
}

// traversals sends packets through a table of so many rules and sums up the time
// that all programs ran.
func traversals(t *testing.T, table, chain string, rules int) (time.Duration, string) {
	c := nodetest.New(t)
	c.Add("n", "far")
	c.In("n", "ip link add eth0 type veth peer name eth0 netns @far", "ip addr add 10.99.0.1/24 dev eth0",
		"ip link set eth0 up", "ip link set lo up")
	c.In("far", "ip addr add 10.99.0.2/24 dev eth0", "ip link set eth0 up")
	var text strings.Builder
	fmt.Fprintf(&text, "*%s\n:BULK - [0:0]\n", table)
	for i := range rules {
		fmt.Fprintf(&text, "-A BULK -d 172.%d.%d.%d -p udp -m udp --dport %d -j RETURN\n", 16+i/65536, i/256%256, i%256, 1000+i)
	}
	fmt.Fprintf(&text, "-A %s -p icmp -j ACCEPT\nCOMMIT\n", chain)
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c.In("n", "iptables-legacy-restore "+file)

	total, sum, backend := programTime(t, Config{Src: "10.99.0.2", Dst: "10.99.0.1", Proto: "icmp", NetnsPath: c.Path("n"), Version: "test"}, func() {
		ping := exec.Command("nsenter", "--net="+c.Path("far"), "ping", "-q", "-c", fmt.Sprint(costPackets), "-i", "0.002", "10.99.0.1")
		if out, err := ping.CombinedOutput(); err != nil {
			t.Fatalf("ping: %v: %s", err, out)
		}
	})
	if sum.Forward.Seen < costPackets*9/10 {
		t.Errorf("%d of %d packets seen", sum.Forward.Seen, costPackets)
	}
	return total, backend
}

// programTime sums up the time that all programs ran while packets were sent.
func programTime(t *testing.T, cfg Config, send func()) (time.Duration, *model.Summary, string) {
	t.Helper()
	tr, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	stop := running(t, tr, &collector{room: 1 << 20})
	defer stop()
	send()
	var total time.Duration
	for _, p := range tr.att.Programs() {
		s, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		total += s.Runtime
	}
	return total, stop(), tr.start.Backend
}

// running runs a trace beside the test until it is stopped, which gives the
// summary; to stop it again is no harm.
func running(t *testing.T, tr *Tracer, sink model.Sink) (stop func() *model.Summary) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var sum *model.Summary
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if sum, err = tr.Run(ctx, sink); err != nil {
			t.Error(err)
		}
	}()
	return func() *model.Summary { cancel(); <-done; return sum }
}

// What packet bytes cost the packets they are taken of; nobody else pays.
func TestFrameCost(t *testing.T) {
	if testing.Short() {
		t.Skip("sends packets for some seconds")
	}
	c, _ := frameNode(t)
	for _, f := range []struct {
		name  string
		snaps []int
		send  func()
	}{
		{"pings of 1,000 bytes", []int{0, 256}, func() { c.In("a", fmt.Sprintf("ping -q -c %d -i 0.002 -s 1000 10.99.0.2", costPackets)) }},
		{"TCP, 10 MB", []int{0, 256, attach.MaxSnapLen}, func() { upload(t, c, 10_000_000, "10.99.0.2:8080") }},
	} {
		var without time.Duration
		for _, snap := range f.snaps {
			cfg := Config{Src: "caliaa", Dst: "any", NetnsPath: c.Path("n"), Version: "test", SnapLen: snap, Sample: -1}
			total, sum, backend := programTime(t, cfg, f.send)
			seen := sum.Forward.Seen + sum.Return.Seen
			if seen == 0 {
				t.Fatalf("%s: no packet seen", f.name)
			}
			each := total / time.Duration(seen)
			if snap == 0 {
				without = each
			}
			t.Logf("%s, %s, snap length %d: %d packets, %v each in our programs (%.2f times), lost %d events, bytes of %d hops",
				f.name, backend, snap, seen, each, float64(each)/float64(without), sum.LostEvents, sum.LostFrames)
		}
	}
}
