// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// rewrites lists the rewrites of a packet, with who made them.
func rewrites(p *model.Packet) (all []string) {
	for _, line := range hops(p) {
		if strings.HasPrefix(line, "nat ") {
			all = append(all, line)
		}
	}
	return all
}

// at tells that a packet was in a hook of the node, as another one by then.
func at(hook uint8, on wire, p *packet, to string) *packet {
	if to != "" {
		src, dst, _ := strings.Cut(to, " > ")
		p.become(tuple(p.e.T.Proto, src, dst))
	}
	return p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, on, in(unix.NFPROTO_IPV4, hook), table("filter", "", 0, 1))
}

// TestBalanced: what IPVS rewrites is told from what conntrack's NAT does.
func TestBalanced(t *testing.T) {
	const sent = "10.244.1.5 40000 > 10.244.1.6 8080"
	request := func(s *story) *packet {
		return s.send(unix.IPPROTO_UDP, "10.244.1.5 40000", "10.96.0.20 80").fromClient()
	}
	answer := func(s *story) *packet {
		return s.send(unix.IPPROTO_UDP, "10.244.1.6 8080", "10.244.1.5 40000", returning).xmit(serverEth).recv(calisv)
	}
	for name, tc := range map[string]struct {
		tell func(s *story)
		want []string
	}{
		"to a pod and back": {func(s *story) {
			p := at(input, calicl, request(s), "")
			at(output, calisv, p, sent).xmit(calisv).recv(serverEth).deliver(bpf.FentryFnFN_udpQueueRcvSkb, serverEth)
			q := at(forwardHook, calisv, answer(s), "")
			at(forwardHook, calisv, q, "10.96.0.20 80 > 10.244.1.5 40000").xmit(calicl).recv(clientEth).deliver(bpf.FentryFnFN_udpQueueRcvSkb, clientEth)
		}, []string{"nat calisv@node OUTPUT 10.244.1.5:40000 > 10.96.0.20:80 => 10.244.1.5:40000 > 10.244.1.6:8080 ipvs",
			"nat calisv@node FORWARD 10.244.1.6:8080 > 10.244.1.5:40000 => 10.96.0.20:80 > 10.244.1.5:40000 ipvs"}},
		"to the node itself": {func(s *story) {
			p := at(input, calicl, request(s), "")
			at(input, calicl, p, "10.244.1.5 40000 > 172.30.0.1 10250").deliver(bpf.FentryFnFN_udpQueueRcvSkb, calicl)
		}, []string{"nat calicl@node INPUT 10.244.1.5:40000 > 10.96.0.20:80 => 10.244.1.5:40000 > 172.30.0.1:10250 ipvs"}},
		"by conntrack, and the answer": {func(s *story) {
			at(prerouting, calicl, request(s), sent).xmit(calisv).recv(serverEth).deliver(bpf.FentryFnFN_udpQueueRcvSkb, serverEth)
			at(postrouting, calicl, answer(s), "10.96.0.20 80 > 10.244.1.5 40000").xmit(calicl).recv(clientEth).deliver(bpf.FentryFnFN_udpQueueRcvSkb, clientEth)
		}, []string{"nat calicl@node PREROUTING 10.244.1.5:40000 > 10.96.0.20:80 => 10.244.1.5:40000 > 10.244.1.6:8080",
			"nat calicl@node POSTROUTING 10.244.1.6:8080 > 10.244.1.5:40000 => 10.96.0.20:80 > 10.244.1.5:40000"}},
		"a source in INPUT": {func(s *story) {
			p := at(input, calicl, request(s), "")
			at(input, calicl, p, "10.244.1.77 40000 > 10.96.0.20 80").deliver(bpf.FentryFnFN_udpQueueRcvSkb, calicl)
		}, []string{"nat calicl@node INPUT 10.244.1.5:40000 > 10.96.0.20:80 => 10.244.1.77:40000 > 10.96.0.20:80"}},
		"of the node's own, of which IPVS has no entry": {func(s *story) {
			p := s.send(unix.IPPROTO_UDP, "10.244.1.5 40000", "10.96.0.20 80")
			at(output, calicl, p, "")
			at(output, calisv, p, sent).xmit(calisv).recv(serverEth).deliver(bpf.FentryFnFN_udpQueueRcvSkb, serverEth)
		}, []string{"nat calisv@node OUTPUT 10.244.1.5:40000 > 10.96.0.20:80 => 10.244.1.5:40000 > 10.244.1.6:8080"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			tc.tell(s)
			var got []string
			for _, p := range s.told() {
				got = append(got, rewrites(p)...)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("rewrites:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(tc.want, "\n  "))
			}
		})
	}
}

// TestBalancesAreBounded: past the bound old ones are forgotten, and new ones are known.
func TestBalancesAreBounded(t *testing.T) {
	s := newStory(t)
	for i := range maxBalances {
		s.asm.w.ipvs[balance{proto: uint8(i), real: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i))}] = true
	}
	p := at(input, calicl, s.send(unix.IPPROTO_UDP, "10.244.1.5 40000", "10.96.0.20 80").fromClient(), "")
	at(output, calisv, p, "10.244.1.5 40000 > 10.244.1.6 8080").end(calisv)
	if got := rewrites(s.one()); len(s.asm.w.ipvs) != 1 || len(got) != 1 || !strings.HasSuffix(got[0], " ipvs") {
		t.Errorf("%d are kept, want 1; told %v", len(s.asm.w.ipvs), got)
	}
}

// TestBalancedWhereIPVSIs: a rewrite that looks like one of IPVS is none where IPVS has no
// service, and IPVS is asked for only where one does, once for each real server.
func TestBalancedWhereIPVSIs(t *testing.T) {
	const virtual, sent = "10.244.1.5 40000 > 10.96.0.20 80", "10.244.1.5 40000 > 10.244.1.6 8080"
	for name, tc := range map[string]struct {
		none  bool
		from  uint8 // the hook before the rewrite
		to    uint8
		want  string
		asked int
	}{
		"IPVS":                 {false, input, output, " ipvs", 1},
		"IPVS to itself":       {false, input, input, " ipvs", 1},
		"a rule in INPUT":      {true, input, input, "", 2},
		"no service, but sent": {true, input, output, "", 2},
		"conntrack's NAT":      {false, prerouting, forwardHook, "", 0},
	} {
		s := newStory(t)
		asked := 0
		s.asm.w.Places = nodeMap{noIPVS: tc.none, asked: &asked}
		for range 2 {
			src, dst, _ := strings.Cut(virtual, " > ")
			p := at(tc.from, calicl, s.send(unix.IPPROTO_UDP, src, dst).fromClient(), "")
			at(tc.to, calisv, p, sent).end(calisv)
		}
		var got []string
		for _, p := range s.told() {
			got = append(got, rewrites(p)...)
		}
		if len(got) != 2 || strings.HasSuffix(got[0], " ipvs") != (tc.want != "") || strings.HasSuffix(got[1], " ipvs") != (tc.want != "") || asked != tc.asked {
			t.Errorf("%s: %q, asked %d times; want %q, asked %d times", name, got, asked, tc.want, tc.asked)
		}
	}
}

// TestOwnBalanced: what the node itself sends is IPVS's where that has an entry of it, told
// once for a real server; conntrack's NAT, which runs before, leaves none.
func TestOwnBalanced(t *testing.T) {
	at4 := netip.MustParseAddrPort
	entry := [3]netip.AddrPort{at4("172.30.0.1:40000"), at4("10.96.0.20:80"), at4("10.244.1.6:8080")}
	const sent = "172.30.0.1 40000 > 10.244.1.6 8080"
	for name, tc := range map[string]struct {
		entries map[[3]netip.AddrPort]bool
		none    bool // no service
		from    uint8
		to      uint8
		ipvs    bool
		asked   int
	}{
		"an entry":            {map[[3]netip.AddrPort]bool{entry: true}, false, output, output, true, 2},
		"seen behind OUTPUT":  {map[[3]netip.AddrPort]bool{entry: true}, false, output, postrouting, true, 2},
		"no entry":            {nil, false, output, output, false, 4},
		"no service":          {map[[3]netip.AddrPort]bool{entry: true}, true, output, output, false, 2},
		"forwarded meanwhile": {map[[3]netip.AddrPort]bool{entry: true}, false, prerouting, postrouting, false, 0},
	} {
		s := newStory(t)
		asked := 0
		s.asm.w.Places = nodeMap{noIPVS: tc.none, asked: &asked, entries: tc.entries}
		for range 2 {
			p := s.send(unix.IPPROTO_UDP, "172.30.0.1 40000", "10.96.0.20 80")
			at(tc.from, calisv, p, "")
			at(tc.to, calisv, p, sent).xmit(calisv).recv(serverEth).deliver(bpf.FentryFnFN_udpQueueRcvSkb, serverEth)
		}
		q := s.send(unix.IPPROTO_UDP, "10.244.1.6 8080", "172.30.0.1 40000", returning).xmit(serverEth).recv(calisv)
		at(input, calisv, at(input, calisv, q, ""), "10.96.0.20 80 > 172.30.0.1 40000").deliver(bpf.FentryFnFN_udpQueueRcvSkb, calisv)
		var got []string
		for _, p := range s.told() {
			got = append(got, rewrites(p)...)
		}
		ok := len(got) == 3 && asked == tc.asked
		for _, line := range got {
			ok = ok && strings.HasSuffix(line, " ipvs") == tc.ipvs
		}
		if !ok {
			t.Errorf("%s: asked %d times, want %d; told %q", name, asked, tc.asked, got)
		}
	}
}
