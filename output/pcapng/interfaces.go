// SPDX-License-Identifier: Apache-2.0

// interfaces.go gives every interface that packets were seen on its block, when
// it is first met, and its statistics at the end.

package pcapng

import (
	"fmt"
	"math"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// interfaces are those described so far. The zero value is ready.
type interfaces struct {
	known map[interfaceKey]*described
	list  []*described
	ends  []*model.End
}

// interfaceKey tells interfaces apart. One whose packets have link-layer headers
// here and none there is two in the file: a block has one link type.
type interfaceKey struct {
	netns uint32
	name  string
	index uint32
	link  int // -1: whichever there is
}

const anyLink = -1

// described is an interface that has its block.
type described struct {
	id          uint32
	at          string // place and interface in words
	packets     uint64
	first, last int64 // ns since 1970
}

func (d *described) count(at int64) {
	d.packets++
	d.first, d.last = min(d.first, at), max(d.last, at)
}

// start notes which interfaces lead to the two ends, and appends the block of
// interface 0, which stands for the trace: editcap and mergecap want one before
// all other blocks, and its statistics are those of the trace.
func (in *interfaces) start(b *builder, s *model.Start, snapLen int) {
	in.ends = []*model.End{&s.Src, &s.Dst}
	in.list = []*described{{first: s.Time.UnixNano(), last: s.Time.UnixNano()}}
	describe(b, linkEthernet, snapLen, "pathtrace", "no interface: the trace itself")
}

// of gives the interface of a sighting, and appends its block if it is new. The
// sighting learns what to call it.
func (in *interfaces) of(b *builder, s *sighting, snapLen int) *described {
	key := interfaceKey{s.netns, s.name, s.index, anyLink}
	link := linkEthernet // as nearly all are: of no bytes it says nothing
	if s.frame != nil {
		link = int(s.frame.LinkType)
		key.link = link
	}
	if d, ok := in.known[key]; ok {
		s.at = d.at
		return d
	}
	s.at = text.At(s.place, s.netns, s.name, s.index)
	d := &described{at: s.at, id: uint32(len(in.list)), first: math.MaxInt64, last: math.MinInt64}
	if in.known == nil {
		in.known = map[interfaceKey]*described{}
	}
	in.list = append(in.list, d)
	key.link = link
	in.known[key] = d
	key.link = anyLink
	if _, ok := in.known[key]; !ok {
		in.known[key] = d
	}
	describe(b, link, snapLen, interfaceName(s), in.whose(s))
	return d
}

// describe appends an interface's block.
func describe(b *builder, link, snapLen int, name, whose string) {
	b.open(blockInterface)
	b.u16(uint16(link))
	b.u16(0)
	b.u32(uint32(snapLen))
	b.text(optInterfaceName, name)
	b.text(optInterfaceDescription, whose)
	b.head(optInterfaceResolution, 1)
	b.buf = append(b.buf, 9, 0, 0, 0)
	b.close()
}

// interfaceName is the interface's name, which the kernel did not always tell.
func interfaceName(s *sighting) string {
	switch {
	case s.name != "":
		return s.name
	case s.index != 0:
		return fmt.Sprintf("ifindex %d", s.index)
	}
	return "no interface"
}

// whose says whose interface it is: "default/client, netns 4026532324", on
// the node also where it leads.
func (in *interfaces) whose(s *sighting) string {
	says := text.At(s.place, 0, "", 0)
	if says == "?" {
		says = "unnamed"
	}
	if s.netns != 0 {
		says += fmt.Sprintf(", netns %d", s.netns)
	}
	for _, e := range in.ends {
		if s.place == "node" && s.name != "" && e.Interface == s.name && e.Name != "" {
			says += ", leads to " + endName(e)
		}
	}
	return says
}

// statistics appends the block of each interface: how many packet blocks it has.
// Where comments cannot be put in later, the trace's own carries the findings.
func (w *Writer) statistics(s *model.Summary) {
	b := &w.b
	for _, d := range w.interfaces.list[1:] {
		trace := w.interfaces.list[0]
		trace.first, trace.last = min(trace.first, d.first), max(trace.last, d.last)
	}
	for i, d := range w.interfaces.list {
		b.open(blockStats)
		b.u32(d.id)
		b.time(d.last)
		if i == 0 && w.opt.Late == nil {
			b.comment([]byte(verdictComment(s, w.findings)))
		}
		b.when(optStatsStart, d.first)
		b.when(optStatsEnd, d.last)
		if i == 0 {
			b.number64(optStatsOSDrop, s.LostEvents+s.LostPackets)
		}
		b.number64(optStatsDeliver, d.packets)
		b.close()
	}
}
