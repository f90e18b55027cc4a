// SPDX-License-Identifier: Apache-2.0

package journey

// Stories of what belongs together: copies, segments, fragments; and of when
// and in which order packets are told.

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// tcpdump's copy says nothing about the packet, neither its fate nor when it
// is to be told.
func TestPacketSocketCopy(t *testing.T) {
	for _, location := range []string{"packet_rcv+0x40", "tpacket_rcv+0x40", "packet_rcv_spkt+0x1"} {
		s := newStory(t)
		p := syn(s).fromClient()
		p.clone().kfree("NOT_SPECIFIED", location, calicl)
		s.now = s.now.Add(time.Second)
		if got := s.asm.Due(s.now, false); len(got) != 0 {
			t.Fatalf("%s: told while under way: %v", location, lines(got))
		}
		p.toServer(bpf.FentryFnFN_tcpV4Rcv)
		got := s.one()
		wantOutcome(t, got, model.Delivered)
		wantHops(t, got, "transmit eth0@client", "receive calicl@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server")
	}
}

func TestPacketSocketCopyAlone(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient()
	p.clone().kfree("NOT_SPECIFIED", "packet_rcv+0x40", calicl)
	wantOutcome(t, s.one(), model.Unknown)
}

// A bridge that does not know where the receiver is floods: strangers refuse
// their copies, one arrives.
func TestBridgeFlood(t *testing.T) {
	stranger := wire{1, 12, "calist"}
	s := newStory(t)
	p := ping(s).fromClient()
	a, b := p.clone(), p.clone()
	a.xmit(stranger).recv(serverEth).kfree("OTHERHOST", "ip_rcv_core+0x10", serverEth)
	b.xmit(calisv).recv(serverEth).deliver(bpf.FentryFnFN_icmpRcv, serverEth).end(serverEth)
	p.end(calicl)
	got := s.one()
	wantOutcome(t, got, model.Delivered)
	wantHops(t, got, "transmit eth0@client", "receive calicl@node",
		"transmit calist@node copy 1", "receive eth0@server copy 1", "drop eth0@server OTHERHOST copy 1",
		"transmit calisv@node copy 2", "receive eth0@server copy 2", "deliver eth0@server copy 2")

	s = newStory(t) // the true receiver's rule dropped its copy: that says more than a stranger's refusal
	p = ping(s).fromClient()
	a, b = p.clone(), p.clone()
	a.xmit(stranger).recv(serverEth).kfree("OTHERHOST", "ip_rcv_core+0x10", serverEth)
	b.xmit(calisv).recv(serverEth).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", serverEth)
	got = s.one()
	wantOutcome(t, got, model.Dropped)
	if got.Drop.Reason != "NETFILTER_DROP" {
		t.Errorf("died by %s", got.Drop.Reason)
	}

	s = newStory(t) // one copy left the node
	p = ping(s).fromClient()
	p.clone().recv(serverEth).kfree("OTHERHOST", "ip_rcv_core+0x10", serverEth)
	p.xmit(uplink)
	wantOutcome(t, s.one(), model.LeftNode)
}

// A stranger's refusal is no fate while another copy is still under way: one
// may wait seconds for its neighbour.
func TestOpenCopyIsWaitedFor(t *testing.T) {
	s := newStory(t)
	p := ping(s).fromClient()
	p.clone().xmit(calisv).recv(serverEth).kfree("OTHERHOST", "ip_rcv_core+0x10", serverEth)
	s.now = s.now.Add(2 * time.Second)
	if got := s.asm.Due(s.now, false); len(got) != 0 {
		t.Fatalf("told while a copy was under way: %v", lines(got))
	}
	p.toServer(bpf.FentryFnFN_icmpRcv)
	s.now = s.now.Add(s.asm.quiet)
	got := s.asm.Due(s.now, false)
	if len(got) != 1 {
		t.Fatalf("told %d packets, want 1 as soon as one arrived", len(got))
	}
	wantOutcome(t, got[0], model.Delivered)
}

func TestSegmentsAreOnePacket(t *testing.T) {
	s := newStory(t)
	big := s.send(unix.IPPROTO_TCP, tcpClient, tcpServer, tcp(0x18, 1000, 5), size(2940), ipid(7), flag(bpf.FlagOrigin))
	big.fromClient()
	big.end(calicl)
	for i := uint32(0); i < 2; i++ {
		seg := s.send(unix.IPPROTO_TCP, tcpClient, tcpServer, tcp([]uint8{0x10, 0x18}[i], 1000+i*1448, 5), size(1500), ipid(uint16(7+i)))
		seg.toServer(bpf.FentryFnFN_tcpV4Rcv)
	}
	got := s.one()
	wantOutcome(t, got, model.Delivered)
	if got.Length != 2940 || got.Hops[len(got.Hops)-1].Copy != 2 {
		t.Errorf("told with %d bytes, last hop %s", got.Length, hopLine(&got.Hops[len(got.Hops)-1]))
	}
	if s.asm.seenIDs != 3 {
		t.Errorf("saw %d ids, want 3: losses are counted by them", s.asm.seenIDs)
	}
}

// One segment that dies is not mended by the others that arrive.
func TestOneSegmentDies(t *testing.T) {
	s := newStory(t)
	big := s.send(unix.IPPROTO_TCP, tcpClient, tcpServer, tcp(0x18, 1000, 5), size(4388), ipid(7), flag(bpf.FlagOrigin))
	big.fromClient()
	big.end(calicl)
	for i := uint32(0); i < 3; i++ {
		seg := s.send(unix.IPPROTO_TCP, tcpClient, tcpServer, tcp(0x10, 1000+i*1448, 5), size(1500), ipid(uint16(7+i)))
		if i == 1 {
			seg.kfree("NETFILTER_DROP", "nf_hook_slow+0x1", calicl)
			continue
		}
		seg.toServer(bpf.FentryFnFN_tcpV4Rcv)
	}
	got := s.one()
	wantOutcome(t, got, model.Dropped)
	if got.Drop == nil || got.Drop.Reason != "NETFILTER_DROP" {
		t.Errorf("drop %+v", got.Drop)
	}
}

// What only looks like a part of another packet.
func TestPacketsOfTheirOwn(t *testing.T) {
	first := func(s *story, o ...with) *packet {
		return s.send(unix.IPPROTO_TCP, tcpClient, tcpServer, append([]with{tcp(0x10, 1000, 5), size(600), ipid(7)}, o...)...).fromClient()
	}
	for _, c := range []struct {
		name string
		tell func(*story)
	}{
		{"sent again, where packets begin", func(s *story) {
			first(s)
			first(s, flag(bpf.FlagOrigin))
		}},
		{"the next bytes", func(s *story) {
			first(s)
			first(s, tcp(0x10, 1600, 5))
		}},
		{"other acknowledgement", func(s *story) {
			first(s)
			first(s, tcp(0x10, 1000, 6))
		}},
		{"other flags", func(s *story) {
			first(s)
			first(s, tcp(0x11|0x04, 1000, 5))
		}},
		{"an IP id too far away", func(s *story) {
			first(s)
			first(s, ipid(7+maxSegments))
		}},
		{"larger than the whole", func(s *story) {
			first(s)
			first(s, size(601))
		}},
		{"other ports", func(s *story) {
			first(s)
			first(s, tuple(unix.IPPROTO_TCP, clientIP+" 40001", tcpServer))
		}},
		{"the first has arrived", func(s *story) {
			first(s).toServer(bpf.FentryFnFN_tcpV4Rcv)
			first(s)
		}},
		{"the first has died", func(s *story) {
			first(s).kfree("NETFILTER_DROP", "nf_hook_slow+0x1", calicl)
			first(s)
		}},
		{"UDP without an IP id", func(s *story) {
			for range 2 {
				s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(0)).fromClient()
			}
		}},
		{"UDP with the next IP id", func(s *story) {
			for i := range uint16(2) {
				s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5+i)).fromClient()
			}
		}},
		{"another packet's fragment", func(s *story) {
			s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5)).fromClient()
			s.send(unix.IPPROTO_UDP, clientIP, serverIP, ipid(6), flag(bpf.FlagFragment)).fromClient()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			c.tell(s)
			if got := s.told(); len(got) != 2 {
				t.Errorf("told %d packets, want 2: %v", len(got), lines(got))
			}
		})
	}
}

// The same bytes in another buffer: the stack had to copy it.
func TestCopyInAnotherBuffer(t *testing.T) {
	s := newStory(t)
	s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5)).fromClient().end(calicl)
	s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5)).toServer(bpf.FentryFnFN_udpQueueRcvSkb)
	wantOutcome(t, s.one(), model.Delivered)
}

// Fragments share addresses and IP id with their packet, and no ports. The skb
// of the one that came last becomes the whole packet.
func TestFragmentsAreOnePacket(t *testing.T) {
	s := newStory(t)
	origin := flag(bpf.FlagOrigin)
	s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5), size(1500)).recv(uplink, origin).end(uplink)
	last := s.send(unix.IPPROTO_UDP, clientIP, serverIP, ipid(5), size(520)).recv(uplink, origin, flag(bpf.FlagFragment))
	last.become(tuple(unix.IPPROTO_UDP, tcpClient, tcpServer), size(2000)).toServer(bpf.FentryFnFN_udpQueueRcvSkb)
	got := s.one()
	wantOutcome(t, got, model.Delivered)
	wantHops(t, got, "receive eth0@node", "receive eth0@node copy 1", "transmit calisv@node copy 1",
		"receive eth0@server copy 1", "deliver eth0@server copy 1")

	s = newStory(t) // cut here: the whole goes, its parts leave
	p := s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5), size(2000)).fromClient()
	s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5), size(1500)).xmit(uplink)
	s.send(unix.IPPROTO_UDP, clientIP, serverIP, ipid(5), size(520), flag(bpf.FlagFragment)).xmit(uplink)
	p.end(calicl)
	wantOutcome(t, s.one(), model.LeftNode)
}

// The socket may let go of a packet long after it was told.
func TestLateEventsOfAToldPacket(t *testing.T) {
	s := newStory(t)
	p := s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5)).fromClient()
	part := s.send(unix.IPPROTO_UDP, tcpClient, tcpServer, ipid(5), size(40))
	part.toServer(bpf.FentryFnFN_udpQueueRcvSkb)
	wantOutcome(t, s.one(), model.Delivered)
	p.kfree("NOT_SPECIFIED", "udp_destroy_sock+0x1", serverEth)
	part.kfree("NOT_SPECIFIED", "udp_destroy_sock+0x1", serverEth)
	if got := s.told(); len(got) != 0 {
		t.Errorf("told again: %v", lines(got))
	}
	if s.asm.seenIDs != 2 {
		t.Errorf("counted %d ids, want 2: losses are told by them", s.asm.seenIDs)
	}
}

func TestDue(t *testing.T) {
	s := newStory(t)
	syn(s).fromClient()
	s.send(unix.IPPROTO_UDP, tcpClient, tcpServer).fromClient().kfree("SKB_CSUM", "udp_rcv+0x1", calicl)
	s.send(unix.IPPROTO_TCP, tcpClient, "10.96.0.1 1", flags(bpf.FlagTentative)).fromClient()
	if n := s.asm.Pending(); n != 1 {
		t.Errorf("%d pending, want 1: the dead and the tentative one are not waited for", n)
	}
	if got := s.asm.Due(s.now.Add(s.asm.quiet-1), false); len(got) != 0 {
		t.Errorf("told before it was quiet: %v", lines(got))
	}
	got := s.asm.Due(s.now.Add(s.asm.quiet), false)
	if len(got) != 1 || got[0].Proto != "udp" || got[0].ID != 1 {
		t.Fatalf("told %v, want the dead one", lines(got))
	}
	if got := s.asm.Due(s.now.Add(s.asm.give-1), false); len(got) != 0 {
		t.Errorf("given up too early: %v", lines(got))
	}
	got = s.asm.Due(s.now.Add(s.asm.give), false)
	if len(got) != 1 || got[0].Outcome != model.Unknown || got[0].ID != 2 {
		t.Errorf("told %v, want the unfinished one as unknown", lines(got))
	}
	if len(s.asm.active)+len(s.asm.alias)+len(s.asm.byFlow) != 0 {
		t.Error("something is kept of packets that were told")
	}
}

// Packets come in the order they began, whatever the order they ended in.
func TestDueOrder(t *testing.T) {
	s := newStory(t)
	var ps []*packet
	for i := range uint16(20) {
		ps = append(ps, s.send(unix.IPPROTO_ICMP, clientIP, serverIP, icmp(8, 0, 1, i)).fromClient())
	}
	slices.Reverse(ps)
	for _, p := range ps {
		p.toServer(bpf.FentryFnFN_icmpRcv)
	}
	for i, p := range s.asm.Due(s.now, true) {
		if p.ID != uint64(i+1) || p.ICMPSeq != uint16(i) {
			t.Errorf("place %d: id %d, sequence %d", i, p.ID, p.ICMPSeq)
		}
	}
}
