// SPDX-License-Identifier: Apache-2.0

package journey

// Where packets end: in pods, in namespaces of others, off the node, and what is told
// of the end before it is sure.

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// In a pod, freed in good order right after it came in, is being received.
func TestEndInAPod(t *testing.T) {
	for _, c := range []struct {
		name string
		see  func(*packet)
		want model.Outcome
	}{
		{"in the pod", func(p *packet) { p.fromClient().xmit(calisv).recv(serverEth).end(serverEth) }, model.Delivered},
		{"on the node", func(p *packet) { p.fromClient().end(calicl) }, model.Consumed},
		{"in the pod, without its device", func(p *packet) { p.fromClient().xmit(calisv).recv(serverEth).end(nowhere) }, model.Delivered},
		{"still in its tunnel", func(p *packet) {
			p.fromClient().xmit(calisv).become(vxlan(1, "192.168.0.1 5", "192.168.0.2 6")).recv(serverEth).end(serverEth)
		}, model.Consumed},
		{"sent out", func(p *packet) { p.fromClient().xmit(uplink).end(uplink) }, model.LeftNode},
		{"its end not seen", func(p *packet) { p.fromClient() }, model.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			c.see(ping(s))
			wantOutcome(t, s.one(), c.want)
		})
	}
}

// What happens outside this node is not told, before it arrives nor after it
// has left.
func TestForeignNamespaces(t *testing.T) {
	s := newStory(t)
	p := s.send(unix.IPPROTO_TCP, "10.244.9.9 5", tcpServer, size(100)).xmit(outside)
	p.become(tuple(unix.IPPROTO_TCP, "192.168.0.9 5", tcpServer), flag(bpf.FlagOrigin))
	p.recv(uplink).toServer(bpf.FentryFnFN_tcpV4Rcv)
	got := s.one()
	wantHops(t, got, "receive eth0@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server")
	if got.Src.String() != "192.168.0.9" {
		t.Errorf("source %s: what it was before it came here is not ours to tell", got.Src)
	}

	s = newStory(t)
	syn(s).fromClient().xmit(uplink).recv(outside).deliver(bpf.FentryFnFN_tcpV4Rcv, outside).kfree("NO_SOCKET", "tcp_v4_rcv+0x1", outside)
	got = s.one()
	wantOutcome(t, got, model.LeftNode)
	wantHops(t, got, "transmit eth0@client", "receive calicl@node", "transmit eth0@node")

	s = newStory(t)
	syn(s).xmit(outside).recv(outside).kfree("NO_SOCKET", "tcp_v4_rcv+0x1", outside)
	if got := s.told(); len(got) != 0 {
		t.Errorf("told a packet that never was on this node: %v", lines(got))
	}
}

// A stranger's packet between equal addresses, whose buffer is freed unseen and
// ends on this node as somebody else's: nothing of ours, and nothing lost.
func TestForeignBufferEndsHere(t *testing.T) {
	s := newStory(t)
	p := syn(s).xmit(outside).recv(outside)
	ids := s.asm.seenIDs
	p.end(uplink)
	if got := s.told(); len(got) != 0 {
		t.Errorf("told a packet that never was on this node: %v", lines(got))
	}
	if ids != 1 || s.asm.seenIDs != ids {
		t.Errorf("counted %d ids, then %d; want 1 and 1: losses are told by them", ids, s.asm.seenIDs)
	}
}

// Out by a device that is no uplink by its address, yet into a foreign place.
func TestLeavesByOtherDevice(t *testing.T) {
	s := newStory(t)
	syn(s).fromClient().xmit(calisv).recv(outside).kfree("NO_SOCKET", "tcp_v4_rcv+0x1", outside)
	wantOutcome(t, s.one(), model.LeftNode)
}

// Away and back again: a router outside sends it to another pod here.
func TestLeavesAndComesBack(t *testing.T) {
	s := newStory(t)
	p := syn(s).fromClient().xmit(uplink).recv(outside).xmit(outside)
	p.recv(uplink).toServer(bpf.FentryFnFN_tcpV4Rcv)
	got := s.one()
	wantOutcome(t, got, model.Delivered)
	wantHops(t, got, "transmit eth0@client", "receive calicl@node", "transmit eth0@node",
		"receive eth0@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server")
}

func TestTentative(t *testing.T) {
	s := newStory(t)
	p := s.send(unix.IPPROTO_TCP, tcpClient, "10.96.0.10 80", flags(bpf.FlagTentative)).fromClient()
	p.xmit(uplink)
	if got := s.told(); len(got) != 0 {
		t.Fatalf("told a packet that never settled: %v", lines(got))
	}
	want := tupleOf(t, unix.IPPROTO_TCP, tcpClient, "10.96.0.10 80")
	if len(s.others) != 1 || s.others[0] != want {
		t.Errorf("others %v, want %v", s.others, want)
	}

	s = newStory(t)
	p = s.send(unix.IPPROTO_TCP, tcpClient, "10.96.0.10 80", flags(bpf.FlagTentative)).fromClient()
	p.become(flags(0), tuple(unix.IPPROTO_TCP, tcpClient, tcpServer))
	p.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, prerouting), result(1)).toServer(bpf.FentryFnFN_tcpV4Rcv)
	wantOutcome(t, s.one(), model.Delivered)
	if len(s.others) != 0 {
		t.Errorf("settled, and yet of another flow: %v", s.others)
	}

	s = newStory(t) // nothing of it was here: nothing to be kept from either
	s.send(unix.IPPROTO_TCP, tcpClient, "10.96.0.10 80", flags(bpf.FlagTentative)).xmit(outside)
	if s.told(); len(s.others) != 0 {
		t.Errorf("others %v", s.others)
	}
}

func TestLostEventsMarkThePacket(t *testing.T) {
	s := newStory(t)
	syn(s).fromClient().become(flag(bpf.FlagLost)).toServer(bpf.FentryFnFN_tcpV4Rcv)
	if !s.one().Lost {
		t.Error("not marked as incomplete")
	}
}

func TestBridgePath(t *testing.T) {
	s := newStory(t)
	cni := wire{1, 7, "cni0"}
	p := ping(s).fromClient().see(bpf.KindBridge, bpf.FentryFnFN_brHandleFrame, calicl)
	p.see(bpf.KindBridge, bpf.FentryFnFN_brPassFrameUp, calicl).recv(cni)
	p.see(bpf.KindBridge, bpf.FentryFnFN_brForward, calisv).toServer(bpf.FentryFnFN_icmpRcv)
	wantHops(t, s.one(), "transmit eth0@client", "receive calicl@node", "bridge calicl@node", "bridge calicl@node",
		"receive cni0@node", "bridge calisv@node", "transmit calisv@node", "receive eth0@server", "deliver eth0@server")
}

// A part of a packet that was put together is freed with the whole, which arrived: no
// death. With a reason of its own it is one.
func TestPartsGoWithTheWhole(t *testing.T) {
	for reason, want := range map[string]model.Outcome{"NOT_SPECIFIED": model.Delivered, "FRAG_REASM_TIMEOUT": model.Dropped} {
		s := newStory(t)
		syn(s).fromClient().recv(calicl).kfree(reason, "skb_release_data+0x163", calicl)
		if p := s.one(); p.Outcome != want {
			t.Errorf("%s: told %s, want %s", reason, p.Outcome, want)
		}
	}
}

// TestPartNeverSeen: what GRO put to another packet before anybody saw it is freed with
// that one, and is no packet of its own.
func TestPartNeverSeen(t *testing.T) {
	for _, function := range []string{"skb_release_data+0x163", "kfree_skb_list_reason+0x1e"} {
		s := newStory(t)
		syn(s).kfree("NOT_SPECIFIED", function, wg0)
		if ps := s.told(); len(ps) != 0 || s.asm.Seen() != 1 {
			t.Errorf("%s: told %v, %d seen", function, lines(ps), s.asm.Seen())
		}
	}
}
