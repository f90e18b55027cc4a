// SPDX-License-Identifier: Apache-2.0

package tracer

// The gate: what packets of others pay while one of the flow is on its way, and
// only then.

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// Packets that arrived keep the gate open no longer, whether anybody reads them
// or not, and what becomes of one of them is still told: here a reset of a
// connection that nobody waits for.
func TestGateClosesOnDelivery(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n", "far")
	c.In("n", "ip link add eth0 type veth peer name eth0 netns @far", "ip addr add 10.99.0.1/24 dev eth0",
		"ip link set eth0 up", "ip link set lo up")
	c.In("far", "ip addr add 10.99.0.2/24 dev eth0", "ip link set eth0 up")
	var unread, sender net.Conn
	within(t, c, "n", func() error {
		l, err := net.ListenPacket("udp4", "10.99.0.1:7000")
		if err == nil {
			unread = l.(net.Conn)
		}
		return err
	})
	defer unread.Close()
	within(t, c, "far", func() (err error) { sender, err = net.Dial("udp4", "10.99.0.1:7000"); return })
	defer sender.Close()
	tr, err := New(t.Context(), Config{Src: "10.99.0.2", Dst: "10.99.0.1", NetnsPath: c.Path("n"), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	told := collector{room: 1 << 10}
	stop := running(t, tr, &told)
	defer stop()
	const packets = 20
	open := 0
	for range packets {
		if _, err := sender.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // a VM needs some of it
		if countOf(t, tr, "in_flight") > 0 {
			open++
		}
	}
	if countOf(t, tr, "arrived") == 0 {
		t.Error("no entry of a delivered packet is kept: what becomes of it late could not be told")
	}
	if open > packets/4 { // a neighbour may be asked for meanwhile
		t.Errorf("the gate was open after %d of %d packets, all of which had arrived", open, packets)
	}
	if out, err := exec.Command("nsenter", "--net="+c.Path("far"), "bash", "-c", "echo >/dev/tcp/10.99.0.1/7001").CombinedOutput(); err == nil {
		t.Errorf("a connection that nobody waits for: %s", out)
	}
	time.Sleep(time.Second)
	stop()
	delivered, reset := 0, 0
	for _, p := range told.packets {
		switch {
		case p.Direction != model.Forward:
		case p.Proto == "udp" && p.Outcome == model.Delivered:
			delivered++
		case p.Proto == "tcp" && p.Outcome == model.Rejected && p.Hops[len(p.Hops)-1].Stage == model.StageDrop:
			reset++
		}
	}
	if delivered != packets || reset != 1 {
		t.Errorf("told as delivered: %d of %d; as refused with a reset: %d of 1", delivered, packets, reset)
	}
	if n := countOf(t, tr, "in_flight"); n != 0 {
		t.Errorf("%d packets are under way when all have arrived", n)
	}
}

func countOf(t *testing.T, tr *Tracer, variable string) (n uint64) {
	t.Helper()
	if err := tr.att.Variable(variable).Get(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
