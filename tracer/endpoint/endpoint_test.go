// SPDX-License-Identifier: Apache-2.0

package endpoint

// These tests resolve words on a real node in namespaces (see nodetest).

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// mountedHost is a folder with this machine's namespaces and processes in it,
// and no runtime, kubelet or cache.
func mountedHost(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(root+"/run", 0o700), os.Symlink("/run/netns", root+"/run/netns"), os.Symlink("/proc", root+"/proc")); err != nil {
		t.Fatal(err)
	}
	return root
}

// resolverFor opens a node of the cluster without any source of names, but for
// those that changes add.
func resolverFor(t *testing.T, c *nodetest.Cluster, short string, changes ...func(*Sources)) *Resolver {
	t.Helper()
	n, err := node.OpenNamespaces(c.Path(short))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	// What this machine has outside the test's namespaces does not count.
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	opt := Sources{CNICache: "/nonexistent", HostRoot: mountedHost(t)}
	for _, change := range changes {
		change(&opt)
	}
	r := NewResolverWith(n, opt)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func words(prefixes []netip.Prefix) string {
	var all []string
	for _, p := range prefixes {
		all = append(all, p.String())
	}
	return strings.Join(all, " ")
}

func TestResolve(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1",
		"ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0",
		"ip addr add 10.244.2.0/32 dev flannel.1", "ip link set flannel.1 up")
	r := resolverFor(t, c, "n1")
	pods := map[uint32]string{c.Inode("n1"): "n1", c.Inode("a"): "a", c.Inode("b"): "b"}
	for _, w := range []struct {
		given, kind, prefixes, iface, netns string
		pod                                 bool // HostIfIndex is set
	}{
		{given: "10.244.1.2", kind: "address", prefixes: "10.244.1.2/32", iface: "caliaa", netns: "a", pod: true},
		{given: "ip:10.244.1.2", kind: "address", prefixes: "10.244.1.2/32", iface: "caliaa", netns: "a", pod: true},
		{given: " 10.244.1.2/32 ", kind: "address", prefixes: "10.244.1.2/32", iface: "caliaa", netns: "a", pod: true},
		{given: "::ffff:10.244.1.2", kind: "address", prefixes: "10.244.1.2/32", iface: "caliaa", netns: "a", pod: true},
		{given: "fd00:1::2", kind: "address", prefixes: "fd00:1::2/128", iface: "caliaa", netns: "a", pod: true},
		{given: "10.244.2.2", kind: "address", prefixes: "10.244.2.2/32", iface: "vethbb", netns: "b", pod: true},
		{given: "10.99.0.1", kind: "address", prefixes: "10.99.0.1/32", iface: "eth0", netns: "n1"},
		{given: "10.244.2.1", kind: "address", prefixes: "10.244.2.1/32", iface: "cni0", netns: "n1"},
		{given: "10.99.0.2", kind: "address", prefixes: "10.99.0.2/32"},   // the other node
		{given: "10.244.3.2", kind: "address", prefixes: "10.244.3.2/32"}, // a pod of the other node
		{given: "8.8.8.8", kind: "address", prefixes: "8.8.8.8/32"},
		{given: "10.244.1.7/24", kind: "cidr", prefixes: "10.244.1.0/24"},
		{given: "ip:fd00::/16", kind: "cidr", prefixes: "fd00::/16"},
		{given: "caliaa", kind: "interface", prefixes: "10.244.1.2/32 fd00:1::2/128", iface: "caliaa", netns: "a", pod: true},
		{given: "if:vethbb", kind: "interface", prefixes: "10.244.2.2/32 fd00:2::2/128", iface: "vethbb", netns: "b", pod: true},
		{given: "cni0", kind: "interface", prefixes: "10.244.2.0/24 fd00:2::/64", iface: "cni0"},
		{given: "node", kind: "node", prefixes: "10.99.0.1/32 10.244.2.0/32 10.244.2.1/32 fd00:2::1/128", netns: "n1"},
		{given: "any", kind: "any"},
	} {
		t.Run(w.given, func(t *testing.T) {
			e, err := r.Resolve(context.Background(), w.given)
			if err != nil {
				t.Fatal(err)
			}
			if e.Given != w.given || e.Kind != w.kind || words(e.Prefixes) != w.prefixes || words(e.Addresses) != w.prefixes || e.Any != (w.kind == "any") {
				t.Errorf("%+v", e)
			}
			if e.Interface != w.iface || (e.IfIndex != 0) != (w.iface != "") || (e.HostIfIndex != 0) != w.pod {
				t.Errorf("interface %q index %d host %d", e.Interface, e.IfIndex, e.HostIfIndex)
			}
			if pods[e.Netns] != w.netns || (w.netns != "" && !slices.Contains(e.NetnsInodes, e.Netns)) {
				t.Errorf("netns %d %v, want %q", e.Netns, e.NetnsInodes, w.netns)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1", "ip link add vxlan.calico type vxlan id 4096 dstport 4789 dev eth0", "ip link add br9 type bridge")
	r := resolverFor(t, c, "n1")
	for given, want := range map[string]string{
		"":              "it is empty",
		"pod:web":       "pod default/web: no CNI cache at /nonexistent, no Calico interface cali68caf03a5f4, ",
		"default/web":   "pod default/web: no CNI cache at /nonexistent, no Calico interface cali68caf03a5f4, ",
		"web-1":         "no interface of this node; unknown endpoint: pod default/web-1: no CNI cache at /nonexistent",
		"redis":         "what works: a pod, namespace/pod, svc/name, an address",
		"Web":           `no pod can be named "Web"`,
		"prod/":         `no pod can be named ""`,
		"/web":          `no namespace can be named ""`,
		"a/b/c":         `no pod can be named "b/c"`,
		"svc:web":       "service default/web: not at the Kubernetes API (no kubeconfig",
		"svc/web":       "only the API knows services by name",
		"prod/svc/web":  "service prod/web: not at the Kubernetes API (no kubeconfig",
		"caliab":        "did you mean caliaa?",
		"cali":          "did you mean caliaa?",
		"if:vethbx":     "did you mean vethbb?",
		"veth12345":     "ip link shows those it has",
		"if:web":        "this node has no such interface",
		"eth0":          "leads off this node",
		"vxlan.calico":  "leads off this node",
		"lo":            "use node",
		"br9":           "give a CIDR",
		"10.0.0.300":    "neither an address nor a CIDR",
		"10.0.0.1/33":   "neither an address nor a CIDR",
		"10.0.0":        "neither an address nor a CIDR",
		"fd00::g":       "neither an address nor a CIDR",
		"fd00::1/200":   "neither an address nor a CIDR",
		"ip:caliaa":     "neither an address nor a CIDR",
		"fe80::1%eth0":  "without %eth0",
		"0.0.0.0":       "use any",
		"::":            "use any",
		"::ffff:0:0/96": "write IPv4 networks as such",
	} {
		e, err := r.Resolve(context.Background(), given)
		if err == nil {
			t.Errorf("%q gives %+v", given, e)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", given, err, want)
		}
		if !strings.Contains(err.Error(), "\""+given+"\"") {
			t.Errorf("%q is not named in: %v", given, err)
		}
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Resolve(done, "10.244.1.2"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A pod whose namespace cannot be found is known by the node's routes, or by
// the bridge's tables.
func TestResolveWithoutThePodsNamespace(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n1")
	c.In("n1",
		"ip link add caliaa type veth peer name far1", "ip link set caliaa up", "ip link set far1 up",
		"ip route add 10.244.1.2 dev caliaa", "ip route add 10.244.1.3 dev caliaa",
		"ip link add cni0 type bridge", "ip addr add 10.244.2.1/24 dev cni0", "ip link set cni0 up",
		"ip link add vethbb type veth peer name far2", "ip link set vethbb master cni0 up", "ip link set far2 up",
		"ip neigh add 10.244.2.2 lladdr 02:00:00:00:00:02 dev cni0 nud permanent",
		"bridge fdb add 02:00:00:00:00:02 dev vethbb master static",
		"ip link add vethcc type veth peer name far3")
	r := resolverFor(t, c, "n1")
	for _, w := range []struct{ given, prefixes, iface, how string }{
		{"caliaa", "10.244.1.2/32 10.244.1.3/32", "caliaa", "the node's routes"},
		{"vethbb", "10.244.2.2/32", "vethbb", "neighbours behind the bridge port"},
		{"10.244.1.3", "10.244.1.3/32", "caliaa", "host route to caliaa"},
		{"10.244.2.2", "10.244.2.2/32", "vethbb", "neighbour behind bridge port vethbb"},
	} {
		e, err := r.Resolve(context.Background(), w.given)
		if err != nil || words(e.Prefixes) != w.prefixes || e.Interface != w.iface || e.HostIfIndex == 0 || e.ResolvedBy != w.how || e.Netns != 0 {
			t.Errorf("%s: %+v, %v", w.given, e, err)
		}
	}
	if _, err := r.Resolve(context.Background(), "vethcc"); err == nil || !strings.Contains(err.Error(), "no address found behind it") {
		t.Errorf("vethcc: %v", err)
	}
}

// Two namespaces with one address (a pod and a container of another network):
// the node's route decides, and without one nothing is guessed.
func TestResolveAddressWithTwoOwners(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.Add("twin")
	c.In("n1", "ip link add vethtw type veth peer name eth0 netns @twin", "ip link set vethtw up")
	c.In("twin", "ip addr add 10.244.1.2/32 dev eth0", "ip link set eth0 up")
	r := resolverFor(t, c, "n1")
	e, err := r.Resolve(context.Background(), "10.244.1.2")
	if err != nil || e.Interface != "caliaa" || e.Netns != c.Inode("a") || len(e.NetnsInodes) != 2 {
		t.Errorf("with a route: %+v, %v", e, err)
	}
	c.In("n1", "ip route del 10.244.1.2")
	e, err = r.Resolve(context.Background(), "10.244.1.2")
	if err != nil || e.Interface != "" || e.Netns != 0 || e.HostIfIndex != 0 || len(e.NetnsInodes) != 2 {
		t.Errorf("without a route: %+v, %v", e, err)
	}
}

func TestCheck(t *testing.T) {
	end := func(given string, prefixes ...string) Endpoint {
		e := Endpoint{Any: given == "any"}
		e.Given = given
		for _, p := range prefixes {
			e.Prefixes = append(e.Prefixes, netip.MustParsePrefix(p))
		}
		return e
	}
	anyEnd := end("any")
	pod := end("10.0.0.1", "10.0.0.1/32")
	dual := end("caliaa", "fd00::1/128", "10.0.0.1/32")
	for _, c := range []struct {
		src, dst Endpoint
		want     string // part of the error; "" for a usable pair
	}{
		{anyEnd, anyEnd, "name at least one end"},
		{pod, anyEnd, ""},
		{anyEnd, pod, ""},
		{pod, pod, "are the same"},
		{end("a", "10.0.0.1/32", "fd00::1/128"), dual, "are the same"},
		{pod, dual, ""}, // a pod to itself by one of its addresses is odd but a flow
		{pod, end("fd00::2", "fd00::2/128"), "no packet has both"},
		{dual, end("fd00::2", "fd00::2/128"), ""},
		{pod, end("10.0.0.0/8", "10.0.0.0/8"), ""},
	} {
		err := Check(c.src, c.dst)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s to %s: %v", c.src.Given, c.dst.Given, err)
		case c.want != "" && (!errors.Is(err, ErrSameEnds) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s to %s: %v, want %q", c.src.Given, c.dst.Given, err, c.want)
		}
	}
}
