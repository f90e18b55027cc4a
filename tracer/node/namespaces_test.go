// SPDX-License-Identifier: Apache-2.0

package node

// These tests build real nodes in namespaces (see nodetest) and look at them.

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"golang.org/x/sys/unix"
)

func openNode(t *testing.T, path string) *Namespaces {
	t.Helper()
	n, err := OpenNamespaces(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestOwnNamespaceIsTheDefaultNode(t *testing.T) {
	n := openNode(t, "")
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	if n.Node().Inode != uint32(st.Ino) || !n.Belongs(uint32(st.Ino)) || n.Place(uint32(st.Ino)) != "node" {
		t.Errorf("node is %+v, want inode %d", n.Node(), st.Ino)
	}
	if got := n.Place(1); got != "netns 1" || n.Belongs(1) {
		t.Errorf("unknown namespace is %q, belongs %v", got, n.Belongs(1))
	}
}

func TestBadPathGetsOneClearLine(t *testing.T) {
	c := nodetest.New(t)
	c.Add("x")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ path, want string }{
		{"/run/netns/no-such", "give a namespace file such as"},
		{c.Name("x"), "did you mean " + c.Path("x") + "?"},
		{plain, "is no network namespace"},
		{"/proc/self/ns/mnt", "is no network namespace"},
		{t.TempDir(), "is no network namespace"},
	} {
		_, err := OpenNamespaces(bad.path)
		if err == nil || !strings.Contains(err.Error(), bad.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", bad.path, err, bad.want)
		}
	}
}

func TestOnlyOwnPodsBelong(t *testing.T) {
	c := nodetest.TwoNodes(t)
	root := openNode(t, "").Node().Inode
	for _, at := range []struct {
		node   string
		mine   []string
		others []string
	}{
		{"n1", []string{"n1", "a", "b"}, []string{"n2", "c"}},
		{"n2", []string{"n2", "c"}, []string{"n1", "a", "b"}},
	} {
		n := openNode(t, c.Path(at.node))
		for _, s := range at.mine {
			if !n.Belongs(c.Inode(s)) {
				t.Errorf("seen from %s, %s does not belong", at.node, s)
			}
		}
		for _, s := range at.others {
			if n.Belongs(c.Inode(s)) {
				t.Errorf("seen from %s, %s belongs", at.node, s)
			}
		}
		if n.Belongs(root) {
			t.Errorf("seen from %s, the host belongs", at.node)
		}
		if len(n.Members()) != len(at.mine)-1 {
			t.Errorf("seen from %s: %d members, want %d", at.node, len(n.Members()), len(at.mine)-1)
		}
		if got := n.Place(c.Inode("a")); got != c.Name("a") {
			t.Errorf("pod a is called %q", got)
		}
	}
}

func TestRefreshSeesPodsComeAndGo(t *testing.T) {
	c := nodetest.TwoNodes(t)
	n := openNode(t, c.Path("n1"))
	c.Add("late")
	c.CalicoPod("n1", "late", "calilate", "10.244.1.9", "")
	inode := c.Inode("late")
	if _, ok := n.Lookup(inode); ok {
		t.Fatal("a pod is known before Refresh")
	}
	if _, err := n.Links(inode); !errors.Is(err, ErrGone) {
		t.Errorf("links of an unknown namespace: %v, want ErrGone", err)
	}
	if err := n.Refresh(); err != nil {
		t.Fatal(err)
	}
	if ns, ok := n.Lookup(inode); !ok || ns.Name != c.Name("late") || !n.Belongs(inode) {
		t.Errorf("new pod: %+v %v, belongs %v", ns, ok, n.Belongs(inode))
	}
	// Looking at a pod must not keep it: its veth goes with it.
	c.Delete("late")
	waitFor(t, "the deleted pod's interface to vanish from the node", func() bool {
		return !strings.Contains(c.In("n1", "ip link show"), "calilate")
	})
	if err := n.Do(inode, func() error { return nil }); !errors.Is(err, ErrGone) {
		t.Errorf("entering a deleted pod: %v, want ErrGone", err)
	}
	if err := n.Refresh(); err != nil {
		t.Fatal(err)
	}
	if n.Belongs(inode) {
		t.Error("a deleted pod still belongs")
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	// Ample for a kernel under software emulation.
	for deadline := time.Now().Add(90 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A namespace without a name is found through a process in it.
func TestNamespaceOfAProcessOnly(t *testing.T) {
	c := nodetest.TwoNodes(t)
	n := openNode(t, c.Path("n1"))
	n.places.dirs = nil // as if nobody had named any namespace
	if err := n.Refresh(); err != nil {
		t.Fatal(err)
	}
	inode := c.Inode("a")
	if ns, ok := n.Lookup(inode); ok {
		t.Fatalf("a namespace without processes was found through them: %+v", ns)
	}
	cmd := exec.Command("ip", "netns", "exec", c.Name("a"), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed: the error says so
	}()
	waitFor(t, "the pod's process to be seen", func() bool {
		if err := n.Refresh(); err != nil {
			t.Fatal(err)
		}
		_, ok := n.Lookup(inode)
		return ok
	})
	if ns, _ := n.Lookup(inode); ns.Name != "" || !n.Belongs(inode) || n.Place(inode) != fmt.Sprintf("netns %d", inode) {
		t.Errorf("%+v, belongs %v, called %q", ns, n.Belongs(inode), n.Place(inode))
	}
	if links := linksByName(t, n, inode); links["eth0"].Kind != "veth" {
		t.Errorf("its links: %+v", links)
	}
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	c := nodetest.TwoNodes(t)
	n := openNode(t, c.Path("n1"))
	var inside string
	err := n.Do(c.Inode("a"), func() (err error) {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if inode, ok := parseNetLink(inside); err != nil || !ok || inode != c.Inode("a") {
		t.Errorf("ran in %s, %v, want %d", inside, err, c.Inode("a"))
	}
	want := errors.New("own failure")
	if err := n.Do(c.Inode("a"), func() error { return want }); !errors.Is(err, want) {
		t.Errorf("fn's error came back as %v", err)
	}
	for range 20 { // no thread may be left over in the pod
		if err := n.Do(c.Inode("a"), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		if at, err := os.Readlink(path); err == nil && at == inside {
			t.Errorf("%s is still in the pod", path)
		}
	}
}

func TestLinks(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1",
		"ip link add flannel.1 type vxlan id 1 dstport 8472 local 10.99.0.1 dev eth0 nolearning",
		"ip addr add 10.244.2.0/32 dev flannel.1", "ip link set flannel.1 up",
		"ip link add odd type vxlan id 7 dstport 4444 dev eth0",
		"ip link add p1 type veth peer name p2")
	n := openNode(t, c.Path("n1"))
	links := linksByName(t, n, c.Inode("n1"))

	cali := links["caliaa"]
	pod := linksByName(t, n, c.Inode("a"))["eth0"]
	if cali.Kind != "veth" || cali.PeerNetns != c.Inode("a") || cali.PeerIndex != pod.Index || !cali.Up || !cali.Carrier {
		t.Errorf("caliaa: %+v", cali)
	}
	if pod.PeerNetns != c.Inode("n1") || pod.PeerIndex != cali.Index {
		t.Errorf("pod's eth0: %+v", pod)
	}
	for _, want := range []string{"10.244.1.2/32", "fd00:1::2/128"} {
		if !slices.Contains(pod.GlobalAddrs(), netip.MustParsePrefix(want)) {
			t.Errorf("pod's eth0 has %v, not %s", pod.GlobalAddrs(), want)
		}
	}
	if slices.ContainsFunc(pod.GlobalAddrs(), func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() }) {
		t.Errorf("link-local among global addresses: %v", pod.GlobalAddrs())
	}
	if b := links["vethbb"]; b.Master != links["cni0"].Index || b.PeerNetns != c.Inode("b") {
		t.Errorf("vethbb: %+v", b)
	}
	if p1 := links["p1"]; p1.PeerNetns != c.Inode("n1") || p1.PeerIndex != links["p2"].Index {
		t.Errorf("p1: %+v", p1)
	}
	f := links["flannel.1"]
	if f.Kind != "vxlan" || f.VXLANPort != 8472 || f.VNI != 1 || f.VXLANLocal != netip.MustParseAddr("10.99.0.1") ||
		f.VXLANDevice != links["eth0"].Index || f.VXLANLearning || f.MTU == 0 || f.MAC == "" {
		t.Errorf("flannel.1: %+v", f)
	}
	if lo := links["lo"]; !lo.Loopback || lo.Kind != "" {
		t.Errorf("lo: %+v", lo)
	}
	carriers, err := n.Carriers()
	if err != nil || !slices.Equal(carriers, []Carrier{{4444, "vxlan"}, {4789, "vxlan"}, {8472, "vxlan"}, {6081, "geneve"}}) {
		t.Errorf("carriers %v, %v", carriers, err)
	}
}

func linksByName(t *testing.T, n *Namespaces, inode uint32) map[string]Link {
	t.Helper()
	links, err := n.Links(inode)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]Link{}
	for _, l := range links {
		m[l.Name] = l
	}
	return m
}

func TestRoutesAndNeighbors(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1",
		"ip neigh add 10.244.2.2 lladdr 02:00:00:00:00:02 dev cni0 nud permanent",
		"bridge fdb add 02:00:00:00:00:02 dev vethbb master static",
		"ip route add blackhole 10.244.1.0/26 proto 80")
	n := openNode(t, c.Path("n1"))
	links := linksByName(t, n, c.Inode("n1"))
	routes, err := n.Routes(c.Inode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	find := func(dst string) Route {
		i := slices.IndexFunc(routes, func(r Route) bool { return r.Dst == netip.MustParsePrefix(dst) })
		if i < 0 {
			t.Fatalf("no route to %s in %v", dst, routes)
		}
		return routes[i]
	}
	if r := find("10.244.1.2/32"); r.LinkIndex != links["caliaa"].Index || r.Table != unix.RT_TABLE_MAIN || r.Type != unix.RTN_UNICAST {
		t.Errorf("pod's route: %+v", r)
	}
	if r := find("0.0.0.0/0"); r.Gateway != netip.MustParseAddr("10.99.0.2") || r.LinkIndex != links["eth0"].Index {
		t.Errorf("default route: %+v", r)
	}
	if r := find("10.244.1.0/26"); r.Type != unix.RTN_BLACKHOLE || r.Protocol != 80 {
		t.Errorf("blackhole: %+v", r)
	}
	neighbors, err := n.Neighbors(c.Inode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	var arp, fdb bool
	for _, e := range neighbors {
		if e.MAC != "02:00:00:00:00:02" {
			continue
		}
		arp = arp || !e.Bridge && e.LinkIndex == links["cni0"].Index && e.Addr == netip.MustParseAddr("10.244.2.2") && e.State == unix.NUD_PERMANENT
		fdb = fdb || e.Bridge && e.LinkIndex == links["vethbb"].Index
	}
	if !arp || !fdb {
		t.Errorf("neighbour entry %v, bridge entry %v in %+v", arp, fdb, neighbors)
	}
}

func TestUplinksOfRealNodes(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.In("n1",
		"ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0",
		"ip addr add 10.244.2.0/32 dev flannel.1")
	for node, want := range map[string][]string{"n1": {"eth0"}, "n2": {"eth0"}} {
		up, err := openNode(t, c.Path(node)).Uplinks()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, name := range up {
			names = append(names, name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%s: uplinks %v, want %v", node, names, want)
		}
	}
}
