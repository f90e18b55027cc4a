// SPDX-License-Identifier: Apache-2.0

package journey

// Stories of resets and ICMP errors that this node makes by itself, and of the
// packets that they answer.

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

func reset(s *story, f uint8, seq, ack uint32) *packet {
	return s.send(unix.IPPROTO_TCP, tcpServer, tcpClient, tcp(f, seq, ack), size(40), returning)
}

func unreachable(s *story, to string) *packet {
	return s.send(unix.IPPROTO_ICMP, "10.244.1.1", to, icmp(3, 13, 0, 0), flag(bpf.FlagICMPError), returning)
}

func TestOwnAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(s *story, asked *bpf.Event) *packet
		want   model.Outcome
		tied   bool
		own    bool
		hop    string
	}{
		"a rule's reset": {func(s *story, asked *bpf.Event) *packet { return reset(s, tcpRST|tcpACK, 0, asked.Seq+1) }, model.Rejected, true, true, "tcp-reset"},
		"a reset of somebody's close": {func(s *story, asked *bpf.Event) *packet { return reset(s, tcpRST|tcpACK, 777, asked.Seq+1) },
			model.Dropped, false, false, ""},
		"a reset for another segment": {func(s *story, asked *bpf.Event) *packet { return reset(s, tcpRST|tcpACK, 0, asked.Seq+5000) },
			model.Dropped, false, false, ""},
		"an ICMP error": {func(s *story, _ *bpf.Event) *packet { return unreachable(s, clientIP) }, model.Rejected, true, true, "icmp-admin-prohibited"},
		"an ICMP error to somebody else": {func(s *story, _ *bpf.Event) *packet { return unreachable(s, "10.99.99.9") },
			model.Dropped, false, true, ""},
	} {
		s := newStory(t)
		p := syn(s)
		asked := p.e
		rejectedAs(p, c.answer(s, &asked))
		got := s.told()
		if len(got) != 2 {
			t.Fatalf("%s: told %v", name, lines(got))
		}
		if got[0].Outcome != c.want || got[0].OwnAnswer || got[1].OwnAnswer != c.own || (got[1].AnswerTo == got[0].ID) != c.tied {
			t.Errorf("%s: told %s, then own answer %v to %d", name, got[0].Outcome, got[1].OwnAnswer, got[1].AnswerTo)
		}
		answers := slices.IndexFunc(got[0].Hops, func(h model.Hop) bool { return h.Stage == model.StageAnswer })
		if (answers >= 0) != (c.hop != "") || answers >= 0 && got[0].Hops[answers].Answer != c.hop {
			t.Errorf("%s: hops %v", name, hops(got[0]))
		}
	}
}

// What comes in from elsewhere is no answer of this node, whatever it is.
func TestAnswersOfOthers(t *testing.T) {
	for name, answer := range map[string]func(s *story, asked *bpf.Event) *packet{
		"reset":      func(s *story, asked *bpf.Event) *packet { return reset(s, tcpRST|tcpACK, 0, asked.Seq+1) },
		"ICMP error": func(s *story, _ *bpf.Event) *packet { return unreachable(s, clientIP) },
	} {
		s := newStory(t)
		p := syn(s)
		asked := p.e
		p.fromClient().xmit(uplink)
		answer(s, &asked).recv(uplink).xmit(calicl).recv(clientEth).deliver(bpf.FentryFnFN_tcpV4Rcv, clientEth)
		got := s.told()
		if len(got) != 2 || got[0].Outcome != model.LeftNode || got[1].OwnAnswer || got[1].AnswerTo != 0 {
			t.Errorf("%s: told %v, own answer %v", name, lines(got), len(got) > 1 && got[1].OwnAnswer)
		}
	}
}

// What has left the node is not what a reset made here answers, however often it was
// sent again.
func TestAnswerToWhatHasLeft(t *testing.T) {
	s := newStory(t)
	var asked bpf.Event
	for range 2 {
		p := syn(s)
		asked = p.e
		p.fromClient().xmit(uplink).recv(outside)
	}
	reset(s, tcpRST|tcpACK, 0, asked.Seq+1).xmit(serverEth).recv(calisv).kfree("NO_SOCKET", "tcp_v4_rcv+0x1", calisv)
	got := s.told()
	if len(got) != 3 {
		t.Fatalf("told %v", lines(got))
	}
	for _, p := range got {
		if p.AnswerTo != 0 || p.Direction == model.Forward && p.Outcome != model.LeftNode {
			t.Errorf("#%d %s, answer to %d", p.ID, p.Outcome, p.AnswerTo)
		}
	}
}

// An answer that the backend sees being sent is told once; one that dies leaves its
// sender untold, and both wait for that.
func TestAnswerThatDies(t *testing.T) {
	for name, c := range map[string]struct {
		ends func(a *packet)
		want model.Outcome
	}{
		"it arrives": {func(a *packet) { a.xmit(calicl).recv(clientEth).deliver(bpf.FentryFnFN_tcpV4Rcv, clientEth) }, model.Rejected},
		"it dies":    {func(a *packet) { a.kfree("NETFILTER_DROP", "nf_hook_slow+0x1", calicl, in(unix.NFPROTO_IPV4, output)) }, model.Dropped},
	} {
		s := newStory(t)
		p := syn(s)
		asked := p.e
		p.fromClient().xmit(calisv).recv(serverEth).deliver(bpf.FentryFnFN_tcpV4Rcv, serverEth)
		p.see(bpf.KindAnswer, bpf.FentryFnFN_tcpSendReset, serverEth)
		a := reset(s, tcpRST|tcpACK, 0, asked.Seq+1)
		a.xmit(serverEth).recv(calisv)
		p.kfree("NO_SOCKET", "tcp_v4_rcv+0x1", serverEth)
		s.now = s.now.Add(s.asm.quiet)
		if early := s.asm.Due(s.now, false); len(early) != 0 {
			t.Errorf("%s: told before the answer's fate was known: %v", name, lines(early))
		}
		c.ends(a)
		s.now = s.now.Add(s.asm.quiet)
		got := s.asm.Due(s.now, false)
		if len(got) != 2 || got[0].Outcome != c.want || got[1].AnswerTo != got[0].ID {
			t.Fatalf("%s: told %v", name, lines(got))
		}
		n := 0
		for _, h := range got[0].Hops {
			if h.Stage == model.StageAnswer {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: the answer is told %d times", name, n)
		}
	}
}

// A death is not held back for long by an answer whose fate does not show.
func TestAnswerWhoseFateIsNotKnown(t *testing.T) {
	s := newStory(t)
	p := syn(s)
	asked := p.e
	p.fromClient()
	reset(s, tcpRST|tcpACK, 0, asked.Seq+1).see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, output), result(1))
	p.kfree("NETFILTER_DROP", "nft_do_chain+0x1", calicl, in(unix.NFPROTO_IPV4, forwardHook))
	s.now = s.now.Add(answerWait + time.Millisecond)
	got := s.asm.Due(s.now, false)
	if len(got) != 1 || got[0].Outcome != model.Rejected {
		t.Fatalf("told %v", lines(got))
	}
	if late := s.told(); len(late) != 1 || late[0].AnswerTo != got[0].ID || !late[0].OwnAnswer {
		t.Errorf("told %v", lines(late))
	}
}

// Of a segment sent again each has its own reset.
func TestAnswersToEachOfSeveral(t *testing.T) {
	s := newStory(t)
	for range 2 {
		p := syn(s)
		asked := p.e
		rejectedAs(p, reset(s, tcpRST|tcpACK, 0, asked.Seq+1))
	}
	got := s.told()
	if len(got) != 4 {
		t.Fatalf("told %v", lines(got))
	}
	to := map[uint64]bool{}
	for _, p := range got {
		if p.OwnAnswer {
			to[p.AnswerTo] = true
		} else if p.Outcome != model.Rejected {
			t.Errorf("#%d %s", p.ID, p.Outcome)
		}
	}
	if len(to) != 2 {
		t.Errorf("answers to %v", to)
	}
}

func rejectedAs(p, answer *packet) {
	p.fromClient()
	answer.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, output), result(1))
	p.kfree("NETFILTER_DROP", "nft_do_chain+0x1", calicl, in(unix.NFPROTO_IPV4, forwardHook))
	answer.xmit(calicl).recv(clientEth).deliver(bpf.FentryFnFN_tcpV4Rcv, clientEth)
}
