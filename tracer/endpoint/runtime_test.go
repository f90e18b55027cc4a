// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cri/critest"
)

func withRuntime(socket string) func(*Sources) { return func(s *Sources) { s.CRISocket = socket } }

// Without a cache, and with names that are not Calico's, the runtime knows the
// pods: by the namespace it names, by its process, by addresses alone.
func TestPodsByRuntime(t *testing.T) {
	c, _ := calicoNode(t, "legacy")
	c.In("n1", "ip link set calia7a3e029a7b down", "ip link set calia7a3e029a7b name vethaaa", "ip link set vethaaa up")
	socket := critest.Serve(t,
		critest.Pod{ID: "1", Namespace: "default", Name: "client", Addrs: []string{"192.168.166.129"}, Netns: c.Path("rc-client")},
		critest.Pod{ID: "2", Namespace: "kube-system", Name: "proxy", HostNetwork: true},
		critest.Pod{ID: "3", Namespace: "default", Name: "bare", Addrs: []string{"192.168.166.131"}, Silent: true},
		critest.Pod{ID: "4", Namespace: "default", Name: "self", Netns: "/proc/self/nothing", PID: os.Getpid()},
	)
	r := resolverFor(t, c, "n1", withRuntime(socket))
	how := "container runtime " + socket
	e := resolve(t, r, "client")
	if words(e.Prefixes) != "192.168.166.129/32 fd00:1::129/128" || e.Netns != c.Inode("rc-client") || e.Interface != "vethaaa" || e.ResolvedBy != how {
		t.Errorf("%+v", e)
	}
	e = resolve(t, r, "kube-system/proxy")
	if words(e.Prefixes) != "172.30.0.1/32" || e.Netns != c.Inode("n1") || e.ResolvedBy != how+", in the node's own network" {
		t.Errorf("%+v", e)
	}
	e = resolve(t, r, "bare")
	if words(e.Prefixes) != "192.168.166.131/32" || e.Netns != c.Inode("rc-db") || e.Interface != "calibc0d3acf431" {
		t.Errorf("%+v", e)
	}
	_, err := r.Resolve(context.Background(), "cleint")
	want := fmt.Sprintf("not at the container runtime %s (4 pods: default/bare, default/client, default/self, kube-system/proxy)", socket)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "did you mean default/client?") {
		t.Errorf("%v\nwant %s", err, want)
	}
	n := namesFor(t, r)
	if n.Place(c.Inode("rc-client")) != "default/client" || addressName(n, "192.168.166.131") != "default/bare" || addressName(n, "172.30.0.1") != "node" {
		t.Errorf("%s %s", n.Place(c.Inode("rc-client")), addressName(n, "192.168.166.131"))
	}
}

// The usual sockets are tried below the host's root; a dead one is said.
func TestDefaultSockets(t *testing.T) {
	c, _ := calicoNode(t, "legacy")
	c.In("n1", "ip link set calia7a3e029a7b down", "ip link set calia7a3e029a7b name vethaaa", "ip link set vethaaa up")
	root := mountedHost(t)
	if err := os.MkdirAll(filepath.Join(root, "run/crio"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := critest.Serve(t, critest.Pod{ID: "1", Namespace: "default", Name: "client", Addrs: []string{"192.168.166.129"}, Netns: "/var" + c.Path("rc-client")})
	if err := os.Symlink(socket, filepath.Join(root, "run/crio/crio.sock")); err != nil {
		t.Fatal(err)
	}
	r := resolverFor(t, c, "n1", func(s *Sources) { s.HostRoot = root })
	if e := resolve(t, r, "client"); e.Netns != c.Inode("rc-client") || e.ResolvedBy != "container runtime "+root+"/run/crio/crio.sock" {
		t.Errorf("%+v", e)
	}
	r = resolverFor(t, c, "n1", withRuntime(filepath.Join(root, "nothing.sock")))
	if _, err := r.Resolve(context.Background(), "client"); err == nil || !strings.Contains(err.Error(), "nothing.sock: no such socket") {
		t.Errorf("%v", err)
	}
}
