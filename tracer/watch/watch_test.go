// SPDX-License-Identifier: Apache-2.0

package watch

// Changes of a real node, made with the tools that people use, as they are told:
// compared with the words of `ip` where it has any.

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// shorts names namespaces as the cluster does.
type shorts struct {
	c     *nodetest.Cluster
	names []string
}

func (s shorts) Place(netns uint32) string {
	for _, name := range s.names {
		if s.c.Inode(name) == netns {
			return name
		}
	}
	return fmt.Sprint(netns)
}

// watched is the first node of nodetest's cluster, with somebody to watch it.
func watched(t *testing.T, deeds ...Kind) (*nodetest.Cluster, *Watcher) {
	t.Helper()
	c := nodetest.TwoNodes(t)
	ns, err := node.OpenNamespaces(c.Path("n1"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(ns, Config{Names: shorts{c, []string{"n1", "n2", "a", "b", "c"}}, Deeds: deeds, Verbose: func(line string) { t.Errorf("said: %s", line) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, w
}

// events polls until as many are told as are due, and then a while for more.
func events(w *Watcher, due int, deeds ...Deed) (all []model.NodeEvent) {
	end := time.Now().Add(5 * time.Second)
	for time.Now().Before(end) {
		more := w.Poll(time.Now(), deeds)
		all, deeds = append(all, more...), nil
		if len(all) >= due && time.Until(end) > time.Second {
			end = time.Now().Add(200 * time.Millisecond)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return all
}

func texts(all []model.NodeEvent) string {
	var out []string
	for _, e := range all {
		out = append(out, e.What+": "+e.Text)
	}
	return strings.Join(out, "\n")
}

func TestChangesAreTold(t *testing.T) {
	c, w := watched(t)
	const unseen = "; who did it cannot be seen with this backend"
	for _, tc := range []struct {
		in   string
		do   string
		want []string // what: text
	}{
		{"n1", "ip route add 10.9.0.0/16 via 10.99.0.2", []string{"route-added: route 10.9.0.0/16 via 10.99.0.2 dev eth0 added" + unseen}},
		{"n1", "ip route replace 10.9.0.0/16 dev cni0", []string{"route-replaced: route 10.9.0.0/16 dev cni0 replaced" + unseen}},
		{"n1", "ip route del 10.9.0.0/16", []string{"route-deleted: route 10.9.0.0/16 dev cni0 deleted" + unseen}},
		{"n1", "ip route add blackhole 10.8.0.0/24 table 77", []string{"route-added: route blackhole 10.8.0.0/24 table 77 added" + unseen}},
		{"n1", "ip -6 route add fd09::/64 dev cni0", []string{"route-added: route fd09::/64 dev cni0 added" + unseen}},
		{"n1", "ip rule add to 10.9.9.8 prohibit pref 99", []string{`policy-rule-added: policy routing rule "99: to 10.9.9.8/32 prohibit" added`}},
		{"n1", "ip rule add from 10.9.9.7 lookup main pref 98", []string{`policy-rule-added: policy routing rule "98: from 10.9.9.7/32 lookup main" added`}},
		{"n1", "ip rule add from 10.9.9.9 fwmark 0x10 lookup 77 pref 100", []string{`policy-rule-added: policy routing rule "100: from 10.9.9.9/32 fwmark 0x10 lookup 77" added`}},
		{"n1", "ip addr add 10.77.0.1/32 dev cni0", []string{"address-added: address 10.77.0.1/32 added to cni0"}},
		{"n1", "ip addr del 10.77.0.1/32 dev cni0", []string{"address-deleted: address 10.77.0.1/32 deleted from cni0"}},
		{"n1", "ip link set caliaa mtu 1400", []string{"link-mtu: MTU of caliaa set from 1500 to 1400"}},
		{"n1", "ip link set caliaa down", []string{"link-down: caliaa set DOWN" + unseen + "; its routes 10.244.1.2/32, fd00:1::2/128 went with it"}},
		{"n1", "ip link set caliaa down", nil}, // it is
		{"n1", "ip link set caliaa up", []string{"link-up: caliaa set UP" + unseen}},
		{"n1", "sysctl -qw net.ipv4.ip_forward=1", []string{"sysctl-changed: net.ipv4.ip_forward set to 1" + unseen}},
		{"n1", "sysctl -qw net.ipv4.ip_forward=1", nil}, // it is
		{"n1", "sysctl -qw net.ipv4.conf.caliaa.rp_filter=2", []string{"sysctl-changed: net.ipv4.conf.caliaa.rp_filter set to 2" + unseen}},
		{"n1", "sysctl -qw net.ipv4.ip_forward=0", []string{"sysctl-changed: net.ipv4.ip_forward set to 0" + unseen}},
		{"n1", "sysctl -qw net.ipv6.conf.all.forwarding=1", []string{"sysctl-changed: net.ipv6.conf.all.forwarding set to 1" + unseen}},
		{"a", "ip link set eth0 mtu 1300", []string{"link-mtu: MTU of eth0 in a set from 1500 to 1300"}},
		{"a", "ip link set eth0 down", []string{"link-down: eth0 in a set DOWN" + unseen}},
		{"a", "ip link set eth0 up", []string{"link-up: eth0 in a set UP" + unseen}},
		{"a", "ip route add 10.7.0.0/16 dev eth0", []string{"route-added: route 10.7.0.0/16 in a dev eth0 added" + unseen}},
		{"c", "ip link set eth0 down", nil},  // a pod of another node
		{"n2", "ip link set eth0 down", nil}, // another node
		{"n1", "ip link add br9 type bridge", []string{"link-added: br9 added"}},
		{"n1", "ip link del br9", []string{"link-deleted: br9 deleted"}},
	} {
		c.In(tc.in, tc.do)
		want := strings.ReplaceAll(strings.Join(tc.want, "\n"), "10.7.0.0/16 in a dev eth0", "10.7.0.0/16 dev eth0 in a")
		if got := texts(events(w, len(tc.want))); got != want {
			t.Errorf("%s in %s: told\n%s\nwant\n%s", tc.do, tc.in, got, want)
		}
	}
	if w.Missed() != 0 {
		t.Errorf("%d times something was missed", w.Missed())
	}
}

// nf_tables names the process by itself.
func TestRuleChangesNameTheirDoer(t *testing.T) {
	c, w := watched(t)
	c.In("n1", "nft add table ip site", "nft add chain ip site forward")
	events(w, 0) // nf_tables may be there only now, and is listened to from the next second on
	time.Sleep(askAgain)
	events(w, 0)
	c.In("n1", "nft add rule ip site forward drop")
	told := events(w, 1)
	if len(told) != 1 || told[0].What != model.RulesetChanged || told[0].Object != "nft ip site" || told[0].By == nil || told[0].By.Comm != "nft" || told[0].By.PID == 0 {
		t.Fatalf("told %+v", told)
	}
	if want := fmt.Sprintf("rules of nft ip site changed (1 added, 0 deleted) by nft (pid %d", told[0].By.PID); !strings.HasPrefix(told[0].Text, want) {
		t.Errorf("told %q, want %q", told[0].Text, want)
	}
}

// A change and what the kernel half tells of it become one event, with the time
// and the process of the deed. Deeds that netlink does not confirm are not told.
func TestDeedsJoinChanges(t *testing.T) {
	c, w := watched(t, LinkFlags, RouteChanged)
	n1 := c.Inode("n1")
	index := w.linkNamed(n1, "caliaa")
	by := model.By{PID: 812, Comm: "netscript", ParentPID: 1, Parent: "systemd"}
	at := time.Now()
	c.In("n1", "ip link set caliaa down")
	deed := Deed{Time: at, Kind: LinkFlags, Netns: n1, Index: index, By: by}
	wrong := deed
	wrong.Index, wrong.By.Comm = w.linkNamed(n1, "cni0"), "another"
	told := events(w, 1, wrong, deed)
	if len(told) != 1 || told[0].By == nil || *told[0].By != by || !told[0].Time.Equal(at) || !told[0].Precise {
		t.Fatalf("told %+v", told)
	}
	if want := "caliaa set DOWN by netscript (pid 812, started by systemd); its routes 10.244.1.2/32, fd00:1::2/128 went with it"; told[0].Text != want {
		t.Errorf("told %q, want %q", told[0].Text, want)
	}
	c.In("n1", "ip link set caliaa up")
	if told := events(w, 1); len(told) != 1 || told[0].By != nil || told[0].Text != "caliaa set UP" {
		t.Errorf("a change whose doer could have been seen and was not: %+v", told)
	}
}

// Changes that are read seconds late still find their doers, in order; deeds that
// had no effect, and those of later changes, are left alone.
func TestDeedsOfChangesReadLate(t *testing.T) {
	w := &Watcher{sees: map[Kind]bool{LinkFlags: true}, turned: make(map[linkAt]time.Time)}
	read := time.Now()
	deed := func(before time.Duration, up bool, pid uint32) Deed {
		return Deed{Time: read.Add(-before), Kind: LinkFlags, Netns: 1, Index: 2, Set: up, By: model.By{PID: pid, Comm: "ip"}}
	}
	turned := func(up bool) *change {
		what := map[bool]string{true: model.LinkUp, false: model.LinkDown}[up]
		return &change{event: model.NodeEvent{Time: read, What: what, Netns: 1, IfIndex: 2}, key: key{kind: LinkFlags, netns: 1, index: 2, set: up}}
	}
	w.waiting = []*change{turned(false), turned(true), turned(false)}
	w.deeds = []Deed{deed(7*time.Second, false, 1), deed(6*time.Second, false, 2), deed(5*time.Second, true, 3), deed(4*time.Second, false, 4), deed(-time.Second, true, 5)}
	var pids []uint32
	for _, e := range w.changesWithDoers(read) {
		pids = append(pids, e.By.PID)
	}
	if !slices.Equal(pids, []uint32{2, 3, 4}) || len(w.deeds) != 1 || w.deeds[0].By.PID != 5 {
		t.Errorf("doers %v, want 2, 3, 4; left %v", pids, w.deeds)
	}
}

// Ends of agents: by whom, and none of liveness probes.
func TestAgentsEnd(t *testing.T) {
	_, w := watched(t, SignalSent, AgentEnded)
	w.agents = map[uint32]bool{77: true, 78: true, 79: true}
	now := time.Now()
	killer := model.By{PID: 99, Comm: "oops"}
	signal := func(to, number uint32) Deed {
		return Deed{Time: now, Kind: SignalSent, Value: number, Victim: Process{to, "calico-node"}, By: killer}
	}
	end := func(pid, status uint32) Deed {
		return Deed{Time: now.Add(time.Millisecond), Kind: AgentEnded, Value: status, Age: time.Second, By: model.By{PID: pid, Comm: "calico-node"}}
	}
	for name, tc := range map[string]struct {
		deeds []Deed
		want  string
	}{
		"killed":                  {[]Deed{signal(77, 9), end(77, 9)}, "process-exit: calico-node (pid 77) was ended by SIGKILL from oops (pid 99)"},
		"asked to end":            {[]Deed{signal(78, 15), end(78, 0)}, "process-exit: calico-node (pid 78) ended with status 0 after SIGTERM from oops (pid 99)"},
		"failed":                  {[]Deed{end(79, 1<<8)}, "process-exit: calico-node (pid 79) ended with status 1"},
		"a probe":                 {[]Deed{end(80, 1<<8)}, ""},
		"a young one, killed":     {[]Deed{signal(81, 9), end(81, 9)}, "process-exit: calico-node (pid 81) was ended by SIGKILL from oops (pid 99)"},
		"signals that do nothing": {[]Deed{signal(82, 23)}, ""},
	} {
		if got := texts(events(w, min(1, len(tc.want)), tc.deeds...)); got != tc.want {
			t.Errorf("%s: told %q, want %q", name, got, tc.want)
		}
	}
	w.Poll(now, []Deed{signal(83, 15)})
	if got := texts(w.Poll(now.Add(effectWithin), nil)); got != "process-signal: SIGTERM sent to calico-node (pid 83) by oops (pid 99)" {
		t.Errorf("a signal without effect: %q", got)
	}
}

// What comes faster than it is read is counted, and told from the routes as they
// are then.
func TestMissedChangesAreCounted(t *testing.T) {
	c, w := watched(t)
	w.route.mu.Lock()
	w.route.heard = slices.Grow(w.route.heard, maxQueued)[:maxQueued] // as if nobody had read for long
	w.route.mu.Unlock()
	c.In("n1", "ip route add 10.9.0.0/16 dev cni0")
	for end := time.Now().Add(5 * time.Second); w.Missed() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a full queue is not counted")
		}
		if _, missed, _ := w.route.take(); missed > 0 {
			w.heard()
		}
	}
	c.In("n1", "ip link set cni0 down")
	if told := events(w, 1); len(told) == 0 || !strings.Contains(texts(told), "10.9.0.0/16") {
		t.Errorf("the route that was missed is not known: %s", texts(told))
	}
}

func TestInCgroup(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for name, want := range map[string][2]string{
		"cri-containerd-" + id + ".scope": {id, ""}, "docker-" + id + ".scope": {id, ""}, id: {id, ""},
		"netscript.service": {"", "netscript.service"}, "session-3.scope": {"", ""}, "": {"", ""}, "kubepods": {"", ""},
	} {
		if c, u := InCgroup(name); c != want[0] || u != want[1] {
			t.Errorf("%q: container %q, unit %q", name, c, u)
		}
	}
}

// What /proc says of this process is what the Go runtime says of it.
func TestProc(t *testing.T) {
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	by := model.By{PID: uint32(os.Getpid()), Comm: strings.TrimSpace(string(name))}
	procDir("/proc").complete(&by)
	if int(by.ParentPID) != os.Getppid() || by.Parent == "" {
		t.Errorf("the parent of %d is %d, told %+v", os.Getpid(), os.Getppid(), by)
	}
	other := model.By{PID: uint32(os.Getpid()), Comm: "somebody else"}
	procDir("/proc").complete(&other)
	if other.ParentPID != 0 {
		t.Errorf("a process of another name is taken for it: %+v", other)
	}
	if !procDir("/proc").running([]string{by.Comm})[by.PID] {
		t.Error("this process is not among those that run")
	}
}
