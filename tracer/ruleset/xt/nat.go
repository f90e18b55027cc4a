// SPDX-License-Identifier: Apache-2.0

package xt

// Targets that translate addresses: DNAT, SNAT, MASQUERADE, REDIRECT, NETMAP,
// SNPT, DNPT. The NAT ones accept the packet.

import (
	"fmt"
	"net/netip"
)

// Bits of a range's flags (include/uapi/linux/netfilter/nf_nat.h).
const (
	natAddresses   = 1 << 0
	natPorts       = 1 << 1
	natRandom      = 1 << 2
	natPersistent  = 1 << 3
	natRandomFully = 1 << 4
	natOffset      = 1 << 5
)

// natRange is struct nf_nat_range2, to which the older ones are widened.
type natRange struct {
	flags          uint32
	lo, hi         netip.Addr
	loPort, hiPort uint16
	basePort       uint16
}

// natRange reads struct nf_nat_ipv4_multi_range_compat (20 bytes), nf_nat_range
// (40) or nf_nat_range2 (44), told by their sizes (nf_nat.h). XT_ALIGN makes 24,
// 40 and 48 of them.
func (e ext) natRange() (natRange, bool) {
	if len(e.data) < 40 {
		r := natRange{flags: e.u32(4), lo: e.addr4(8), hi: e.addr4(12), loPort: e.be16(16), hiPort: e.be16(18)}
		return r, e.u32(0) == 1
	}
	if !e.addressed() {
		return natRange{}, false
	}
	r := natRange{flags: e.u32(0), lo: e.addr(4), hi: e.addr(20), loPort: e.be16(36), hiPort: e.be16(38)}
	if len(e.data) >= 44 {
		r.basePort = e.be16(40)
	}
	return r, true
}

func (r natRange) addresses() string {
	if r.flags&natAddresses == 0 {
		return ""
	}
	text := addrText(r.lo)
	if r.hi != r.lo {
		text += "-" + addrText(r.hi)
	}
	if r.lo.Is6() && r.flags&natPorts != 0 {
		return "[" + text + "]"
	}
	return text
}

func (r natRange) ports() string {
	if r.flags&natPorts == 0 {
		return ""
	}
	text := fmt.Sprint(r.loPort)
	if r.hiPort != r.loPort {
		text += fmt.Sprintf("-%d", r.hiPort)
	}
	if r.flags&natOffset != 0 {
		text += fmt.Sprintf("/%d", r.basePort)
	}
	return text
}

// body joins the range and its flags.
func (r natRange) body(option, value string) targetBody {
	var o options
	o.flag(value != "", option+" "+value)
	o.flag(r.flags&natRandom != 0, "--random")
	o.flag(r.flags&natRandomFully != 0, "--random-fully")
	o.flag(r.flags&natPersistent != 0, "--persistent")
	return targetBody{opts: o.String(), kind: Accept}
}

// decodeNATTo reads the range of DNAT and SNAT.
func decodeNATTo(option string) func(ext) (targetBody, bool) {
	return func(e ext) (targetBody, bool) {
		r, ok := e.natRange()
		value := r.addresses()
		if ports := r.ports(); ports != "" {
			value += ":" + ports
		}
		return r.body(option, value), ok
	}
}

// decodeNATPorts reads the range of MASQUERADE and REDIRECT, whose address is
// taken from an interface.
func decodeNATPorts(e ext) (targetBody, bool) {
	r, ok := e.natRange()
	value := r.addresses()
	switch ports := r.ports(); {
	case value != "" && ports != "": // only the kernel's own API makes such a rule
		value += ":" + ports
	case ports != "":
		value = ports
	}
	return r.body("--to-ports", value), ok
}

// decodeNETMAP reads a range whose ends tell network and mask: bits in which they
// are equal belong to the network.
func decodeNETMAP(e ext) (targetBody, bool) {
	r, ok := e.natRange()
	if !ok {
		return targetBody{}, false
	}
	lo, mask := r.lo.AsSlice(), r.hi.AsSlice()
	for i := range mask {
		mask[i] = ^(mask[i] ^ lo[i])
	}
	m, ok := netip.AddrFromSlice(mask)
	return targetBody{opts: " --to " + addrText(r.lo) + maskText(m), kind: Accept}, ok
}

// decodeNPT reads struct ip6t_npt_tginfo (ip6t_NPT.h). The packet walks on.
func decodeNPT(e ext) (targetBody, bool) {
	var o options
	for i, option := range []string{"--src-pfx", "--dst-pfx"} {
		if prefix, size := e.addr6(16*i), e.u8(32+i); !prefix.IsUnspecified() || size != 0 {
			o.add("%s %s/%d", option, addrText(prefix), size)
		}
	}
	return targetBody{opts: o.String()}, true
}
