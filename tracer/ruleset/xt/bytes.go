// SPDX-License-Identifier: Apache-2.0

package xt

// Matches that look at bytes a packet.Packet does not have: u32, bpf, string,
// osf. All answer Unknown.

import (
	"fmt"
	"strings"
)

// u32Most is XT_U32_MAXSIZE + 1 (xt_u32.h): elements of its three arrays.
const u32Most = 11

// decodeU32 reads struct xt_u32 (xt_u32.h): tests joined by &&, each a chain of
// operations and the ranges its result has to lie in.
func decodeU32(e ext) (matchBody, bool) {
	const testSize = 180
	tests := int(e.u8(1980))
	if tests > u32Most {
		return matchBody{}, false
	}
	var out []string
	for i := 0; i < tests; i++ {
		text, ok := u32Test(e, i*testSize)
		if !ok {
			return matchBody{}, false
		}
		out = append(out, text)
	}
	var o options
	o.neg(e.u8(1981) != 0, `--u32 "%s"`, strings.Join(out, "&&"))
	return matchBody{opts: o.String()}, true
}

// u32Test reads struct xt_u32_test: 11 elements of number and operation, 11
// ranges, the counts of both.
func u32Test(e ext, at int) (string, bool) {
	numbers, values := int(e.u8(at+176)), int(e.u8(at+177))
	if numbers == 0 || numbers > u32Most || values > u32Most {
		return "", false
	}
	text := fmt.Sprintf("0x%x", e.u32(at))
	for i := 1; i < numbers; i++ {
		op, ok := nameOf(e.u8(at+8*i+4), []string{"&", "<<", ">>", "@"})
		if !ok {
			return "", false
		}
		text += fmt.Sprintf("%s0x%x", op, e.u32(at+8*i))
	}
	var ranges []string
	for i := 0; i < values; i++ {
		lo, hi := e.u32(at+88+8*i), e.u32(at+92+8*i)
		r := fmt.Sprintf("0x%x", lo)
		if lo != hi {
			r += fmt.Sprintf(":0x%x", hi)
		}
		ranges = append(ranges, r)
	}
	return text + "=" + strings.Join(ranges, ","), true
}

// decodeBPF0 reads struct xt_bpf_info (xt_bpf.h).
func decodeBPF0(e ext) (matchBody, bool) { return bpfCode(e, e.u16(0), 4) }

// decodeBPF reads struct xt_bpf_info_v1 (xt_bpf.h): bytecode, or the path of a
// pinned program.
func decodeBPF(e ext) (matchBody, bool) {
	switch e.u16(0) {
	case 0:
		return bpfCode(e, e.u16(2), 8)
	case 1:
		return matchBody{opts: " --object-pinned " + e.str(8, 512)}, true
	}
	return matchBody{}, false
}

// bpfCode prints up to 64 of struct sock_filter: code, jt, jf, k.
func bpfCode(e ext, count uint16, off int) (matchBody, bool) {
	if count > 64 {
		return matchBody{}, false
	}
	var code []string
	for i := 0; i < int(count); i++ {
		at := off + 8*i
		code = append(code, fmt.Sprintf("%d %d %d %d", e.u16(at), e.u8(at+2), e.u8(at+3), e.u32(at+4)))
	}
	return matchBody{opts: fmt.Sprintf(` --bytecode "%d,%s"`, count, strings.Join(code, ","))}, true
}

// decodeString reads struct xt_string_info (xt_string.h).
func decodeString(e ext) (matchBody, bool) {
	const (
		inverted   = 1 << 0
		ignoreCase = 1 << 1
	)
	size, flags := int(e.u8(148)), e.u8(149)
	if size > 128 {
		return matchBody{}, false
	}
	if e.rev == 0 && flags != 0 {
		flags = inverted
	}
	var o options
	o.neg(flags&inverted != 0, "%s --algo %s", patternText(e.data[20:20+size]), e.str(4, 16))
	if from := e.u16(0); from != 0 {
		o.add("--from %d", from)
	}
	if to := e.u16(2); to != 0xffff {
		o.add("--to %d", to)
	}
	o.flag(flags&ignoreCase != 0, "--icase")
	return matchBody{opts: o.String()}, true
}

// patternText is a pattern as iptables-save writes it: in hex if a byte cannot be
// printed or the last one is a backslash.
func patternText(p []byte) string {
	hex := len(p) > 0 && p[len(p)-1] == '\\'
	for _, b := range p {
		hex = hex || b < 0x20 || b > 0x7e
	}
	if hex {
		return fmt.Sprintf(`--hex-string "|%x|"`, p)
	}
	return `--string "` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(string(p)) + `"`
}

// decodeOSF reads struct nf_osf_info (nfnetlink_osf.h).
func decodeOSF(e ext) (matchBody, bool) {
	const (
		genre = 1 << iota
		ttl
		log
		inverted
	)
	flags := e.u32(36)
	var o options
	o.neg(flags&inverted != 0, "--genre %s", e.str(0, 32))
	if flags&ttl != 0 {
		o.add("--ttl %d", e.u32(44))
	}
	if flags&log != 0 {
		o.add("--log %d", e.u32(40))
	}
	return matchBody{opts: o.String()}, true
}
