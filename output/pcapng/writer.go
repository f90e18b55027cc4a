// SPDX-License-Identifier: Apache-2.0

// writer.go is the sink that writes a trace as an annotated capture. What one
// object adds to the file is written with one Write, so that a trace that is
// killed leaves whole blocks.

package pcapng

import (
	"io"
	"math"

	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Options says what to write.
type Options struct {
	// All writes a packet block for every hop of every packet; else there is one
	// for every packet that died.
	All bool
	// SnapLen is the most bytes of a packet that are written; 0: all there are.
	SnapLen int
	// Late, where the file can be written to at any place, takes what is known
	// only at the end: findings as comments of the packets that they are about,
	// and the verdict as the file's comment. nil: a pipe, where they stand at the
	// end, as comments of the interfaces' statistics.
	Late io.WriterAt
	// Lost counts the events and packets lost so far, for epb_dropcount; nil: it
	// is not known while the trace runs.
	Lost func() uint64
}

// Writer is a model.Sink that writes pcapng.
type Writer struct {
	w    io.Writer
	opt  Options
	b    builder
	size int64 // bytes of whole blocks written

	objects    *objects
	interfaces interfaces
	names      names
	late       late
	lost       uint64 // of opt.Lost, as far as it was written
	findings   []*model.Finding
	comment    []byte // under construction
}

// New gives a Writer on w, which gets one Write for each object. With a Late of
// the same file, that file must be empty.
func New(w io.Writer, opt Options) *Writer {
	out := &Writer{w: w, opt: opt}
	out.objects = newObjects(&out.b)
	return out
}

// Size is the number of bytes written as whole blocks. Where a Write failed, the
// file may hold a part of one more.
func (w *Writer) Size() int64 { return w.size }

// Start writes the section's head and the names of the two ends.
func (w *Writer) Start(s *model.Start) error {
	w.section(s)
	w.interfaces.start(&w.b, s, w.opt.SnapLen)
	w.names.start(s)
	w.names.flush(&w.b)
	return w.finish(w.objects.Start(s))
}

// section writes what all that follows has in common.
func (w *Writer) section(s *model.Start) {
	b := &w.b
	b.open(blockSection)
	b.u32(byteOrderMagic)
	b.u16(versionMajor)
	b.u16(versionMinor)
	b.u64(math.MaxUint64) // length: not known, it is a stream
	b.text(optSectionOS, "Linux "+s.Kernel)
	b.text(optSectionAppl, "pathtrace "+s.Version)
	b.comment([]byte("pathtrace " + text.AskedLine(s)))
	if w.opt.Late != nil {
		w.late.verdict = w.size + int64(b.room(verdictRoom))
	}
	b.close()
}

// Packet writes the packet's sightings, and itself for those who read the trace
// again.
func (w *Writer) Packet(p *model.Packet) error {
	w.names.learn(p)
	died := p.Outcome.Died()
	if w.opt.All || died {
		w.sightings(p, died)
	}
	return w.finish(w.objects.Packet(p))
}

// sightings writes the packet blocks of a packet.
func (w *Writer) sightings(p *model.Packet, died bool) {
	about, drop := packetLine(p), -1
	if died {
		drop = dropHop(p)
	}
	for i := range p.Hops {
		if w.opt.All && i != drop { // which is told with the death
			s := hopSighting(p, &p.Hops[i])
			on := w.interfaces.of(&w.b, &s, w.opt.SnapLen)
			w.sighting(p, &s, on, w.hopComment(p, &p.Hops[i], &s, about))
		}
	}
	if died {
		s := dropSighting(p)
		on := w.interfaces.of(&w.b, &s, w.opt.SnapLen)
		w.sighting(p, &s, on, w.dropComment(p, &s, about))
	}
}

// Node writes a change of the node.
func (w *Writer) Node(e *model.NodeEvent) error { return w.finish(w.objects.Node(e)) }

// Finding writes a cause. One that is told early is put into the comments of its
// packets at once, where that can be done; the others are kept for the end.
func (w *Writer) Finding(f *model.Finding) error {
	if err := w.finish(w.objects.Finding(f)); err != nil {
		return err
	}
	switch {
	case !f.Live:
		w.findings = append(w.findings, f)
	case w.opt.Late != nil:
		return w.late.tell(w.opt.Late, []*model.Finding{f})
	}
	return nil
}

// Summary writes the end, and whatever is only known now.
func (w *Writer) Summary(s *model.Summary) error {
	w.statistics(s)
	if err := w.finish(w.objects.Summary(s)); err != nil || w.opt.Late == nil {
		return err
	}
	return w.late.close(w.opt.Late, s, w.findings)
}

// finish hands over what one object has added to the buffer.
func (w *Writer) finish(err error) error {
	defer func() { w.b.buf = w.b.buf[:0] }()
	if err != nil {
		return err
	}
	n, err := w.w.Write(w.b.buf)
	if err != nil {
		return err
	}
	w.size += int64(n)
	return nil
}
