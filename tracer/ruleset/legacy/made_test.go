// SPDX-License-Identifier: Apache-2.0

package legacy

// Tables made here, of as many rules as are wanted, without a kernel.

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// madeTable gives the kernel's bytes of a filter table whose FORWARD chain has n
// rules, each with an address of its own and the matches that are given.
func madeTable(t testing.TB, family string, n int, matches ...string) (info, entries []byte) {
	t.Helper()
	lay, ok := layouts(family)
	if !ok {
		t.Fatalf("family %q", family)
	}
	info = make([]byte, infoLen)
	copy(info, "filter")
	binary.NativeEndian.PutUint32(info[infoHooks:], 1<<1|1<<2|1<<3)
	number := 0
	add := func(target []byte, i int, matches ...string) {
		e := make([]byte, lay.header)
		if len(matches) > 0 {
			binary.BigEndian.PutUint32(e[lay.addr-4:], uint32(i))
			for b := range lay.addr {
				e[2*lay.addr+b] = 0xff // source mask
			}
		}
		for _, name := range matches {
			e = append(e, extensionBytes(name, fmt.Sprintf("rule %d", i))...)
		}
		binary.NativeEndian.PutUint16(e[lay.target:], uint16(len(e)))
		e = append(e, target...)
		binary.NativeEndian.PutUint16(e[lay.target+2:], uint16(len(e)))
		entries = append(entries, e...)
		number++
	}
	for hook := 1; hook <= 3; hook++ {
		binary.NativeEndian.PutUint32(info[infoEntry+4*hook:], uint32(len(entries)))
		for i := range n {
			if hook == 2 {
				add(verdictBytes(verdictDrop), i+1, matches...)
			}
		}
		binary.NativeEndian.PutUint32(info[infoUnderflow+4*hook:], uint32(len(entries)))
		add(verdictBytes(verdictAccept), 0)
	}
	add(extensionBytes(errorTarget, errorTarget), 0)
	binary.NativeEndian.PutUint32(info[infoNumber:], uint32(number))
	binary.NativeEndian.PutUint32(info[infoSize:], uint32(len(entries)))
	return info, entries
}

func verdictBytes(verdict int32) []byte {
	b := make([]byte, extHeader+8)
	binary.NativeEndian.PutUint16(b, uint16(len(b)))
	binary.NativeEndian.PutUint32(b[extHeader:], uint32(verdict))
	return b
}

// extensionBytes is a match or a target with some text, as xt_comment has it.
func extensionBytes(name, text string) []byte {
	size := extHeader + 256
	if name == errorTarget {
		size = extHeader + 32
	}
	if name == "tcp" {
		size, text = extHeader+16, ""
	}
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b, uint16(size))
	copy(b[extName:], name)
	copy(b[extHeader:], text)
	return b
}
