// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file reads what a rule does: verdicts, xtables targets, and the few
// native expressions that iptables writes for targets of its own. Its limit is
// here as well: it is a match, but one without a test.
//
// Native masq, nat, redir, reject, and log without a group are not here: no
// iptables up to 1.8.11 writes or reads them, iptables-nft-save says of such a
// table that it is incompatible. Nobody but nft has a line for those rules.

import (
	"encoding/binary"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/xt"
)

// actions are the expressions that do something, by the kernel's name. Never
// written to after start.
var actions = map[string]func(*line, nft.Expr) bool{
	"immediate": readImmediate,
	"target":    readTarget,
	"log":       readLog,
	"limit":     readLimit,
}

// readImmediate reads a verdict, or loads a value to set something to.
func readImmediate(l *line, e nft.Expr) bool {
	i, ok := e.(nft.Immediate)
	if !ok {
		return false
	}
	if i.Dst != nft.RegVerdict {
		return l.load(i.Dst, uint32(len(i.Data)), i)
	}
	v := i.Verdict
	switch v.Code {
	case nft.VerdictAccept:
		l.target = "-j ACCEPT"
	case nft.VerdictDrop:
		l.target = "-j DROP"
	case nft.VerdictReturn:
		l.target = "-j RETURN"
	case nft.VerdictJump:
		l.target = "-j " + v.Chain
	case nft.VerdictGoto:
		l.target = "-g " + v.Chain
	}
	if c := l.table.Chain(v.Chain); c != nil && c.Binding {
		return false // written inline, which iptables cannot
	}
	return l.target != ""
}

// readTarget reads an xtables target.
func readTarget(l *line, e nft.Expr) bool {
	t, ok := e.(nft.Target)
	if !ok || t.Rev > 0xff {
		return false
	}
	l.become(t.Name, uint8(t.Rev), t.Info)
	return true
}

// become makes an xtables target the rule's.
func (l *line) become(name string, revision uint8, blob []byte) {
	l.target = xt.DecodeTarget(l.ctx, name, revision, blob).Text()
}

// set reads what a register is written to: the packet's mark, or that it is
// traced.
func (l *line) set(e nft.Meta) bool {
	if e.Src >= slots {
		return false
	}
	v := l.regs[e.Src]
	i, ok := v.source.(nft.Immediate)
	if !ok || v.mask != nil {
		return false
	}
	switch {
	case e.Key == nft.MetaNftrace && len(i.Data) > 0 && i.Data[0] != 0:
		l.become("TRACE", 0, nil)
	case e.Key == nft.MetaMark && len(i.Data) == 4:
		// struct xt_mark_tginfo2 (xt_mark.h): mark, mask.
		l.become("MARK", 2, append(append([]byte{}, i.Data...), 0xff, 0xff, 0xff, 0xff))
	default:
		return false
	}
	return true
}

// readLog reads NFLOG, as struct xt_nflog_info (xt_NFLOG.h): len, group,
// threshold, flags, pad, prefix. The prefix is put in afterwards: nft's may be
// twice as long as the struct has room for.
func readLog(l *line, e nft.Expr) bool {
	const size, withSize = 76, 1
	log, ok := e.(nft.Log)
	if !ok || log.Group == nil || log.Level != nil || log.Flags != 0 {
		return false
	}
	blob := make([]byte, size)
	binary.NativeEndian.PutUint16(blob[4:], *log.Group)
	if log.SnapLen != nil {
		binary.NativeEndian.PutUint32(blob, *log.SnapLen)
		binary.NativeEndian.PutUint16(blob[8:], withSize)
	}
	if log.QueueThreshold != nil {
		binary.NativeEndian.PutUint16(blob[6:], *log.QueueThreshold)
	}
	l.become("NFLOG", 0, blob)
	if log.Prefix != nil && *log.Prefix != "" {
		const name = "-j NFLOG"
		l.target = name + " --nflog-prefix " + quoted(*log.Prefix) + strings.TrimPrefix(l.target, name)
	}
	return true
}

// readLimit reads struct xt_rateinfo (xt_limit.h): avg, the time between two
// packets in 1/10000 s, and burst; the rest is the kernel's. The rarest that can
// be told is once a day.
func readLimit(l *line, e nft.Expr) bool {
	const size, scale, day, week = 40, 10000, 24 * 60 * 60, 7 * 24 * 60 * 60
	limit, ok := e.(nft.Limit)
	if !ok || limit.Bytes || limit.Over || limit.Rate == 0 || limit.Unit > week {
		return false
	}
	avg := scale * limit.Unit / limit.Rate
	if avg > scale*day {
		return false
	}
	blob := make([]byte, size)
	binary.NativeEndian.PutUint32(blob, uint32(avg))
	binary.NativeEndian.PutUint32(blob[4:], limit.Burst)
	l.add(match{name: "limit", blob: blob})
	return true
}
