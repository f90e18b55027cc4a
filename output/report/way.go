// SPDX-License-Identifier: Apache-2.0

// way.go reads off a packet's hops which stations it came by, as somebody would
// draw them: devices, the hooks of netfilter, routing, tunnels, sockets.

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// kind is what sort of station it is.
type kind string

const (
	kindDevice   kind = "device"
	kindHook     kind = "hook"
	kindNAT      kind = "nat"
	kindRoute    kind = "route"
	kindBridge   kind = "bridge"
	kindTunnel   kind = "tunnel"
	kindNeighbor kind = "neighbor"
	kindQueue    kind = "queue"
	kindSocket   kind = "socket"
	kindAnswer   kind = "answer"
	kindBeyond   kind = "beyond" // an end that is not on this node
	kindUnknown  kind = "unknown"
	kindDeath    kind = "death" // between two stations
)

// station is one stop on a packet's way.
type station struct {
	kind   kind
	place  string // the namespace it is in
	title  string
	detail string // what happened there
	device string // the packet's interface then
	visits int    // how often the packet came by: more than once in a loop
	odd    bool   // a healthy packet has none such
}

// same tells whether two packets, or one twice, were at the same station.
func (s *station) same(o *station) bool {
	return s.kind == o.kind && s.place == o.place && s.title == o.title && s.device == o.device
}

// way is where a packet came by.
type way struct {
	stations []station // each once, in the order of the first visit
	ended    int       // where it ended
	death    *station  // what killed it after that, unless the last station itself did
}

// wayOf gives a packet's way.
func wayOf(p *model.Packet) way {
	w := walk{entered: map[string]string{}}
	if first := firstHop(p); first != nil && first.Stage == model.StageReceive {
		w.visit(station{kind: kindBeyond, place: beyond(p.Src.String()), title: p.Src.String(), detail: "sends"})
	}
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Copy == 0 {
			w.hop(h)
		}
	}
	w.end(p)
	return way{w.stations, w.at, w.death}
}

// beyond names what is not on this node.
func beyond(address string) string { return "not on this node: " + address }

func firstHop(p *model.Packet) *model.Hop {
	if len(p.Hops) == 0 {
		return nil
	}
	return &p.Hops[0]
}

// maxStations bounds a way; the longest real ones, through a tunnel and a bridge,
// have half as many.
const maxStations = 60

// walk is a way under construction.
type walk struct {
	stations []station
	at       int               // where the packet is
	entered  map[string]string // by place: the device the packet was seen at last
	death    *station
}

// visit comes to a station.
func (w *walk) visit(s station) {
	for i := range w.stations {
		if known := &w.stations[i]; known.same(&s) {
			if i != w.at {
				known.visits++
			}
			known.merge(s.detail)
			known.odd = known.odd || s.odd
			w.at = i
			return
		}
	}
	if len(w.stations) >= maxStations {
		return
	}
	s.visits = 1
	w.stations = append(w.stations, s)
	w.at = len(w.stations) - 1
}

// here is the station the packet is at, nil before the first.
func (w *walk) here() *station {
	if len(w.stations) == 0 {
		return nil
	}
	return &w.stations[w.at]
}

// merge adds to what happened at a station, unless it is told already.
func (s *station) merge(detail string) {
	for word := range strings.SplitSeq(detail, " · ") {
		if word != "" && !slices.Contains(strings.Split(s.detail, " · "), word) {
			s.detail = strings.TrimPrefix(s.detail+" · "+word, " · ")
		}
	}
}

// stages says how a hop of each stage is drawn; those without a row are not.
var stages = map[model.Stage]func(*walk, *model.Hop, station){
	model.StageTransmit:    device("out"),
	model.StageReceive:     device("in"),
	model.StageNetfilter:   hook,
	model.StageConntrack:   conntrack,
	model.StageNAT:         nat,
	model.StageRoute:       route,
	model.StageBridge:      plainStop(kindBridge, "bridge"),
	model.StageEncapsulate: tunnel("wrapped in "),
	model.StageDecapsulate: tunnel("unwrapped from "),
	model.StageNeighbor:    ifNotable(kindNeighbor, "neighbour"),
	model.StageQdisc:       ifNotable(kindQueue, "queue"),
	model.StageDeliver:     plainStop(kindSocket, "delivered"),
	model.StageAnswer:      answer,
}

func (w *walk) hop(h *model.Hop) {
	draw, ok := stages[h.Stage]
	if !ok {
		return
	}
	_, weight := text.Hop(h)
	draw(w, h, station{place: text.Place(h.Place, h.Netns), device: text.Device(h.Interface, h.IfIndex), odd: weight == text.Odd})
}

func device(way string) func(*walk, *model.Hop, station) {
	return func(w *walk, _ *model.Hop, s station) {
		if s.device == "" {
			return
		}
		w.entered[s.place] = s.device
		s.kind, s.title, s.detail = kindDevice, s.device, way
		s.device = way // one device is two stations: in and out
		w.visit(s)
	}
}

// hook joins what happened at one hook, whatever interface each table had the
// packet at. A NAT station may stand between its tables.
func hook(w *walk, h *model.Hop, s station) {
	name := h.Hook
	if name == "" {
		name = "netfilter"
	}
	s.kind, s.title, s.detail = kindHook, name, tableWords(h)
	for i := w.at; i >= 0 && i < len(w.stations) && (w.stations[i].kind == kindNAT || w.stations[i].kind == kindHook); i-- {
		if open := &w.stations[i]; open.kind == kindHook && open.title == s.title && open.place == s.place {
			open.merge(s.detail)
			open.odd = open.odd || s.odd
			w.at = i
			return
		}
	}
	w.visit(s)
}

// tableWords names a table as iptables users know it: with the backend only
// where it is nft, and with the verdict where it is not accept.
func tableWords(h *model.Hop) string {
	words := h.Table
	if words == "" {
		return ""
	}
	if h.Family != "" && h.Family != "ip" && h.Family != "ip6" {
		words = h.Family + "/" + words
	}
	if h.Backend == "nft" {
		words = "nft:" + words
	}
	if h.Verdict != "" && h.Verdict != "accept" {
		words += " " + h.Verdict
	}
	if h.Queue != nil {
		words += fmt.Sprintf(" %d", *h.Queue)
	}
	return words
}

func conntrack(w *walk, h *model.Hop, s station) {
	if h.Hook != "" {
		hook(w, &model.Hop{Hook: h.Hook}, s)
	}
	if last := w.here(); last != nil && last.kind == kindHook {
		last.merge(strings.TrimSpace("conntrack " + h.CTState))
		last.odd = last.odd || s.odd
	}
}

func nat(w *walk, h *model.Hop, s station) {
	words, _ := text.Hop(h)
	s.kind, s.title, s.detail = kindNAT, "NAT", strings.TrimPrefix(words, "nat ")
	w.visit(s)
}

func route(w *walk, h *model.Hop, s station) {
	words, _ := text.Hop(h)
	s.kind, s.title, s.detail = kindRoute, "routing", strings.TrimSpace(strings.TrimPrefix(words, "route"))
	s.device = ""
	if last := w.here(); last != nil && last.kind == kindRoute && last.place == s.place {
		last.merge(s.detail)
		return
	}
	s.device = w.entered[s.place] // a tunnel's packet is routed once outside and once inside
	w.visit(s)
}

func plainStop(k kind, title string) func(*walk, *model.Hop, station) {
	return func(w *walk, h *model.Hop, s station) {
		words, _ := text.Hop(h)
		s.kind, s.title = k, title
		s.detail = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(words, string(h.Stage)), string(k)))
		s.device = ""
		w.visit(s)
	}
}

func tunnel(verb string) func(*walk, *model.Hop, station) {
	return func(w *walk, h *model.Hop, s station) {
		s.kind, s.title = kindTunnel, verb+"a tunnel"
		if t := h.Tunnel; t != nil {
			s.title = verb + strings.ToUpper(t.Kind)
			if t.Dst.IsValid() {
				s.detail = t.Src.String() + " > " + t.Dst.String()
			}
			if h.Result != "" && (s.detail == "" || h.Stage == model.StageDecapsulate) {
				s.detail = h.Result
			}
		}
		w.visit(s)
	}
}

// ifNotable draws what every packet goes through only where something was the
// matter.
func ifNotable(k kind, title string) func(*walk, *model.Hop, station) {
	return func(w *walk, h *model.Hop, s station) {
		words, weight := text.Hop(h)
		if weight == text.Routine {
			return
		}
		s.kind, s.title = k, title
		s.detail = strings.TrimLeft(strings.TrimPrefix(words, string(h.Stage)), " :")
		w.visit(s)
	}
}

func answer(w *walk, h *model.Hop, s station) {
	s.kind, s.title, s.detail = kindAnswer, "answers", h.Answer
	w.visit(s)
}

// end comes to where the packet ended, where that is no hop of its own.
func (w *walk) end(p *model.Packet) {
	last := w.here()
	switch {
	case p.Outcome.Died():
		w.dies(p)
	case p.Outcome == model.LeftNode:
		dst := p.Dst.String()
		w.visit(station{kind: kindBeyond, place: beyond(dst), title: dst, detail: "has to be looked at there"})
	case p.Outcome == model.Unknown && last != nil:
		w.visit(station{kind: kindUnknown, place: last.place, title: "end not seen", odd: true})
	}
}

// dies sees to it that the packet is where it died: a hook that killed it may not
// have told of it before. Without any station there is one, for what is known of
// the drop.
func (w *walk) dies(p *model.Packet) {
	d := p.Drop
	if d == nil {
		d = &model.Drop{}
	}
	at := station{place: text.Place(d.Place, d.Netns), device: text.Device(d.Interface, d.IfIndex), odd: true}
	if d.Hook != "" {
		hook(w, &model.Hop{Hook: d.Hook, Table: d.Table, Family: d.Family, Backend: d.Backend, Verdict: "drop"}, at)
		return
	}
	if here := w.here(); here == nil || (here.place != at.place && d.Reason != "") {
		at.kind, at.title = kindUnknown, "dies here"
		if at.device != "" {
			at.kind, at.title = kindDevice, at.device
		}
		w.visit(at)
	}
	if part := partOf(d.Stage); part.kind != w.here().kind || part.kind == "" {
		w.death = &station{kind: kindDeath, place: w.here().place, title: cmp.Or(part.title, "the kernel"), detail: symbol(d.Function)}
	}
}

// part is a part of the stack as the drawing names it, and the stations at which
// it is at work.
type part struct {
	kind  kind
	title string
}

// partOf gives the part that a stage of the model belongs to.
func partOf(s model.Stage) part {
	return map[model.Stage]part{
		model.StageTransmit:    {kindDevice, "sending"},
		model.StageReceive:     {kindDevice, "receiving"},
		model.StageBridge:      {kindBridge, "bridge"},
		model.StageNetfilter:   {kindHook, "netfilter"},
		model.StageConntrack:   {kindHook, "conntrack"},
		model.StageNAT:         {kindNAT, "NAT"},
		model.StageRoute:       {kindRoute, "routing"},
		model.StageForward:     {"", "forwarding"},
		model.StageNeighbor:    {kindNeighbor, "neighbour"},
		model.StageEncapsulate: {kindTunnel, "tunnel"},
		model.StageDecapsulate: {kindTunnel, "tunnel"},
		model.StageQdisc:       {kindQueue, "queue"},
		model.StageDeliver:     {kindSocket, "delivery"},
	}[s]
}

// symbol cuts the offset off symbol+0x12.
func symbol(function string) string {
	name, _, _ := strings.Cut(function, "+0x")
	return name
}
