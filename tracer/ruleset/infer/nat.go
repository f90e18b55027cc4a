// SPDX-License-Identifier: Apache-2.0

package infer

// This file tells whether a packet asked NAT rules at all (nf_nat_inet_fn(),
// net/netfilter/nf_nat_core.c): only the packet that begins a connection does,
// once for the source and once for the destination.

import (
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// Bits of a connection's status (enum ip_conntrack_status, include/uapi/linux/
// netfilter/nf_conntrack_common.h).
const (
	ipsConfirmed   = 1 << 3 // IPS_CONFIRMED
	ipsSourceDone  = 1 << 7 // IPS_SRC_NAT_DONE
	ipsDestination = 1 << 8 // IPS_DST_NAT_DONE
)

// asked tells whether a packet asked the target's rules; why says why not.
func asked(rules Rules, target Target, p *packet.Packet) (answer packet.Answer, why string) {
	if !rules.nat(target) {
		return packet.Yes, ""
	}
	state := p.CT.State
	if state.Known && state.Value != packet.StateNew && state.Value != packet.StateRelated {
		return packet.No, "the packet asked no NAT rule: its connection is " + state.Value
	}
	if !p.CT.Status.Known {
		return packet.Unknown, ""
	}
	done := uint32(ipsSourceDone)
	if p.Hook == "PREROUTING" || p.Hook == "OUTPUT" { // HOOK2MANIP
		done = ipsDestination
	}
	if p.CT.Status.Value&(done|ipsConfirmed) != 0 {
		return packet.No, "the packet asked no NAT rule: those of its connection are settled"
	}
	if !state.Known {
		return packet.Unknown, ""
	}
	return packet.Yes, ""
}
