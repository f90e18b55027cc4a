// SPDX-License-Identifier: Apache-2.0

// blocks.go walks the blocks of a file, in either byte order, and checks what
// holds for all of them. It keeps in memory only what is asked for, whatever
// lengths a file claims.

package pcapng

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// CutOffError tells that a file ends before the trace does.
type CutOffError struct {
	Offset int64 // where the file ends
	Inside bool  // within a block
}

func (e *CutOffError) Error() string {
	if e.Inside {
		return fmt.Sprintf("cut off at byte %d, within a block: what was written there is missing", e.Offset)
	}
	return fmt.Sprintf("ends at byte %d without a summary: the trace was killed, or could not write any further", e.Offset)
}

// block is one block of the file.
type block struct {
	kind   uint32
	offset int64
	body   []byte // of blocks that are asked for, else nil; valid until the next one
}

// blocks reads a file block by block.
type blocks struct {
	r      *bufio.Reader
	offset int64 // of what is read next
	order  binary.ByteOrder
	buf    []byte
}

func newBlocks(r io.Reader) *blocks { return &blocks{r: bufio.NewReaderSize(r, 1<<16)} }

// maxBody is the length of the longest body that is kept.
const maxBody = objectHead + objectChunk + 4

// next gives the next block; io.EOF at the end of the file.
func (bs *blocks) next() (block, error) {
	at := bs.offset
	var head [12]byte
	n, err := io.ReadFull(bs.r, head[:8])
	bs.offset += int64(n)
	if n == 0 && errors.Is(err, io.EOF) {
		return block{}, io.EOF
	}
	if err != nil {
		return block{}, bs.failed(err)
	}
	begun := 8
	if binary.LittleEndian.Uint32(head[:]) == blockSection {
		n, err = io.ReadFull(bs.r, head[8:])
		bs.offset += int64(n)
		if err != nil {
			return block{}, bs.failed(err)
		}
		if bs.order = orderOf(head[8:]); bs.order == nil {
			return block{}, fmt.Errorf("byte %d: a section without byte-order magic: this is no pcapng file", at)
		}
		begun = 12
	}
	if bs.order == nil {
		return block{}, errors.New("this is no pcapng file")
	}
	kind, length := bs.order.Uint32(head[:]), int64(bs.order.Uint32(head[4:]))
	if length%4 != 0 || length < int64(begun)+4 {
		return block{}, fmt.Errorf("byte %d: block of type %#x: its length, %d bytes, cannot be", at, kind, length)
	}
	body, err := bs.body(kind, length-int64(begun)-4)
	if err != nil {
		return block{}, err
	}
	n, err = io.ReadFull(bs.r, head[:4])
	bs.offset += int64(n)
	if err != nil {
		return block{}, bs.failed(err)
	}
	if again := int64(bs.order.Uint32(head[:])); again != length {
		return block{}, fmt.Errorf("byte %d: block of type %#x: its length is %d bytes at its beginning and %d at its end", at, kind, length, again)
	}
	return block{kind, at, body}, nil
}

// orderOf gives the byte order that a section's magic stands for, nil for none.
func orderOf(magic []byte) binary.ByteOrder {
	switch uint32(byteOrderMagic) {
	case binary.LittleEndian.Uint32(magic):
		return binary.LittleEndian
	case binary.BigEndian.Uint32(magic):
		return binary.BigEndian
	}
	return nil
}

// body reads what a block holds, or skips it.
func (bs *blocks) body(kind uint32, length int64) ([]byte, error) {
	if kind != blockSection && kind != blockObject || length > int64(maxBody) {
		n, err := bs.r.Discard(int(length))
		bs.offset += int64(n)
		if err != nil {
			return nil, bs.failed(err)
		}
		return nil, nil
	}
	if int64(cap(bs.buf)) < length {
		bs.buf = make([]byte, length)
	}
	body := bs.buf[:length]
	n, err := io.ReadFull(bs.r, body)
	bs.offset += int64(n)
	if err != nil {
		return nil, bs.failed(err)
	}
	return body, nil
}

// failed tells the end of the file within a block from other failures.
func (bs *blocks) failed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &CutOffError{Offset: bs.offset, Inside: true}
	}
	return err
}
