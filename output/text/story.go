// SPDX-License-Identifier: Apache-2.0

// story.go makes a packet's hops into the few lines a person reads: hops of
// one place and interface share a line, what is notable or odd gets its own.
// It also says when two packets tell the same story.

package text

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// step is one line of a packet's story.
type step struct {
	atNS    int64
	when    string // atNS as printed
	place   string
	device  string
	copy    int
	level   level
	phrases []phrase
}

// words gives the step's phrases as one text.
func (s *step) words() string {
	var parts []string
	for _, p := range s.phrases {
		parts = append(parts, p.String())
	}
	text := strings.Join(parts, ", ")
	if s.copy > 0 {
		text = fmt.Sprintf("copy %d: ", s.copy) + text
	}
	return text
}

// steps tells a packet's hops. The hop of its death is left to the block that
// tells the drop; its time is returned in diedNS, -1 if there is none.
func steps(p *model.Packet) (story []*step, diedNS int64) {
	death := deathHop(p)
	diedNS = -1
	for i := range p.Hops {
		h := &p.Hops[i]
		if i == death {
			diedNS = h.AtNS
			continue
		}
		story = addHop(story, h)
	}
	return story, diedNS
}

// deathHop finds the hop that Packet.Drop tells in full, -1 if none does.
func deathHop(p *model.Packet) int {
	if p.Drop == nil {
		return -1
	}
	for i := len(p.Hops) - 1; i >= 0; i-- {
		if p.Hops[i].Stage == model.StageDrop {
			return i
		}
	}
	return -1
}

func addHop(story []*step, h *model.Hop) []*step {
	said := tell(h)
	now := &step{
		atNS: h.AtNS, place: place(h.Place, h.Netns), device: device(h.Interface, h.IfIndex), copy: h.Copy,
		level: said.level, phrases: []phrase{said},
	}
	if len(story) == 0 {
		return append(story, now)
	}
	if closesHook(story, now) {
		return story
	}
	last := story[len(story)-1]
	if last.sameSpot(now) && last.level == routine && now.level == routine {
		last.add(said)
		return story
	}
	return append(story, now)
}

// sameSpot tells whether next happened where s did. A hop without an interface
// counts to the one before it.
func (s *step) sameSpot(next *step) bool {
	return s.place == next.place && s.copy == next.copy && (next.device == "" || next.device == s.device)
}

// dropErrno is what nf_hook_slow returns for a plain NF_DROP
// (net/netfilter/core.c, 6.12).
const dropErrno = ": EPERM"

// closesHook tells whether now is the verdict of a whole hook that says
// nothing new: the last table told at the same spot had the same verdict.
func closesHook(story []*step, now *step) bool {
	verdict := now.phrases[0]
	if verdict.hook == "" || len(verdict.tables) > 0 || (verdict.text != "" && verdict.text != dropErrno) {
		return false
	}
	for i := len(story) - 1; i >= 0 && story[i].sameSpot(now); i-- {
		for j := len(story[i].phrases) - 1; j >= 0; j-- {
			if told := story[i].phrases[j]; told.hook != "" {
				return told.hook == verdict.hook && told.verdict == verdict.verdict
			}
		}
	}
	return false
}

func (s *step) add(said phrase) {
	for i := range s.phrases {
		if s.phrases[i].merge(said) {
			return
		}
	}
	s.phrases = append(s.phrases, said)
}

// storyKey is the same for two packets exactly if telling both would say the
// same twice. Times, ports of the side that picks one freely, sequence
// numbers, buffer addresses and lengths do not count; a connection's opening
// or reset does.
func storyKey(p *model.Packet) string {
	var b strings.Builder
	line := func(words ...string) {
		for _, w := range words {
			b.WriteString(w)
			b.WriteByte('|')
		}
		b.WriteByte('\n')
	}
	seen := model.Endpoints{Src: p.Src, SrcPort: p.SrcPort, Dst: p.Dst, DstPort: p.DstPort}
	line(string(p.Direction), p.Proto, p.ICMP, turningFlags(p.TCPFlags), fateWords(p), strconv.FormatBool(p.Lost),
		hostPorts(served(p, &seen)))
	story, _ := steps(generic(p))
	for _, s := range story {
		line(s.place, s.device, s.words())
	}
	if d := p.Drop; d != nil {
		line(append([]string{symbol(d.Function), d.Backend, d.Chain, string(d.RuleSource)}, d.Candidates.Strings()...)...)
		if d.Rule != nil {
			line(ruleName(*d.Rule), d.Rule.Text)
		}
	}
	return b.String()
}

// generic gives the packet without what tells apart packets of one story: the
// ports its hops rewrite freely and the age of a working neighbour entry. The
// hops are copied only if there is such a thing.
func generic(p *model.Packet) *model.Packet {
	if !slices.ContainsFunc(p.Hops, varies) {
		return p
	}
	g := *p
	g.Hops = slices.Clone(p.Hops)
	for i := range g.Hops {
		even(p, &g.Hops[i])
	}
	return &g
}

func varies(h model.Hop) bool { return h.Before != nil || h.Tunnel != nil || h.Neighbor != nil }

// even takes out of a hop what varies within a story.
func even(p *model.Packet, h *model.Hop) {
	if h.Before != nil && h.After != nil {
		before, after := served(p, h.Before), served(p, h.After)
		h.Before, h.After = &before, &after
	}
	if h.Tunnel != nil {
		t := *h.Tunnel
		t.SrcPort = 0 // a hash of the inner addresses and ports
		h.Tunnel = &t
	}
	if h.Neighbor != nil && slices.Contains(aging, h.Neighbor.State) {
		n := *h.Neighbor
		n.State = aging[0]
		h.Neighbor = &n
	}
}

// aging are the states a working neighbour entry goes through by itself.
var aging = []string{"reachable", "stale", "delay", "probe"}

// ephemeral is where ports that a client's kernel picks start by default
// (net.ipv4.ip_local_port_range, net/ipv4/af_inet.c, 6.12); Kubernetes' node
// ports end below it.
const ephemeral = 32768

// served gives an address pair with the port of the served side only: the one
// below the ephemeral range, or else that of the destination on the way
// forward and of the source on the way back.
func served(p *model.Packet, e *model.Endpoints) model.Endpoints {
	out := *e
	keepDst := p.Direction != model.Return
	if (e.SrcPort < ephemeral) != (e.DstPort < ephemeral) {
		keepDst = e.DstPort < ephemeral
	}
	switch {
	case p.ICMP != "":
		out.SrcPort, out.DstPort = 0, 0
	case keepDst:
		out.SrcPort = 0
	default:
		out.DstPort = 0
	}
	return out
}

// turningFlags keeps the TCP flags that open a connection or break it off.
func turningFlags(flags string) string {
	var kept strings.Builder
	for _, f := range flags {
		if f == 'S' || f == 'R' {
			kept.WriteRune(f)
		}
	}
	return kept.String()
}
