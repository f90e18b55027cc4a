// SPDX-License-Identifier: Apache-2.0

package scenario

// Somebody changes the node under a trace: what changed is told, who did it where
// the backend sees it, and the findings name him and what it cost.

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// TestWhoDidIt has one interface flap by netlink and by ioctl, and one of the
// agents killed, under one trace.
func TestWhoDidIt(t *testing.T) {
	p := readPlan(t)
	for _, d := range p.oneOfEachKind(cluster.CalicoLegacy) {
		if d.Kind() != cluster.Calico {
			continue // it is the same on all nodes, and only Calico's lose their routes
		}
		t.Run(string(d), func(t *testing.T) { whoDidIt(t, p, newEnv(t, cluster.Options{Dataplane: d})) })
	}
}

// act is one fault under the trace.
type act struct {
	fault    string
	by       int // process
	victim   int
	turns    int
	from, to time.Time
}

func whoDidIt(t *testing.T, p plan, e *cluster.Env) {
	way := traffic.Spec{Proto: "icmp", Src: "default/client", Dst: "default/server", Count: 1, Timeout: 100 * time.Millisecond}
	src, dst := ends(t, e, way)
	tr, err := StartTrace(t.Context(), p.bin, "--backend", p.backend, "--netns", e.Node(1).Netns.Path, "--src", src, "--dst", dst)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Kill()
	var acts []act
	for _, name := range []string{"interface-flaps", "interface-flaps-ioctl", "calico-node-restart"} {
		acts = append(acts, during(t, p, e, way, name))
	}
	sum, err := tr.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if sum.LostChanges > 0 {
		t.Errorf("%d times changes were lost", sum.LostChanges)
	}
	for _, e := range tr.NodeEvents() {
		t.Logf("told: %s %s", e.Time.Format("15:04:05.000"), e.Text)
	}
	pod := e.Pod(way.Dst)
	seesDoers := p.backend == "fentry"
	for _, a := range acts[:2] {
		checkFlaps(t, a, within(tr.NodeEvents(), a), pod.HostInterface, seesDoers)
	}
	checkRestart(t, acts[2], within(tr.NodeEvents(), acts[2]), dst, otherPod(t, e, way), seesDoers)
	checkWho(t, acts, tr.Findings(), pod.HostInterface, dst, seesDoers)
}

// unfolded is how long a kind of change must be quiet to be told one by one again.
const unfolded = 6 * time.Second

// during makes a fault for a while, with way, and mends it.
func during(t *testing.T, p plan, e *cluster.Env, way traffic.Spec, name string) act {
	t.Helper()
	a := act{fault: name, from: time.Now()}
	applied, err := fault.Break(t.Context(), e, name, way)
	if err != nil {
		t.Fatal(err)
	}
	a.by, a.victim = applied.By, applied.Victim
	for end := time.Now().Add(pick(p, 2*time.Second, 5*time.Second)); time.Now().Before(end); {
		if _, err := traffic.Send(t.Context(), e, way); err != nil {
			t.Error(err)
		}
	}
	if applied.Turns != nil {
		a.turns = applied.Turns()
	}
	settle(p) // what was done by now is to be told as of before a.to
	a.to = time.Now()
	if err := applied.Undo(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(unfolded)
	return a
}

// within gives the changes of an act's time.
func within(all []model.NodeEvent, a act) (out []model.NodeEvent) {
	for _, e := range all {
		if !e.Time.Before(a.from) && !e.Time.After(a.to) {
			out = append(out, e)
		}
	}
	return out
}

// otherPod is the address of a pod of the node that has no part in the way.
func otherPod(t *testing.T, e *cluster.Env, way traffic.Spec) string {
	t.Helper()
	for _, pod := range e.Pods {
		if pod.Node.Number == 1 && pod.FullName() != way.Src && pod.FullName() != way.Dst {
			return pod.IPv4.String()
		}
	}
	t.Fatal("the node has no third pod")
	return ""
}

func ofWhat(all []model.NodeEvent, what string) (out []model.NodeEvent) {
	for _, e := range all {
		if e.What == what {
			out = append(out, e)
		}
	}
	return out
}

// checkFlaps wants the interface told down and up, by its doer where he is seen,
// and all of its turns, however they are folded.
func checkFlaps(t *testing.T, a act, changes []model.NodeEvent, iface string, seesDoers bool) {
	t.Helper()
	downs, ups, turns := ofWhat(changes, model.LinkDown), ofWhat(changes, model.LinkUp), 0
	for _, e := range append(slices.Clone(downs), ups...) {
		turns += max(1, e.Times)
		if e.Object != iface {
			t.Errorf("%s: %s is told of: %s", a.fault, e.Object, e.Text)
		}
		by := fmt.Sprintf("by netscript (pid %d, started by %s", a.by, processName())
		switch {
		case seesDoers && (e.By == nil || int(e.By.PID) != a.by || e.By.Comm != fault.Flapper || int(e.By.ParentPID) != os.Getpid() || !strings.Contains(e.Text, by)):
			t.Errorf("%s: want %q: %s", a.fault, by, e.Text)
		case !seesDoers && (e.By != nil || !strings.Contains(e.Text, "who did it cannot be seen with this backend")):
			t.Errorf("%s: the doer is not seen, and that is to be said: %s", a.fault, e.Text)
		}
	}
	if len(downs) == 0 || len(ups) == 0 {
		t.Errorf("%s: %d times told DOWN, %d times UP", a.fault, len(downs), len(ups))
	}
	if a.turns < 4 || turns < a.turns {
		t.Errorf("%s: %d turns told, %d were made", a.fault, turns, a.turns)
	}
	first := downs[:min(1, len(downs))]
	if len(first) == 1 && !strings.Contains(first[0].Text, "went with it") {
		t.Errorf("%s: the pod's route went with its interface: %s", a.fault, first[0].Text)
	}
}

// processName is the name of this process as the kernel has it.
func processName() string {
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(name))
}

// checkRestart wants the end of the agent told with its killer, and the route.
func checkRestart(t *testing.T, a act, changes []model.NodeEvent, dst, other string, seesDoers bool) {
	t.Helper()
	ends := ofWhat(changes, model.ProcessExit)
	if len(ends) != 1 {
		t.Fatalf("%d ends of processes told, want that of calico-node", len(ends))
	}
	end := ends[0]
	if end.Object != fault.Agent || int(end.PID) != a.victim || end.Signal != "SIGKILL" || end.By == nil || int(end.By.PID) != a.by || end.By.Comm != fault.Killer {
		t.Errorf("want %s (pid %d) ended by SIGKILL from %s (pid %d): %+v", fault.Agent, a.victim, fault.Killer, a.by, end)
	}
	routes := ofWhat(changes, model.RouteDeleted)
	for _, e := range routes {
		if by := e.By; seesDoers && (by == nil || by.Comm != "ip" || int(by.ParentPID) != a.by || by.Parent != fault.Killer) {
			t.Errorf("want the route deleted by ip, started by %s (pid %d): %s", fault.Killer, a.by, e.Text)
		}
	}
	of := func(addr string) bool {
		return slices.ContainsFunc(routes, func(e model.NodeEvent) bool { return e.Object == addr+"/32" })
	}
	if !of(dst) || of(other) {
		t.Errorf("want the route to %s told as deleted, and not that to %s: %+v", dst, other, routes)
	}
}

// checkWho wants the two causes found, named and counted, and nothing else.
func checkWho(t *testing.T, acts []act, findings []model.Finding, iface, dst string, seesDoers bool) {
	t.Helper()
	for _, f := range findings {
		text := f.Summary + "\n" + strings.Join(f.Evidence, "\n")
		t.Logf("%s %s %v: %s", f.Code, f.Confidence, f.Packets, text)
		var want []string
		switch f.Code {
		case "interface-down":
			want = []string{iface, "again and again", "times and UP"}
			if seesDoers {
				want = append(want, fmt.Sprintf("netscript (pid %d", acts[0].by), fmt.Sprintf("netscript (pid %d", acts[1].by))
			}
		case "calico-node-restart":
			want = []string{fmt.Sprintf("calico-node (pid %d) was ended by SIGKILL from node-upgrade (pid %d)", acts[2].victim, acts[2].by), "routes that went: ", dst + "/32"}
		default:
			t.Errorf("false alarm: %s", f.Code)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s does not tell %q", f.Code, w)
			}
		}
		if len(f.Packets) == 0 || seesDoers && f.Confidence != "certain" {
			t.Errorf("%s: %s, packets %v: want it certain, and the packets it cost", f.Code, f.Confidence, f.Packets)
		}
	}
	for _, code := range []string{"interface-down", "calico-node-restart"} {
		if !slices.ContainsFunc(findings, func(f model.Finding) bool { return f.Code == code }) {
			t.Errorf("no finding %s; found: %s", code, codes(findings))
		}
	}
}
