// SPDX-License-Identifier: Apache-2.0

// Rules told while much else goes through the same chains. What is told may be
// "unknown", but never a rule that it was not.

package rulecases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/scenario"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// The traced flow under load: from the client to loadPort, and from that port of
// the node to the client. The client's port says which rule must match.
const (
	loadPort    = 7777
	loadFirst   = 20000 // the client's lowest port
	loadRules   = 20    // in each direction
	loadEach    = 25    // ports of one rule
	loadPackets = 2 * loadRules * loadEach
	floodPort   = 9000
	// most of what may be unknown, in percent
	mostUnknown = 5
)

// loadTrace is the trace that the tests under load and replacement share.
func (g *gallery) loadTrace(t *testing.T) *scenario.Trace {
	t.Helper()
	if g.tr == nil || !g.p.exact() {
		g.end(t)
		g.tr = g.s.trace(g.ctx, t, g.p, "--src", "if:"+g.s.client.HostInterface, "--dst", "any", "--proto", "udp", "--port", fmt.Sprint(loadPort))
	} else {
		time.Sleep(g.p.lateFunctions(true))
	}
	return g.tr
}

// underLoad traces many packets with three floods through the same chains.
func (g *gallery) underLoad(t *testing.T, f form) {
	if err := g.installLoad(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	tr := g.loadTrace(t)
	already, missed := len(tr.Packets()), misses(t)
	floods := g.flood(t)
	// in flight there is room for thousands: the pace is the node's, not the tool's
	pace := map[bool]time.Duration{true: 3 * time.Millisecond, false: 500 * time.Microsecond}[g.p.exact()]
	sides := make(chan error, 2)
	go func() {
		sides <- g.sendAll(g.s.client.Netns, pace, func(port uint16) error { return sendLoad(port, g.s.server.IPv4, loadPort) })
	}()
	go func() {
		sides <- g.sendAll(g.s.node, pace, func(port uint16) error { return sendLoad(loadPort, g.s.client.IPv4, port) })
	}()
	err := errors.Join(<-sides, <-sides)
	sent := floods()
	if err != nil {
		t.Fatal(err)
	}
	told := awaitCount(tr, already, loadPackets)
	wrong, unknown := 0, map[string]int{}
	for _, p := range told {
		if why, problem := g.loadProblem(f, &p); problem != "" {
			if wrong++; wrong <= 5 {
				t.Errorf("%s\n  told: %s", problem, tell(&p))
			}
		} else if why != "" {
			unknown[why]++
		}
	}
	missed = misses(t) - missed
	t.Logf("%d of %d packets told, %d wrong, unknown: %v; %d packets of floods; the kernel left programs out %d times", len(told), loadPackets, wrong, unknown, sent, missed)
	if gone := loadPackets - len(told); gone < 0 || uint64(gone) > missed {
		t.Errorf("%d packets sent, %d told", loadPackets, len(told))
	}
	if sent < loadPackets {
		t.Errorf("the floods sent %d packets only", sent)
	}
	g.fewUnknown(t, f, unknown, len(told), mostUnknown)
}

// fewUnknown bounds what may be unknown where the backend sees rules at all:
// fentry everything, tracepoint those of legacy tables.
func (g *gallery) fewUnknown(t *testing.T, f form, unknown map[string]int, of, most int) {
	t.Helper()
	sum := 0
	for _, n := range unknown {
		sum += n
	}
	if (g.p.exact() || f.name == "iptables-legacy") && sum*100 >= most*of {
		t.Errorf("%d of %d rules unknown, %d%% or more: %v", sum, of, most, unknown)
	}
}

// installLoad installs a rule for each range of the client's ports, behind rules
// that the floods match.
func (g *gallery) installLoad(ctx context.Context, f form) error {
	if err := g.s.clear(ctx); err != nil {
		return err
	}
	var b strings.Builder
	if f.name == "nft" {
		b.WriteString("add table ip load\nadd chain ip load lfwd { type filter hook forward priority 0; }\nadd chain ip load lout { type filter hook output priority 0; }\n")
		for _, side := range []struct{ base, chain, match, port string }{{"lfwd", "LF", "dport", "sport"}, {"lout", "LO", "sport", "dport"}} {
			fmt.Fprintf(&b, "add chain ip load %s\nadd rule ip load %s udp dport %d counter\nadd rule ip load %s udp %s %d jump %s\n", side.chain, side.base, floodPort, side.base, side.match, loadPort, side.chain)
			for i := range loadRules {
				fmt.Fprintf(&b, "add rule ip load %s udp %s %d-%d drop\n", side.chain, side.port, loadFirst+i*loadEach, loadFirst+(i+1)*loadEach-1)
			}
		}
		_, err := g.s.node.Run(ctx, b.String(), "nft", "-f", "-")
		return err
	}
	b.WriteString("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:LF - [0:0]\n:LO - [0:0]\n")
	for _, side := range []struct{ base, chain, match, port string }{{"FORWARD", "LF", "dport", "sport"}, {"OUTPUT", "LO", "sport", "dport"}} {
		fmt.Fprintf(&b, "-A %s -p udp --dport %d -j MARK --set-xmark 0x0/0x0\n-A %s -p udp --%s %d -j %s\n", side.base, floodPort, side.base, side.match, loadPort, side.chain)
		for i := range loadRules {
			fmt.Fprintf(&b, "-A %s -p udp --%s %d:%d -j DROP\n", side.chain, side.port, loadFirst+i*loadEach, loadFirst+(i+1)*loadEach-1)
		}
	}
	_, err := g.s.node.Run(ctx, b.String()+"COMMIT\n", f.name+"-restore")
	return err
}

// loadProblem compares the rules told of a packet with those its port asks for.
func (g *gallery) loadProblem(f form, p *model.Packet) (unknown, problem string) {
	port, base, chain := p.SrcPort, "FORWARD", "LF"
	if p.Direction == model.Return {
		port, base, chain = p.DstPort, "OUTPUT", "LO"
	}
	if f.name == "nft" {
		base = map[string]string{"FORWARD": "lfwd", "OUTPUT": "lout"}[base]
	}
	number := (int(port)-loadFirst)/loadEach + 1
	if p.Outcome == model.Unknown {
		return "the packet's end was not seen", ""
	}
	if p.Drop == nil || p.Outcome != model.Dropped {
		return "", "not told dropped"
	}
	if r := p.Drop.Rule; r != nil && (r.Chain != chain || r.Number != number) {
		return "", fmt.Sprintf("told rule %d of %s to have dropped it, it was %d of %s", r.Number, r.Chain, number, chain)
	}
	for i := range p.Hops {
		h := &p.Hops[i]
		if !tableHop(h) || h.RuleSource != model.RuleExact || h.Verdict != "drop" {
			continue
		}
		var got []string
		for _, r := range h.Rules {
			got = append(got, fmt.Sprintf("%s#%d", r.Chain, r.Number))
		}
		if want := []string{base + "#2", fmt.Sprintf("%s#%d", chain, number)}; !slices.Equal(got, want) {
			return "", fmt.Sprintf("told %v, want %v", got, want)
		}
	}
	if p.Drop.Rule == nil {
		return reasonOf(p), ""
	}
	return "", ""
}

var numbers = regexp.MustCompile(`\d+`)

// reasonOf is why a rule is not known, with its numbers left out: to be counted.
func reasonOf(p *model.Packet) string {
	if p.Drop.RuleUnknown == "" {
		return "no reason told"
	}
	return numbers.ReplaceAllString(p.Drop.RuleUnknown, "N")
}

// misses sums up how often the kernel left out one of the programs that are
// loaded now: a program is not run again on a CPU that it is running on already,
// as it may be where another task or an interrupt came in between
// (kernel/bpf/trampoline.c, __bpf_prog_enter_recur). What it would have seen is
// missing then.
func misses(t *testing.T) (sum uint64) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return sum
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		prog, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone just now
		}
		if err != nil {
			t.Fatal(err)
		}
		stats, err := prog.Stats()
		if err := errors.Join(err, prog.Close()); err != nil {
			t.Fatal(err)
		}
		sum += stats.RecursionMisses
	}
}

// sendAll sends one packet for each of the client's ports.
func (g *gallery) sendAll(from *netns.Namespace, pace time.Duration, send func(port uint16) error) error {
	return from.Do(func() error {
		for i := range loadPackets / 2 {
			if err := send(uint16(loadFirst + i)); err != nil {
				return err
			}
			time.Sleep(pace)
		}
		return nil
	})
}

// sendLoad sends a packet from the namespace this thread is in.
func sendLoad(sport uint16, to netip.Addr, dport uint16) error {
	err := sendUDP(netip.AddrPortFrom(unspecified(false), sport), netip.AddrPortFrom(to, dport), 0)
	if errors.Is(err, unix.EPERM) {
		return nil // OUTPUT's DROP
	}
	return err
}

// flood sends three floods of other packets, to and fro between the pods and
// from the node itself, until the function it returns is called, which tells
// how many packets that were.
func (g *gallery) flood(t *testing.T) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var sent atomic.Int64
	rate := map[bool]int{true: 150, false: 3000}[g.p.exact()]
	specs := []traffic.FloodSpec{
		{Src: "default/client", Dst: "default/server", Port: floodPort, Rate: rate, Packets: rate * 600},
		{Src: "default/server", Dst: "default/client", Port: floodPort, Rate: rate, Packets: rate * 600},
	}
	for _, spec := range specs {
		all.Go(func() {
			r, err := traffic.Flood(ctx, g.s.env, spec)
			if err != nil {
				t.Errorf("flood: %v", err)
			}
			sent.Add(int64(r.Sent))
		})
	}
	all.Go(func() {
		err := g.s.node.Do(func() error {
			for ctx.Err() == nil {
				if err := sendLoad(0, g.s.server.IPv4, floodPort); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
					return err
				}
				sent.Add(1)
				time.Sleep(time.Second / time.Duration(rate))
			}
			return nil
		})
		if err != nil {
			t.Errorf("flood from the node: %v", err)
		}
	})
	return func() int {
		cancel()
		all.Wait()
		return int(sent.Load())
	}
}

// awaitCount waits until n packets were told after the first ones.
// The wait begins anew with each that comes: an emulated CPU that reads rules all the
// time tells them late.
func awaitCount(tr *scenario.Trace, already, n int) []model.Packet {
	had := 0
	for deadline := time.Now().Add(toldWithin); ; time.Sleep(100 * time.Millisecond) {
		if told := len(tr.Packets()) - already; told > had {
			had, deadline = told, time.Now().Add(toldWithin)
		}
		if told := tr.Packets()[already:]; len(told) >= n || time.Now().After(deadline) {
			return told
		}
	}
}
