// SPDX-License-Identifier: Apache-2.0

package legacy_test

// These tests send real packets and compare the entries that counted them with
// what Walk says beforehand, and with the order that Order finds.

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"golang.org/x/sys/unix"
)

const routerSets = `create bad hash:ip,port family inet
add bad 10.2.0.2,udp:4000
create clients hash:net family inet
add clients 10.1.0.0/24
add clients 10.1.0.77 nomatch
`

const routerRules = `*raw
:PREROUTING ACCEPT
:OUTPUT ACCEPT
-A PREROUTING -i ra -j MARK --set-xmark 0x10/0xf0
-A PREROUTING ! -i ra -j MARK --set-xmark 0x20/0xf0
-A PREROUTING -s 10.1.0.66/32 -j DROP
COMMIT
*mangle
:PREROUTING ACCEPT
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
-A PREROUTING -m dscp --dscp 0x2e -j MARK --set-xmark 0x100/0xf00
-A FORWARD -m mark --mark 0x100/0xf00 -j RETURN
-A FORWARD -m mark ! --mark 0x10/0xf0 -j DROP
-A FORWARD -p udp -m udp --dport 5000 -m comment --comment "counts only"
COMMIT
*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:fw -
:pass -
:policy -
:to-b -
-A FORWARD -j fw
-A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -p udp -m udp --dport 7000:7999 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -p tcp -m tcp --dport 6666 -j REJECT --reject-with tcp-reset
-A FORWARD -m mark --mark 0x100/0xf00 -j ACCEPT
-A fw -j MARK --set-xmark 0x0/0x1b0000
-A fw -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A fw -m conntrack --ctstate INVALID -j DROP
-A fw -m set ! --match-set clients src -j DROP
-A fw -o rb -g to-b
-A fw -j DROP
-A pass -j MARK --set-xmark 0x10000/0x10000
-A policy -p tcp -m multiport --dports 80,443,8000:8100 -j MARK --set-xmark 0x10000/0x10000
-A policy -m mark --mark 0x10000/0x10000 -j RETURN
-A policy -p udp -m udp --sport 53 -j pass
-A policy -p udp -m length --length 200:65535 -j DROP
-A policy -m iprange --dst-range 10.2.0.50-10.2.0.60 -j DROP
-A policy -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP
-A to-b -m set --match-set bad dst,dst -j DROP
-A to-b -p icmp -m icmp --icmp-type 8 -j pass
-A to-b ! -p icmp -j policy
-A to-b -m mark --mark 0x10000/0x10000 -j RETURN
-A to-b -m addrtype --dst-type LOCAL -j DROP
-A to-b -s 10.1.0.128/25 -j DROP
-A to-b -m ttl --ttl-lt 5 -j DROP
COMMIT
`

// probes are packets that end in as many different rules as there are.
func probes() []probe {
	const icmp, tcp, udp, gre = unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_GRE
	return []probe{
		{about: "dropped in raw", src: "10.1.0.66", proto: udp, a: 1, b: 2},
		{about: "TCP to a port that the policy lists", proto: tcp, a: 1001, b: 80},
		{about: "TCP to a port in a listed range", proto: tcp, a: 1002, b: 8050},
		{about: "TCP to another port: the policy", proto: tcp, a: 1003, b: 81},
		{about: "TCP rejected with a reset", proto: tcp, a: 1004, b: 6666},
		{about: "TCP in the middle of a connection", proto: tcp, a: 1005, b: 81, flags: 0x10},
		{about: "TCP reset of no connection", proto: tcp, a: 1006, b: 80, flags: 0x04, state: packet.StateInvalid},
		{about: "UDP from port 53", proto: udp, a: 53, b: 2000},
		{about: "UDP, long", proto: udp, a: 1007, b: 2000, size: 300},
		{about: "UDP, short: the policy", proto: udp, a: 1008, b: 2000},
		{about: "UDP rejected", proto: udp, a: 1009, b: 7000},
		{about: "UDP rejected, last of the range", proto: udp, a: 1010, b: 7999},
		{about: "UDP behind the range", proto: udp, a: 1011, b: 8000},
		{about: "UDP that a rule without target counts", proto: udp, a: 1012, b: 5000},
		{about: "UDP to a port in a set", proto: udp, a: 1013, b: 4000},
		{about: "UDP to an address in a range", dst: "10.2.0.55", proto: udp, a: 1014, b: 2000},
		{about: "UDP to an address behind the range", dst: "10.2.0.61", proto: udp, a: 1015, b: 2000},
		{about: "ping", proto: icmp, a: 8},
		{about: "an echo reply nobody asked for", proto: icmp, a: 0, state: packet.StateInvalid},
		{about: "ICMP timestamp: the policy", proto: icmp, a: 13, size: 12},
		{about: "GRE", proto: gre},
		{about: "a source in the upper half", src: "10.1.0.200", proto: udp, a: 1016, b: 2000},
		{about: "a source in the upper half, let pass before", src: "10.1.0.200", proto: tcp, a: 1017, b: 443},
		{about: "a source that the set leaves out", src: "10.1.0.77", proto: tcp, a: 1018, b: 443},
		{about: "a source that is no client", src: "10.3.0.1", proto: tcp, a: 1019, b: 443},
		{about: "few hops left", proto: udp, a: 1020, b: 2000, ttl: 5},
		{about: "enough hops left", proto: udp, a: 1021, b: 2000, ttl: 6},
		{about: "a DSCP value that is waved through", proto: udp, a: 1022, b: 2000, tos: 0x2e << 2},
	}
}

// stage is one table at one hook, in the order a forwarded packet passes them.
type stage struct {
	table string
	hook  int
}

func TestWalkOfForwardedPackets(t *testing.T) {
	r, a := router(t)
	r.c.InStdin("r", routerSets, "ipset", "restore")
	r.restore(legacy.IPv4, routerRules)
	w := world{t: t}
	r.do(func() (err error) { w.sets, err = ipset.Open(); return err })
	defer w.sets.Close()
	ends := map[string]bool{} // deciding rules met
	for _, p := range probes() {
		p = p.filled()
		before := r.tables()
		send(t, a, p)
		for _, step := range compareProbe(t, r, before, p, w) {
			ends[step] = true
		}
	}
	compareCounters(t, r)
	t.Logf("%d packets, deciding: %s", len(probes()), strings.Join(slices.Sorted(maps.Keys(ends)), "; "))
	if len(ends) < 17 {
		t.Errorf("the packets ended at %d different rules only", len(ends))
	}
}

// tables are the router's tables by name.
func (p *place) tables() map[string]*legacy.Table {
	p.t.Helper()
	all := map[string]*legacy.Table{}
	for _, table := range p.readAll() {
		all[table.Name] = table
	}
	return all
}

// compareProbe walks a packet that was sent through all tables, and compares
// each with what counted. It gives the deciding rules.
func compareProbe(t *testing.T, r *place, before map[string]*legacy.Table, p probe, w packet.World) (deciding []string) {
	t.Helper()
	seen := p.seen(w)
	for _, s := range []stage{{"raw", 0}, {"mangle", 0}, {"mangle", forward}, {"filter", forward}} {
		table := before[s.table]
		if s.hook == forward && seen.Hook != "FORWARD" {
			seen.Hook, seen.Out, seen.TTL.Value = "FORWARD", packet.Known("rb"), p.ttl-1 // net/ipv4/ip_forward.c
		}
		walk, err := table.Walk(seen, s.hook)
		if err != nil {
			t.Fatal(err)
		}
		o, ok := walk.Certain()
		if !ok || len(walk.Unknown) > 0 {
			t.Errorf("%s: %s at %s: not certain: %+v", p.about, s.table, legacy.HookName(s.hook), walk)
			return nil
		}
		way := ordinals(o)
		got := settle(r, table, s.hook, counted(way))
		if differ(got, counted(way)) {
			t.Errorf("%s: %s at %s: counted %s, Walk says %s", p.about, s.table, legacy.HookName(s.hook), told(table, got), told(table, counted(way)))
			return nil
		}
		path, err := table.Order(s.hook, got)
		if err != nil || !slices.Equal(path.Ordinals, way) || path.Deciding != o.Deciding() || path.Verdict != o.Verdict {
			t.Errorf("%s: Order says %+v, %v, Walk %+v", p.about, path, err, o)
		}
		deciding = append(deciding, fmt.Sprintf("%s %s/%d", s.table, table.Entries[o.Deciding()].Chain, table.Entries[o.Deciding()].Number))
		if o.Verdict != "accept" {
			break
		}
		next := o.Packet
		seen = &next
	}
	return deciding
}

// TestWalkWithoutAllFacts sends packets through rules that have a memory or roll
// dice: what happened must be among the outcomes, and where both ways lead to
// the same rule, that rule is certain.
func TestWalkWithoutAllFacts(t *testing.T) {
	r, a := router(t)
	r.restore(legacy.IPv4, `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:c -
:count -
-A FORWARD -p tcp -j count
-A FORWARD -p udp -m limit --limit 1/hour --limit-burst 2 -j c
-A FORWARD -p udp -j DROP
-A c -m statistic --mode random --probability 0.50000000000 -j MARK --set-xmark 0x1/0xffffffff
-A c -m mark --mark 0x1 -j ACCEPT
-A count -m statistic --mode random --probability 0.50000000000 -m comment --comment "nothing depends on it"
-A count -m statistic --mode random --probability 0.50000000000 -j RETURN
COMMIT
`)
	for n := range 20 {
		udp := probe{proto: unix.IPPROTO_UDP, a: uint16(3000 + n), b: 9}.filled()
		walk, got := sendAndWalk(t, r, a, udp)
		if len(walk.Outcomes) != 2 || !walk.Complete || !slices.Contains(walk.Unknown, "limit of filter/FORWARD rule 2") ||
			!slices.Contains(walk.Unknown, "statistic of filter/c rule 1") {
			t.Fatalf("UDP: %+v, want two outcomes", walk)
		}
		if _, certain := walk.Certain(); certain {
			t.Error("UDP: certain")
		}
		if !slices.ContainsFunc(walk.Outcomes, func(o legacy.Outcome) bool { return o.Deciding() == got.Deciding && o.Verdict == got.Verdict }) {
			t.Errorf("UDP: %+v happened, foreseen: %+v", got, walk)
		}
		tcp := probe{proto: unix.IPPROTO_TCP, a: uint16(3000 + n), b: 9}.filled()
		walk, got = sendAndWalk(t, r, a, tcp)
		o, certain := walk.Certain()
		if !certain || o.Deciding() != got.Deciding || o.Verdict != "accept" || len(walk.Unknown) != 2 {
			t.Errorf("TCP: %+v happened, foreseen: %+v", got, walk)
		}
	}
}

// sendAndWalk sends a packet, and gives what Walk foresaw at filter/FORWARD and
// the way that the counters tell.
func sendAndWalk(t *testing.T, r, a *place, p probe) (legacy.Walk, legacy.Path) {
	t.Helper()
	before := r.read(legacy.IPv4, "filter")
	seen := p.seen(nil)
	seen.Hook, seen.Out = "FORWARD", packet.Known("rb")
	walk, err := before.Walk(seen, forward)
	if err != nil {
		t.Fatal(err)
	}
	send(t, a, p)
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		path, err := before.Order(forward, risen(before, r.read(legacy.IPv4, "filter"), forward))
		if err == nil && len(path.Ordinals) > 0 {
			return walk, path
		}
		if time.Now().After(end) {
			t.Fatalf("port %d: %+v, %v", p.a, path, err)
		}
	}
}

// TestDroppedByAMatch sends a TCP packet whose header is cut short: the tcp match
// drops it, and no counter tells.
func TestDroppedByAMatch(t *testing.T) {
	r, a := router(t)
	r.restore(legacy.IPv4, `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:c -
-A FORWARD -p tcp -j c
-A c -j MARK --set-xmark 0x1/0xffffffff
-A c -s 10.9.9.9/32 -j DROP
-A c -p tcp -m tcp --dport 80 -j DROP
COMMIT
`)
	before := r.read(legacy.IPv4, "filter")
	want := entries(t, before, "FORWARD:1 c:1")
	short := probe{about: "cut short", proto: unix.IPPROTO_TCP}.filled()
	send(t, a, short, 28)
	got := settle(r, before, forward, counted(want))
	path, err := before.Order(forward, got)
	if err != nil || !path.Inside || path.Suspect || path.Deciding != -1 || !slices.Equal(path.Ordinals, want) {
		t.Errorf("counted %s: %+v, %v, want the packet lost behind rule 1 of c", told(before, got), path, err)
	}
}

func TestTooManyWaysAreNotFollowed(t *testing.T) {
	rules := "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n"
	for n := range 20 {
		rules += fmt.Sprintf("-A FORWARD -s 10.0.%d.0/24 -m limit --limit %d/sec -j ACCEPT\n", n, n+1)
		rules += fmt.Sprintf("-A FORWARD -m limit --limit %d/sec -j ACCEPT\n", n+1)
	}
	_, table := filter(t, rules+"COMMIT\n")
	walk, err := table.Walk(&packet.Packet{Family: "ip", Src: netip.MustParseAddr("10.1.0.1")}, forward)
	if err != nil || walk.Complete || len(walk.Outcomes) != 16 {
		t.Errorf("%d outcomes, complete %v, %v: want 16 and more", len(walk.Outcomes), walk.Complete, err)
	}
	if _, certain := walk.Certain(); certain {
		t.Error("certain")
	}
}

// TestWalkOnLoopback sends IPv6 packets to this host: through OUTPUT, and
// through INPUT if they are let.
func TestWalkOnLoopback(t *testing.T) {
	p := newPlace(t)
	p.restore(legacy.IPv6, `*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:out -
-A INPUT -i lo -p udp -m udp --dport 5002 -j DROP
-A INPUT ! -i lo -j DROP
-A OUTPUT -o lo -g out
-A OUTPUT -j DROP
-A out -s ::1/128 -d ::1/128 -p udp -m udp --dport 5001 -j DROP
-A out -p tcp -j RETURN
-A out -p udp -m udp --dport 5003 -j ACCEPT
COMMIT
`)
	for port := uint16(5000); port < 5004; port++ {
		before := p.read(legacy.IPv6, "filter")
		source := datagram(t, p, port)
		seen := &packet.Packet{
			Family: "ip6", Hook: "OUTPUT", Proto: unix.IPPROTO_UDP, Src: netip.IPv6Loopback(), Dst: netip.IPv6Loopback(),
			SrcPort: packet.Known(source), DstPort: packet.Known(port), Fragment: packet.Known(false),
			In: packet.Known(""), Out: packet.Known("lo"), Mark: packet.Known[uint32](0),
		}
		for _, hook := range []int{output, input} {
			walk, err := before.Walk(seen, hook)
			if err != nil {
				t.Fatal(err)
			}
			o, certain := walk.Certain()
			if !certain {
				t.Fatalf("port %d at %s: %+v", port, legacy.HookName(hook), walk)
			}
			want := counted(ordinals(o))
			got := settle(p, before, hook, want)
			if differ(got, want) {
				t.Errorf("port %d at %s: counted %s, Walk says %s", port, legacy.HookName(hook), told(before, got), told(before, want))
			}
			if o.Verdict != "accept" {
				break
			}
			seen.Hook, seen.In, seen.Out = "INPUT", packet.Known("lo"), packet.Known("")
		}
	}
}

// datagram sends one to a port of ::1 that somebody listens at, so that nothing
// is answered, and tells its source port. A packet dropped on its way out is an
// error to its sender.
func datagram(t *testing.T, p *place, port uint16) (source uint16) {
	t.Helper()
	p.do(func() error {
		listener, err := net.ListenPacket("udp6", fmt.Sprintf("[::1]:%d", port))
		if err != nil {
			return err
		}
		defer listener.Close()
		conn, err := net.Dial("udp6", listener.LocalAddr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		source = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if _, err := conn.Write([]byte("x")); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
		return nil
	})
	return source
}
