// SPDX-License-Identifier: Apache-2.0

package nft

// This file finishes and writes the statements that do something.

import (
	"fmt"
	"math/big"
	"strings"
)

// plainText is a statement whose text depends on nothing else.
type plainText string

func (s plainText) finish(*deducer)       {}
func (s plainText) write(*printer) string { return string(s) }

// actionText writes the expressions that stand for themselves.
func actionText(e Expr) (string, bool) {
	switch e := e.(type) {
	case Counter:
		return "counter", true
	case Last:
		return "last", true
	case Limit:
		return limitText(e), true
	case Quota:
		amount, unit := inUnits(e.Bytes)
		return fmt.Sprintf("quota %s%d %s", over(e.Over), amount, unit), true
	case Connlimit:
		return fmt.Sprintf("ct count %s%d", over(e.Over), e.Count), true
	case Log:
		return logText(e), true
	case Notrack:
		return "notrack", true
	case Synproxy:
		return synproxyText(e), true
	case FlowOffload:
		return "flow add @" + e.Table, true
	}
	return "", false
}

func over(yes bool) string {
	if yes {
		return "over "
	}
	return ""
}

// inUnits writes bytes in the largest unit that divides them.
func inUnits(n uint64) (uint64, string) {
	units := []string{"bytes", "kbytes", "mbytes"}
	i := 0
	for ; n != 0 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return n, units[i]
}

// limitText writes a limit. A burst of 5 packets is what a limit has when none
// is given.
func limitText(e Limit) string {
	unit := map[uint64]string{1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}[e.Unit]
	if unit == "" {
		unit = "error"
	}
	if !e.Bytes {
		text := fmt.Sprintf("limit rate %s%d/%s", over(e.Over), e.Rate, unit)
		if e.Burst > 0 && e.Burst != 5 {
			text += fmt.Sprintf(" burst %d packets", e.Burst)
		}
		return text
	}
	rate, scale := inUnits(e.Rate)
	text := fmt.Sprintf("limit rate %s%d %s/%s", over(e.Over), rate, scale, unit)
	if e.Burst > 0 {
		burst, scale := inUnits(uint64(e.Burst))
		text += fmt.Sprintf(" burst %d %s", burst, scale)
	}
	return text
}

// Flags of a log (linux/netfilter/nf_log.h) and levels (linux/kern_levels.h).
const (
	logTCPSeq    = 0x01
	logTCPOpt    = 0x02
	logIPOpt     = 0x04
	logUID       = 0x08
	logMACDecode = 0x20
	logAll       = 0x2f // NF_LOG_MASK
	logWarning   = 4
)

func logText(e Log) string {
	text := "log"
	if e.Prefix != nil {
		text += " prefix " + quote(*e.Prefix)
	}
	if e.Group != nil {
		text += fmt.Sprintf(" group %d", *e.Group)
	}
	if e.SnapLen != nil {
		text += fmt.Sprintf(" snaplen %d", *e.SnapLen)
	}
	if e.QueueThreshold != nil {
		text += fmt.Sprintf(" queue-threshold %d", *e.QueueThreshold)
	}
	if e.Level != nil && *e.Level != logWarning {
		levels := []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"}
		level := "unknown"
		if int(*e.Level) < len(levels) {
			level = levels[*e.Level]
		}
		text += " level " + level
	}
	return text + logFlags(e.Flags)
}

func logFlags(flags uint32) string {
	if flags&logAll == logAll {
		return " flags all"
	}
	var text string
	switch flags & (logTCPSeq | logTCPOpt) {
	case logTCPSeq:
		text += " flags tcp sequence"
	case logTCPOpt:
		text += " flags tcp options"
	case logTCPSeq | logTCPOpt:
		text += " flags tcp sequence,options"
	}
	if flags&logIPOpt != 0 {
		text += " flags ip options"
	}
	if flags&logUID != 0 {
		text += " flags skuid"
	}
	if flags&logMACDecode != 0 {
		text += " flags ether"
	}
	return text
}

// synproxyText: flags of linux/netfilter/nf_synproxy.h.
func synproxyText(e Synproxy) string {
	const mss, wscale, sackPerm, timestamp = 0x01, 0x02, 0x04, 0x08
	text := "synproxy"
	if e.Flags&mss != 0 {
		text += fmt.Sprintf(" mss %d", e.MSS)
	}
	if e.Flags&wscale != 0 {
		text += fmt.Sprintf(" wscale %d", e.Wscale)
	}
	if e.Flags&timestamp != 0 {
		text += " timestamp"
	}
	if e.Flags&sackPerm != 0 {
		text += " sack-perm"
	}
	return text
}

// objectWords are the words before an object's name (NFT_OBJECT_*).
func objectWords(kind uint32) string {
	switch kind {
	case 1:
		return "counter name "
	case 2:
		return "quota name "
	case 3:
		return "ct helper set "
	case 4:
		return "limit name "
	case 7:
		return "ct timeout set "
	case 8:
		return "meta secmark set "
	case 9:
		return "ct expectation set "
	case 10:
		return "synproxy name "
	}
	return "unknown name "
}

// verdictStatement decides.
type verdictStatement struct{ verdict Verdict }

func (s verdictStatement) finish(*deducer) {}

// maxInline bounds anonymous chains in anonymous chains (NFT_JUMP_STACK_SIZE).
const maxInline = 16

func (s verdictStatement) write(p *printer) string {
	if c := p.table.Chain(s.verdict.Chain); c != nil && c.Binding && p.depth < maxInline {
		p.depth++
		var rules []string
		for _, r := range c.Rules {
			rules = append(rules, strings.Join(p.statements(r), " "))
		}
		p.depth--
		word, _, _ := strings.Cut(s.verdict.String(), " ")
		return word + " { " + strings.Join(rules, "; ") + " }"
	}
	return s.verdict.String()
}

// assignStatement sets something to a value; or, with words, names an object by
// a map.
type assignStatement struct {
	target string
	option *node // an option's field instead
	words  string
	value  *node
	events bool
}

func (s *assignStatement) finish(d *deducer) { s.value = d.resolve(s.value) }

func (s *assignStatement) write(p *printer) string {
	value := p.node(s.value)
	switch {
	case s.words != "":
		return s.words + value
	case s.events && s.value.kind == nodeValue:
		value = p.flags(s.value, ",")
	}
	if s.option != nil {
		return optionText(s.option) + " set " + value
	}
	return s.target + " set " + value
}

// stripStatement removes a TCP option.
type stripStatement struct{ option *node }

func (s *stripStatement) finish(*deducer)       {}
func (s *stripStatement) write(*printer) string { return "reset " + optionText(s.option) }

// payloadStatement writes to the packet.
type payloadStatement struct{ target, value *node }

func (s *payloadStatement) finish(d *deducer) {
	s.target = d.resolve(s.target)
	s.value.setType(s.target.typ, s.target.order)
	if s.target.field == nil {
		s.narrow(d)
	}
	s.value = d.resolve(s.value)
}

// narrow finds the field that is no whole byte: the kernel writes whole ones, so
// that what lies around it is loaded first and kept by a mask.
func (s *payloadStatement) narrow(d *deducer) {
	v := s.value
	if v.kind != nodeBinary {
		return
	}
	mask := new(big.Int)
	var set *big.Int
	switch {
	case v.op == opOr && v.left.kind == nodeBinary && v.left.op == opAnd && isConstant(v.right, v.left.right):
		mask.Xor(ones(v.left.bits), v.left.right.num)
		mask.Xor(mask, v.right.num)
		set, v = v.right.num, v.left
	case v.op == opAnd && v.left.kind == nodePayload && isConstant(v.right):
		mask.Xor(ones(v.bits), v.right.num)
		set = new(big.Int)
	case v.op == opOr && v.left.kind == nodePayload && isConstant(v.right):
		mask, set = v.right.num, v.right.num
	default:
		return
	}
	if v.left.kind != nodePayload || v.left.offset != s.target.offset || v.left.bits != s.target.bits {
		return
	}
	bin := &node{kind: nodeBinary, op: opAnd, left: v.left.clone(), right: &node{kind: nodeValue, typ: typeInvalid, num: mask, bits: s.target.bits}}
	field, shift, ok := d.trim(bin)
	if !ok {
		return
	}
	d.complete(field)
	if field.field == nil {
		return
	}
	d.imply(field)
	s.target = field
	s.value = &node{kind: nodeValue, typ: field.typ, num: new(big.Int).Rsh(set, shift), bits: field.bits}
}

func isConstant(list ...*node) bool {
	for _, n := range list {
		if n.kind != nodeValue {
			return false
		}
	}
	return true
}

func (s *payloadStatement) write(p *printer) string {
	return p.node(s.target) + " set " + p.node(s.value)
}

// rejectStatement answers and drops.
type rejectStatement struct {
	reject Reject
	family uint8 // NFPROTO_IPV4, NFPROTO_IPV6, 0 unknown
	full   bool  // the code is written also when it is the usual one
}

func (s *rejectStatement) finish(d *deducer) {
	switch d.family {
	case FamilyIP, FamilyIP6:
		s.family = protoIPv4
		if d.family == FamilyIP6 {
			s.family = protoIPv6
		}
		if s.reject.Type == RejectTCPReset {
			d.deps.release(baseTransport)
		}
		return
	}
	if s.reject.Type == RejectICMPX {
		return
	}
	s.full = true
	switch d.layers[baseNetwork] {
	case protoIP:
		s.family = protoIPv4
	case protoIP6:
		s.family = protoIPv6
	}
	d.deps.release(baseNetwork)
}

func (s *rejectStatement) write(p *printer) string {
	code := new(big.Int).SetUint64(uint64(s.reject.Code))
	const icmpPort, icmp6Port, icmpxPort = 3, 4, 1
	switch {
	case s.reject.Type == RejectTCPReset:
		return "reject with tcp reset"
	case s.reject.Type == RejectICMPX && s.reject.Code != icmpxPort:
		return "reject with icmpx " + p.number(typeICMPXCode, code, 8)
	case s.reject.Type == RejectICMP && s.family == protoIPv4 && (s.full || s.reject.Code != icmpPort):
		return "reject with icmp " + p.number(typeICMPCode, code, 8)
	case s.reject.Type == RejectICMP && s.family == protoIPv6 && (s.full || s.reject.Code != icmp6Port):
		return "reject with icmpv6 " + p.number(typeICMP6Code, code, 8)
	}
	return "reject"
}
