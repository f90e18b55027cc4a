// SPDX-License-Identifier: Apache-2.0

package nft

// This file writes constants by their type.

import (
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"
)

// printContext is what the words for a value depend on besides the value.
type printContext struct {
	names   *names
	numeric bool
}

// value writes a constant.
func (p *printer) value(n *node) string {
	if n.typ.class == classString {
		return stringText(fill(n.num, (n.bits+bitsPerByte-1)/bitsPerByte), n.typ)
	}
	if n.many() {
		return p.flags(n, " | ")
	}
	return p.number(n.typ, n.number(), n.bits)
}

// number writes a number by its type.
func (p *printer) number(t *datatype, v *big.Int, bits uint) string {
	if t.print != nil {
		return t.print(v, bits, printContext{names: p.names, numeric: p.numeric})
	}
	if !p.numeric && v.IsUint64() {
		for _, s := range t.symbols {
			if s.value != v.Uint64() {
				continue
			}
			if t.quoted {
				return quote(s.word)
			}
			return s.word
		}
		if word, ok := p.names.word(t.table, v.Uint64()); ok {
			return quote(word)
		}
	}
	if t.format != "" {
		return fmt.Sprintf(t.format, v)
	}
	return v.String()
}

// flags writes the flags of a mask, the lowest first.
func (p *printer) flags(n *node, by string) string {
	if n.kind != nodeValue {
		return p.node(n)
	}
	v := n.number()
	if v.Sign() == 0 || single(v) {
		return p.number(n.typ, v, n.bits)
	}
	var words []string
	for i := range v.BitLen() {
		if v.Bit(i) == 1 {
			words = append(words, p.number(n.typ, new(big.Int).Lsh(big.NewInt(1), uint(i)), n.bits))
		}
	}
	return strings.Join(words, by)
}

// stringText writes a string: up to its NUL, or, when it has none and so is the
// beginning of a name, with an asterisk behind it.
func stringText(b []byte, t *datatype) string {
	s, _, ended := strings.Cut(string(b), "\x00")
	if !ended && t == typeIfname {
		return quote(s + "*")
	}
	if before, ok := strings.CutSuffix(s, "*"); ok {
		s = before + `\*`
	}
	return quote(s)
}

func printInvalid(v *big.Int, _ uint, _ printContext) string {
	return fmt.Sprintf("0x%x [invalid type]", v)
}

// printAddr writes an IPv4 or IPv6 address. A mapped address is written as
// nft's C library does, which is also Go's way.
func printAddr(v *big.Int, bits uint, _ printContext) string {
	size := uint(16)
	if bits <= 32 {
		size = 4
	}
	addr, ok := netip.AddrFromSlice(fill(v, size))
	if !ok {
		return fmt.Sprintf("0x%x", v)
	}
	return addr.String()
}

func printLinkAddr(v *big.Int, bits uint, _ printContext) string {
	words := make([]string, 0, 6)
	for _, b := range fill(v, max(bits/bitsPerByte, 1)) {
		words = append(words, fmt.Sprintf("%02x", b))
	}
	return strings.Join(words, ":")
}

// printDuration writes milliseconds as days, hours, minutes, seconds.
func printDuration(v *big.Int, _ uint, ctx printContext) string {
	if ctx.numeric {
		return fmt.Sprintf("%ds", v.Uint64()/1000)
	}
	return durationText(v.Uint64())
}

func durationText(ms uint64) string {
	var text strings.Builder
	for _, u := range []struct {
		ms   uint64
		word string
	}{{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}} {
		if n := ms / u.ms; n > 0 {
			fmt.Fprintf(&text, "%d%s", n, u.word)
		}
		ms %= u.ms
	}
	return text.String()
}

// printIfindex writes an interface by its name, in quotes, if it has one.
func printIfindex(v *big.Int, _ uint, ctx printContext) string {
	if name, ok := ctx.names.link(v.Uint64()); ok {
		return quote(name)
	}
	return v.String()
}

// printClassID writes a traffic-control handle (linux/pkt_sched.h).
func printClassID(v *big.Int, _ uint, _ printContext) string {
	const root, unspec = 0xffffffff, 0
	switch h := v.Uint64(); h {
	case root:
		return "root"
	case unspec:
		return "none"
	default:
		return fmt.Sprintf("%x:%x", h>>16&0xffff, h&0xffff)
	}
}

// printCTLabel writes the number of the label's bit, or its name.
func printCTLabel(v *big.Int, _ uint, ctx printContext) string {
	bit := uint64(v.TrailingZeroBits())
	if word, ok := ctx.names.word(tableLabels, bit); ok {
		return quote(word)
	}
	return fmt.Sprint(bit)
}

// printDate writes a moment, given in nanoseconds, in local time.
func printDate(v *big.Int, _ uint, _ printContext) string {
	return quote(time.Unix(int64(v.Uint64()/1e9), 0).Format(time.DateTime))
}

// printHour writes a time of day; the kernel counts in UTC.
func printHour(v *big.Int, _ uint, _ printContext) string {
	const day = 86400
	_, offset := time.Now().Zone()
	s := (int64(v.Uint64()) + int64(offset) + day) % day
	text := fmt.Sprintf("%02d:%02d", s/3600, s/60%60)
	if s%60 != 0 {
		text += fmt.Sprintf(":%02d", s%60)
	}
	return quote(text)
}
