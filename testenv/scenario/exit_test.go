// SPDX-License-Identifier: Apache-2.0

// When a trace ends, and with what verdict and exit status: by time, by
// number, with the command, by signal. And that ready means ready.

package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Exit statuses as docs and help promise them.
const (
	exitFine        = 0
	exitError       = 1
	exitDied        = 2
	exitNothing     = 3
	exitInterrupted = 130 // 128 + SIGINT
)

// udp is quiet traffic between the two pods of node1 that every dataplane lets pass.
func udp(interval time.Duration) traffic.Spec {
	return traffic.Spec{Proto: "udp", Src: "default/server", Dst: "default/client", Count: 3, Interval: interval}
}

// TestExit goes through all ways a trace can end, on one node.
func TestExit(t *testing.T) {
	p := readPlan(t)
	e := newEnv(t, cluster.Options{Dataplane: p.oneOfEachKind(cluster.CalicoLegacy)[0]})
	src, dst := ends(t, e, udp(0))
	for _, c := range []struct {
		name string
		run  func(*testing.T, plan, *cluster.Env, string, string)
	}{
		{"nothing seen", exitNothingSeen},
		{"after so many packets", exitPackets},
		{"with the command", exitCommand},
		{"drops only", exitDropsOnly},
		{"SIGTERM", exitSIGTERM},
		{"second SIGINT", exitSecondSIGINT},
		{"SIGINT twice at once", exitSameSIGINT},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, p, e, src, dst) })
	}
}

// exitNothingSeen: other traffic is none of ours, and the time is kept.
func exitNothingSeen(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	const duration = time.Second
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp", "--port", "9", "--duration", duration.String())
	began := tr.readySince(t)
	if r, err := traffic.Send(t.Context(), e, udp(0)); err != nil || r.Outcome != traffic.Answered {
		t.Fatalf("other traffic: %v, %v", r, err)
	}
	all := tr.verdict(t, duration+p.detach())
	if took := time.Since(began); took < duration-100*time.Millisecond || took > duration+pick(p, 5*time.Second, 10*time.Second) {
		t.Errorf("told the summary %v after it was ready, want %v", took, duration)
	}
	if n := all.summary.Forward.Seen + all.summary.Return.Seen + len(all.packets); n != 0 {
		t.Errorf("%d packets of another port told: %v", n, all.packets)
	}
	wantStatus(t, tr, p, exitNothing)
}

func wantStatus(t *testing.T, tr *process, p plan, want int) {
	t.Helper()
	if got := tr.wait(t, p.detach()); got != want {
		t.Errorf("exit status %d, want %d; standard error: %s", got, want, tr.errors(t))
	}
}

// exitPackets: the flow goes on, the trace does not.
func exitPackets(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	const packets = 5
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp", "--packets", fmt.Sprint(packets))
	stop := inBackground(t, e, udp(20*time.Millisecond))
	all := tr.verdict(t, pick(p, 10*time.Second, 20*time.Second))
	stop()
	if n := len(all.packets); n != packets {
		t.Errorf("%d packets told, want %d", n, packets)
	}
	if n := all.summary.Forward.Seen + all.summary.Return.Seen; n != packets {
		t.Errorf("summary counts %d packets, want %d", n, packets)
	}
	wantStatus(t, tr, p, exitFine)
}

// exitCommand: the command's own traffic is told, all of it, and the trace ends
// soon after it. The command is what a user would run, in the pod's namespace.
func exitCommand(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	const pings = 3
	pod := e.Pod(udp(0).Src)
	began := time.Now()
	tr := launchTrace(t, p, e, src, dst, "--proto", "icmp", "--",
		"nsenter", "--net="+pod.Netns.Path, "ping", "-n", "-c", fmt.Sprint(pings), "-i", "0.2", "-W", "2", dst)
	all := tr.verdict(t, pick(p, 15*time.Second, 30*time.Second))
	if took := time.Since(began); took > pick(p, 10*time.Second, 120*time.Second) {
		t.Errorf("summary told %v after the start, of which the command takes about 0.5 s", took)
	}
	for _, d := range []model.Direction{model.Forward, model.Return} {
		var seqs []uint16
		for _, pk := range all.of(d) {
			seqs = append(seqs, pk.ICMPSeq)
			if pk.Outcome != model.Delivered {
				t.Errorf("told %s", tell(pk))
			}
		}
		if !slices.Equal(seqs, []uint16{1, 2, 3}) {
			t.Errorf("%s: sequence numbers %v told, want those of %d pings", d, seqs, pings)
		}
	}
	wantStatus(t, tr, p, exitFine)
}

// exitDropsOnly: what arrived is counted and not told.
func exitDropsOnly(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp", "--drops-only")
	if r, err := traffic.Send(t.Context(), e, udp(0)); err != nil || r.Outcome != traffic.Answered {
		t.Fatalf("before the fault: %v, %v", r, err)
	}
	applied, err := fault.Break(t.Context(), e, "rule-drop", udp(0))
	if err != nil {
		t.Fatal(err)
	}
	broken := udp(0)
	broken.Timeout = 200 * time.Millisecond
	_, err = traffic.Send(t.Context(), e, broken)
	if undone := applied.Undo(); err != nil || undone != nil {
		t.Fatal(err, undone)
	}
	settle(p)
	tr.signal(t, syscall.SIGINT)
	all := tr.verdict(t, p.detach())
	for _, pk := range all.packets {
		if pk.Outcome != model.Dropped {
			t.Errorf("with --drops-only told %s", tell(pk))
		}
	}
	want := model.Counts{Seen: 6, Delivered: 3, Dropped: 3}
	if all.summary.Forward != want || len(all.packets) != want.Dropped {
		t.Errorf("%d packets told, forward %+v; want %d and %+v", len(all.packets), all.summary.Forward, want.Dropped, want)
	}
	wantStatus(t, tr, p, exitDied)
}

func exitSIGTERM(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp")
	if _, err := traffic.Send(t.Context(), e, udp(0)); err != nil {
		t.Fatal(err)
	}
	tr.signal(t, syscall.SIGTERM)
	all := tr.verdict(t, p.detach())
	if f, r := all.summary.Forward.Delivered, all.summary.Return.Delivered; f != 3 || r != 3 {
		t.Errorf("%d requests and %d replies delivered, want 3 and 3", f, r)
	}
	wantStatus(t, tr, p, exitFine)
}

// exitSecondSIGINT: while the first one waits for what is in flight (the flow
// does not pause), a second one ends the process without a verdict.
func exitSecondSIGINT(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp")
	for range 3 { // so that the flow does not pause either where one sender has to wait for a CPU
		defer inBackground(t, e, udp(10*time.Millisecond))()
	}
	time.Sleep(100 * time.Millisecond)
	tr.signal(t, syscall.SIGINT)
	time.Sleep(300 * time.Millisecond) // longer than it would wait for a flow that has ended
	if !tr.running() || tr.told(t).summary != nil {
		t.Fatal("ended before the second SIGINT: the flow was to keep it waiting")
	}
	tr.signal(t, syscall.SIGINT)
	wantStatus(t, tr, p, exitInterrupted)
	if tr.told(t).summary != nil {
		t.Error("told a summary although it was to quit at once")
	}
}

// exitSameSIGINT: timeout(1) sends its signal to the process and its group.
func exitSameSIGINT(t *testing.T, p plan, e *cluster.Env, src, dst string) {
	for {
		tr := launchTrace(t, p, e, src, dst, "--proto", "udp")
		if _, err := traffic.Send(t.Context(), e, udp(0)); err != nil {
			t.Fatal(err)
		}
		tr.signal(t, syscall.SIGINT)
		first := time.Now()
		time.Sleep(20 * time.Millisecond) // at once they would be one signal to the kernel
		tr.signal(t, syscall.SIGINT)
		if apart := time.Since(first); apart > 150*time.Millisecond {
			t.Logf("signals %v apart, which may be two people's: once more", apart)
			continue
		}
		tr.verdict(t, p.detach())
		wantStatus(t, tr, p, exitFine)
		return
	}
}

// TestReady sends one packet the moment the ready file is there: neither it nor
// its answer may be missed, and both are told from end to end.
func TestReady(t *testing.T) {
	p := readPlan(t)
	e := newEnv(t, cluster.Options{Dataplane: p.oneOfEachKind(cluster.CalicoLegacy)[0]})
	src, dst := ends(t, e, udp(0))
	if r, err := traffic.Send(t.Context(), e, udp(0)); err != nil || r.Outcome != traffic.Answered { // neighbours are known from now on
		t.Fatalf("%v, %v", r, err)
	}
	for i := range pick(p, 20, 3) {
		conn := connect(t, e.Pod(udp(0).Src).Netns, netip.MustParseAddr(dst))
		tr := launchTrace(t, p, e, src, dst, "--proto", "udp")
		if _, err := conn.Write([]byte("right after ready")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			t.Fatalf("run %d: no answer: %v", i+1, err)
		}
		settle(p)
		tr.signal(t, syscall.SIGINT)
		all := tr.verdict(t, p.detach())
		want := model.Counts{Seen: 1, Delivered: 1}
		if all.summary.Forward != want || all.summary.Return != want {
			t.Errorf("run %d: forward %+v, return %+v; want %+v both", i+1, all.summary.Forward, all.summary.Return, want)
		}
		for _, pk := range all.packets {
			if n := len(pk.Hops); n == 0 || pk.Hops[0].Stage == model.StageReceive {
				t.Errorf("run %d: its first hop is missing: %s", i+1, tell(pk))
			}
		}
		tr.wait(t, p.detach())
	}
}

// connect makes a UDP socket in a namespace, ready to send to the echo server.
func connect(t *testing.T, ns *netns.Namespace, to netip.Addr) net.Conn {
	t.Helper()
	var conn net.Conn
	err := ns.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, cluster.DefaultPort)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(ReadyWithin + 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
