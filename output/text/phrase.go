// SPDX-License-Identifier: Apache-2.0

// phrase.go puts one hop into words and says how much it matters. Each stage
// has its row in a table; a stage this version does not know is still shown,
// by its name.

package text

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// level is how much a phrase matters to somebody who reads the story.
type level int

const (
	routine level = iota // told in passing, on a line with its neighbours
	notable              // a line of its own: the packet was changed
	odd                  // a line of its own, marked: a healthy packet has none
)

// phrase is one hop, or several of one netfilter hook, in words.
type phrase struct {
	text  string
	level level

	// Of netfilter hops only: they are merged by hook.
	hook    string
	tables  []string
	verdict string
}

// String gives the words.
func (p phrase) String() string {
	if p.hook == "" {
		return p.text
	}
	parts := append([]string{glued("netfilter " + p.hook)}, p.tables...)
	if p.verdict != "" {
		parts = append(parts, p.verdict)
	}
	return strings.Join(parts, " ") + p.text
}

// together keeps a short phrase on one line.
func together(words string) string {
	if len(words) > 48 {
		return words
	}
	return glued(words)
}

// merge takes q into p if both are routine hops of the same netfilter hook.
func (p *phrase) merge(q phrase) bool {
	if p.hook == "" || p.hook != q.hook || p.level != routine || q.level != routine {
		return false
	}
	for _, t := range q.tables {
		if !slices.Contains(p.tables, t) {
			p.tables = append(p.tables, t)
		}
	}
	if q.verdict != "" {
		p.verdict = q.verdict
	}
	return true
}

// phrases says how a hop of each stage is told.
var phrases = map[model.Stage]func(*model.Hop) phrase{
	model.StageBridge:      bridgePhrase,
	model.StageNetfilter:   netfilterPhrase,
	model.StageConntrack:   conntrackPhrase,
	model.StageNAT:         natPhrase,
	model.StageRoute:       routePhrase,
	model.StageNeighbor:    neighborPhrase,
	model.StageEncapsulate: tunnelPhrase,
	model.StageDecapsulate: tunnelPhrase,
	model.StageDeliver:     deliverPhrase,
	model.StageAnswer:      answerPhrase,
	model.StageDrop:        dropPhrase,
}

// tell puts one hop into words. Whatever the stage, a result that is not
// success, an error or a verdict other than accept makes it odd, and an
// address rewrite is never left out.
func tell(h *model.Hop) phrase {
	say, ok := phrases[h.Stage]
	if !ok {
		say = func(h *model.Hop) phrase { return phrase{text: string(h.Stage)} }
	}
	p := say(h)
	if h.Stage != model.StageNAT && (h.Before != nil || h.After != nil) {
		p.text += ", " + rewrite(h)
		p.level = max(p.level, notable)
	}
	if h.Stage != model.StageAnswer && h.Answer != "" {
		p.text += ", answer " + h.Answer
		p.level = odd
	}
	if h.Result != "" {
		p.text += colon(h.Result)
		p.level = odd
		if h.Stage == model.StageDeliver {
			p.level = notable // arrived all the same: its receiver says how it took it
		}
	}
	return p
}

// bridgeWords translates the bridge's functions.
var bridgeWords = map[string]string{
	"br_handle_frame":  "bridge in",
	"br_forward":       "bridge forward",
	"br_pass_frame_up": "bridge to host",
}

func bridgePhrase(h *model.Hop) phrase {
	if words, ok := bridgeWords[symbol(h.Function)]; ok {
		return phrase{text: words}
	}
	return phrase{text: "bridge"}
}

func netfilterPhrase(h *model.Hop) phrase {
	p := phrase{hook: h.Hook, verdict: h.Verdict}
	if h.Queue != nil {
		p.verdict += fmt.Sprintf("%s%d", glue, *h.Queue)
	}
	if p.hook == "" {
		p.hook = "hook"
	}
	if h.Table != "" {
		name := table(h.Family, h.Table)
		if h.Backend == "nft" {
			name = "nft:" + name
		}
		p.tables = []string{name}
	}
	p.level = verdictLevel(h.Verdict)
	if strings.HasPrefix(h.CTState, "invalid") {
		p.text, p.level = ", conntrack invalid", odd
	}
	return p
}

// verdictLevel: a packet that another part of the kernel took over (a queue, a
// bridge, reassembly) may be fine, one that a rule refused is not.
func verdictLevel(verdict string) level {
	switch verdict {
	case "", "accept", "stop":
		return routine
	case "stolen", "queue", "repeat":
		return notable
	}
	return odd
}

func conntrackPhrase(h *model.Hop) phrase {
	p := phrase{text: strings.TrimRight("conntrack"+glue+h.CTState, glue)}
	p.level = verdictLevel(h.Verdict)
	if strings.HasPrefix(h.CTState, "invalid") {
		p.level = odd
	}
	if h.Verdict != "" && h.Verdict != "accept" {
		p.text += " " + h.Verdict
	}
	return p
}

func natPhrase(h *model.Hop) phrase {
	text := strings.TrimSpace("nat " + rewrite(h))
	if h.NATBy != "" {
		text += " by " + h.NATBy
	}
	return phrase{text: text, level: notable}
}

// rewrite says which addresses changed: "dst 10.96.0.10:80 -> 10.244.1.6:8080".
func rewrite(h *model.Hop) string {
	if h.Before == nil || h.After == nil {
		return ""
	}
	var parts []string
	for _, end := range []struct{ name, before, after string }{
		{"src", named(h.Before.Src, h.Before.SrcPort, h.Before.SrcName), named(h.After.Src, h.After.SrcPort, h.After.SrcName)},
		{"dst", named(h.Before.Dst, h.Before.DstPort, h.Before.DstName), named(h.After.Dst, h.After.DstPort, h.After.DstName)},
	} {
		if end.before != end.after {
			parts = append(parts, glued(end.name+" "+end.before)+" "+glued("-> "+end.after))
		}
	}
	if len(parts) == 0 {
		return "unchanged"
	}
	return strings.Join(parts, ", ")
}

// routineRoutes are the kinds of route a packet gets somewhere by.
var routineRoutes = []string{"", "unicast", "local", "broadcast", "anycast", "multicast"}

func routePhrase(h *model.Hop) phrase {
	r := h.Route
	if r == nil {
		return phrase{text: "route"}
	}
	parts := []string{"route"}
	if r.Type != "" && r.Type != "unicast" {
		parts = append(parts, r.Type)
	}
	if r.Gateway != "" && r.Type != "local" {
		parts = append(parts, glued("via "+r.Gateway))
	}
	if dev := device(r.Interface, r.IfIndex); dev != "" && r.Type != "local" {
		parts = append(parts, glued("dev "+dev))
	}
	if r.Table != 0 && r.Table != tableMain && r.Table != tableLocal {
		parts = append(parts, glued(fmt.Sprintf("table %d", r.Table)))
	}
	p := phrase{text: together(strings.Join(parts, " ")) + colon(r.Error)}
	if r.Error != "" || !slices.Contains(routineRoutes, r.Type) {
		p.level = odd
	}
	return p
}

// Numbers of the routing tables that need no mention: RT_TABLE_MAIN and
// RT_TABLE_LOCAL of include/uapi/linux/rtnetlink.h (6.12).
const (
	tableMain  = 254
	tableLocal = 255
)

func neighborPhrase(h *model.Hop) phrase {
	n := h.Neighbor
	if n == nil {
		return phrase{text: "neighbor"}
	}
	p := phrase{text: "neighbor"}
	for _, part := range []string{n.Address, n.State} {
		if part != "" {
			p.text += glue + part
		}
	}
	switch n.State {
	case "failed":
		p.level = odd
	case "none", "incomplete":
		p.level = notable // the first packet to a new neighbour waits for its address
	}
	return p
}

func tunnelPhrase(h *model.Hop) phrase {
	t := h.Tunnel
	if t == nil {
		return phrase{text: string(h.Stage), level: notable}
	}
	p := phrase{text: string(h.Stage) + " " + tunnelWords(t), level: notable}
	if h.Result != "" && !strings.HasPrefix(h.Result, cutResult) {
		p.level = odd
	}
	return p
}

// cutResult begins the result of a tunnel that cuts a large packet, as it should.
const cutResult = "cut into segments"

// tunnelWords tell a tunnel's header: "vxlan vni 1, outer 172.30.0.1:50000 > 172.30.0.2:8472".
func tunnelWords(t *model.Tunnel) string {
	says := t.Kind
	switch {
	case t.Kind == "gre" && t.VNI != 0:
		says += fmt.Sprintf(" key %d", t.VNI)
	case t.Kind == "vxlan" || t.Kind == "geneve":
		says += fmt.Sprintf(" vni %d", t.VNI)
	}
	if t.Dst.IsValid() {
		says += ", outer " + glued(named(t.Src, t.SrcPort, t.SrcName)) + " " + glued("> "+named(t.Dst, t.DstPort, t.DstName))
	}
	return says
}

// deliverPhrase names the receiving protocol's function. Where a netfilter
// hook is all that was seen (the tracepoint backend), it has no name.
func deliverPhrase(h *model.Hop) phrase {
	if strings.HasPrefix(h.Function, "nf_hook") {
		return phrase{text: "deliver"}
	}
	return phrase{text: strings.TrimRight("deliver"+glue+symbol(h.Function), glue)}
}

func answerPhrase(h *model.Hop) phrase {
	return phrase{text: strings.TrimSpace("answer " + h.Answer), level: odd}
}

func dropPhrase(h *model.Hop) phrase {
	text := "drop"
	if h.Function != "" {
		text += " in " + symbol(h.Function)
	}
	return phrase{text: text, level: odd}
}
