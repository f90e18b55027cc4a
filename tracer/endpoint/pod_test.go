// SPDX-License-Identifier: Apache-2.0

package endpoint

// These tests resolve pods by name on a node in namespaces whose CNI cache is
// the one that a real Calico left, with nothing but the namespaces' paths
// changed; and on what goes wrong with such a cache.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cni"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// calicoPods are the pods of the recorded node 1, by the name of their
// namespace file there.
var calicoPods = []struct{ netns, pod, iface, addr4, addr6 string }{
	{"rc-client", "default/client", "calia7a3e029a7b", "192.168.166.129", "fd00:1::129"},
	{"rc-server", "default/server", "cali7715d358f22", "192.168.166.130", ""},
	{"rc-db", "prod/db", "calibc0d3acf431", "192.168.166.131", "fd00:1::131"},
}

// calicoNode builds the recorded node n1 with its pods, and gives its cache.
func calicoNode(t *testing.T, mode string) (*nodetest.Cluster, string) {
	t.Helper()
	c := nodetest.New(t)
	c.Add("n1")
	c.In("n1", "ip link add br0 type bridge", "ip addr add 172.30.0.1/24 dev br0", "ip link set br0 up")
	for _, p := range calicoPods {
		c.Add(p.netns)
		c.CalicoPod("n1", p.netns, p.iface, p.addr4, p.addr6)
	}
	return c, copyCache(t, c, "calico-"+mode)
}

// copyCache copies a recorded cache with this cluster's namespaces in it.
func copyCache(t *testing.T, c *nodetest.Cluster, recorded string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("cni/testdata", recorded, "node1/*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded cache: %v", err)
	}
	dir := t.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, filepath.Base(file)), strings.ReplaceAll(string(text), "/run/netns/", c.Path("")))
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func withCache(dir string) func(*Sources) { return func(s *Sources) { s.CNICache = dir } }

func resolve(t *testing.T, r *Resolver, given string) Endpoint {
	t.Helper()
	e, err := r.Resolve(context.Background(), given)
	if err != nil {
		t.Fatalf("%s: %v", given, err)
	}
	return e
}

func TestPodsByCache(t *testing.T) {
	for _, mode := range []string{"legacy", "nft", "nftables"} {
		c, dir := calicoNode(t, mode)
		r := resolverFor(t, c, "n1", withCache(dir))
		for _, p := range calicoPods {
			e := resolve(t, r, p.pod)
			want := p.addr4 + "/32"
			if p.addr6 != "" {
				want += " " + p.addr6 + "/128"
			}
			if e.Kind != KindPod || e.Namespace+"/"+e.Name != p.pod || words(e.Prefixes) != want || words(e.Addresses) != want {
				t.Errorf("%s %s: %+v", mode, p.pod, e)
			}
			if e.Netns != c.Inode(p.netns) || !slices.Equal(e.NetnsInodes, []uint32{e.Netns}) || e.Interface != p.iface || e.HostIfIndex == 0 || e.IfIndex != e.HostIfIndex {
				t.Errorf("%s %s: %+v", mode, p.pod, e)
			}
			if e.ResolvedBy != "CNI cache "+dir || e.Node != "" {
				t.Errorf("%s %s: resolved by %q", mode, p.pod, e.ResolvedBy)
			}
		}
		if short, bare := resolve(t, r, "pod:client"), resolve(t, r, "client"); short.Netns != c.Inode("rc-client") || bare.Netns != short.Netns {
			t.Errorf("%+v %+v", short, bare)
		}
	}
}

// The names of the interfaces follow from the pods' alone: those that the real
// CNI plugin gave them.
func TestCalicoInterface(t *testing.T) {
	files, err := filepath.Glob("cni/testdata/calico-*/node*")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d recorded caches, %v", len(files), err)
	}
	for _, dir := range files {
		list, err := cni.New(dir).List(context.Background())
		if err != nil || len(list.Attachments) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, a := range list.Attachments {
			if got := CalicoInterface("cali", a.PodNamespace, a.PodName); !slices.Equal(a.HostInterfaces, []string{got}) {
				t.Errorf("%s: %s, want %s", a.File, got, a.HostInterfaces)
			}
		}
	}
}

// Without a cache, Calico's naming is enough.
func TestPodsByCalicoName(t *testing.T) {
	c, _ := calicoNode(t, "legacy")
	r := resolverFor(t, c, "n1")
	for _, p := range calicoPods {
		e := resolve(t, r, p.pod)
		if e.Interface != p.iface || e.Netns != c.Inode(p.netns) || !strings.Contains(words(e.Prefixes), p.addr4) || e.ResolvedBy != "Calico interface "+p.iface {
			t.Errorf("%s: %+v", p.pod, e)
		}
	}
	// Where the pod's namespace is out of sight, its routes tell the addresses.
	ghost := CalicoInterface("cali", "default", "ghost")
	c.In("n1", "ip link add "+ghost+" type veth peer name far", "ip link set "+ghost+" up", "ip link set far up",
		"ip route add 192.168.166.140 dev "+ghost, "ip route add fd00:1::140 dev "+ghost)
	if e := resolve(t, r, "ghost"); words(e.Prefixes) != "192.168.166.140/32 fd00:1::140/128" || e.HostIfIndex == 0 {
		t.Errorf("%+v", e)
	}
}

func TestFelixPrefixes(t *testing.T) {
	for environ, want := range map[string]string{
		"A=1\x00FELIX_INTERFACEPREFIX=tap\x00B=2\x00":     "tap",
		"FELIX_INTERFACEPREFIX=cali, azv\x00":             "cali azv",
		"XFELIX_INTERFACEPREFIX=no\x00B=FELIX_\x00":       "",
		"FELIX_INTERFACEPREFIX=\x00PASSWORD=hunter2 \x00": "",
	} {
		if got := strings.Join(prefixesIn([]byte(environ)), " "); got != want {
			t.Errorf("%q: %q, want %q", environ, got, want)
		}
	}
}

// Pods behind a bridge: the recorded flannel cache, with other veth names than
// the ones that stand here, as after a restart.
func TestPodsOfBridge(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n1", "rc-client", "rc-server")
	c.In("n1", "ip link add cni0 type bridge", "ip addr add 10.244.1.1/24 dev cni0", "ip link set cni0 up")
	for name, addr := range map[string]string{"client": "10.244.1.2", "server": "10.244.1.3"} {
		c.In("n1", "ip link add veth"+name+" type veth peer name eth0 netns @rc-"+name, "ip link set veth"+name+" master cni0 up")
		c.In("rc-"+name, "ip addr add "+addr+"/24 dev eth0", "ip link set eth0 up")
	}
	r := resolverFor(t, c, "n1", withCache(copyCache(t, c, "flannel-nft")))
	e := resolve(t, r, "default/client")
	if words(e.Prefixes) != "10.244.1.2/32" || e.Interface != "vethclient" || e.Netns != c.Inode("rc-client") || e.HostIfIndex == 0 {
		t.Errorf("%+v", e)
	}
}

func cacheEntry(id, namespace, pod, netns, iface, addr string) string {
	return fmt.Sprintf(`{"kind":"cniCacheV1","containerId":%q,"ifName":"eth0","netns":%q,"cniArgs":[["K8S_POD_NAMESPACE",%q],["K8S_POD_NAME",%q]],`+
		`"result":{"interfaces":[{"name":%q},{"name":"eth0","sandbox":%q}],"ips":[{"address":"%s/32","interface":1}]}}`, id, netns, namespace, pod, iface, netns, addr)
}

// A pod restarted, so that an old sandbox of the same name is left in the
// cache: gone, still there without a wire, and still wired.
func TestSeveralSandboxes(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	old := time.Now().Add(-time.Hour)
	add := func(file, text string) {
		put(t, filepath.Join(dir, file), text)
		if err := os.Chtimes(filepath.Join(dir, file), old, old); err != nil {
			t.Fatal(err)
		}
	}
	r := resolverFor(t, c, "n1", withCache(dir))
	check := func(how string) {
		t.Helper()
		if e := resolve(t, r, "client"); e.Netns != c.Inode("rc-client") || words(e.Prefixes) != "192.168.166.129/32 fd00:1::129/128" || e.ResolvedBy != "CNI cache "+dir+how {
			t.Errorf("%+v", e)
		}
	}
	add("gone", cacheEntry("id1", "default", "client", c.Path("gone"), "calinone", "192.168.166.7"))
	check("")
	c.Add("unwired")
	add("unwired", cacheEntry("id2", "default", "client", c.Path("unwired"), "calinone", "192.168.166.8"))
	check(", newest of 2 sandboxes")
	c.Add("wired")
	c.CalicoPod("n1", "wired", "caliold", "192.168.166.9", "")
	add("wired", cacheEntry("id3", "default", "client", c.Path("wired"), "caliold", "192.168.166.9"))
	check(", newest of 3 sandboxes")
}

// A second network of one sandbox (Multus) is the same pod.
func TestSeveralNetworks(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.In("n1", "ip link add vethnet1 type veth peer name net1 netns @rc-client")
	c.In("rc-client", "ip addr add 10.50.0.2/24 dev net1")
	put(t, filepath.Join(dir, "z-net1"), cacheEntry("cnitool-a019bf6a75f61bc17c28", "default", "client", c.Path("rc-client"), "vethnet1", "10.50.0.2"))
	e := resolve(t, resolverFor(t, c, "n1", withCache(dir)), "client")
	if words(e.Prefixes) != "10.50.0.2/32 192.168.166.129/32 fd00:1::129/128" || e.Interface != "calia7a3e029a7b" || strings.Contains(e.ResolvedBy, "newest") {
		t.Errorf("%+v", e)
	}
}

// In a container the namespaces' files may be out of sight: then the interface
// decides, and the node's routes tell the addresses, not the entry.
func TestNamespaceOutOfSight(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	put(t, filepath.Join(dir, "gone"), cacheEntry("id1", "default", "other", "/elsewhere/netns", "calia7a3e029a7b", "192.168.166.77"))
	r := resolverFor(t, c, "n1", withCache(dir))
	if e := resolve(t, r, "other"); e.Interface != "calia7a3e029a7b" || words(e.Prefixes) != "192.168.166.129/32 fd00:1::129/128" {
		t.Errorf("%+v", e)
	}
}

// What the cache says and the pod has may differ: both are followed, and told.
func TestCacheAgainstPod(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.In("rc-server", "ip addr del 192.168.166.130/32 dev eth0", "ip addr add 192.168.166.230/32 dev eth0")
	var warned []string
	r := resolverFor(t, c, "n1", withCache(dir), func(s *Sources) { s.Warn = func(line string) { warned = append(warned, line) } })
	if e := resolve(t, r, "server"); words(e.Prefixes) != "192.168.166.130/32 192.168.166.230/32" {
		t.Errorf("%+v", e)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "192.168.166.130, but its namespace does not") {
		t.Errorf("%q", warned)
	}
}

// A pod without a wire to this node is an end all the same: that may be the
// fault looked for.
func TestUnwiredPod(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.In("n1", "ip link del cali7715d358f22")
	var warned []string
	r := resolverFor(t, c, "n1", withCache(dir), func(s *Sources) { s.Warn = func(line string) { warned = append(warned, line) } })
	if e := resolve(t, r, "server"); words(e.Prefixes) != "192.168.166.130/32" || e.Netns != c.Inode("rc-server") || e.Interface != "" {
		t.Errorf("%+v", e)
	}
	if len(warned) != 2 || !strings.Contains(warned[0], "no interface of this node leads to its namespace") {
		t.Errorf("%q", warned)
	}
}

func TestPodNotFound(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	put(t, filepath.Join(dir, "gone"), cacheEntry("id1", "default", "ended", c.Path("gone"), "calinone", "192.168.166.7"))
	put(t, filepath.Join(dir, "broken"), "{")
	var warned []string
	r := resolverFor(t, c, "n1", withCache(dir), func(s *Sources) { s.Warn = func(line string) { warned = append(warned, line) } })
	cache := "the CNI cache " + dir
	for given, want := range map[string]string{
		"clinet":      "pod default/clinet: not in " + cache + " (3 pods: default/client, default/server, prod/db), no Calico interface cali",
		"default/db":  ": did you mean prod/db?",
		"pod:serve":   ": did you mean default/server?",
		"prod/client": ": did you mean default/client?",
		"ended":       "pod default/ended: only stale in " + cache + " (its namespace " + c.Path("gone") + " is gone)",
		"nobody":      "no container runtime socket at the usual places (--cri-socket names it), not at the Kubernetes API (no kubeconfig",
	} {
		_, err := r.Resolve(context.Background(), given)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s:\n got %v\nwant %s", given, err, want)
		}
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "1 of its files cannot be read") || !strings.Contains(warned[0], "broken: unexpected end of JSON") {
		t.Errorf("one broken file is one line: %q", warned)
	}
	other := resolverFor(t, c, "n1", withCache(dir), func(s *Sources) { s.Namespace = "prod" })
	if e := resolve(t, other, "db"); e.Namespace != "prod" || e.Netns != c.Inode("rc-db") {
		t.Errorf("-n prod: %+v", e)
	}
}

// One name in two namespaces is two pods: a bare name is the default namespace's,
// or that of -n, and each is found by cache and by interface name alike.
func TestOneNameTwice(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.Add("namesake")
	iface := CalicoInterface("cali", "prod", "client")
	c.CalicoPod("n1", "namesake", iface, "192.168.166.140", "")
	put(t, filepath.Join(dir, "namesake"), cacheEntry("id7", "prod", "client", c.Path("namesake"), iface, "192.168.166.140"))
	for _, cache := range []string{dir, t.TempDir()} {
		r := resolverFor(t, c, "n1", withCache(cache))
		for given, want := range map[string]string{"client": "rc-client", "default/client": "rc-client", "prod/client": "namesake"} {
			if e := resolve(t, r, given); e.Netns != c.Inode(want) {
				t.Errorf("%s: %+v, want the one in %s", given, e, want)
			}
		}
		prod := resolverFor(t, c, "n1", withCache(cache), func(s *Sources) { s.Namespace = "prod" })
		if e := resolve(t, prod, "client"); e.Netns != c.Inode("namesake") || words(e.Prefixes) != "192.168.166.140/32" {
			t.Errorf("-n prod: %+v", e)
		}
	}
}

// A pod may have IPv6 addresses only; it has no flow with one that has none.
func TestIPv6OnlyPod(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	c.Add("six")
	c.In("n1", "ip link add calisix type veth peer name eth0 netns @six", "ip link set calisix up", "ip route add fd00:1::6 dev calisix")
	c.In("six", "ip addr add fd00:1::6/128 dev eth0 nodad", "ip link set eth0 up")
	put(t, filepath.Join(dir, "six"), cacheEntry("id6", "default", "six", c.Path("six"), "calisix", "fd00:1::6"))
	r := resolverFor(t, c, "n1", withCache(dir))
	six := resolve(t, r, "six")
	if words(six.Prefixes) != "fd00:1::6/128" || six.Interface != "calisix" || six.Netns != c.Inode("six") {
		t.Errorf("%+v", six)
	}
	if err := Check(six, resolve(t, r, "client")); err != nil {
		t.Errorf("with a dual-stack pod: %v", err)
	}
	if err := Check(six, resolve(t, r, "server")); err == nil || !strings.Contains(err.Error(), "IPv6 and --dst server is IPv4") {
		t.Errorf("with an IPv4 pod: %v", err)
	}
}
