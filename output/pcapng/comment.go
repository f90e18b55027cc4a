// SPDX-License-Identifier: Apache-2.0

// comment.go says in words what a packet block cannot say otherwise. The first
// line of each comment stands alone: lists of packets show no more of it.

package pcapng

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// dropComment tells a death.
func dropComment(p *model.Packet, s *sighting) string {
	var lines []string
	if p.Drop == nil {
		lines = append(lines, died(p)+" the kernel gave no reason")
	} else {
		lines = append(lines, died(p)+" "+text.DropLine(p.Drop))
	}
	lines = append(lines, packetLine(p, s))
	if p.Drop != nil {
		lines = append(lines, text.DropDetails(p.Drop)...)
	}
	return joined(lines, p, s)
}

// died is the first word of a death.
func died(p *model.Packet) string {
	if p.Outcome == model.Rejected {
		return "REJECT"
	}
	return "DROP"
}

// hopComment tells one hop of many.
func hopComment(p *model.Packet, h *model.Hop, s *sighting) string {
	line := text.HopLine(h)
	if at := text.At(s.place, s.netns, s.name, s.index); at != "?" {
		line += " at " + at
	}
	lines := []string{line, packetLine(p, s)}
	if n := len(h.Rules); n > 0 {
		lines = append(lines, text.RuleLine(&h.Rules[n-1]))
	}
	if h.RulesUnknown != "" {
		lines = append(lines, "rules not known: "+h.RulesUnknown)
	}
	return joined(lines, p, s)
}

// packetLine says which packet it is, when and where it was seen here.
func packetLine(p *model.Packet, s *sighting) string {
	line := fmt.Sprintf("#%d %s, %d bytes, +%.3f ms at %s", p.ID, text.PacketLine(p), p.Length, float64(s.atNS)/1e6, text.At(s.place, s.netns, s.name, s.index))
	if s.copied > 0 {
		line += fmt.Sprintf(", copy %d", s.copied)
	}
	return line
}

// joined adds what is to be known of the bytes, and makes one text of it.
func joined(lines []string, p *model.Packet, s *sighting) string {
	if p.Lost {
		lines = append(lines, "events were lost while it was under way: hops may be missing")
	}
	switch {
	case s.frame == nil:
		lines = append(lines, "its bytes were not captured here")
	case s.frame.Synthetic:
		lines = append(lines, "link-layer header made up: it had none here")
	}
	return strings.Join(lines, "\n")
}

// findingComment tells a cause.
func findingComment(f *model.Finding) string { return strings.Join(text.FindingLines(f), "\n") }

// verdictComment sums a trace up.
func verdictComment(s *model.Summary, findings []*model.Finding) string {
	lines := []string{
		text.CountsLine(model.Forward, s.Forward),
		text.CountsLine(model.Return, s.Return),
	}
	if s.LostEvents+s.LostPackets > 0 {
		lines = append(lines, fmt.Sprintf("%d events and %d packets lost", s.LostEvents, s.LostPackets))
	}
	for _, f := range findings {
		lines = append(lines, text.FindingLines(f)...)
	}
	return strings.Join(lines, "\n")
}
