// SPDX-License-Identifier: Apache-2.0

package node

// This file lists the rules of policy routing and the routes of a namespace, as
// netlink tells them. They are read here rather than by the library, which leaves
// out some of what a look-up depends on: l3mdev, the source of IPv6 routes, and
// whether there is an attribute that is not known.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Actions of a PolicyRule (FR_ACT_*, linux/fib_rules.h).
const (
	ActTable       = 1
	ActGoto        = 2
	ActNothing     = 3
	ActBlackhole   = 6
	ActUnreachable = 7
	ActProhibit    = 8
)

// Flags of a PolicyRule (FIB_RULE_*, linux/fib_rules.h).
const (
	RuleInvert      = 0x2  // applies to what does not match
	RuleUnresolved  = 0x4  // there is no rule where it jumps to
	RuleIIFDetached = 0x8  // there is no interface of that name: it matches nothing
	RuleOIFDetached = 0x10 // the same
)

// PolicyRule is a rule of policy routing, as `ip rule` lists it (struct
// fib_rule_hdr and FRA_*, linux/fib_rules.h).
type PolicyRule struct {
	Family   int    // AF_INET or AF_INET6
	Priority uint32 // they are asked in ascending order: the rule's preference
	Action   int    // ActTable, ...
	Table    uint32 // of ActTable; with L3MDev that of the VRF
	Goto     uint32 // of ActGoto: the priority to go on with
	Flags    uint32

	Src, Dst             netip.Prefix // not valid: all
	IIF, OIF             string       // "": any
	Mark, Mask           uint32       // Mask 0: any mark
	TOS                  uint8        // 0: any
	Proto                uint8        // 0: any
	SrcPorts, DstPorts   [2]uint16    // from, to; both 0: any
	SrcMask, DstMask     uint16       // 0: a range; else those bits of the port are asked, as SrcPorts[0] has them
	UIDs                 *[2]uint32   // from, to; nil: any
	L3MDev               bool         // applies to interfaces of a VRF, whose table it looks up
	SuppressPrefixLength int          // a route that short is not taken; -1: any is
	SuppressGroup        int          // a route by an interface of that group is not taken; -1: any is
	// Further are attributes that are set and not among these: what they ask is
	// not known.
	Further []uint16
}

// PolicyRules lists the rules of policy routing of a namespace, those of IPv4
// first, in the order in which the kernel asks them.
func (n *Namespaces) PolicyRules(inode uint32) (rules []PolicyRule, err error) {
	err = n.Do(inode, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			msgs, err := dumpOf(unix.RTM_GETRULE, unix.RTM_NEWRULE, family)
			if family == unix.AF_INET6 && errors.Is(err, unix.EAFNOSUPPORT) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return fmt.Errorf("list policy rules of address family %d: %w", family, err)
			}
			for _, m := range msgs {
				r, err := parseRule(m)
				if err != nil {
					return fmt.Errorf("policy rule: %w", err)
				}
				rules = append(rules, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Place(inode), err)
	}
	return rules, nil
}

// dumpOf lists what the calling thread's namespace has of a kind.
func dumpOf(ask int, answer uint16, family uint8) ([][]byte, error) {
	return dump(func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(ask, unix.NLM_F_DUMP)
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
		return req.Execute(unix.NETLINK_ROUTE, answer)
	})
}

// errShort: the kernel's answer is cut off.
var errShort = errors.New("the kernel's answer is too short")

// Attributes of rules that x/sys lacks (linux/fib_rules.h, 6.16).
const (
	fraDSCP      = 25
	fraSportMask = 28 // with each rule that asks for a port, from 6.15: all bits of one port, none of a range
	fraDportMask = 29
	fraDSCPMask  = 30

	wholeDSCP = 0x3f // mask of all its bits
)

// parseRule reads struct fib_rule_hdr and its attributes.
func parseRule(msg []byte) (PolicyRule, error) {
	if len(msg) < unix.SizeofRtMsg {
		return PolicyRule{}, errShort
	}
	r := PolicyRule{Family: int(msg[0]), TOS: msg[3], Table: uint32(msg[4]), Action: int(msg[7]), Flags: binary.NativeEndian.Uint32(msg[8:]),
		SuppressPrefixLength: -1, SuppressGroup: -1}
	attrs, err := nl.ParseRouteAttr(msg[unix.SizeofRtMsg:])
	if err != nil {
		return PolicyRule{}, err
	}
	for _, a := range attrs {
		if err := r.take(a.Attr.Type&^unix.NLA_F_NESTED, a.Value, msg[2], msg[1]); err != nil {
			return PolicyRule{}, err
		}
	}
	return r, nil
}

// take reads one attribute. Those that hold nothing a look-up asks are left out.
func (r *PolicyRule) take(kind uint16, value []byte, srcBits, dstBits uint8) error {
	var ok bool
	switch kind {
	case unix.FRA_SRC:
		r.Src, ok = prefixOf(value, srcBits)
	case unix.FRA_DST:
		r.Dst, ok = prefixOf(value, dstBits)
	case unix.FRA_IIFNAME:
		r.IIF, ok = unix.ByteSliceToString(value), true
	case unix.FRA_OIFNAME:
		r.OIF, ok = unix.ByteSliceToString(value), true
	case unix.FRA_GOTO:
		ok = number32(value, &r.Goto)
	case unix.FRA_PRIORITY:
		ok = number32(value, &r.Priority)
	case unix.FRA_FWMARK:
		ok = number32(value, &r.Mark)
	case unix.FRA_FWMASK:
		ok = number32(value, &r.Mask)
	case unix.FRA_TABLE:
		ok = number32(value, &r.Table)
	case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
		var n uint32
		if ok = number32(value, &n); kind == unix.FRA_SUPPRESS_PREFIXLEN {
			r.SuppressPrefixLength = int(int32(n))
		} else {
			r.SuppressGroup = int(int32(n))
		}
	case unix.FRA_L3MDEV:
		r.L3MDev, ok = len(value) > 0 && value[0] != 0, true
	case unix.FRA_IP_PROTO:
		if ok = len(value) > 0; ok {
			r.Proto = value[0]
		}
	case fraDSCP:
		if ok = len(value) > 0; ok {
			r.TOS = value[0] << 2
		}
		if r.TOS == 0 { // asks for 0, which is not any
			r.Further = append(r.Further, kind)
		}
	case fraDSCPMask:
		if ok = len(value) > 0; ok && value[0] != wholeDSCP {
			r.Further = append(r.Further, kind)
		}
	case unix.FRA_UID_RANGE:
		if ok = len(value) >= 8; ok {
			r.UIDs = &[2]uint32{binary.NativeEndian.Uint32(value), binary.NativeEndian.Uint32(value[4:])}
		}
	case unix.FRA_SPORT_RANGE:
		r.SrcPorts, ok = portsOf(value)
	case unix.FRA_DPORT_RANGE:
		r.DstPorts, ok = portsOf(value)
	case fraSportMask:
		ok = number16(value, &r.SrcMask)
	case fraDportMask:
		ok = number16(value, &r.DstMask)
	case unix.FRA_PROTOCOL, unix.FRA_FLOW, unix.FRA_PAD:
		ok = true
	default:
		r.Further, ok = append(r.Further, kind), true
	}
	if !ok {
		return fmt.Errorf("attribute %d: %w", kind, errShort)
	}
	return nil
}

func number32(value []byte, to *uint32) bool {
	if len(value) < 4 {
		return false
	}
	*to = binary.NativeEndian.Uint32(value)
	return true
}

func number16(value []byte, to *uint16) bool {
	if len(value) < 2 {
		return false
	}
	*to = binary.NativeEndian.Uint16(value)
	return true
}

func portsOf(value []byte) (ports [2]uint16, ok bool) {
	if len(value) < 4 {
		return ports, false
	}
	return [2]uint16{binary.NativeEndian.Uint16(value), binary.NativeEndian.Uint16(value[2:])}, true
}

func prefixOf(value []byte, bits uint8) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(value)
	p := netip.PrefixFrom(addr, int(bits))
	return p, ok && p.IsValid()
}

// DefaultRules are the rules that a namespace begins with (fib_default_rules_init,
// net/ipv4/fib_rules.c; fib6_rules_net_init, net/ipv6/fib6_rules.c).
func DefaultRules() []PolicyRule {
	var all []PolicyRule
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		tables := []uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}
		if family == unix.AF_INET6 {
			tables = tables[:2]
		}
		for i, table := range tables {
			priority := []uint32{0, 32766, 32767}[i]
			all = append(all, PolicyRule{Family: family, Priority: priority, Action: ActTable, Table: table, SuppressPrefixLength: -1, SuppressGroup: -1})
		}
	}
	return slices.Clip(all)
}
