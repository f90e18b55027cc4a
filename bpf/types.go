// SPDX-License-Identifier: Apache-2.0

package bpf

// The types shared with the kernel half, under the names event.h and state.h
// give them. Both objects are compiled from the same headers, so one set of
// generated types serves both.
type (
	Actor        = NodeActor
	AgentName    = NodeAgentName
	BracketKey   = TracepointBracketKey
	Carrier      = FentryCarrier
	BracketTable = TracepointBracketTable
	Change       = NodeChange
	Counters     = FentryCounters
	End          = FentryEnd
	EndKey       = FentryEndKey
	Event        = FentryEvent
	EventCt      = FentryEventCt
	EventDrop    = FentryEventDrop
	EventModule  = FentryEventModule
	EventNeigh   = FentryEventNeigh
	EventRoute   = FentryEventRoute
	EventTable   = FentryEventTable
	RuleMatch    = FentryRuleMatch
	NodeCounters = NodeNodeCounters
	MapKey       = FentryMapKey
	Filter       = FentryFilter
	Frame        = FentryFrame
	Fn           = FentryFn
	Kind         = FentryKind
	Looked       = FentryLooked
	Prefix       = FentryPrefix
	Tracked      = FentryTracked
	Tunnel       = FentryTunnel
	Tuple        = FentryTuple
)

// Kinds of events: enum kind of event.h.
const (
	KindTransmit  = uint8(FentryKindKIND_TRANSMIT)
	KindReceive   = uint8(FentryKindKIND_RECEIVE)
	KindBridge    = uint8(FentryKindKIND_BRIDGE)
	KindHook      = uint8(FentryKindKIND_HOOK)
	KindTable     = uint8(FentryKindKIND_TABLE)
	KindPass      = uint8(FentryKindKIND_PASS)
	KindConntrack = uint8(FentryKindKIND_CONNTRACK)
	KindRoute     = uint8(FentryKindKIND_ROUTE)
	KindFib       = uint8(FentryKindKIND_FIB)
	KindRPFilter  = uint8(FentryKindKIND_RPFILTER)
	KindForward   = uint8(FentryKindKIND_FORWARD)
	KindNeigh     = uint8(FentryKindKIND_NEIGH)
	KindEncap     = uint8(FentryKindKIND_ENCAP)
	KindDecap     = uint8(FentryKindKIND_DECAP)
	KindQdisc     = uint8(FentryKindKIND_QDISC)
	KindDeliver   = uint8(FentryKindKIND_DELIVER)
	KindAnswer    = uint8(FentryKindKIND_ANSWER)
	KindDrop      = uint8(FentryKindKIND_DROP)
	KindEnd       = uint8(FentryKindKIND_END)
	KindModule    = uint8(FentryKindKIND_MODULE)
)

// Flags of an event: enum event_flag of event.h.
const (
	FlagTentative = uint8(FentryEventFlagFLAG_TENTATIVE)
	FlagNew       = uint8(FentryEventFlagFLAG_NEW)
	FlagCopy      = uint8(FentryEventFlagFLAG_COPY)
	FlagEncap     = uint8(FentryEventFlagFLAG_ENCAP)
	FlagFragment  = uint8(FentryEventFlagFLAG_FRAGMENT)
	FlagICMPError = uint8(FentryEventFlagFLAG_ICMP_ERROR)
	FlagLost      = uint8(FentryEventFlagFLAG_LOST)
	FlagOrigin    = uint8(FentryEventFlagFLAG_ORIGIN)
)

// Kinds of tunnels: enum tunnel_kind of event.h.
const (
	TunnelVXLAN     = uint8(FentryTunnelKindTUNNEL_VXLAN)
	TunnelGeneve    = uint8(FentryTunnelKindTUNNEL_GENEVE)
	TunnelGRE       = uint8(FentryTunnelKindTUNNEL_GRE)
	TunnelIPv4      = uint8(FentryTunnelKindTUNNEL_IPV4)
	TunnelIPv6      = uint8(FentryTunnelKindTUNNEL_IPV6)
	TunnelWireGuard = uint8(FentryTunnelKindTUNNEL_WIREGUARD)
)

// What is known of the rules that matched: enum rules_flag of event.h.
const (
	RulesSeen     = uint8(FentryRulesFlagRULES_SEEN)
	RulesMixed    = uint8(FentryRulesFlagRULES_MIXED)
	RulesReplaced = uint8(FentryRulesFlagRULES_REPLACED)
	RulesTooMany  = uint8(FentryRulesFlagRULES_TOO_MANY)
	RulesTooLarge = uint8(FentryRulesFlagRULES_TOO_LARGE)
	RulesLate     = uint8(FentryRulesFlagRULES_LATE)
)

// Ends that an address belongs to: enum end_of of event.h.
const (
	EndSrc = uint32(FentryEndOfEND_SRC)
	EndDst = uint32(FentryEndOfEND_DST)
)

// Directions of an event: enum dir of event.h.
const (
	DirForward = uint8(FentryDirDIR_FORWARD)
	DirReturn  = uint8(FentryDirDIR_RETURN)
)

// Flags of an entry of the skbs map: enum tracked_flag of state.h.
const (
	TrackedTentative = uint8(FentryTrackedFlagTRACKED_TENTATIVE)
	TrackedDelivered = uint8(FentryTrackedFlagTRACKED_DELIVERED)
)

// Changes of the node: enum change_kind of node.h.
const (
	ChangeLink   = uint8(NodeChangeKindCHANGE_LINK)
	ChangeRoute  = uint8(NodeChangeKindCHANGE_ROUTE)
	ChangeTable  = uint8(NodeChangeKindCHANGE_TABLE)
	ChangeSysctl = uint8(NodeChangeKindCHANGE_SYSCTL)
	ChangeSignal = uint8(NodeChangeKindCHANGE_SIGNAL)
	ChangeExit   = uint8(NodeChangeKindCHANGE_EXIT)
)
