// SPDX-License-Identifier: Apache-2.0

package infer

// This file asks the kernel by which policy rules it looks routes up
// (RTM_GETRULE), to know when a look-up of ours is the one that netfilter makes.

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// policy is what the policy routing rules of a family mean for look-ups made by
// netlink, which cannot say all that netfilter's own look-ups say.
type policy struct {
	// same: no rule looks at what our question cannot carry (protocol, ports, the
	// interface a packet comes in by, ...), so that both meet the same rules.
	same bool
	// source: some rule looks at the source address.
	source bool
	// localFirst: the local table is the first one asked for a packet without mark.
	localFirst bool
	// plain: the rules a kernel starts with (local, main and, for IPv4, default) and
	// no others.
	plain bool
}

// Attributes and action of a policy rule (include/uapi/linux/fib_rules.h).
const (
	fraDst, fraSrc, fraGoto, fraPriority               = 1, 2, 4, 6
	fraFwmark, fraFlow, fraTunID, fraSuppressIf        = 10, 11, 12, 13
	fraSuppressLen, fraTable, fraFwmask, fraOif        = 14, 15, 16, 17
	fraPad, fraL3mdev, fraProtocol                     = 18, 19, 21
	ruleHeader, ruleDstLen, ruleSrcLen, ruleTOS        = 12, 1, 2, 3 // struct fib_rule_hdr
	ruleAction, ruleFlags, ruleInvert, toTable         = 7, 8, 0x2, 1
	suppressNothing                                    = 0xffffffff
	startRules4, startRules6                           = 3, 2
	defaultMask                                 uint32 = 0xffffffff
)

// policyRule is one rule, as far as it matters here.
type policyRule struct {
	source    bool // looks at the source address
	strange   bool // looks at something that our question does not carry
	selects   bool // looks at anything at all
	markOnly  bool // looks at the mark and nothing else
	mark      uint32
	mask      uint32
	masked    bool // has a mask; without a mark it asks for one of zero
	l3mdev    bool
	inverted  bool
	lookup    bool // leads to a table
	table     uint32
	forgiving bool // may pass over a route it found (suppress)
}

// readPolicy reads the rules of AF_INET or AF_INET6.
func readPolicy(family int) (policy, error) {
	var msgs [][]byte
	err := error(netlink.ErrDumpInterrupted)
	for n := 0; n < dumpTries && errors.Is(err, netlink.ErrDumpInterrupted); n++ {
		req := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
		msgs, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	}
	if err != nil {
		return policy{}, fmt.Errorf("list policy routing rules: %w", err)
	}
	rules := make([]policyRule, 0, len(msgs))
	for _, m := range msgs {
		r, err := parseRule(m)
		if err != nil {
			return policy{}, fmt.Errorf("policy routing rule: %w", err)
		}
		rules = append(rules, r)
	}
	return meaning(rules, family), nil
}

// dumpTries bounds how often an interrupted list is asked for again.
const dumpTries = 5

// parseRule reads struct fib_rule_hdr and its attributes.
func parseRule(msg []byte) (policyRule, error) {
	if len(msg) < ruleHeader {
		return policyRule{}, errShort
	}
	r := policyRule{
		inverted: binary.NativeEndian.Uint32(msg[ruleFlags:])&ruleInvert != 0,
		lookup:   msg[ruleAction] == toTable,
		strange:  msg[ruleTOS] != 0,
		source:   msg[ruleSrcLen] != 0,
		selects:  msg[ruleDstLen] != 0 || msg[ruleSrcLen] != 0,
		mask:     defaultMask,
	}
	attrs, err := nl.ParseRouteAttr(msg[ruleHeader:])
	if err != nil {
		return policyRule{}, err
	}
	for _, a := range attrs {
		r.attribute(a.Attr.Type, a.Value)
	}
	r.markOnly = r.mark != 0 && !r.selects && !r.strange
	r.selects = r.selects || r.strange || r.mark != 0 || r.masked || r.l3mdev
	return r, nil
}

// attribute takes one attribute. What is not known is strange.
func (r *policyRule) attribute(kind uint16, value []byte) {
	var number uint32
	if len(value) >= 4 {
		number = binary.NativeEndian.Uint32(value)
	}
	switch kind {
	case fraPriority, fraFlow, fraPad, fraProtocol, fraGoto: // say nothing about the packet
	case fraDst, fraSrc, fraOif, fraTunID:
		r.selects = true
	case fraFwmark:
		r.mark = number
	case fraFwmask:
		r.mask, r.masked = number, number != 0
	case fraL3mdev:
		r.l3mdev = true
	case fraTable:
		r.table = number
	case fraSuppressLen, fraSuppressIf:
		r.forgiving = r.forgiving || number != suppressNothing
	default:
		r.strange = true
	}
}

// meaning sums the rules up.
func meaning(rules []policyRule, family int) policy {
	p := policy{same: true, plain: true}
	for _, r := range rules {
		p.same = p.same && !r.strange
		p.source = p.source || r.source
		p.plain = p.plain && !r.selects && r.lookup && !r.forgiving
	}
	start := startRules4
	if family == unix.AF_INET6 {
		start = startRules6
	}
	p.plain = p.plain && len(rules) == start
	for _, r := range rules {
		switch {
		case r.l3mdev, r.markOnly && !r.inverted && r.mark&r.mask != 0:
			continue // not for a packet without mark that is in no VRF
		case !r.selects && r.lookup && !r.forgiving && !r.inverted && r.table == unix.RT_TABLE_LOCAL:
			p.localFirst = true
		}
		break
	}
	return p
}
