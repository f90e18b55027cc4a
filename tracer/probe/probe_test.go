// SPDX-License-Identifier: Apache-2.0

package probe

// These tests probe between two pods of a node in namespaces, healthy and
// broken, and compare what is told with what ordinary programs say there: ping,
// and bash opening a TCP connection.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestParse(t *testing.T) {
	for word, want := range map[string]Spec{"icmp": {ICMP, 0}, "tcp:80": {TCP, 80}, "UDP:65535": {UDP, 65535}} {
		if got, err := Parse(word); got != want || err != nil || got.String() != strings.ToLower(word) {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	for word, want := range map[string]string{
		"": "use icmp, tcp:PORT or udp:PORT", "sctp:1": "unknown probe", "tcp": "as in tcp:80", "tcp:": "as in tcp:80", "udp:0": "as in udp:80",
		"tcp:65536": "from 1 to 65535", "tcp:http": "from 1 to 65535", "icmp:1": "icmp has no ports",
	} {
		if _, err := Parse(word); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", word)) {
			t.Errorf("%q: %v, want %q", word, err, want)
		}
	}
}

// rig is a node with two pods: a 10.244.1.2 and b 10.244.2.2, both with IPv6.
type rig struct {
	*nodetest.Cluster
	ns *node.Namespaces
}

func newRig(t *testing.T) *rig {
	t.Helper()
	c := nodetest.TwoNodes(t)
	c.In("n1", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.caliaa.proxy_arp=1 net.ipv4.neigh.caliaa.proxy_delay=0")
	c.In("n1", "ip link add dualaa type veth peer name six netns @a", "ip addr add fd00:9::1/64 dev dualaa nodad", "ip link set dualaa up",
		// A router asks for neighbours from its link-local address.
		"ip addr add fe80::1/64 dev cni0 nodad", "ip addr add fe80::1/64 dev dualaa nodad")
	c.In("a", "ip addr add fd00:9::2/64 dev six nodad", "ip link set six up", "ip route add fd00:2::/64 via fd00:9::1")
	c.In("b", "ip route add fd00:9::/64 via fd00:2::1")
	ns, err := node.OpenNamespaces(c.Path("n1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{c, ns}
}

// listen serves TCP and UDP echo on port 8080 of pod b, both families.
func (r *rig) listen(t *testing.T) {
	t.Helper()
	err := r.ns.Do(r.Inode("b"), func() error {
		for _, host := range []string{"10.244.2.2", "[fd00:2::2]"} {
			l, err := net.Listen("tcp", host+":8080")
			if err != nil {
				return err
			}
			p, err := net.ListenPacket("udp", host+":8080")
			if err != nil {
				return err
			}
			go echoDatagrams(p)
			t.Cleanup(func() {
				if err := errors.Join(l.Close(), p.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func echoDatagrams(p net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := p.ReadFrom(buffer)
		if err != nil {
			return // closed
		}
		_, _ = p.WriteTo(buffer[:n], from) // whoever waits for it notices
	}
}

func (r *rig) run(t *testing.T, probe, dst string) Result {
	t.Helper()
	spec, err := Parse(probe)
	if err != nil {
		t.Fatal(err)
	}
	result, err := Run(context.Background(), r.ns, r.Inode("a"), spec, netip.MustParseAddr(dst))
	if err != nil {
		t.Fatalf("%s to %s: %v", probe, dst, err)
	}
	t.Logf("%s: %s (from %s, %d sent)", probe, result, result.Src, result.Sent)
	return result
}

// bash says what a program gets that connects from pod a, "" for a connection.
func (r *rig) bash(t *testing.T, dst string, port int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", "netns", "exec", r.Name("a"), "bash", "-c", fmt.Sprintf("echo > /dev/tcp/%s/%d", dst, port)).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "timed out"
	case err == nil:
		return ""
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.ToLower(first[strings.LastIndex(first, ": ")+2:])
}

func TestHealthy(t *testing.T) {
	r := newRig(t)
	r.listen(t)
	for _, w := range []struct{ probe, dst, src, want string }{
		{"tcp:8080", "10.244.2.2", "10.244.1.2", "connected in "},
		{"udp:8080", "10.244.2.2", "10.244.1.2", "answered in "},
		{"icmp", "10.244.2.2", "10.244.1.2", "answered in "},
		{"tcp:8080", "fd00:2::2", "fd00:9::2", "connected in "},
		{"udp:8080", "fd00:2::2", "fd00:9::2", "answered in "},
		{"icmp", "fd00:2::2", "fd00:9::2", "answered in "},
		{"icmp", "::ffff:10.244.2.2", "10.244.1.2", "answered in "},
	} {
		got := r.run(t, w.probe, w.dst)
		if !got.Answered || got.Err != nil || got.Src.String() != w.src || got.Sent != 1 || !strings.HasPrefix(got.String(), w.want) || !strings.HasSuffix(got.String(), " ms") {
			t.Errorf("%s to %s: %+v: %s", w.probe, w.dst, got, got)
		}
	}
	if got := r.run(t, "tcp:8080", "fd00:2::2").Target(); got != "[fd00:2::2]:8080" {
		t.Errorf("%s", got)
	}
}

// Faults, and what programs see of them. bash and ping are asked in the same
// state; what takes the kernel's patience to find out is timed only.
func TestBroken(t *testing.T) {
	for _, w := range []struct {
		name   string
		faults []string // "namespace command"
		probe  string
		dst    string
		want   error // nil: waits in vain
	}{
		{"nobody listens", nil, "tcp:81", "10.244.2.2", unix.ECONNREFUSED},
		{"nobody listens, IPv6", nil, "tcp:81", "fd00:2::2", unix.ECONNREFUSED},
		{"nobody listens, UDP", nil, "udp:81", "10.244.2.2", unix.ECONNREFUSED},
		{"nobody listens, UDP over IPv6", nil, "udp:81", "fd00:2::2", unix.ECONNREFUSED},
		{"dropped", []string{"n1 nft add table ip f", "n1 nft add chain ip f c { type filter hook forward priority 0; policy drop; }"}, "tcp:8080", "10.244.2.2", nil},
		{"dropped, ICMP", []string{"n1 nft add table ip f", "n1 nft add chain ip f c { type filter hook forward priority 0; policy drop; }"}, "icmp", "10.244.2.2", nil},
		{"dropped, UDP", []string{"n1 nft add table ip f", "n1 nft add chain ip f c { type filter hook forward priority 0; policy drop; }"}, "udp:8080", "10.244.2.2", nil},
		{"rejected", []string{"n1 nft add table ip f", "n1 nft add chain ip f c { type filter hook forward priority 0; }", "n1 nft add rule ip f c reject with icmp type admin-prohibited"}, "tcp:8080", "10.244.2.2", unix.EHOSTUNREACH},
		{"rejected, ICMP", []string{"n1 nft add table ip f", "n1 nft add chain ip f c { type filter hook forward priority 0; }", "n1 nft add rule ip f c reject with icmp type admin-prohibited"}, "icmp", "10.244.2.2", unix.EHOSTUNREACH},
		{"no route on the node", []string{"n1 ip route add unreachable 10.77.0.0/24"}, "tcp:8080", "10.77.0.1", unix.EHOSTUNREACH},
		{"prohibited on the node, ICMP", []string{"n1 ip route add prohibit 10.77.0.0/24"}, "icmp", "10.77.0.1", unix.EHOSTUNREACH},
		{"no route in the pod", []string{"a ip route del default"}, "tcp:8080", "10.244.2.2", unix.ENETUNREACH},
		{"no route in the pod, ICMP", []string{"a ip route del default"}, "icmp", "10.244.2.2", unix.ENETUNREACH},
		{"rule in the pod", []string{"a nft add table ip f", "a nft add chain ip f c { type filter hook output priority 0; policy drop; }"}, "udp:8080", "10.244.2.2", unix.EPERM},
		{"neighbour does not answer", []string{"n1 sysctl -qw net.ipv4.conf.caliaa.proxy_arp=0"}, "tcp:8080", "10.244.2.2", unix.EHOSTUNREACH},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			r := newRig(t)
			r.listen(t)
			for _, fault := range w.faults {
				where, line, _ := strings.Cut(fault, " ")
				r.In(where, line)
			}
			got := r.run(t, w.probe, w.dst)
			var errno error
			if got.Err != nil {
				errno = got.Err
			}
			if got.Answered || errno != w.want {
				t.Errorf("%+v, want %v", got, w.want)
			}
			r.compare(t, got)
		})
	}
}

// compare asks an ordinary program in the same state.
func (r *rig) compare(t *testing.T, got Result) {
	t.Helper()
	switch got.Spec.Proto {
	case TCP:
		want := "timed out"
		if got.Err != nil {
			want = got.Err.Error()
		}
		if said := r.bash(t, got.Dst.String(), int(got.Spec.Port)); said != want {
			t.Errorf("bash says %q, the probe %q", said, want)
		}
	case ICMP:
		out, err := exec.Command("ip", "netns", "exec", r.Name("a"), "ping", "-c", "1", "-W", "1", got.Dst.String()).CombinedOutput()
		if err == nil {
			t.Errorf("ping is answered: %s", out)
		}
		if got.Err == nil && !strings.Contains(string(out), "100% packet loss") {
			t.Errorf("ping says %s", out)
		}
	}
}

func TestCannotProbe(t *testing.T) {
	r := newRig(t)
	spec, dst := Spec{ICMP, 0}, netip.MustParseAddr("10.244.2.2")
	if _, err := Run(context.Background(), r.ns, 1, spec, dst); !errors.Is(err, node.ErrGone) {
		t.Errorf("a namespace that is gone: %v", err)
	}
	r.In("n1", "nft add table ip f", "nft add chain ip f c { type filter hook forward priority 0; policy drop; }")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if got, err := Run(ctx, r.ns, r.Inode("a"), spec, dst); err != nil || got.Answered || got.Err != nil {
		t.Errorf("cut short: %+v, %v", got, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("cut short after %v", took)
	}
	cancelled, stop := context.WithCancel(context.Background())
	stop()
	if _, err := Run(cancelled, r.ns, r.Inode("a"), spec, dst); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
