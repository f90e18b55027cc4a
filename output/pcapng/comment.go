// SPDX-License-Identifier: Apache-2.0

// comment.go says in words what a packet block cannot say otherwise. The first
// line of each comment stands alone: lists of packets show no more of it.

package pcapng

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// dropComment tells a death. about is packetLine's.
func (w *Writer) dropComment(p *model.Packet, s *sighting, about string) []byte {
	c := append(w.comment[:0], died(p)...)
	if p.Drop == nil {
		c = append(c, "the kernel gave no reason"...)
	} else {
		c = append(c, text.DropLine(p.Drop)...)
	}
	c = append(c, '\n')
	c = s.appendMoment(c, about)
	if p.Drop != nil {
		for _, line := range text.DropDetails(p.Drop) {
			c = append(append(c, '\n'), line...)
		}
	}
	return w.ended(c, p, s)
}

// died is the first word of a death.
func died(p *model.Packet) string {
	if p.Outcome == model.Rejected {
		return "REJECT "
	}
	return "DROP "
}

// hopComment tells one hop of many.
func (w *Writer) hopComment(p *model.Packet, h *model.Hop, s *sighting, about string) []byte {
	c := append(w.comment[:0], text.HopLine(h)...)
	if s.at != "?" {
		c = append(append(c, " at "...), s.at...)
	}
	c = append(c, '\n')
	c = s.appendMoment(c, about)
	if n := len(h.Rules); n > 0 {
		c = append(append(c, '\n'), text.RuleLine(&h.Rules[n-1])...)
	}
	if h.RulesUnknown != "" {
		c = append(append(c, "\nrules not known: "...), h.RulesUnknown...)
	}
	return w.ended(c, p, s)
}

// packetLine says which packet it is: "#2 forward TCP ... [S], 60 bytes".
func packetLine(p *model.Packet) string {
	return fmt.Sprintf("#%d %s, %d bytes", p.ID, text.PacketLine(p), p.Length)
}

// appendMoment adds when and where it was seen: ", +0.012 ms at node (cali12)".
func (s *sighting) appendMoment(c []byte, about string) []byte {
	c = append(append(c, about...), ", +"...)
	c = strconv.AppendFloat(c, float64(s.atNS)/1e6, 'f', 3, 64)
	c = append(append(c, " ms at "...), s.at...)
	if s.copied > 0 {
		c = strconv.AppendInt(append(c, ", copy "...), int64(s.copied), 10)
	}
	return c
}

// ended adds what is to be known of the bytes. The text is valid until the next
// one.
func (w *Writer) ended(c []byte, p *model.Packet, s *sighting) []byte {
	if p.Lost {
		c = append(c, "\nevents were lost while it was under way: hops may be missing"...)
	}
	switch {
	case s.frame == nil:
		c = append(c, "\nits bytes were not captured here"...)
	case s.frame.Synthetic:
		c = append(c, "\nlink-layer header made up: it had none here"...)
	}
	w.comment = c
	return c
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
