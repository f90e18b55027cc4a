// SPDX-License-Identifier: Apache-2.0

// What is known of neighbours is as it was once a fault is mended, whoever
// asked for them in the meantime; and nobody gives himself away by asking.

package testenv

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// TestMendedAtOnce: with a connection that keeps on retransmitting, and asking
// for its neighbour, under the fault, what is sent right after the mending
// passes at once all the same. It would wait for the next time of asking, or die
// with the last.
func TestMendedAtOnce(t *testing.T) {
	e := newTestEnv(t, cluster.Options{Dataplane: cluster.FlannelLegacy})
	client, server := e.Pod("default/client"), e.Pod("default/server")
	way := traffic.Spec{Proto: "udp", Src: client.FullName(), Dst: server.FullName(), Count: 1, Timeout: 400 * time.Millisecond}
	var conn net.Conn
	err := client.Netns.Do(func() (err error) {
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err = d.DialContext(t.Context(), "tcp", netip.AddrPortFrom(server.IPv4, cluster.DefaultPort).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	applied, err := fault.Break(t.Context(), e, "interface-down-source", way)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("nobody gets this")); err != nil {
		t.Fatal(err)
	}
	asking := awaitNeighbor(t, client.Netns, server.IPv4, netlink.NUD_INCOMPLETE)
	// asked for the third and last time, but not given up
	time.Sleep(2200 * time.Millisecond)
	if err := applied.Undo(); err != nil {
		t.Fatal(err)
	}
	r, err := traffic.Send(t.Context(), e, way)
	if err != nil || r.Outcome != traffic.Answered {
		t.Errorf("%v after somebody asked for the address and the fault was mended: %v, %v", time.Since(asking).Round(time.Millisecond), r, err)
	}
}

// awaitNeighbor waits until an entry has a state and gives the time.
func awaitNeighbor(t *testing.T, ns *netns.Namespace, addr netip.Addr, state int) time.Time {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if neighborState(t, ns, addr) == state {
			return time.Now()
		}
	}
	t.Fatalf("%s in %s has state %#x, want %#x", addr, ns.Name, neighborState(t, ns, addr), state)
	return time.Time{}
}

// neighborState is what a namespace knows of an address; 0: nothing.
func neighborState(t *testing.T, ns *netns.Namespace, addr netip.Addr) (state int) {
	t.Helper()
	err := ns.EachNeighbor(unix.AF_INET, func(entry *netlink.Neigh, of netip.Addr) error {
		if of == addr {
			state = entry.State
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestConfirmNeighbors: a pod that was asked knows who asked, but not for sure,
// and would ask back.
func TestConfirmNeighbors(t *testing.T) {
	e := newTestEnv(t, cluster.Options{Dataplane: cluster.FlannelLegacy})
	pod := e.Pod("default/server")
	if r, err := traffic.Send(t.Context(), e, traffic.Spec{Proto: "icmp", Src: "node1", Dst: pod.FullName(), Count: 1}); err != nil || r.Outcome != traffic.Answered {
		t.Fatal(r, err)
	}
	bridge := pod.Node.PodNet.Addr().Next()
	if s := neighborState(t, pod.Netns, bridge); s&(netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) == 0 {
		t.Fatalf("%s has state %#x in the pod that it asked: nothing to confirm, this test sees nothing", bridge, s)
	}
	if err := pod.Netns.ConfirmNeighbors(); err != nil {
		t.Fatal(err)
	}
	if s := neighborState(t, pod.Netns, bridge); s != netlink.NUD_REACHABLE {
		t.Errorf("%s has state %#x, want %#x, reachable", bridge, s, netlink.NUD_REACHABLE)
	}
}
