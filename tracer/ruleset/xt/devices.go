// SPDX-License-Identifier: Apache-2.0

package xt

// Matches on interfaces: physdev, devgroup, rpfilter, and the comparison of
// interface names that entries share with physdev.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// nameSize is IFNAMSIZ (include/uapi/linux/if.h).
const nameSize = 16

// device is an interface name with the mask of bytes that have to be equal.
type device struct {
	name, mask [nameSize]byte
}

func (e ext) device(name, mask int) device {
	return device{[nameSize]byte(e.data[name : name+nameSize]), [nameSize]byte(e.data[mask : mask+nameSize])}
}

// is compares like ifname_compare (include/linux/netfilter/x_tables.h). A hook
// without the interface has an empty name, which matches an empty mask only.
func (d device) is(name string) bool {
	var padded [nameSize]byte
	copy(padded[:], name)
	for i := range padded {
		if (padded[i]^d.name[i])&d.mask[i] != 0 {
			return false
		}
	}
	return true
}

// Bits of struct xt_physdev_info's bitmask and invert (xt_physdev.h).
const (
	physIn = 1 << iota
	physOut
	physBridged
	physIsIn
	physIsOut
)

// physdev is a physdev match.
type physdev struct {
	in, out  device
	ops, inv uint8
}

// decodePhysdev reads struct xt_physdev_info (xt_physdev.h).
func decodePhysdev(e ext) (matchBody, bool) {
	d := physdev{e.device(0, 16), e.device(32, 48), e.u8(65), e.u8(64)}
	var o options
	for _, op := range []struct {
		bit    uint8
		option string
	}{
		{physIsIn, "--physdev-is-in"},
		{physIn, "--physdev-in " + e.str(0, nameSize)},
		{physIsOut, "--physdev-is-out"},
		{physOut, "--physdev-out " + e.str(32, nameSize)},
		{physBridged, "--physdev-is-bridged"},
	} {
		if d.ops&op.bit != 0 {
			o.neg(d.inv&op.bit != 0, "%s", op.option)
		}
	}
	return matchBody{opts: o.String(), eval: d.eval}, true
}

// eval follows physdev_mt (net/netfilter/xt_physdev.c, Linux 6.18). For a packet
// that no bridge brought every question has the answer no; for a bridged one a
// missing input port is not compared, a missing output port never matches.
func (d physdev) eval(p *packet.Packet) packet.Answer {
	in, out := p.PhysIn, p.PhysOut
	a := packet.Yes
	ask := func(bit uint8, answer packet.Answer) {
		if d.ops&bit != 0 {
			a = a.And(flip(answer, d.inv&bit != 0))
		}
	}
	present := func(name string) bool { return name != "" }
	ask(physIsIn, in.Holds(present))
	ask(physIsOut, out.Holds(present))
	ask(physBridged, out.Holds(present))
	if in == packet.Known("") && out == packet.Known("") {
		ask(physIn, packet.No)
		ask(physOut, packet.No)
		return a
	}
	if d.ops&physIn != 0 {
		a = a.And(d.inPort(in, out))
	}
	if d.ops&physOut != 0 {
		named := flip(out.Holds(d.out.is), d.inv&physOut != 0)
		switch {
		case !out.Known:
			named = packet.Unknown
		case out.Value == "" && in.Known: // bridged, for in has a name
			named = packet.No
		case out.Value == "":
			named = packet.Unknown
		}
		a = a.And(named)
	}
	return a
}

func (d physdev) inPort(in, out packet.Fact[string]) packet.Answer {
	switch {
	case !in.Known:
		return packet.Unknown
	case in.Value == "" && !out.Known:
		return packet.Unknown
	case in.Value == "":
		return packet.Yes
	}
	return flip(packet.Of(d.in.is(in.Value)), d.inv&physIn != 0)
}

// decodeDevgroup reads struct xt_devgroup_info (xt_devgroup.h). Groups print as
// numbers: their names stand in a file that the node need not have.
func decodeDevgroup(e ext) (matchBody, bool) {
	const (
		hasSrc = 1 << iota
		invSrc
		hasDst
		invDst
	)
	flags := e.u32(0)
	var o options
	if flags&hasSrc != 0 {
		o.neg(flags&invSrc != 0, "--src-group %s", valueMask(e.u32(4), e.u32(8)))
	}
	if flags&hasDst != 0 {
		o.neg(flags&invDst != 0, "--dst-group %s", valueMask(e.u32(12), e.u32(16)))
	}
	return matchBody{opts: o.String()}, true
}

// decodeRPFilter reads struct xt_rpfilter_info (xt_rpfilter.h).
func decodeRPFilter(e ext) (matchBody, bool) {
	const (
		loose = 1 << iota
		validMark
		acceptLocal
		invert
	)
	flags := e.u8(0)
	var o options
	o.flag(flags&loose != 0, "--loose")
	o.flag(flags&validMark != 0, "--validmark")
	o.flag(flags&acceptLocal != 0, "--accept-local")
	o.flag(flags&invert != 0, "--invert")
	return matchBody{opts: o.String(), eval: func(p *packet.Packet) packet.Answer {
		if p.World == nil {
			return packet.Unknown
		}
		a := p.World.ReversePath(p, flags&loose != 0, flags&validMark != 0)
		if a == packet.No && flags&acceptLocal != 0 {
			a = packet.Unknown // the source may be an own address, which passes here
		}
		return flip(a, flags&invert != 0)
	}}, true
}
