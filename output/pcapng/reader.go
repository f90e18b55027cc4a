// SPDX-License-Identifier: Apache-2.0

// reader.go gives back the trace that a file holds.

package pcapng

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// ForeignError tells that a file is none that Writer wrote.
type ForeignError struct{ What string }

func (e *ForeignError) Error() string { return e.What }

// Read hands the trace that r holds to sink, object by object, as it was
// written. Objects of a type that this version does not know are skipped.
//
// Of a file that ends too early, all that is there is handed over before the
// *CutOffError; a file of another program is a *ForeignError; other errors tell
// the byte at which the file is not as it should be. Packet blocks are for other
// programs and not looked into.
func Read(r io.Reader, sink model.Sink) error {
	t := &traceReader{blocks: newBlocks(r), sink: &ordered{Sink: sink}}
	if what := foreign(t.blocks); what != "" {
		return &ForeignError{what}
	}
	for {
		b, err := t.blocks.next()
		switch {
		case errors.Is(err, io.EOF):
			return t.end()
		case err != nil:
			return err
		}
		if err := t.take(b); err != nil {
			return fmt.Errorf("byte %d: %w", b.offset, err)
		}
	}
}

// foreign says what a file is that does not begin as pcapng does.
func foreign(bs *blocks) string {
	begin, err := bs.r.Peek(4)
	if err != nil {
		begin = append(begin, 0, 0, 0, 0)[:4] // cut off: what is there is told all the same
	}
	for _, known := range []struct {
		begin string
		what  string
	}{
		{"\xd4\xc3\xb2\xa1", "this is a pcap file: it holds packets and no trace; open it with wireshark or tshark"},
		{"\xa1\xb2\xc3\xd4", "this is a pcap file: it holds packets and no trace; open it with wireshark or tshark"},
		{"\x4d\x3c\xb2\xa1", "this is a pcap file: it holds packets and no trace; open it with wireshark or tshark"},
		{"\xa1\xb2\x3c\x4d", "this is a pcap file: it holds packets and no trace; open it with wireshark or tshark"},
		{"\x1f\x8b", "this file is compressed: gunzip it first, as in gunzip -c FILE | pathtrace read -"},
		{"\x28\xb5\x2f\xfd", "this file is compressed: unzstd it first, as in unzstd -c FILE | pathtrace read -"},
		{"{", "this is no pcapng file but looks like the output of -o json: read wants what -w wrote"},
		{"\x00\x00\x00\x00", "this file is empty or no pcapng file"},
	} {
		if bytes.HasPrefix(begin, []byte(known.begin)) {
			return known.what
		}
	}
	if !bytes.HasPrefix([]byte("\x0a\x0d\x0d\x0a"), bytes.TrimRight(begin, "\x00")) {
		return "this is no pcapng file: read wants what -w wrote"
	}
	return ""
}

// traceReader puts the objects of a trace together.
type traceReader struct {
	blocks *blocks
	sink   *ordered
	part   []byte // of an object that goes on
	goesOn bool
	writer string // what wrote the file, as it says
}

// take looks at one block.
func (t *traceReader) take(b block) error {
	switch {
	case b.kind == blockSection:
		return t.section(b.body)
	case b.kind == blockObject && bytes.HasPrefix(b.body, []byte(objectMagic)):
		return t.object(b.body)
	}
	return nil
}

// section checks a section's version and notes who wrote it. The body begins
// behind the byte-order magic.
func (t *traceReader) section(body []byte) error {
	const fixed = 2 + 2 + 8
	if len(body) < fixed {
		return errors.New("section: too short")
	}
	if major := t.blocks.order.Uint16(body); major != versionMajor {
		return fmt.Errorf("section: version %d of the format: this version reads %d", major, versionMajor)
	}
	for rest := body[fixed:]; len(rest) >= 4; {
		code, length := t.blocks.order.Uint16(rest), int(t.blocks.order.Uint16(rest[2:]))
		if code == optEnd {
			break
		}
		if len(rest) < 4+length+pad(length) {
			return fmt.Errorf("section: option %d: longer than its block", code)
		}
		if code == optSectionAppl {
			t.writer = string(rest[4 : 4+length])
		}
		rest = rest[4+length+pad(length):]
	}
	return nil
}

// object takes a part of an object's text, and the object when it is complete.
func (t *traceReader) object(body []byte) error {
	if len(body) < objectHead {
		return errors.New("object: too short")
	}
	rest := body[len(objectMagic):]
	if rest[0] != objectVersion {
		return fmt.Errorf("object: form %d, and this version of pathtrace knows form %d: read it with a newer one", rest[0], objectVersion)
	}
	flags, length := t.blocks.order.Uint16(rest[1:]), int64(t.blocks.order.Uint32(rest[3:]))
	text := body[objectHead:]
	if int64(len(text)) < length {
		return fmt.Errorf("object: %d bytes long in a block with room for %d", length, len(text))
	}
	text = text[:length]
	goesOn := flags&objectGoesOn != 0
	if !goesOn && !t.goesOn {
		return model.ReadObject(text, t.sink)
	}
	if len(t.part)+len(text) > maxObject {
		return fmt.Errorf("object: longer than %d bytes", maxObject)
	}
	t.part, t.goesOn = append(t.part, text...), goesOn
	if goesOn {
		return nil
	}
	err := model.ReadObject(t.part, t.sink)
	t.part = t.part[:0]
	return err
}

// end judges a file that ends between two blocks.
func (t *traceReader) end() error {
	switch {
	case t.sink.ended:
		return nil
	case t.sink.started:
		return &CutOffError{Offset: t.blocks.offset}
	case t.writer != "":
		return &ForeignError{fmt.Sprintf("this file, written by %.100q, holds no trace: open it with wireshark or tshark", t.writer)}
	}
	return &ForeignError{"this file holds no trace: open it with wireshark or tshark"}
}

// ordered sees to it that there is one trace, from its start to its summary.
type ordered struct {
	model.Sink
	started, ended bool
}

var (
	errOrder  = errors.New("object: a trace begins with its start and ends with its summary, and this one does not")
	errSecond = errors.New("a second trace begins: a file is read to the end of the first one")
)

// inside hands an object on if it stands between start and summary.
func inside[T any](o *ordered, to func(*T) error, object *T) error {
	if !o.started || o.ended {
		return errOrder
	}
	return to(object)
}

func (o *ordered) Start(s *model.Start) error {
	if o.started {
		return errSecond
	}
	o.started = true
	return o.Sink.Start(s)
}

func (o *ordered) Packet(p *model.Packet) error   { return inside(o, o.Sink.Packet, p) }
func (o *ordered) Node(e *model.NodeEvent) error  { return inside(o, o.Sink.Node, e) }
func (o *ordered) Finding(f *model.Finding) error { return inside(o, o.Sink.Finding, f) }

func (o *ordered) Summary(s *model.Summary) error {
	err := inside(o, o.Sink.Summary, s)
	o.ended = o.ended || o.started
	return err
}
