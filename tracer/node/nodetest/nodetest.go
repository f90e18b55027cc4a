// SPDX-License-Identifier: Apache-2.0

// Package nodetest builds small nodes out of network namespaces for the tests
// of packages that look at a node. It touches nothing outside the namespaces it
// makes, and removes them when the test ends.
//
//	      n1 10.99.0.1/24 eth0 ======== eth0 10.99.0.2/24 n2
//	 caliaa  cni0 10.244.2.1/24                       calicc
//	   |       |-- vethbb                                |
//	eth0 a   eth0 b                                   eth0 c
//	10.244.1.2/32  10.244.2.2/24               10.244.3.2/32
//	fd00:1::2/128  fd00:2::2/64
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cluster is a set of namespaces whose names share a prefix of their own.
type Cluster struct {
	t      testing.TB
	prefix string
}

// New makes an empty cluster. The test is skipped for users who cannot make
// namespaces; root never skips.
func New(t testing.TB) *Cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	return &Cluster{t: t, prefix: fmt.Sprintf("ptn%d-%d-", os.Getpid(), time.Now().UnixNano()%1e6)}
}

// Name is the full name of one of the cluster's namespaces.
func (c *Cluster) Name(short string) string { return c.prefix + short }

// Path is the namespace's file.
func (c *Cluster) Path(short string) string { return "/run/netns/" + c.Name(short) }

// Inode is the namespace's inode number.
func (c *Cluster) Inode(short string) uint32 {
	c.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(c.Path(short), &st); err != nil {
		c.t.Fatalf("namespace %s: %v", short, err)
	}
	return uint32(st.Ino)
}

// Add makes namespaces, with loopback up and without IPv6 link-local
// addresses: their duplicate detection would change the picture while it is
// looked at.
func (c *Cluster) Add(shorts ...string) {
	c.t.Helper()
	for _, s := range shorts {
		c.Run("ip netns add " + c.Name(s))
		c.t.Cleanup(func() { c.Delete(s) })
		c.In(s, "sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.default.accept_dad=0", "ip link set lo up")
	}
}

// Delete removes a namespace; one that is gone already is fine.
func (c *Cluster) Delete(short string) {
	if _, err := os.Stat(c.Path(short)); errors.Is(err, os.ErrNotExist) {
		return
	}
	if out, err := exec.Command("ip", "netns", "del", c.Name(short)).CombinedOutput(); err != nil {
		c.t.Errorf("delete namespace %s: %v: %s", short, err, out)
	}
}

// In runs command lines inside a namespace and gives their output. A word
// "@name" stands for the full name of another namespace of the cluster.
func (c *Cluster) In(short string, lines ...string) string {
	c.t.Helper()
	var all strings.Builder
	for _, line := range lines {
		all.WriteString(c.Run("ip netns exec " + c.Name(short) + " " + line))
	}
	return all.String()
}

// Run runs one command line, words split at blanks, and gives its output. See
// In for "@name".
func (c *Cluster) Run(line string) string {
	c.t.Helper()
	words := strings.Fields(line)
	for i, w := range words {
		if short, ok := strings.CutPrefix(w, "@"); ok {
			words[i] = c.Name(short)
		}
	}
	return c.Exec("", words...)
}

// Exec runs a command with standard input and gives its output; it fails the
// test when the command does.
func (c *Cluster) Exec(stdin string, words ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v: %s", strings.Join(words, " "), err, out)
	}
	return string(out)
}

// InStdin runs one command inside a namespace with standard input.
func (c *Cluster) InStdin(short, stdin string, words ...string) string {
	c.t.Helper()
	return c.Exec(stdin, append([]string{"ip", "netns", "exec", c.Name(short)}, words...)...)
}

// TwoNodes builds what the package comment shows.
func TwoNodes(t testing.TB) *Cluster {
	t.Helper()
	c := New(t)
	c.Add("n1", "n2", "a", "b", "c")
	c.In("n1",
		"ip link add eth0 type veth peer name eth0 netns @n2",
		"ip addr add 10.99.0.1/24 dev eth0", "ip link set eth0 up",
		"ip route add default via 10.99.0.2")
	c.In("n2", "ip addr add 10.99.0.2/24 dev eth0", "ip link set eth0 up")
	c.CalicoPod("n1", "a", "caliaa", "10.244.1.2", "fd00:1::2")
	c.CalicoPod("n2", "c", "calicc", "10.244.3.2", "")
	c.In("n1",
		"ip link add cni0 type bridge", "ip addr add 10.244.2.1/24 dev cni0", "ip link set cni0 up",
		"ip link add vethbb type veth peer name eth0 netns @b", "ip link set vethbb master cni0 up",
		"ip addr add fd00:2::1/64 dev cni0 nodad")
	c.In("b",
		"ip addr add 10.244.2.2/24 dev eth0", "ip addr add fd00:2::2/64 dev eth0 nodad",
		"ip link set eth0 up", "ip route add default via 10.244.2.1")
	return c
}

// CalicoPod wires a pod to a node the way Calico does: an interface without
// address on the node, a host route, and a link-local gateway in the pod.
func (c *Cluster) CalicoPod(node, pod, iface, addr4, addr6 string) {
	c.t.Helper()
	c.In(node,
		"ip link add "+iface+" type veth peer name eth0 netns @"+pod,
		"ip link set "+iface+" up",
		"ip route add "+addr4+" dev "+iface)
	c.In(pod,
		"ip addr add "+addr4+"/32 dev eth0", "ip link set eth0 up",
		"ip route add 169.254.1.1 dev eth0", "ip route add default via 169.254.1.1 dev eth0")
	if addr6 != "" {
		c.In(node, "ip route add "+addr6+" dev "+iface)
		c.In(pod, "ip addr add "+addr6+"/128 dev eth0 nodad")
	}
}
