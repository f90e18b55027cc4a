// SPDX-License-Identifier: Apache-2.0

package endpoint

// These tests resolve what only the API knows, against an API server with the
// objects of a recorded cluster (package kubetest).

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube/kubetest"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// clusterNode is the recorded cluster's kp-node with two of its pods.
func clusterNode(t *testing.T) *nodetest.Cluster {
	t.Helper()
	c := nodetest.New(t)
	c.Add("n1", "p10", "p11")
	c.In("n1", "ip link add br0 type bridge", "ip addr add 192.168.77.10/24 dev br0", "ip link set br0 up")
	c.CalicoPod("n1", "p10", "cali10", "10.244.1.10", "fd00:10:244:1::10")
	c.CalicoPod("n1", "p11", "cali11", "10.244.1.11", "")
	return c
}

func withAPI(t *testing.T, s *kubetest.Server) func(*Sources) {
	return func(o *Sources) { o.Kubeconfig = s.Kubeconfig(t, kubetest.Token) }
}

func TestPodsByAPI(t *testing.T) {
	c := clusterNode(t)
	pending := kubetest.NewPod("demo", "pending", "", "")
	pending.Status.Phase = "Pending"
	pending.Status.Conditions = append(pending.Status.Conditions, struct {
		Type    string `json:"type"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}{"PodScheduled", "False", "Unschedulable", "0/2 nodes are available"})
	ended := kubetest.NewPod("demo", "job", "kp-node", "192.168.77.10", "10.244.1.10")
	ended.Status.Phase = "Succeeded"
	leaving := kubetest.NewPod("demo", "leaving", "kp-node2", "192.168.77.11", "10.244.2.11")
	leaving.Metadata.DeletionTimestamp = &time.Time{}
	hostHere, hostThere := kubetest.NewPod("kube-system", "proxy-1", "kp-node", "192.168.77.10", "192.168.77.10"), kubetest.NewPod("kube-system", "proxy-2", "kp-node2", "192.168.77.11", "192.168.77.11")
	hostHere.Spec.HostNetwork, hostThere.Spec.HostNetwork = true, true
	server := kubetest.Serve(t, pending, ended, leaving, hostHere, hostThere,
		kubetest.NewPod("demo", "web-0", "kp-node", "192.168.77.10", "10.244.1.10", "fd00:10:244:1::10"),
		kubetest.NewPod("demo", "web-1", "kp-node2", "192.168.77.11", "10.244.2.10", "fd00:10:244:2::10"),
		kubetest.NewPod("demo", "six", "kp-node2", "fd00:77::11", "fd00:10:244:2::11"),
		kubetest.NewPod("prod", "web-9", "kp-node2", "192.168.77.11", "10.244.2.12"),
	)
	r := resolverFor(t, c, "n1", withAPI(t, server))
	how := "Kubernetes API " + server.Host()
	for _, w := range []struct{ given, prefixes, netns, iface, node, how string }{
		{"demo/web-0", "10.244.1.10/32 fd00:10:244:1::10/128", "p10", "cali10", "", how},
		{"demo/web-1", "10.244.2.10/32 fd00:10:244:2::10/128", "", "", "kp-node2", how + ", on node kp-node2"},
		{"demo/six", "fd00:10:244:2::11/128", "", "", "kp-node2", how + ", on node kp-node2"},
		{"pod:demo/leaving", "10.244.2.11/32", "", "", "kp-node2", how + ", on node kp-node2"},
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
	for given, want := range map[string]string{
		"demo/pending": "pod demo/pending: it is Pending and has no address yet (Unschedulable: 0/2 nodes are available): wait until it runs",
		"demo/job":     "pod demo/job: it has ended (Succeeded): its address may be another pod's",
		"demo/web-9":   "not at the Kubernetes API " + server.Host() + ": did you mean prod/web-9, demo/web-0, demo/web-1?",
		"demo/web":     ": did you mean demo/web-0, demo/web-1?",
	} {
		_, err := r.Resolve(context.Background(), given)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s:\n got %v\nwant %s", given, err, want)
		}
	}
}

func TestAPIRefuses(t *testing.T) {
	c := clusterNode(t)
	server := kubetest.Serve(t, kubetest.NewPod("demo", "web-0", "kp-node2", "192.168.77.11", "10.244.2.10"))
	server.Forbidden = []string{"pods", "services"}
	r := resolverFor(t, c, "n1", withAPI(t, server))
	for _, given := range []string{"demo/web-0", "demo/svc/one"} {
		_, err := r.Resolve(context.Background(), given)
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "cannot be asked with --kubeconfig") || !strings.Contains(err.Error(), "not allowed: "+server.Host()+": ") {
			t.Errorf("%s: %v", given, err)
		}
	}
	// Slices that may not be read: the service's own addresses are enough.
	server.Forbidden = []string{"endpointslices"}
	var warned []string
	r = resolverFor(t, c, "n1", withAPI(t, server), func(s *Sources) { s.Warn = func(line string) { warned = append(warned, line) } })
	if e := resolve(t, r, "demo/svc/two"); words(e.Prefixes) != "10.96.10.2/32" || len(warned) != 1 || !strings.Contains(warned[0], "its backends are not known") {
		t.Errorf("%+v, %q", e, warned)
	}
	server.Close()
	r = resolverFor(t, c, "n1", withAPI(t, server))
	began := time.Now()
	for range 2 {
		_, err := r.Resolve(context.Background(), "demo/web-0")
		if err == nil || !strings.Contains(err.Error(), "unreachable: "+server.Host()) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an unreachable server takes %v", took)
	}
}

// The API is not asked for what the node knows.
func TestAPIComesLast(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	server := kubetest.Serve(t)
	r := resolverFor(t, c, "n1", withCache(dir), withAPI(t, server))
	resolve(t, r, "client")
	if namesFor(t, r); len(server.Asked) > 0 {
		t.Errorf("asked for %q", server.Asked)
	}
}

// The kubelet's own credentials are used, found below the host's root through
// its absolute link. They are good for the node's own pods.
func TestKubeletsCredentials(t *testing.T) {
	c := clusterNode(t)
	server := kubetest.Serve(t, kubetest.NewPod("demo", "web-0", "kp-node", "192.168.77.10", "10.244.1.10"))
	root := mountedHost(t)
	if err := errors.Join(os.MkdirAll(root+"/var/lib/kubelet/pki", 0o700), os.Symlink("/var/lib/kubelet/pki/config-1", root+"/var/lib/kubelet/kubeconfig")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(server.Kubeconfig(t, kubetest.Token))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "var/lib/kubelet/pki/config-1"), string(text))
	r := resolverFor(t, c, "n1", func(s *Sources) { s.HostRoot = root })
	if e := resolve(t, r, "demo/web-0"); e.Interface != "cali10" {
		t.Errorf("%+v", e)
	}
}

func TestServices(t *testing.T) {
	c := clusterNode(t)
	server := kubetest.Serve(t)
	outside := kube.Service{Metadata: kube.Metadata{Namespace: "demo", Name: "outside"}}
	outside.Spec.Type, outside.Spec.ExternalName = "ExternalName", "db.example.com"
	nothing := kube.Service{Metadata: kube.Metadata{Namespace: "demo", Name: "nothing"}}
	nothing.Spec.ClusterIP = "None"
	server.Services = []kube.Service{outside, nothing}
	var warned []string
	r := resolverFor(t, c, "n1", withAPI(t, server), func(s *Sources) {
		s.Namespace = "demo"
		s.Warn = func(line string) { warned = append(warned, line) }
	})
	p10, p11 := c.Inode("p10"), c.Inode("p11")
	for _, w := range []struct {
		given, prefixes, ready string
		netns                  []uint32
	}{
		{"svc/two", "10.96.10.2/32 10.244.1.10/32 10.244.2.10/32", "2 of 2", []uint32{p10}},
		{"svc:one", "10.96.10.1/32 10.244.1.10/32", "1 of 1", []uint32{p10}},
		{"demo/svc/dualstack", "10.96.10.20/32 fd00:10:96::20/128 10.244.1.10/32 10.244.2.10/32 fd00:10:244:1::10/128 fd00:10:244:2::10/128", "4 of 4", []uint32{p10}},
		{"svc/headless", "10.244.1.10/32 10.244.1.11/32", "2 of 2", []uint32{p10, p11}},
		{"svc:prod/lb", "10.96.20.5/32 192.0.2.100/32 10.244.1.10/32 10.244.2.10/32", "2 of 2", []uint32{p10}},
		{"prod/svc/extip", "10.96.20.7/32 198.51.100.7/32 10.244.1.10/32 10.244.2.10/32", "2 of 2", []uint32{p10}},
		{"svc/draining", "10.96.10.9/32 10.244.1.11/32", "0 of 1", []uint32{p11}},
		{"svc/empty", "10.96.10.4/32", "0 of 0", nil},
	} {
		e := resolve(t, r, w.given)
		slices.Sort(w.netns)
		if e.Kind != KindService || words(e.Prefixes) != w.prefixes || !slices.Equal(e.NetnsInodes, w.netns) || e.Netns != 0 ||
			e.ResolvedBy != fmt.Sprintf("Kubernetes API %s, %s backends ready", server.Host(), w.ready) {
			t.Errorf("%s: %+v", w.given, e)
		}
	}
	if want := []string{"service demo/draining: has no ready backend, so its packets will be refused", "service demo/empty: has no ready backend, so its packets will be refused"}; !slices.Equal(warned, want) {
		t.Errorf("%q", warned)
	}
	for given, want := range map[string]string{
		"svc/tow":      "service demo/tow: not at the Kubernetes API " + server.Host(),
		"svc/kube-dns": "did you mean kube-system/kube-dns?",
		"svc/outside":  "only another name for db.example.com",
		"svc/nothing":  "headless and without endpoints",
	} {
		if _, err := r.Resolve(context.Background(), given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", given, err, want)
		}
	}
}

// What stands behind a service's addresses.
func TestServiceDetails(t *testing.T) {
	c := clusterNode(t)
	r := resolverFor(t, c, "n1", withAPI(t, kubetest.Serve(t)))
	s := resolve(t, r, "prod/svc/dual-port").Service
	if len(s.Ports) != 2 || s.Ports[0] != (ServicePort{Name: "http", Proto: "tcp", Port: 80, Target: "web"}) {
		t.Errorf("%+v", s.Ports)
	}
	if b := s.Backends[0]; len(s.Backends) != 2 || !slices.Equal(b.Ports, []uint16{8080, 9091}) || b.Pod != "prod/dual-port-0" || !b.Ready || b.Node != "kp-node" {
		t.Errorf("%+v", s.Backends)
	}
	if s = resolve(t, r, "prod/svc/web-nodeport").Service; s.Ports[0].NodePort != 30080 || s.Ports[0].Target != "8080" {
		t.Errorf("%+v", s.Ports)
	}
}

// A service with more backends than the kernel half has room for.
func TestLargeService(t *testing.T) {
	c := clusterNode(t)
	server := kubetest.Serve(t)
	big := kube.Service{Metadata: kube.Metadata{Namespace: "demo", Name: "big"}}
	big.Spec.ClusterIP = "10.96.0.99"
	slice := kube.EndpointSlice{Metadata: big.Metadata}
	for i := range 40 {
		slice.Endpoints = append(slice.Endpoints, kube.SliceEndpoint{Addresses: []string{fmt.Sprintf("10.250.0.%d", i+1)}})
	}
	server.Services, server.Slices = []kube.Service{big}, []kube.EndpointSlice{slice}
	var warned []string
	r := resolverFor(t, c, "n1", withAPI(t, server), func(s *Sources) { s.Warn = func(line string) { warned = append(warned, line) } })
	e := resolve(t, r, "demo/svc/big")
	if len(e.Prefixes) != MaxPrefixes || e.Prefixes[0].String() != "10.96.0.99/32" || len(e.Service.Backends) != 40 {
		t.Errorf("%+v", e)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "has 40 backends; packets to 25 of them") {
		t.Errorf("%q", warned)
	}
}

func TestLearnCluster(t *testing.T) {
	c := clusterNode(t)
	server := kubetest.Serve(t)
	n := namesFor(t, resolverFor(t, c, "n1", withAPI(t, server)))
	server.Forbidden = []string{"nodes"}
	if err := n.LearnCluster(context.Background()); !errors.Is(err, kube.ErrForbidden) {
		t.Errorf("%v", err)
	}
	for addr, want := range map[string]string{"10.96.0.10": "kube-system/svc/kube-dns", "192.0.2.100": "prod/svc/lb", "192.168.77.11": "", "192.168.77.10": "node"} {
		if got := addressName(n, addr); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	server.Forbidden = nil
	if err := n.LearnCluster(context.Background()); err != nil {
		t.Error(err)
	}
	if got := addressName(n, "192.168.77.11"); got != "node kp-node2" {
		t.Errorf("%q", got)
	}
	if got, ok := n.Address(netip.MustParseAddr("192.168.77.12")); ok {
		t.Errorf("%q", got)
	}
}
