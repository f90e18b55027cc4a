// SPDX-License-Identifier: Apache-2.0

package xt

// Targets that change the packet's headers or what the node does with it next,
// and let it walk on: TOS, DSCP, ECN, TTL, HL, TCPMSS, TCPOPTSTRIP, CHECKSUM,
// CLASSIFY, TEE.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// decodeTOSTarget0 reads struct ipt_tos_target_info: u8 tos.
func decodeTOSTarget0(e ext) (targetBody, bool) {
	return targetBody{opts: fmt.Sprintf(" --set-tos 0x%02x", e.u8(0)), apply: setTOS(e.u8(0), 0xff)}, true
}

// decodeTOSTarget reads struct xt_tos_target_info (xt_DSCP.h): the bits of the
// mask are zeroed and the value is XORed in.
func decodeTOSTarget(e ext) (targetBody, bool) {
	tos, mask := e.u8(0), e.u8(1)
	return targetBody{opts: fmt.Sprintf(" --set-tos 0x%02x/0x%02x", tos, mask), apply: setTOS(tos, mask)}, true
}

// decodeDSCPTarget reads struct xt_DSCP_info (xt_DSCP.h).
func decodeDSCPTarget(e ext) (targetBody, bool) {
	return targetBody{opts: fmt.Sprintf(" --set-dscp 0x%02x", e.u8(0)), apply: setTOS(e.u8(0)<<2, 0xfc)}, true
}

func setTOS(tos, mask uint8) func(*packet.Packet) {
	return func(p *packet.Packet) {
		if p.TOS.Known || mask == 0xff {
			p.TOS = packet.Known(p.TOS.Value&^mask ^ tos)
		}
	}
}

// decodeECNTarget reads struct ipt_ECN_info (ipt_ECN.h): operations, the ECT code
// point, and the TCP bits to set, ECE in bit 0 and CWR in bit 1.
func decodeECNTarget(e ext) (targetBody, bool) {
	const (
		setIP  = 0x01
		setECE = 0x10
		setCWR = 0x20
	)
	ops, ect, ece, cwr := e.u8(0), e.u8(1), e.u8(2)&1, e.u8(2)>>1&1
	var o options
	if ops == setECE|setCWR && ece == 0 && cwr == 0 {
		o.add("--ecn-tcp-remove")
	} else {
		for _, op := range []struct {
			bit    uint8
			option string
			value  uint8
		}{{setECE, "--ecn-tcp-ece", ece}, {setCWR, "--ecn-tcp-cwr", cwr}, {setIP, "--ecn-ip-ect", ect}} {
			if ops&op.bit != 0 {
				o.add("%s %d", op.option, op.value)
			}
		}
	}
	return targetBody{opts: o.String(), apply: func(p *packet.Packet) {
		if ops&setIP != 0 {
			setTOS(ect&3, 3)(p)
		}
		if !p.TCPFlags.Known {
			return
		}
		if ops&setECE != 0 {
			p.TCPFlags.Value = p.TCPFlags.Value&^tcpECE | ece*tcpECE
		}
		if ops&setCWR != 0 {
			p.TCPFlags.Value = p.TCPFlags.Value&^tcpCWR | cwr*tcpCWR
		}
	}}, true
}

// decodeTTLTarget reads struct ipt_TTL_info (ipt_TTL.h).
func decodeTTLTarget(e ext) (targetBody, bool) { return decodeHopsTarget(e, "--ttl") }

// decodeHLTarget reads struct ip6t_HL_info (ip6t_HL.h).
func decodeHLTarget(e ext) (targetBody, bool) { return decodeHopsTarget(e, "--hl") }

// decodeHopsTarget reads mode (set, increment, decrement) and hops; the result
// stays within 0 and 255 (net/netfilter/xt_HL.c).
func decodeHopsTarget(e ext, option string) (targetBody, bool) {
	mode, hops := e.u8(0), e.u8(1)
	verb, ok := nameOf(mode, []string{"set", "inc", "dec"})
	if !ok {
		return targetBody{}, false
	}
	return targetBody{opts: fmt.Sprintf(" %s-%s %d", option, verb, hops), apply: func(p *packet.Packet) {
		switch {
		case mode == 0:
			p.TTL = packet.Known(hops)
		case p.TTL.Known && mode == 1:
			p.TTL.Value = uint8(min(int(p.TTL.Value)+int(hops), 255))
		case p.TTL.Known:
			p.TTL.Value = uint8(max(int(p.TTL.Value)-int(hops), 0))
		}
	}}, true
}

// decodeTCPMSS reads struct xt_tcpmss_info (xt_TCPMSS.h): u16 mss, of which all
// ones clamps to the path MTU.
func decodeTCPMSS(e ext) (targetBody, bool) {
	if e.u16(0) == 0xffff {
		return targetBody{opts: " --clamp-mss-to-pmtu"}, true
	}
	return targetBody{opts: fmt.Sprintf(" --set-mss %d", e.u16(0))}, true
}

// decodeTCPOPTSTRIP reads struct xt_tcpoptstrip_target_info (xt_TCPOPTSTRIP.h): a
// map of 256 options.
func decodeTCPOPTSTRIP(e ext) (targetBody, bool) {
	var list []string
	for i := 0; i < 256; i++ {
		if e.u32(i/32*4)&(1<<(i%32)) != 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	if len(list) == 0 {
		return targetBody{}, true
	}
	return targetBody{opts: " --strip-options " + strings.Join(list, ",")}, true
}

// decodeCHECKSUM reads struct xt_CHECKSUM_info (xt_CHECKSUM.h).
func decodeCHECKSUM(e ext) (targetBody, bool) {
	var o options
	o.flag(e.u8(0)&1 != 0, "--checksum-fill")
	return targetBody{opts: o.String()}, true
}

// decodeCLASSIFY reads struct xt_classify_target_info (xt_CLASSIFY.h): a traffic
// control handle, major and minor.
func decodeCLASSIFY(e ext) (targetBody, bool) {
	class := e.u32(0)
	return targetBody{opts: fmt.Sprintf(" --set-class %04x:%04x", class>>16, class&0xffff)}, true
}

// decodeTEE reads struct xt_tee_tginfo (xt_TEE.h). The copy goes its own way, the
// packet walks on.
func decodeTEE(e ext) (targetBody, bool) {
	if !e.addressed() {
		return targetBody{}, false
	}
	var o options
	o.add("--gateway %s", addrText(e.addr(0)))
	if oif := e.str(16, nameSize); oif != "" {
		o.add("--oif %s", oif)
	}
	return targetBody{opts: o.String()}, true
}
