// SPDX-License-Identifier: Apache-2.0

// block.go builds blocks in memory: each is written whole, so that a reader
// never meets half a one unless writing itself was cut off.

package pcapng

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// builder appends blocks to a buffer, in little-endian byte order.
type builder struct {
	buf   []byte
	begun int // where the open block starts
	opts  bool
}

func (b *builder) u16(v uint16) { b.buf = binary.LittleEndian.AppendUint16(b.buf, v) }
func (b *builder) u32(v uint32) { b.buf = binary.LittleEndian.AppendUint32(b.buf, v) }
func (b *builder) u64(v uint64) { b.buf = binary.LittleEndian.AppendUint64(b.buf, v) }

// time appends a time stamp: the high half first, whatever the byte order.
func (b *builder) time(ns int64) {
	b.u32(uint32(uint64(ns) >> 32))
	b.u32(uint32(uint64(ns)))
}

// align pads what was appended as n bytes to 32 bits.
func (b *builder) align(n int) {
	for range pad(n) {
		b.buf = append(b.buf, 0)
	}
}

// open begins a block; its length is filled in by close.
func (b *builder) open(kind uint32) {
	b.begun, b.opts = len(b.buf), false
	b.u32(kind)
	b.u32(0)
}

// close ends the options, if there were any, and the block.
func (b *builder) close() {
	if b.opts {
		b.u32(optEnd)
	}
	length := uint32(len(b.buf) - b.begun + 4)
	binary.LittleEndian.PutUint32(b.buf[b.begun+4:], length)
	b.u32(length)
}

// option appends one option of at most maxOption bytes.
func (b *builder) option(code uint16, value []byte) {
	b.head(code, len(value))
	b.buf = append(b.buf, value...)
	b.align(len(value))
}

func (b *builder) head(code uint16, length int) {
	b.opts = true
	b.u16(code)
	b.u16(uint16(length))
}

// text appends an option of text, cut where it is too long; none if there is
// none.
func (b *builder) text(code uint16, value string) {
	if value != "" {
		b.option(code, cutText([]byte(strings.ToValidUTF8(value, "\ufffd")), maxOption))
	}
}

func (b *builder) number32(code uint16, v uint32) {
	b.head(code, 4)
	b.u32(v)
}

func (b *builder) number64(code uint16, v uint64) {
	b.head(code, 8)
	b.u64(v)
}

// when appends a time stamp as an option.
func (b *builder) when(code uint16, ns int64) {
	b.head(code, 8)
	b.time(ns)
}

// comment appends a text as a comment, or as several where one cannot hold it:
// opt_comment may be repeated (§3.5). It is divided between lines where a line
// ends in the second half of what fits.
func (b *builder) comment(text []byte) {
	for len(text) > maxOption {
		part := cutAt(text, maxOption)
		b.option(optComment, text[:part])
		text = text[part:]
	}
	if len(text) > 0 {
		b.option(optComment, text)
	}
}

// cutAt finds where to divide a text that is longer than most bytes.
func cutAt(text []byte, most int) int {
	if i := bytes.LastIndexByte(text[most/2:most], '\n'); i >= 0 {
		return most/2 + i + 1
	}
	return len(cutText(text, most))
}

// cutText gives the beginning of a text, at most so many bytes, without half a
// character at its end.
func cutText(text []byte, most int) []byte {
	if len(text) <= most {
		return text
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// room appends room for a comment of length bytes, to be filled by fill.
// It gives where in the buffer it stands.
func (b *builder) room(length int) (at int) {
	at = len(b.buf)
	b.head(optRoom, length)
	b.buf = append(b.buf, make([]byte, length+pad(length))...)
	return at
}

// fill gives the bytes that put a comment into the room of an option that held
// length bytes; what is not used stays room.
func fill(text []byte, length int) []byte {
	length += pad(length)
	if len(text) > length {
		const more = "..."
		text = append(bytes.Clone(cutText(text, length-len(more))), more...)
	}
	var b builder
	b.option(optComment, text)
	if left := 4 + length - len(b.buf); left > 0 { // a multiple of 4: holds the head at least
		b.room(left - 4)
	}
	return b.buf
}
