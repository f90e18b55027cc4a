// SPDX-License-Identifier: Apache-2.0

package doctor

// These tests let the doctor look at test nodes of every kind, and compare what
// it counts with what the tools of each backend list there.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// look examines a test node.
func look(t *testing.T, e *cluster.Env) *Report {
	t.Helper()
	n := e.Node(1)
	ns, err := node.OpenNamespaces(n.Netns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	names := endpoint.NewResolverWith(ns, endpoint.Sources{CNICache: n.CNICache, CRISocket: "/nonexistent/cri.sock"})
	defer names.Close()
	return Collect(context.Background(), "test", ns, names)
}

// lines counts the lines of a tool's output, run in the node, that match.
func lines(t *testing.T, e *cluster.Env, pattern string, tool ...string) int {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + e.Node(1).Netns.Path}, tool...)...).Output()
	if err != nil {
		t.Fatalf("%q: %v", tool, err)
	}
	return len(regexp.MustCompile("(?m)"+pattern).FindAll(out, -1))
}

func TestNodes(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	for _, d := range cluster.Dataplanes() {
		t.Run(string(d), func(t *testing.T) {
			e, err := cluster.New(t.Context(), cluster.Options{Dataplane: d, KubeProxy: true})
			if errors.Is(err, cluster.ErrLacking) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}()
			r := look(t, e)
			checkDataplane(t, r, d)
			checkRules(t, r, e)
			if r.Node == nil || !slices.Contains(r.Node.Addresses, e.Node(1).Addr.String()) || !slices.Equal(r.Node.Uplinks, []string{"eth0"}) || r.Node.PodNetns != len(e.Pods) {
				t.Errorf("node: %+v", r.Node)
			}
			var pods []string
			for _, p := range e.Pods {
				pods = append(pods, p.FullName())
			}
			slices.Sort(pods)
			if cache := r.Names[0]; !slices.Equal(cache.Pods, pods) || cache.Where != filepath.Join(e.Node(1).CNICache, "results") {
				t.Errorf("CNI cache: %+v, want %q", cache, pods)
			}
			checkForms(t, r)
		})
	}
}

// checkDataplane wants who built the network, and in which form the rules are.
func checkDataplane(t *testing.T, r *Report, d cluster.Dataplane) {
	t.Helper()
	want := map[cluster.Kind]string{cluster.Calico: "Calico", cluster.Flannel: "flannel"}[d.Kind()]
	var got []string
	for _, c := range r.CNI {
		got = append(got, c.Name+" "+strings.Join(c.Modes, "+"))
	}
	proxy := "kube-proxy " + string(d.Form())
	if d.IPVS() {
		proxy = "kube-proxy ipvs+" + string(d.Form())
	}
	if both := []string{want + " " + string(d.Form()), proxy}; !slices.Equal(got, both) {
		t.Errorf("recognised %q, want %q", got, both)
	}
}

// checkRules compares the counts with iptables-legacy-save, ip6tables-legacy-save
// and nft. Tables that are not there are not asked for: that would make them.
func checkRules(t *testing.T, r *Report, e *cluster.Env) {
	t.Helper()
	legacy := 0
	for _, tool := range []struct{ save, names string }{{"iptables-legacy-save", "ip_tables_names"}, {"ip6tables-legacy-save", "ip6_tables_names"}} {
		if lines(t, e, `.`, "cat", "/proc/net/"+tool.names) > 0 {
			legacy += lines(t, e, `^-A `, tool.save)
		}
	}
	nft := lines(t, e, `# handle \d+$`, "nft", "-a", "list", "ruleset") - lines(t, e, `\{ # handle \d+$`, "nft", "-a", "list", "ruleset")
	if got := r.Rules[0].Rules; got != legacy {
		t.Errorf("%d legacy rules, iptables-legacy-save lists %d", got, legacy)
	}
	if got := r.Rules[1].Rules; got != nft {
		t.Errorf("%d nft rules, nft lists %d", got, nft)
	}
	if legacy+nft == 0 {
		t.Error("no rules to compare")
	}
}

// checkForms prints the report both ways.
func checkForms(t *testing.T, r *Report) {
	t.Helper()
	r.Backends = []Backend{{Name: "fentry", Why: "refused"}, {Name: "tracepoint", OK: true, Hooks: 9, Missed: []Missed{{"x", "y"}}}}
	var text, object bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"backend fentry ", "no: refused\n", "yes: 9 hooks", "without x: y\n", "default/client\n", "kube-proxy (", "names: Kubernetes API"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("lacks %q:\n%s", want, text.String())
		}
	}
	if err := r.WriteJSON(&object); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || back.Type != "doctor" || len(back.Names) != 4 || bytes.Count(object.Bytes(), []byte("\n")) != 1 {
		t.Errorf("%v: %s", err, object.String())
	}
	if !r.Healthy() {
		t.Error("not healthy with one backend")
	}
}

// A node that cannot be looked at is still told about as far as possible.
func TestNoNode(t *testing.T) {
	r := Collect(context.Background(), "test", nil, nil)
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || r.Healthy() || !strings.Contains(text.String(), "kernel ") || strings.Contains(text.String(), "network ") {
		t.Errorf("%v:\n%s", err, text.String())
	}
}

// Rules of one program in both backends: one half is stale, and both act.
func TestSplitRules(t *testing.T) {
	facts := ruleFacts{chains: []chain{{"legacy", "ip", "filter", "cali-FORWARD"}, {"nft", "ip", "filter", "cali-FORWARD"}, {"nft", "ip", "filter", "cali-INPUT"}, {"nft", "ip", "mine", "KUBE"}}}
	found := recognise([]node.Link{{Name: "tunl0"}, {Name: "lo"}}, facts)
	if len(found) != 1 || found[0].Name != "Calico" || !slices.Equal(found[0].Modes, []string{"legacy", "nft"}) || !slices.Equal(found[0].Evidence, []string{"tunl0", "1 legacy chains", "2 nft chains"}) {
		t.Errorf("%+v", found)
	}
	if found := recognise([]node.Link{{Name: "tunl0"}, {Name: "eth0"}}, ruleFacts{}); len(found) > 0 {
		t.Errorf("of tunl0 alone: %+v", found)
	}
	if found := recognise([]node.Link{{Name: "cilium_host"}, {Name: "kube-ipvs0"}}, ruleFacts{}); len(found) != 2 || found[0].Modes[0] != "ipvs" || found[1].Covered {
		t.Errorf("%+v", found)
	}
}
