// SPDX-License-Identifier: Apache-2.0

// Package text writes a trace for people: each packet as a short story of
// where it went and what became of it, the packets that tell the same story
// folded into a line, deaths with all that is known of their cause, and at the
// end what happened in each direction. It is what gets pasted into tickets, so
// it stays plain ASCII and within the width. With Options.Wide every single
// hop is told with what the kernel showed of it, and nothing is folded.
package text

import (
	"io"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// defaultWidth is used where the output goes to no terminal; below minWidth
// lines are not wrapped any tighter.
const (
	defaultWidth = 100
	minWidth     = 60
)

// Options says how to write.
type Options struct {
	Wide  bool // every hop on a line of its own, nothing folded
	Color bool // ANSI colours
	Width int  // columns; 0 means 100
}

// Writer is a model.Sink that writes for people.
type Writer struct {
	w     io.Writer
	opt   Options
	page  page
	start model.Start // what was asked for
	tally tally
	folds folds

	findings []*model.Finding // told with the verdict
	changing bool             // what was told last is a change of the node
}

// New gives a Writer on w, which gets one Write for all that one object makes
// it say, and none for a packet that is folded.
func New(w io.Writer, opt Options) *Writer {
	if opt.Width <= 0 {
		opt.Width = defaultWidth
	}
	return &Writer{w: w, opt: opt, page: page{width: max(opt.Width, minWidth), color: opt.Color}}
}

// flush hands what was printed to the underlying writer.
func (w *Writer) flush() error {
	if w.page.buf.Len() == 0 {
		return nil
	}
	_, err := w.w.Write(w.page.buf.Bytes())
	w.page.buf.Reset()
	return err
}

// Start prints what is traced.
func (w *Writer) Start(s *model.Start) error {
	w.start = *s
	w.header(s)
	return w.flush()
}

// Packet tells a packet's story, or notes that it was the same as an earlier
// one's.
func (w *Writer) Packet(p *model.Packet) error {
	w.tally.add(p)
	if w.opt.Wide {
		w.changing = false
		w.tellWide(p)
		return w.flush()
	}
	id, known, turned := w.folds.add(p)
	if turned || !known {
		w.tellFolded(w.folds.take())
	}
	if known {
		w.folds.hold(id, p)
	} else {
		w.tell(p)
	}
	return w.flush()
}

// Node prints a change of the node.
func (w *Writer) Node(e *model.NodeEvent) error {
	w.tellFolded(w.folds.take())
	w.nodeEvent(e)
	w.changing = true
	return w.flush()
}

// Finding keeps a cause for the verdict; one that is told while the trace goes on
// gets its line at once.
func (w *Writer) Finding(f *model.Finding) error {
	if f.Live {
		w.page.para(6, span{"  FOUND " + f.Code, bad}, span{"  " + f.Summary, plain})
		return w.flush()
	}
	w.findings = append(w.findings, f)
	return nil
}

// Summary prints what is still folded, the causes found and the verdict.
func (w *Writer) Summary(s *model.Summary) error {
	w.tellFolded(w.folds.take())
	w.verdict(s)
	return w.flush()
}

// CutOff ends a trace whose end is missing: what was held back is printed, and
// what there was is counted.
func (w *Writer) CutOff(forward, back model.Counts) error {
	w.tellFolded(w.folds.take())
	w.tellFindings(verdictLines)
	w.page.blank()
	w.direction(model.Forward, forward)
	w.direction(model.Return, back)
	w.page.para(9, span{"the end of this trace is missing: counted is what is there", warned})
	return w.flush()
}
