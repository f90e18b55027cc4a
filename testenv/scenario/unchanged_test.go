// SPDX-License-Identifier: Apache-2.0

// Tracing changes nothing: what a node and its pods look like before, during
// and after a trace, also one that was killed, is the same to the last rule,
// route, setting and module. And nothing of a killed trace stays in the kernel.

package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

// view is one way to look at a namespace.
type view struct {
	name string
	cmd  []string // run inside; or:
	file string   // read inside
	// onlyIf is a file inside that must have something in it: the tools for
	// legacy tables make a table that they ask for.
	onlyIf string
	volatile
}

// volatile is what of a view changes by itself: what matches is left out.
type volatile []struct {
	what string // and why
	re   *regexp.Regexp
}

func strip(what, re string) volatile {
	return volatile{{what, regexp.MustCompile(re)}}
}

func (v volatile) and(what, re string) volatile { return append(slices.Clone(v), strip(what, re)...) }

// Files that name the legacy tables that exist in a namespace.
const (
	tables4 = "/proc/thread-self/net/ip_tables_names"
	tables6 = "/proc/thread-self/net/ip6_tables_names"
)

// views is all that is looked at. The tables come first: what the tools below
// might make of themselves must not hide what the trace made.
func views() []view {
	counted := strip("rule counters: packets pass", `\[\d+:\d+\]`).and("time of the listing", `(?m)^# (Generated|Completed) .*$`)
	nft := strip("rule counters: packets pass", `counter packets \d+ bytes \d+`).and("set elements grow old", ` expires \w+`)
	neighbours := strip("how lately a neighbour answered: traffic goes on", ` (REACHABLE|STALE|DELAY|PROBE)\b`).and("likewise", ` (used|ref|probes) [\d/]+`)
	routes := strip("routes learned from others grow old", ` expires -?\d+sec`)
	links := strip("a bridge's own timers run", `\b\w+_timer +[\d.]+`)
	sysctls := strip("number of connections: traffic goes on", `(?m)^net\.netfilter\.nf_conntrack_count = .*$`)
	return []view{
		{name: "legacy tables", file: tables4},
		{name: "legacy IPv6 tables", file: tables6},
		{name: "modules", file: "/proc/modules", volatile: strip("sizes, users and states: processes come and go", `(?m) .*$`)},
		{name: "iptables-legacy-save", cmd: []string{"iptables-legacy-save"}, onlyIf: tables4, volatile: counted},
		{name: "ip6tables-legacy-save", cmd: []string{"ip6tables-legacy-save"}, onlyIf: tables6, volatile: counted},
		{name: "iptables-nft-save", cmd: []string{"iptables-nft-save"}, volatile: counted},
		{name: "ip6tables-nft-save", cmd: []string{"ip6tables-nft-save"}, volatile: counted},
		{name: "nft list ruleset", cmd: []string{"nft", "-a", "list", "ruleset"}, volatile: nft},
		{name: "ipset", cmd: []string{"ipset", "save"}, volatile: strip("set elements grow old", ` timeout \d+`)},
		{name: "links", cmd: []string{"ip", "-d", "link"}, volatile: links},
		{name: "addresses", cmd: []string{"ip", "addr"}, volatile: strip("addresses learned from others grow old", `_lft \d+sec`)},
		{name: "rules", cmd: []string{"ip", "rule"}},
		{name: "IPv6 rules", cmd: []string{"ip", "-6", "rule"}},
		{name: "routes", cmd: []string{"ip", "route", "show", "table", "all"}, volatile: routes},
		{name: "IPv6 routes", cmd: []string{"ip", "-6", "route", "show", "table", "all"}, volatile: routes},
		{name: "neighbours", cmd: []string{"ip", "neigh"}, volatile: neighbours},
		{name: "forwarding database", cmd: []string{"bridge", "fdb"}},
		{name: "queueing and its programs", cmd: []string{"tc", "qdisc"}},
		{name: "settings", cmd: []string{"sysctl", "-a", "--pattern", `^net\.`}, volatile: sysctls},
	}
}

// take looks at a namespace. What is not there is said to be not there: that
// may not change either.
func (v view) take(ctx context.Context, ns *netns.Namespace) (string, error) {
	if v.onlyIf != "" {
		if names, err := readInside(ns, v.onlyIf); err != nil || strings.TrimSpace(names) == "" {
			return "no tables\n", err
		}
	}
	var text string
	var err error
	if v.file != "" {
		text, err = readInside(ns, v.file)
	} else {
		text, err = ns.Run(ctx, "", v.cmd[0], v.cmd[1:]...)
	}
	for _, s := range v.volatile {
		text = s.re.ReplaceAllString(text, "")
	}
	return text, err
}

// readInside reads a file of /proc inside a namespace; one that this kernel
// does not have reads as such.
func readInside(ns *netns.Namespace, path string) (text string, err error) {
	err = ns.Do(func() error {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			b, err = nil, nil
		}
		text = string(b)
		return err
	})
	return text, err
}

// picture is everything seen at one time, by namespace and view.
type picture map[string]string

// look takes a picture of the node and the pods on it.
func look(t *testing.T, e *cluster.Env) picture {
	t.Helper()
	pic := picture{}
	for name, ns := range places(e) {
		for _, v := range views() {
			text, err := v.take(t.Context(), ns)
			if err != nil {
				t.Fatalf("%s: %v", v.name, err)
			}
			pic[name+": "+v.name] = text
		}
	}
	return pic
}

// places are node1 and its two pods that the traffic runs between.
func places(e *cluster.Env) map[string]*netns.Namespace {
	all := map[string]*netns.Namespace{"node1": e.Node(1).Netns}
	for _, name := range []string{udp(0).Src, udp(0).Dst} {
		all[name] = e.Pod(name).Netns
	}
	return all
}

// same fails the test for every view that shows something else now.
func (was picture) same(t *testing.T, when string, now picture) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if was[key] != now[key] {
			t.Errorf("%s, %s:\n%s", when, key, difference(was[key], now[key]))
		}
	}
}

// difference lists the lines that only one of two texts has; if there are none,
// their order changed.
func difference(was, is string) string {
	count := map[string]int{}
	for line := range strings.Lines(was) {
		count[line]++
	}
	var out strings.Builder
	for line := range strings.Lines(is) {
		if count[line]--; count[line] < 0 {
			fmt.Fprintf(&out, "+ %s", line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		for range count[line] {
			fmt.Fprintf(&out, "- %s", line)
		}
	}
	if out.Len() == 0 {
		return "the same lines in another order"
	}
	return out.String()
}

// TestUnchanged compares pictures of a node of either kind: before, during and
// after a trace with traffic, and after one that was killed.
func TestUnchanged(t *testing.T) {
	p := readPlan(t)
	for _, d := range p.oneOfEachKind(cluster.CalicoLegacy, cluster.FlannelNFT) {
		t.Run(string(d), func(t *testing.T) {
			e := newEnv(t, cluster.Options{Dataplane: d})
			src, dst := ends(t, e, udp(0))
			stop := inBackground(t, e, udp(50*time.Millisecond))
			defer stop()
			look(t, e) // what the tools themselves change (modules, mostly) they change here
			before := look(t, e)
			wantLegacy(t, d, before)
			before.same(t, "before any trace: the test's own doing", look(t, e))

			tr := launchTrace(t, p, e, src, dst)
			time.Sleep(200 * time.Millisecond)
			before.same(t, "during a trace", look(t, e))
			tr.signal(t, syscall.SIGINT)
			if all := tr.verdict(t, p.detach()); all.summary.Forward.Delivered == 0 || all.summary.Return.Delivered == 0 {
				t.Errorf("there was no traffic to be traced: %+v", all.summary)
			}
			before.same(t, "after the verdict", look(t, e))
			tr.wait(t, p.detach())
			before.same(t, "after SIGINT", look(t, e))

			killTrace(t, p, e, src, dst)
			before.same(t, "after kill -9", look(t, e))
			stop()
			wantSharpEyes(t, e, before)
		})
	}
}

// wantLegacy makes sure that the two kinds of node are what the test is about:
// one has legacy tables, on the other nothing ever asked for one.
func wantLegacy(t *testing.T, d cluster.Dataplane, pic picture) {
	t.Helper()
	names := strings.Fields(pic["node1: legacy tables"])
	// Felix has the legacy tables in all its modes, empty ones in the nft modes
	if (len(names) > 0) != (d.Form() == cluster.FormLegacy || d.Kind() == cluster.Calico) {
		t.Fatalf("a %s node has the legacy tables %q", d, names)
	}
}

// wantSharpEyes makes sure that a change would have been seen: a rule, a route, a
// setting and a link.
func wantSharpEyes(t *testing.T, e *cluster.Env, before picture) {
	t.Helper()
	for _, c := range []struct {
		fault string
		views []string
	}{
		{"rule-drop", []string{"iptables-legacy-save", "iptables-nft-save"}},
		{"ip-forward-off", []string{"settings"}},
		{"interface-down", []string{"links", "routes"}},
	} {
		applied, err := fault.Break(t.Context(), e, c.fault, udp(0))
		if err != nil {
			t.Fatal(err)
		}
		now := look(t, e)
		if err := applied.Undo(); err != nil {
			t.Fatal(err)
		}
		seen := func(name string) bool { return before["node1: "+name] != now["node1: "+name] }
		if !slices.ContainsFunc(c.views, seen) {
			t.Errorf("%s changed none of %q: this test sees nothing", c.fault, c.views)
		}
	}
}

// killTrace kills a trace that has a command running and waits until nothing of
// it is left: no process, no BPF program, link or map.
func killTrace(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	t.Helper()
	tr := launchTrace(t, p, e, src, dst, "--", "sleep", "600")
	held, children := bpfHeldBy(t, tr.cmd.Process.Pid), childrenOf(t, tr.cmd.Process.Pid)
	for deadline := time.Now().Add(p.detach()); len(children) == 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		children = childrenOf(t, tr.cmd.Process.Pid) // the command starts once the trace is ready
	}
	if len(held["prog_id"]) == 0 || len(held["link_id"]) == 0 || len(held["map_id"]) == 0 {
		t.Fatalf("a running trace holds %v: programs, links and maps were expected", held)
	}
	if len(children) != 1 {
		t.Fatalf("a trace with a command has the children %v, want one", children)
	}
	tr.signal(t, syscall.SIGKILL)
	tr.wait(t, p.detach())
	within := pick(p, 15*time.Second, 60*time.Second)
	deadline := time.Now().Add(within) // the kernel frees late
	for {
		left := leftOf(t, held, children)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%v after kill -9 still there: %v", within, left)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var fdinfoID = regexp.MustCompile(`(?m)^(prog_id|link_id|map_id):\s*(\d+)$`)

// bpfHeldBy gives the ids of the BPF objects that a process has open, by kind:
// the kernel tells them in /proc/PID/fdinfo (kernel/bpf/syscall.c). Ids are not
// used again soon, so they tell ours from those of another trace.
func bpfHeldBy(t *testing.T, pid int) map[string][]uint32 {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	held := map[string][]uint32{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // closed just now
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fdinfoID.FindAllStringSubmatch(string(text), -1) {
			id, err := strconv.ParseUint(m[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(held[m[1]], uint32(id)) {
				held[m[1]] = append(held[m[1]], uint32(id))
			}
		}
	}
	return held
}

// childrenOf gives the processes that a process has started.
func childrenOf(t *testing.T, pid int) (children []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		children = append(children, strings.Fields(readFile(t, file))...)
	}
	return children
}

// leftOf lists what is still there.
func leftOf(t *testing.T, held map[string][]uint32, children []string) (left []string) {
	t.Helper()
	for kind, there := range map[string]func(uint32) (bool, error){
		"prog_id": func(id uint32) (bool, error) { return exists(ebpf.NewProgramFromID(ebpf.ProgramID(id))) },
		"map_id":  func(id uint32) (bool, error) { return exists(ebpf.NewMapFromID(ebpf.MapID(id))) },
		"link_id": func(id uint32) (bool, error) { return exists(link.NewFromID(link.ID(id))) },
	} {
		for _, id := range held[kind] {
			is, err := there(id)
			if err != nil {
				t.Fatalf("%s %d: %v", kind, id, err)
			}
			if is {
				left = append(left, fmt.Sprintf("%s %d", kind, id))
			}
		}
	}
	for _, pid := range children {
		switch stat, err := os.ReadFile("/proc/" + pid + "/stat"); {
		case err == nil && !strings.Contains(string(stat), ") Z "): // a zombie is init's to bury
			left = append(left, "process "+pid)
		case err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH):
			t.Fatal(err)
		}
	}
	return left
}

// exists tells whether an object could be opened, and lets go of it.
func exists[T interface{ Close() error }](object T, err error) (bool, error) {
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, object.Close()
}
