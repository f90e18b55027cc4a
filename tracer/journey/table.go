// SPDX-License-Identifier: Apache-2.0

package journey

// What hangs at a netfilter hook and may decide over a packet.

import "strings"

// Table is one thing that hangs at a netfilter hook; told of a death that it may
// be guilty of, it is a model.Candidate.
type Table struct {
	Backend  string // legacy, nft; "" for conntrack, NAT core and the like
	Family   string
	Table    string
	Chain    string
	Function string
}

// IsConntrack tells the hook that looks a packet's connection up: ipv4_conntrack_in,
// ipv4_conntrack_local and their IPv6 twins (net/netfilter/nf_conntrack_proto.c).
// A packet that passed it without an entry is what rules call INVALID. One that
// is only assumed to be there proves nothing, unless others got their entries.
func (h Table) IsConntrack(seen bool) bool {
	if h.Function == AssumedConntrack {
		return seen
	}
	return strings.HasSuffix(h.Function, "_conntrack_in") || strings.HasSuffix(h.Function, "_conntrack_local")
}

// AssumedConntrack names a conntrack hook that nobody listed.
const AssumedConntrack = "nf_conntrack_in"

// LastBracket is event.index of pass_last, the link behind all tables of a hook:
// its number + 1 (bpf/tracepoint.bpf.c).
const LastBracket = 32
