// SPDX-License-Identifier: Apache-2.0

// objects.go carries the objects of a trace in blocks of our own: the very JSON
// that -o json prints, so that reading a file gives what was printed.

package pcapng

import (
	"bytes"

	"github.com/pathtrace/pathtrace/output/jsonl"
)

// objects is a sink that appends each object to a buffer of blocks.
type objects struct {
	*jsonl.Writer
	b *builder
}

func newObjects(b *builder) *objects {
	o := &objects{b: b}
	o.Writer = jsonl.New(o)
	return o
}

// Write takes one object's line.
func (o *objects) Write(line []byte) (int, error) {
	text := bytes.TrimSuffix(line, []byte("\n"))
	for {
		part := text[:min(len(text), objectChunk)]
		text = text[len(part):]
		o.b.object(part, len(text) > 0)
		if len(text) == 0 {
			return len(line), nil
		}
	}
}

// object appends a block with a part of an object's text.
func (b *builder) object(text []byte, goesOn bool) {
	b.open(blockObject)
	b.buf = append(b.buf, objectMagic...)
	b.buf = append(b.buf, objectVersion)
	flags := uint16(0)
	if goesOn {
		flags = objectGoesOn
	}
	b.u16(flags)
	b.u32(uint32(len(text)))
	b.buf = append(b.buf, text...)
	b.align(objectHead + len(text))
	b.close()
}
