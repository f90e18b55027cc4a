// SPDX-License-Identifier: Apache-2.0

package nft

// This file names the expressions as the kernel does, and verdicts as nft does.

import "fmt"

// The kernel's names.
func (Payload) Kind() string     { return "payload" }
func (Meta) Kind() string        { return "meta" }
func (CT) Kind() string          { return "ct" }
func (Cmp) Kind() string         { return "cmp" }
func (Range) Kind() string       { return "range" }
func (Bitwise) Kind() string     { return "bitwise" }
func (Byteorder) Kind() string   { return "byteorder" }
func (Lookup) Kind() string      { return "lookup" }
func (Immediate) Kind() string   { return "immediate" }
func (Reject) Kind() string      { return "reject" }
func (Limit) Kind() string       { return "limit" }
func (Log) Kind() string         { return "log" }
func (Counter) Kind() string     { return "counter" }
func (Last) Kind() string        { return "last" }
func (Quota) Kind() string       { return "quota" }
func (Connlimit) Kind() string   { return "connlimit" }
func (FIB) Kind() string         { return "fib" }
func (RT) Kind() string          { return "rt" }
func (Socket) Kind() string      { return "socket" }
func (Exthdr) Kind() string      { return "exthdr" }
func (Numgen) Kind() string      { return "numgen" }
func (Hash) Kind() string        { return "hash" }
func (Notrack) Kind() string     { return "notrack" }
func (TProxy) Kind() string      { return "tproxy" }
func (Dup) Kind() string         { return "dup" }
func (Fwd) Kind() string         { return "fwd" }
func (Queue) Kind() string       { return "queue" }
func (Objref) Kind() string      { return "objref" }
func (Synproxy) Kind() string    { return "synproxy" }
func (Dynset) Kind() string      { return "dynset" }
func (Tunnel) Kind() string      { return "tunnel" }
func (OSF) Kind() string         { return "osf" }
func (XFRM) Kind() string        { return "xfrm" }
func (FlowOffload) Kind() string { return "flow_offload" }
func (Match) Kind() string       { return "match" }
func (Target) Kind() string      { return "target" }
func (o Opaque) Kind() string    { return o.Name }

// Kind is nat, masq or redir.
func (n NAT) Kind() string {
	switch n.Type {
	case NATMasquerade:
		return "masq"
	case NATRedirect:
		return "redir"
	}
	return "nat"
}

// String is the verdict as nft writes it.
func (v Verdict) String() string {
	switch v.Code {
	case VerdictContinue:
		return "continue"
	case VerdictBreak:
		return "break"
	case VerdictJump:
		return "jump " + v.Chain
	case VerdictGoto:
		return "goto " + v.Chain
	case VerdictReturn:
		return "return"
	}
	switch v.Code & verdictMask {
	case VerdictDrop:
		return "drop"
	case VerdictAccept:
		return "accept"
	case VerdictStolen:
		return "stolen"
	case VerdictQueue:
		return "queue"
	}
	return fmt.Sprintf("unknown verdict value %d", uint32(v.Code))
}

// verdictMask cuts the queue's number off a verdict (NF_VERDICT_MASK).
const verdictMask = 0xff
