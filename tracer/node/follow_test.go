// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// A link that comes or goes is told, what else happens to links is not.
func TestLinkChanges(t *testing.T) {
	c := nodetest.TwoNodes(t)
	ns, err := OpenNamespaces(c.Path("n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changes, err := ns.LinkChanges(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.Add("new")
	for _, step := range []struct {
		line string
		told bool
	}{
		{"ip link set caliaa down", false},
		{"ip link set caliaa up", false},
		{"ip link set vethbb nomaster", false},
		{"ip link set vethbb master cni0", false},
		{"ip link add calinew type veth peer name eth0 netns @new", true},
		{"ip link set calinew name calinamed", false},
		{"ip link del calinamed", true},
	} {
		c.In("n1", step.line)
		told := false
		select {
		case <-changes:
			told = true
		case <-time.After(map[bool]time.Duration{true: 5 * time.Second, false: 200 * time.Millisecond}[step.told]):
		}
		if told != step.told {
			t.Errorf("%s: told %t", step.line, told)
		}
	}
}

// A namespace is out of reach when its file is gone and nobody is in it; another
// one by its path is not it.
func TestReachable(t *testing.T) {
	c := nodetest.TwoNodes(t)
	ns, err := OpenNamespaces(c.Path("n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	a, self := c.Inode("a"), c.Inode("n1")
	if !ns.Reachable(a) || !ns.Reachable(self) || ns.Reachable(1) {
		t.Error("at first")
	}
	c.Delete("a")
	if ns.Reachable(a) {
		t.Error("without its file")
	}
	c.Add("a")
	if c.Inode("a") != a && ns.Reachable(a) {
		t.Error("with another one in its place")
	}
}
