// SPDX-License-Identifier: Apache-2.0

package xt

// What iptables-save's printing rules have in common: negation before the
// option, quoting, marks with masks, addresses with prefixes.

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// options collects the options of one match or target.
type options struct{ strings.Builder }

// add appends a blank and an option.
func (o *options) add(format string, args ...any) {
	o.WriteByte(' ')
	fmt.Fprintf(o, format, args...)
}

// neg appends an option that may be negated.
func (o *options) neg(inverted bool, format string, args ...any) {
	if inverted {
		o.WriteString(" !")
	}
	o.add(format, args...)
}

// flag appends an option if a bit is set.
func (o *options) flag(set bool, option string) {
	if set {
		o.add("%s", option)
	}
}

// quote is the value as iptables-save writes a free string: bare if it consists
// of letters, digits, - and _, else in double quotes with ", \ and ' escaped.
func quote(s string) string {
	bare := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) < 0
	if bare {
		return s
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, `'`, `\'`).Replace(s) + `"`
}

// valueMask is 0xVALUE, with /0xMASK unless the mask is full.
func valueMask(value, mask uint32) string {
	if mask == 0xffffffff {
		return fmt.Sprintf("0x%x", value)
	}
	return fmt.Sprintf("0x%x/0x%x", value, mask)
}

// span is "min" or "min:max".
func span[T uint8 | uint16 | uint32](lo, hi T) string {
	if lo == hi {
		return fmt.Sprint(lo)
	}
	return fmt.Sprintf("%d:%d", lo, hi)
}

// addrText is an address as glibc's inet_ntop prints it. It differs from
// netip's form for IPv4-compatible ones (::192.0.2.1).
func addrText(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		b := a.As16()
		if [12]byte(b[:12]) == [12]byte{} && (b[12] != 0 || b[13] != 0) {
			return "::" + netip.AddrFrom4([4]byte(b[12:])).String()
		}
	}
	return a.String()
}

// prefixLen is the number of leading ones of a mask; false: there are ones after
// the first zero.
func prefixLen(mask netip.Addr) (int, bool) {
	n, seenZero := 0, false
	for _, b := range mask.AsSlice() {
		ones := bits.LeadingZeros8(^b)
		if seenZero && b != 0 || b<<ones != 0 {
			return 0, false
		}
		n += ones
		seenZero = seenZero || ones < 8
	}
	return n, true
}

// maskText is "/LENGTH", or "/MASK" if the mask has holes.
func maskText(mask netip.Addr) string {
	if n, ok := prefixLen(mask); ok {
		return fmt.Sprintf("/%d", n)
	}
	return "/" + addrText(mask)
}

// addrMask is an address with its mask; a full one is not shown.
func addrMask(addr, mask netip.Addr) string {
	if n, ok := prefixLen(mask); ok && n == mask.BitLen() {
		return addrText(addr)
	}
	return addrText(addr) + maskText(mask)
}

// names joins the names of the bits set in a mask, from bit 0 on.
func names(mask uint32, table []string) string {
	var out []string
	for i, name := range table {
		if mask&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

// nameOf is the table's name of a value; false: it has none.
func nameOf[T uint8 | uint16 | uint32](value T, table []string) (string, bool) {
	if uint64(value) >= uint64(len(table)) || table[value] == "" {
		return "", false
	}
	return table[value], true
}
