// SPDX-License-Identifier: Apache-2.0

package endpoint

// These tests resolve against a real kube-apiserver (testenv/apiserver), which
// holds the cluster of testdata/cluster.yaml. make test-apiserver runs them.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/apiserver"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// realCluster is a node and the API server that knows its pods and others'.
type realCluster struct {
	*nodetest.Cluster
	server *apiserver.Server
}

// startCluster starts a server with the test's cluster in it.
func startCluster(t *testing.T) realCluster {
	t.Helper()
	dir, err := apiserver.Find(os.Getenv)
	if errors.Is(err, apiserver.ErrAbsent) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	server, err := apiserver.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("kube-apiserver ready after %v", time.Since(began))
	for _, file := range []string{"../../docs/clusterrole.yaml", "testdata/cluster.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Apply(t.Context(), string(text)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if err := server.Delete(t.Context(), "Pod", "demo", "leaving", false); err != nil {
		t.Fatal(err)
	}
	return realCluster{clusterNode(t), server}
}

// as gives a user's kubeconfig.
func (c realCluster) as(t *testing.T, u apiserver.User) string {
	t.Helper()
	path, err := c.server.Kubeconfig(u)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// resolver asks with a kubeconfig; what it warns of is added to warned.
func (c realCluster) resolver(t *testing.T, kubeconfig string, warned *[]string) *Resolver {
	t.Helper()
	return resolverFor(t, c.Cluster, "n1", func(s *Sources) {
		s.Kubeconfig, s.Namespace = kubeconfig, "demo"
		s.Warn = func(line string) {
			if warned != nil {
				*warned = append(*warned, line)
			}
		}
	})
}

// apply changes the cluster.
func (c realCluster) apply(t *testing.T, manifests string) {
	t.Helper()
	if err := c.server.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

// TestRealAPI runs in order: what changes the cluster comes after what reads it,
// and what stops the server last.
func TestRealAPI(t *testing.T) {
	c := startCluster(t)
	for _, sub := range []struct {
		name string
		run  func(*testing.T, realCluster)
	}{
		{"pods", realPods},
		{"pods that are no ends", realPodsRefused},
		{"services", realServices},
		{"service details", realServiceDetails},
		{"names of addresses", realNames},
		{"not allowed", realForbidden},
		{"not known", realUnauthorized},
		{"a kubelet", realKubelet},
		{"the recorded server", realAsRecorded},
		{"the program", realProgram},
		{"moves", realMoves},
		{"long lists", realLongLists},
		{"no answer", realSilent},
		{"unreachable", realUnreachable},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.run(t, c) })
	}
}

func realPods(t *testing.T, c realCluster) {
	r := c.resolver(t, c.as(t, apiserver.Reader), nil)
	how := "Kubernetes API " + c.server.Host()
	for _, w := range []struct{ given, prefixes, netns, iface, node, how string }{
		{"web-0", "10.244.1.10/32 fd00:10:244:1::10/128", "p10", "cali10", "", how},
		{"demo/web-1", "10.244.2.10/32 fd00:10:244:2::10/128", "", "", "kp-node2", how + ", on node kp-node2"},
		{"prod/web-1", "10.244.2.12/32", "", "", "kp-node2", how + ", on node kp-node2"},
		{"pod:demo/six", "fd00:10:244:2::11/128", "", "", "kp-node2", how + ", on node kp-node2"},
		{"leaving", "10.244.2.15/32", "", "", "kp-node2", how + ", on node kp-node2"},
		{"no-image", "10.244.2.14/32", "", "", "kp-node2", how + ", on node kp-node2"},
		{"kube-system/proxy-1", "192.168.77.10/32", "n1", "", "", how + ", in the node's own network"},
		{"kube-system/proxy-2", "192.168.77.11/32", "", "", "kp-node2", how + ", on node kp-node2"},
	} {
		e := resolve(t, r, w.given)
		var netns uint32
		if w.netns != "" {
			netns = c.Inode(w.netns)
		}
		if words(e.Prefixes) != w.prefixes || e.Netns != netns || e.Interface != w.iface || e.Node != w.node || e.ResolvedBy != w.how {
			t.Errorf("%s: %+v", w.given, e)
		}
	}
}

// wantRefusals wants each end refused in one line that says so much.
func wantRefusals(t *testing.T, r *Resolver, refusals map[string]string) {
	t.Helper()
	for given, want := range refusals {
		_, err := r.Resolve(t.Context(), given)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s:\n got %v\nwant %s", given, err, want)
		}
	}
}

func realPodsRefused(t *testing.T, c realCluster) {
	asked := "not at the Kubernetes API " + c.server.Host()
	wantRefusals(t, c.resolver(t, c.as(t, apiserver.Reader), nil), map[string]string{
		"pending":    "pod demo/pending: it is Pending and has no address yet (Unschedulable: 0/2 nodes are available): wait until it runs",
		"new":        "pod demo/new: it is Pending and has no address yet: wait until it runs",
		"job":        "pod demo/job: it has ended (Succeeded): its address may be another pod's by now",
		"evicted":    "pod demo/evicted: it has ended (Failed): its address may be another pod's by now",
		"web-9":      asked + ": did you mean prod/web-9, demo/web-0, demo/web-1?",
		"web":        asked + ": did you mean demo/web-0, demo/web-1?",
		"demo/wb-0":  asked + ": did you mean demo/web-0",
		"none/web-9": asked + ": did you mean prod/web-9?", // no such namespace
	})
}

func realServices(t *testing.T, c realCluster) {
	var warned []string
	r := c.resolver(t, c.as(t, apiserver.Reader), &warned)
	p10, p11 := c.Inode("p10"), c.Inode("p11")
	for _, w := range []struct {
		given, prefixes, ready string
		netns                  []uint32
	}{
		{"svc/two", "10.96.10.2/32 10.244.1.10/32 10.244.2.10/32", "2 of 2", []uint32{p10}},
		{"demo/svc/dual", "10.96.10.20/32 fd00:10:96::20/128 10.244.1.10/32 10.244.2.10/32 fd00:10:244:1::10/128", "2 of 3", []uint32{p10}},
		{"svc:headless", "10.244.1.10/32 10.244.1.11/32", "2 of 2", []uint32{p10, p11}},
		{"svc/draining", "10.96.10.9/32 10.244.1.11/32", "0 of 1", []uint32{p11}},
		{"prod/svc/lb", "10.96.20.5/32 198.51.100.7/32 192.0.2.100/32", "0 of 0", nil},
		// The server's own, which it makes itself.
		{"default/svc/kubernetes", "10.96.0.1/32 192.0.2.1/32", "1 of 1", nil},
	} {
		e := resolve(t, r, w.given)
		slices.Sort(w.netns)
		if e.Kind != KindService || words(e.Prefixes) != w.prefixes || !slices.Equal(e.NetnsInodes, w.netns) ||
			e.ResolvedBy != fmt.Sprintf("Kubernetes API %s, %s backends ready", c.server.Host(), w.ready) {
			t.Errorf("%s: %+v", w.given, e)
		}
	}
	if want := []string{
		"service demo/draining: has no ready backend, so its packets will be refused",
		"service prod/lb: has no ready backend, so its packets will be refused",
	}; !slices.Equal(warned, want) {
		t.Errorf("%q", warned)
	}
	wantRefusals(t, r, map[string]string{
		"svc/tow":     "service demo/tow: not at the Kubernetes API " + c.server.Host() + " (6 services in demo)",
		"svc/dua":     "did you mean demo/dual?",
		"svc/lb":      "did you mean prod/lb?",
		"svc/outside": "service demo/outside: only another name for db.example.com",
		"svc/nothing": "service demo/nothing: headless and without endpoints",
	})
}

func realServiceDetails(t *testing.T, c realCluster) {
	r := c.resolver(t, c.as(t, apiserver.Reader), nil)
	s := resolve(t, r, "svc/two").Service
	if !slices.Equal(s.Ports, []ServicePort{{Name: "http", Proto: "tcp", Port: 80, Target: "web"}, {Name: "metrics", Proto: "tcp", Port: 9090, Target: "9091"}}) {
		t.Errorf("%+v", s.Ports)
	}
	b := s.Backends[0]
	slices.Sort(b.Ports) // the server may keep them in another order
	if len(s.Backends) != 2 || !slices.Equal(b.Ports, []uint16{8080, 9091}) || b.Pod != "demo/web-0" || !b.Ready || b.Node != "kp-node" {
		t.Errorf("%+v", s.Backends)
	}
	s = resolve(t, r, "svc/dual").Service
	if !slices.Equal(s.Ports, []ServicePort{{Proto: "tcp", Port: 80, Target: "8080", NodePort: 30080}}) {
		t.Errorf("%+v", s.Ports)
	}
	for _, b := range s.Backends {
		if b.Ready != (b.Pod == "demo/web-0") {
			t.Errorf("%+v", b)
		}
	}
}

func realNames(t *testing.T, c realCluster) {
	n := namesFor(t, c.resolver(t, c.as(t, apiserver.Reader), nil))
	if err := n.LearnCluster(t.Context()); err != nil {
		t.Error(err)
	}
	for addr, want := range map[string]string{
		"10.96.10.2": "demo/svc/two", "fd00:10:96::20": "demo/svc/dual", "192.0.2.100": "prod/svc/lb", "10.96.0.1": "default/svc/kubernetes",
		"192.168.77.11": "node kp-node2", "fd00:77::11": "node kp-node2", "192.168.77.10": "node", "10.96.10.3": "",
	} {
		if got := addressName(n, addr); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

// realForbidden asks with credentials that are good for nothing, and for less than
// is asked for.
func realForbidden(t *testing.T, c realCluster) {
	kubeconfig := c.as(t, apiserver.Nobody)
	r := c.resolver(t, kubeconfig, nil)
	cannot := func(kind, name string) string {
		return fmt.Sprintf(`cannot be asked with --kubeconfig %s (not allowed: %s: %s "%s" is forbidden: User "nobody" cannot get resource "%s" in API group "" in the namespace "demo")`,
			kubeconfig, c.server.Host(), kind, name, kind)
	}
	wantRefusals(t, r, map[string]string{
		"web-1":    cannot("pods", "web-1"),
		"svc/two":  cannot("services", "two"),
		"svc/none": cannot("services", "none"), // nobody learns that there is none
	})
	if err := namesFor(t, r).LearnCluster(t.Context()); !errors.Is(err, kube.ErrForbidden) {
		t.Errorf("%v", err)
	}
	// get without list: ends are found, near names are not.
	c.apply(t, `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: get, namespace: demo}, rules: [{apiGroups: [""], resources: [pods, services], verbs: [get]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: get, namespace: demo}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: get}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: nobody}]}`)
	var warned []string
	r = c.resolver(t, kubeconfig, &warned)
	awaitAllowed(t, r)
	if e := resolve(t, r, "svc/two"); words(e.Prefixes) != "10.96.10.2/32" {
		t.Errorf("%+v", e)
	}
	if want := `service demo/two: its backends are not known (not allowed: ` + c.server.Host() + `: endpointslices.discovery.k8s.io is forbidden: User "nobody" cannot list resource "endpointslices" in API group "discovery.k8s.io" in the namespace "demo"): packets are followed by its own addresses only`; len(warned) != 1 || warned[0] != want {
		t.Errorf("warned %q, want %q", warned, want)
	}
	wantRefusals(t, r, map[string]string{
		"web-9":      "not at the Kubernetes API " + c.server.Host(),
		"prod/web-9": `User "nobody" cannot get resource "pods" in API group "" in the namespace "prod"`,
	})
}

// awaitAllowed waits until a role that was just bound is heeded.
func awaitAllowed(t *testing.T, r *Resolver) {
	t.Helper()
	var err error
	for range 100 {
		if _, err = r.Resolve(t.Context(), "web-1"); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(err)
}

func realUnauthorized(t *testing.T, c realCluster) {
	kubeconfig := c.as(t, apiserver.Stranger)
	says := fmt.Sprintf("the Kubernetes API cannot be asked with --kubeconfig %s (credentials not accepted: %s: Unauthorized)", kubeconfig, c.server.Host())
	wantRefusals(t, c.resolver(t, kubeconfig, nil), map[string]string{
		"web-1":   says,
		"svc/two": "service demo/two: " + says + "; only the API knows services by name: name the service's address instead",
	})
}

// realKubelet asks as a node's kubelet does, whose credentials are what a node has:
// they are good for its own pods and for services, not for other nodes' pods.
func realKubelet(t *testing.T, c realCluster) {
	kubeconfig, err := c.server.KubeletConfig("kp-node")
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	r := c.resolver(t, kubeconfig, &warned)
	if e := resolve(t, r, "web-0"); e.Interface != "cali10" || e.Netns != c.Inode("p10") {
		t.Errorf("%+v", e)
	}
	if e := resolve(t, r, "svc/two"); words(e.Prefixes) != "10.96.10.2/32" || len(warned) != 1 || !strings.Contains(warned[0], "its backends are not known (not allowed: ") {
		t.Errorf("%+v, %q", e, warned)
	}
	_, err = r.Resolve(t.Context(), "web-1")
	t.Logf("another node's pod: %v", err)
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `not allowed: `+c.server.Host()+`: pods "web-1" is forbidden: User "system:node:kp-node" cannot get resource "pods"`) {
		t.Errorf("%v", err)
	}
}

// realMoves changes what ends stand for, as controllers do.
func realMoves(t *testing.T, c realCluster) {
	r := c.resolver(t, c.as(t, apiserver.Reader), nil)
	pod, service := resolve(t, r, "web-1"), resolve(t, r, "svc/two")
	for _, e := range []Endpoint{pod, service} {
		if _, change, err := r.Again(t.Context(), e); change != "" || err != nil {
			t.Errorf("%s: %q, %v", e.Given, change, err)
		}
	}
	if err := c.server.Delete(t.Context(), "Pod", "demo", "web-1", true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Again(t.Context(), pod); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "demo/web-1 is gone") {
		t.Errorf("%v", err)
	}
	c.apply(t, `{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: demo}, spec: {nodeName: kp-node, containers: [{name: c, image: i}]},
 status: {phase: Running, hostIP: 192.168.77.10, hostIPs: [{ip: 192.168.77.10}], podIP: 10.244.1.11, podIPs: [{ip: 10.244.1.11}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: two-abc, namespace: demo, labels: {kubernetes.io/service-name: two}}, addressType: IPv4,
 ports: [{name: http, port: 8080, protocol: TCP}], endpoints: [{addresses: [10.244.1.11], conditions: {ready: true}}]}`)
	for _, w := range []struct {
		was    Endpoint
		change string
	}{
		{pod, "demo/web-1 restarted: now 10.244.1.11 behind cali11 (was 10.244.2.10, fd00:10:244:2::10 on node kp-node2)"},
		{service, "demo/svc/two changed: now 10.96.10.2, 10.244.1.11 (was 10.96.10.2, 10.244.1.10, 10.244.2.10)"},
	} {
		if _, change, err := r.Again(t.Context(), w.was); change != w.change || err != nil {
			t.Errorf("%q, %v, want %q", change, err, w.change)
		}
	}
}

// realLongLists wants names from a list of more than a page.
func realLongLists(t *testing.T, c realCluster) {
	const pods = 501 // kube's pageSize and one
	work := make(chan int)
	failed := make(chan error, 8)
	for range cap(failed) {
		go func() {
			var err error
			for i := range work {
				if err == nil {
					err = c.server.Apply(t.Context(), fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: pod-%04d, namespace: crowd}, spec: {containers: [{name: c, image: i}]}}`, i))
				}
			}
			failed <- err
		}()
	}
	for i := range pods {
		work <- i
	}
	close(work)
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	r := c.resolver(t, c.as(t, apiserver.Reader), nil)
	wantRefusals(t, r, map[string]string{
		"crowd/pod-050":   ": did you mean crowd/pod-0050, ",
		"crowd/pod-05000": ": did you mean crowd/pod-0000, crowd/pod-0500, ", // the latter on the second page
	})
	client, err := r.cluster.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names, err := client.Names(t.Context(), "pods", "crowd", "")
	if err != nil || len(names) != pods {
		t.Errorf("%d names, %v", len(names), err)
	}
}

// unansweredWithin bounds what a server that does not answer may cost: one
// request's time-out, not one for each question.
const unansweredWithin = 8 * time.Second

func realSilent(t *testing.T, c realCluster) {
	r := c.resolver(t, c.as(t, apiserver.Reader), nil)
	resume, err := c.server.Pause()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := resume(); err != nil {
			t.Error(err)
		}
	}()
	wantUnreachable(t, r, c, unansweredWithin)
}

func realUnreachable(t *testing.T, c realCluster) {
	r := c.resolver(t, c.as(t, apiserver.Reader), nil)
	if err := c.server.Stop(); err != nil {
		t.Fatal(err)
	}
	wantUnreachable(t, r, c, time.Second)
}

// wantUnreachable wants one clear line for each of two questions, soon.
func wantUnreachable(t *testing.T, r *Resolver, c realCluster, within time.Duration) {
	t.Helper()
	began := time.Now()
	for _, given := range []string{"web-1", "svc/two"} {
		_, err := r.Resolve(context.Background(), given)
		t.Logf("%s: %v", given, err)
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "unreachable: "+c.server.Host()) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", given, err)
		}
	}
	if took := time.Since(began); took > within {
		t.Errorf("a server that does not answer costs %v", took)
	}
}
