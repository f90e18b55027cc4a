// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
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
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func namesFor(t *testing.T, r *Resolver) *Names {
	t.Helper()
	n, err := r.Names(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func addressName(n *Names, addr string) string {
	name, ok := n.Address(netip.MustParseAddr(addr))
	if ok != (name != "") {
		return fmt.Sprintf("%q %t", name, ok)
	}
	return name
}

func TestNames(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.Add("stranger")
	n := namesFor(t, resolverFor(t, c, "n1", withCache(dir)))
	for _, p := range calicoPods {
		if got := n.Place(c.Inode(p.netns)); got != p.pod {
			t.Errorf("place of %s: %s", p.pod, got)
		}
		if got, ok := n.Interface(p.iface); got != p.pod || !ok {
			t.Errorf("interface of %s: %s", p.pod, got)
		}
		if got := addressName(n, p.addr4); got != p.pod {
			t.Errorf("address of %s: %s", p.pod, got)
		}
		// Not in the recorded cache, but the node has a route to it.
		if p.addr6 != "" && addressName(n, p.addr6) != p.pod {
			t.Errorf("IPv6 address of %s: %s", p.pod, addressName(n, p.addr6))
		}
	}
	for addr, want := range map[string]string{"172.30.0.1": "node", "127.0.0.1": "", "8.8.8.8": "", "::ffff:192.168.166.131": "prod/db"} {
		if got := addressName(n, addr); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	for _, a := range []string{"172.30.0.1", calicoPods[0].addr4} {
		if all := n.Addresses(); !slices.Contains(all, netip.MustParseAddr(a)) {
			t.Errorf("%s is not among the addresses %v", a, all)
		}
	}
	if got := n.Place(c.Inode("n1")); got != "node" {
		t.Errorf("the node: %s", got)
	}
	if got := n.Place(c.Inode("stranger")); got != c.Name("stranger") {
		t.Errorf("a namespace that is no pod's: %s", got)
	}
	if got, ok := n.Interface("eth0"); ok {
		t.Errorf("eth0: %s", got)
	}
}

// Two pods with one address: neither is named by it, both are by their place.
func TestNamesInDoubt(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.Add("twin")
	c.In("n1", "ip link add calitwin type veth peer name eth0 netns @twin")
	put(t, filepath.Join(dir, "twin"), cacheEntry("id9", "default", "twin", c.Path("twin"), "calitwin", "192.168.166.131"))
	n := namesFor(t, resolverFor(t, c, "n1", withCache(dir)))
	if got := addressName(n, "192.168.166.131"); got != "" {
		t.Errorf("of two: %s", got)
	}
	if n.Place(c.Inode("twin")) != "default/twin" || n.Place(c.Inode("rc-db")) != "prod/db" {
		t.Errorf("%s %s", n.Place(c.Inode("twin")), n.Place(c.Inode("rc-db")))
	}
}

// restart replaces a pod as a runtime does: new namespace, interface, address
// and cache entry.
func restart(t *testing.T, c *nodetest.Cluster, dir, addr string) {
	t.Helper()
	// as a CNI plugin does: a namespace's end takes its veth away only when the
	// kernel gets to it, and the new pod's has the same name
	c.In("n1", "ip link del calia7a3e029a7b")
	c.Delete("rc-client")
	c.Add("rc-client2")
	c.CalicoPod("n1", "rc-client2", "calia7a3e029a7b", addr, "")
	old, err := filepath.Glob(filepath.Join(dir, "*a019bf6a75f61bc17c28-eth0"))
	if err != nil || len(old) != 1 {
		t.Fatalf("%q, %v", old, err)
	}
	if err := os.Remove(old[0]); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "new"), cacheEntry("id2", "default", "client", c.Path("rc-client2"), "calia7a3e029a7b", addr))
}

// A pod that is restarted during the trace is found again, by name and place.
func TestRestart(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	r := resolverFor(t, c, "n1", withCache(dir))
	n := namesFor(t, r)
	old := resolve(t, r, "client")
	if _, change, err := r.Again(context.Background(), old); change != "" || err != nil {
		t.Errorf("nothing happened: %q, %v", change, err)
	}
	restart(t, c, dir, "192.168.166.150")
	now, change, err := r.Again(context.Background(), old)
	const want = "default/client restarted: now 192.168.166.150 behind calia7a3e029a7b (was 192.168.166.129, fd00:1::129 behind calia7a3e029a7b)"
	if err != nil || change != want || now.Netns != c.Inode("rc-client2") {
		t.Errorf("%+v, %q, %v", now, change, err)
	}
	n.refreshed = n.refreshed.Add(-refreshEvery) // instead of waiting for it
	if got := n.Place(c.Inode("rc-client2")); got != "default/client" {
		t.Errorf("place of the new one: %s", got)
	}
	if got := addressName(n, "192.168.166.150"); got != "default/client" {
		t.Errorf("address of the new one: %s", got)
	}
	if err := os.Remove(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	c.In("n1", "ip link del calia7a3e029a7b")
	if _, _, err := r.Again(context.Background(), now); err == nil || !strings.HasPrefix(err.Error(), "default/client is gone: ") {
		t.Errorf("gone: %v", err)
	}
}

// A service whose backends change is told, and those it has no more lose the
// name that they had by it; so does a pod of another node that has moved.
func TestServiceChanges(t *testing.T) {
	c := clusterNode(t)
	server := kubetest.Serve(t, kubetest.NewPod("demo", "far", "kp-node2", "192.168.77.11", "10.244.2.7"))
	svc := kube.Service{Metadata: kube.Metadata{Namespace: "demo", Name: "moving"}}
	svc.Spec.ClusterIP = "10.96.0.77"
	backend := func(addr, pod string) {
		server.Lock()
		defer server.Unlock()
		server.Slices = []kube.EndpointSlice{{Metadata: svc.Metadata, Endpoints: []kube.SliceEndpoint{{
			Addresses: []string{addr}, TargetRef: &kube.ObjectReference{Kind: "Pod", Namespace: "demo", Name: pod},
		}}}}
	}
	server.Services = []kube.Service{svc}
	backend("10.244.2.20", "old")
	r := resolverFor(t, c, "n1", withAPI(t, server))
	n := namesFor(t, r)
	was, far := resolve(t, r, "demo/svc/moving"), resolve(t, r, "demo/far")
	n.Learn(was)
	n.Learn(far)
	backend("10.244.2.21", "new")
	server.Lock()
	server.Pods = []kube.Pod{kubetest.NewPod("demo", "far", "kp-node2", "192.168.77.11", "10.244.2.8")}
	server.Unlock()
	for old, want := range map[*Endpoint]string{
		&was: "demo/svc/moving changed: now 10.96.0.77, 10.244.2.21 (was 10.96.0.77, 10.244.2.20)",
		&far: "demo/far changed: now 10.244.2.8 on node kp-node2 (was 10.244.2.7 on node kp-node2)",
	} {
		now, change, err := r.Again(context.Background(), *old)
		if err != nil || change != want {
			t.Errorf("%q, %v, want %q", change, err, want)
		}
		n.Learn(now)
	}
	for addr, want := range map[string]string{
		"10.96.0.77": "demo/svc/moving", "10.244.2.20": "", "10.244.2.21": "demo/new", "10.244.2.7": "", "10.244.2.8": "demo/far",
	} {
		if got := addressName(n, addr); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

func TestLearn(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	n := namesFor(t, resolverFor(t, c, "n1", withCache(dir)))
	addr := netip.MustParseAddr
	remote := Endpoint{End: model.End{Kind: KindPod, Namespace: "default", Name: "far"}, Node: "node2", Prefixes: addrPrefixes([]netip.Addr{addr("10.9.0.1")})}
	n.Learn(remote)
	n.Learn(Endpoint{End: model.End{Kind: KindService, Namespace: "default", Name: "web"}, Service: &Service{
		Fronts:   []netip.Addr{addr("10.96.0.10"), addr("fd00:96::a")},
		Backends: []Backend{{Addr: addr("10.9.0.2"), Pod: "default/web-1"}, {Addr: addr("10.9.0.3")}, {Addr: addr("192.168.166.131"), Pod: "default/impostor"}},
	}})
	for a, want := range map[string]string{
		"10.9.0.1": "default/far", "10.96.0.10": "default/svc/web", "fd00:96::a": "default/svc/web",
		"10.9.0.2": "default/web-1", "10.9.0.3": "", "192.168.166.131": "prod/db", // what the node shows counts more
	} {
		if got := addressName(n, a); got != want {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
	}
}

// An end that is known by its interface's name alone gives its namespace and
// addresses their name all the same; not for longer than it is there.
func TestNamesOfEnds(t *testing.T) {
	c, _ := calicoNode(t, "legacy")
	r := resolverFor(t, c, "n1", withCache(t.TempDir()))
	n := namesFor(t, r)
	client := resolve(t, r, "client")
	for _, known := range []bool{false, true, false} {
		want := map[bool]string{true: "default/client"}[known]
		if got := addressName(n, "192.168.166.129"); got != want {
			t.Errorf("address: %q, want %q", got, want)
		}
		if got, _ := n.Interface("calia7a3e029a7b"); got != want {
			t.Errorf("interface: %q, want %q", got, want)
		}
		if got := n.Place(c.Inode("rc-client")); (got == "default/client") != known {
			t.Errorf("place: %q, known %t", got, known)
		}
		if !known {
			n.Learn(client)
		} else {
			n.Forget(client)
		}
	}
}

// Names are looked for again the more seldom the longer a look takes.
func TestWhenNamesAreLookedForAgain(t *testing.T) {
	const unnamed, fresh = 7, 8
	for _, c := range []struct {
		name               string
		inode              uint32
		took, looked, told time.Duration // the last look; ago; ago that it had no name
		want               bool
	}{
		{"turned up right after a look", fresh, 0, time.Second, 0, false},
		{"turned up later", fresh, 0, 3 * time.Second, 0, true},
		{"turned up, looks are slow", fresh, time.Second, 9 * time.Second, 0, false},
		{"turned up, slow looks are long ago", fresh, time.Second, 11 * time.Second, 0, true},
		{"without a name", unnamed, 0, 9 * time.Second, 9 * time.Second, false},
		{"without a name for long", unnamed, 0, 11 * time.Second, 11 * time.Second, true},
		{"without a name, looks are slow", unnamed, time.Second, 90 * time.Second, 90 * time.Second, false},
		{"without a name for long, looks are slow", unnamed, time.Second, 101 * time.Second, 101 * time.Second, true},
	} {
		now := time.Now()
		n := &Names{took: c.took, refreshed: now.Add(-c.looked), nameless: map[uint32]time.Time{unnamed: now.Add(-c.told)}}
		if got := n.stale(c.inode); got != c.want {
			t.Errorf("%s: look again: %v, want %v", c.name, got, c.want)
		}
	}
}
