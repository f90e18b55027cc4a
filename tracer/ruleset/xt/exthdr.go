// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on IPv6 extension headers: frag, hbh, dst, rt, mh, ipv6header, srh,
// eui64. The headers' fields are not in a packet.Packet: all answer Unknown.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// decodeFrag reads struct ip6t_frag (ip6t_frag.h).
func decodeFrag(e ext) (matchBody, bool) {
	const (
		_ = 1 << iota
		length
		reserved
		first
		more
		last
	)
	flags, inv := e.u8(12), e.u8(13)
	var o options
	indexRange(&o, e, 0, inv&1 != 0, "--fragid")
	if flags&length != 0 {
		o.neg(inv&2 != 0, "--fraglen %d", e.u32(8))
	}
	o.flag(flags&reserved != 0, "--fragres")
	o.flag(flags&first != 0, "--fragfirst")
	o.flag(flags&more != 0, "--fragmore")
	o.flag(flags&last != 0, "--fraglast")
	return matchBody{opts: o.String()}, true
}

// decodeHopOptions and decodeDstOptions read struct ip6t_opts (ip6t_opts.h).
func decodeHopOptions(e ext) (matchBody, bool) { return decodeOptions(e, "--hbh") }
func decodeDstOptions(e ext) (matchBody, bool) { return decodeOptions(e, "--dst") }

func decodeOptions(e ext, option string) (matchBody, bool) {
	flags, count := e.u8(4), int(e.u8(38))
	if count > 16 {
		return matchBody{}, false
	}
	var o options
	if flags&1 != 0 {
		o.neg(e.u8(5)&1 != 0, "%s-len %d", option, e.u32(0))
	}
	o.flag(flags&2 != 0, option+"-opts")
	var list []string
	for i := 0; i < count; i++ { // type in the high byte, length or 255 in the low one
		v := e.u16(6 + 2*i)
		text := fmt.Sprint(v >> 8)
		if v&0xff != 0xff {
			text += fmt.Sprintf(":%d", v&0xff)
		}
		list = append(list, text)
	}
	o.flag(count > 0, strings.Join(list, ","))
	return matchBody{opts: o.String()}, true
}

// decodeRouting reads struct ip6t_rt (ip6t_rt.h).
func decodeRouting(e ext) (matchBody, bool) {
	const (
		kind = 1 << iota
		_
		length
		reserved
		addresses
		notStrict
	)
	flags, inv, count := e.u8(16), e.u8(17), int(e.u8(276))
	if count > 16 {
		return matchBody{}, false
	}
	var o options
	if flags&kind != 0 {
		o.neg(inv&1 != 0, "--rt-type %d", e.u32(0))
	}
	indexRange(&o, e, 4, inv&2 != 0, "--rt-segsleft")
	if flags&length != 0 {
		o.neg(inv&4 != 0, "--rt-len %d", e.u32(12))
	}
	o.flag(flags&reserved != 0, "--rt-0-res")
	o.flag(flags&addresses != 0, "--rt-0-addrs")
	var list []string
	for i := 0; i < count; i++ {
		list = append(list, addrText(e.addr6(20+16*i)))
	}
	o.flag(count > 0, strings.Join(list, ","))
	o.flag(flags&notStrict != 0, "--rt-0-not-strict")
	return matchBody{opts: o.String()}, true
}

// decodeMobility reads struct ip6t_mh (ip6t_mh.h).
func decodeMobility(e ext) (matchBody, bool) {
	var o options
	if lo, hi := e.u8(0), e.u8(1); lo != 0 || hi != 0xff {
		o.neg(e.u8(2)&1 != 0, "--mh-type %s", span(lo, hi))
	}
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		return transport(p, protoMH).And(packet.Unknown)
	}}, true
}

// decodeIPv6Header reads struct ip6t_ipv6header_info (ip6t_ipv6header.h). Headers
// print under their system name from the highest bit down.
func decodeIPv6Header(e ext) (matchBody, bool) {
	var list []string
	for i, name := range []string{"hop-by-hop", "ipv6-opts", "ipv6-route", "ipv6-frag", "ah", "esp", "ipv6-nonxt", "protocol"} {
		if e.u8(0)&(0x80>>i) != 0 {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		list = []string{"NONE"}
	}
	var o options
	o.neg(e.u8(1) != 0, "--header %s", strings.Join(list, ","))
	o.flag(e.u8(2) != 0, "--soft")
	return matchBody{opts: o.String()}, true
}

// decodeSRH reads struct ip6t_srh and ip6t_srh1 (ip6t_srh.h): revision 1 has three
// segment addresses between the fields and the flags, then their masks.
func decodeSRH(e ext) (matchBody, bool) {
	at := 6
	if e.rev == 1 {
		at = 102 + 2
	}
	flags, inv := e.u16(at), e.u16(at+2)
	var o options
	for i, f := range []struct {
		option string
		value  uint16
	}{
		{"next-hdr", uint16(e.u8(0))},
		{"hdr-len-eq", uint16(e.u8(1))}, {"hdr-len-gt", uint16(e.u8(1))}, {"hdr-len-lt", uint16(e.u8(1))},
		{"segs-left-eq", uint16(e.u8(2))}, {"segs-left-gt", uint16(e.u8(2))}, {"segs-left-lt", uint16(e.u8(2))},
		{"last-entry-eq", uint16(e.u8(3))}, {"last-entry-gt", uint16(e.u8(3))}, {"last-entry-lt", uint16(e.u8(3))},
		{"tag", e.u16(4)},
	} {
		if flags&(1<<i) != 0 {
			o.neg(inv&(1<<i) != 0, "--srh-%s %d", f.option, f.value)
		}
	}
	if e.rev == 1 {
		for i, option := range []string{"psid", "nsid", "lsid"} {
			if bit := uint16(1) << (11 + i); flags&bit != 0 {
				o.neg(inv&bit != 0, "--srh-%s %s/%d", option, addrText(e.addr6(8+16*i)), cidr6(e, 56+16*i))
			}
		}
	}
	return matchBody{opts: o.String()}, true
}

func cidr6(e ext, off int) int {
	if n, ok := prefixLen(e.addr6(off)); ok {
		return n
	}
	return -1
}

// decodeEUI64 has an int that nothing reads.
func decodeEUI64(ext) (matchBody, bool) { return matchBody{}, true }
