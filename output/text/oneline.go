// SPDX-License-Identifier: Apache-2.0

// oneline.go tells hops and packets in a line each, for outputs that have room
// for no more: comments in captures.

package text

import (
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// HopLine tells one hop in words, as the story does.
func HopLine(h *model.Hop) string { return harmless(tell(h).String()) }

// PacketLine says what a packet is and which way it goes:
// "forward TCP 10.0.0.1:1 > 10.0.0.2:80 [S]".
func PacketLine(p *model.Packet) string { return harmless(string(p.Direction) + " " + flow(p)) }

// At names where a packet was: "node (cali123)".
func At(place string, netns uint32, iface string, index uint32) string {
	return harmless(at(place, netns, iface, index))
}

// RuleLine names a rule and gives its text: "rule 7 of FORWARD: -A FORWARD -j
// DROP".
func RuleLine(r *model.Rule) string { return harmless(ruleLine(r)) }

func ruleLine(r *model.Rule) string {
	line := "rule of "
	switch {
	case r.Number > 0:
		line = "rule " + strconv.Itoa(r.Number) + " of "
	case r.Handle > 0:
		line = "rule with handle " + strconv.FormatUint(r.Handle, 10) + " of "
	case strings.HasPrefix(r.Text, ":"):
		line = "policy of "
	}
	line += r.Chain
	if r.Text != "" {
		line += ": " + r.Text
	}
	return line
}

// DropLine says in a line of what a packet died: "NETFILTER_DROP filter/FORWARD
// rule 7 of cali-tw-x: -A ...".
func DropLine(d *model.Drop) string {
	line := d.Reason + " "
	switch name := table(d.Family, d.Table); {
	case d.Hook != "" && name != "":
		line += name + "/" + d.Hook
	default:
		line += spot(d)
	}
	switch {
	case d.Rule != nil:
		line += " " + ruleLine(d.Rule)
	case len(d.Candidates) > 0:
		line += " by one of " + strings.Join(d.Candidates.Strings(), ", ")
	case d.RuleUnknown != "":
		line += " rule not known: " + d.RuleUnknown
	default:
		line += " at " + at(d.Place, d.Netns, d.Interface, d.IfIndex)
	}
	return harmless(line)
}

// DropDetails are lines that tell more of it: how the rule was found, what it
// is for, the way through the kernel.
func DropDetails(d *model.Drop) []string {
	var lines []string
	add := func(name, says string) {
		if says != "" {
			lines = append(lines, harmless(name+says))
		}
	}
	if d.Rule != nil {
		add("rule ", strings.TrimPrefix(sourceWords(d.RuleSource), ", "))
		add("not evaluated on the way: ", strings.Join(d.Unevaluated, ", "))
		add("element ", d.Rule.Element)
		add("meaning: ", d.Rule.Meaning)
	}
	if d.Tunnel != nil {
		add("inside ", Tunnel(d.Tunnel))
	}
	add("function ", strings.Join(wayOut(d), " < "))
	return lines
}

// wayOut is the function that freed a packet and its callers.
func wayOut(d *model.Drop) []string {
	switch {
	case d.Function == "":
		return d.Stack
	case len(d.Stack) > 0 && d.Stack[0] == d.Function:
		return d.Stack
	}
	return append([]string{d.Function}, d.Stack...)
}

// FindingLines tell a finding: what it is in one line, then what speaks for it
// and what to do.
func FindingLines(f *model.Finding) []string {
	lines := []string{harmless("FINDING " + f.Code + " (" + f.Confidence + "): " + f.Summary)}
	for _, e := range f.Evidence {
		lines = append(lines, harmless("because "+e))
	}
	for _, e := range f.Fix {
		lines = append(lines, harmless("fix "+e))
	}
	return lines
}

// CountsLine sums one direction up: "forward 3 seen, 2 delivered, 1 dropped".
func CountsLine(d model.Direction, c model.Counts) string { return string(d) + " " + countWords(c) }

// AskedLine says which flow was asked for: "a -> b tcp port 80".
func AskedLine(s *model.Start) string {
	line := s.Src.Given + " -> " + s.Dst.Given
	if only := flowWords(s); only != "" {
		line += " " + only
	}
	return harmless(line)
}
