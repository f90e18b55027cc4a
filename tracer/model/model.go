// SPDX-License-Identifier: Apache-2.0

// Package model holds what a trace is made of once the kernel's events have
// been understood: packets with their hops, the drop that ended one, changes
// of the node, findings and the summary. It is the contract between the
// tracer, which fills it, and every output, which prints it. It knows nothing
// of BPF, netlink or terminals.
//
// The JSON names are the interface users rely on (docs/json.md): fields may be
// added, none may change its meaning. A field that is absent is not known;
// nothing in here is ever guessed.
package model

import (
	"net/netip"
	"time"
)

// Direction of a packet as seen from the question asked: Forward runs from
// --src to --dst, Return the other way.
type Direction string

// The two directions.
const (
	Forward Direction = "forward"
	Return  Direction = "return"
)

// Outcome is the fate of one packet on this node.
type Outcome string

// Outcomes. Unknown means the end was not seen: never that it was fine.
const (
	Delivered Outcome = "delivered" // reached the socket layer of its receiver
	Dropped   Outcome = "dropped"   // died here, silently
	Rejected  Outcome = "rejected"  // died here, and the sender was told (RST or ICMP error)
	LeftNode  Outcome = "left-node" // was handed to a device that leads off this node
	Consumed  Outcome = "consumed"  // ended in good order in a place that is neither (a tap, a bridge, a raw socket)
	Unknown   Outcome = "unknown"   // its end was not seen
)

// Died tells whether the packet ended on this node against its sender's will.
func (o Outcome) Died() bool { return o == Dropped || o == Rejected }

// Stage is the part of the network stack a hop belongs to.
type Stage string

// Stages, in the rough order a packet takes them.
const (
	StageTransmit    Stage = "transmit"
	StageReceive     Stage = "receive"
	StageBridge      Stage = "bridge"
	StageNetfilter   Stage = "netfilter"
	StageConntrack   Stage = "conntrack"
	StageNAT         Stage = "nat"
	StageRoute       Stage = "route"
	StageForward     Stage = "forward"
	StageNeighbor    Stage = "neighbor"
	StageEncapsulate Stage = "encapsulate"
	StageDecapsulate Stage = "decapsulate"
	StageQdisc       Stage = "qdisc"
	StageDeliver     Stage = "deliver"
	StageAnswer      Stage = "answer" // the stack itself answered: a TCP reset or an ICMP error was sent
	StageDrop        Stage = "drop"
)

// Rule is one rule of a packet filter.
type Rule struct {
	Family  string `json:"family,omitempty"` // ip, ip6, inet, bridge, netdev
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Number  int    `json:"number,omitempty"` // from 1 within its chain; 0: the chain's policy, or not known
	Handle  uint64 `json:"handle,omitempty"` // nft only
	Text    string `json:"text,omitempty"`
	Comment string `json:"comment,omitempty"`
	Element string `json:"element,omitempty"` // of a verdict map or set the rule asked: the element that matched
	Meaning string `json:"meaning,omitempty"` // what the rule is for, in the words of the program that wrote it
	// Inferred: it only compares, which the kernel does unseen. That it matched was
	// read off the rule set, though the rules beside it were seen to match.
	Inferred bool `json:"inferred,omitempty"`
}

// RuleSource says how a rule was found.
type RuleSource string

// Rule sources.
const (
	RuleExact    RuleSource = "exact"    // seen matching in the kernel
	RuleInferred RuleSource = "inferred" // read off the rule set
)

// Endpoints is an address pair as one hop saw it.
type Endpoints struct {
	Src     netip.Addr `json:"src,omitzero"`
	SrcPort uint16     `json:"sport,omitempty"`
	SrcName string     `json:"src_name,omitempty"` // who has the address, as in Packet
	Dst     netip.Addr `json:"dst,omitzero"`
	DstPort uint16     `json:"dport,omitempty"`
	DstName string     `json:"dst_name,omitempty"`
}

// Route is the result of a route lookup made for the packet.
type Route struct {
	Type      string `json:"type,omitempty"`  // unicast, local, broadcast, multicast, blackhole, unreachable, prohibit, throw
	Table     uint32 `json:"table,omitempty"` // routing table number; 254 main, 255 local
	Interface string `json:"interface,omitempty"`
	IfIndex   uint32 `json:"ifindex,omitempty"`
	Gateway   string `json:"gateway,omitempty"`
	Source    string `json:"source,omitempty"`
	Error     string `json:"error,omitempty"` // errno name, such as ENETUNREACH
}

// Neighbor is the state of the next hop's link-layer entry.
type Neighbor struct {
	Address   string `json:"address,omitempty"`
	State     string `json:"state,omitempty"` // none, incomplete, reachable, stale, delay, probe, failed, noarp, permanent
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
}

// Tunnel is the outer header of an encapsulated packet.
type Tunnel struct {
	Kind    string     `json:"kind"` // vxlan, geneve, gre, ipip, sit, ip6tnl, wireguard
	VNI     uint32     `json:"vni"`  // VXLAN's and Geneve's; GRE's key
	Src     netip.Addr `json:"src,omitzero"`
	SrcPort uint16     `json:"sport,omitempty"`
	SrcName string     `json:"src_name,omitempty"` // as in Packet
	Dst     netip.Addr `json:"dst,omitzero"`
	DstPort uint16     `json:"dport,omitempty"`
	DstName string     `json:"dst_name,omitempty"`
}

// Hop is one sighting of a packet.
type Hop struct {
	AtNS      int64  `json:"at_ns"` // since the packet's first hop
	Stage     Stage  `json:"stage"`
	Netns     uint32 `json:"netns,omitempty"` // inode number
	Place     string `json:"place,omitempty"` // what people call the netns: node, default/client
	Interface string `json:"interface,omitempty"`
	IfIndex   uint32 `json:"ifindex,omitempty"`
	Function  string `json:"function,omitempty"` // kernel function, or tracepoint as group:name

	// Netfilter.
	Hook    string  `json:"hook,omitempty"` // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS, EGRESS
	Family  string  `json:"family,omitempty"`
	Table   string  `json:"table,omitempty"`
	Chain   string  `json:"chain,omitempty"` // the base chain, where the kernel named it
	Backend string  `json:"backend,omitempty"`
	Verdict string  `json:"verdict,omitempty"` // accept, drop, stolen, queue, repeat, stop, reject
	Queue   *uint16 `json:"queue,omitempty"`   // its number, where the verdict is queue and it is known
	Rules   []Rule  `json:"rules,omitempty"`   // those that matched, in order
	// RuleSource says how Rules were found; RulesUnknown why they are not known.
	RuleSource   RuleSource `json:"rule_source,omitempty"`
	RulesUnknown string     `json:"rules_unknown,omitempty"`

	// By stage.
	Before   *Endpoints `json:"before,omitempty"`
	After    *Endpoints `json:"after,omitempty"`
	NATBy    string     `json:"nat_by,omitempty"` // who rewrote them, where that was not conntrack's NAT: ipvs
	Route    *Route     `json:"route,omitempty"`
	Neighbor *Neighbor  `json:"neighbor,omitempty"`
	Tunnel   *Tunnel    `json:"tunnel,omitempty"`
	Answer   string     `json:"answer,omitempty"` // tcp-reset, icmp-port-unreachable, icmp-frag-needed, ...
	Result   string     `json:"result,omitempty"` // a stage's own result where it is not success: NET_XMIT_DROP, EHOSTUNREACH, ...

	Mark    uint32 `json:"mark,omitempty"`
	CTState string `json:"ct_state,omitempty"` // new, established, related, invalid, untracked; "-reply" appended for the reply direction
	SKB     string `json:"skb,omitempty"`      // address, as a name for the buffer; a changed one tells a copy
	Length  uint32 `json:"length,omitempty"`   // skb->len at this hop, bytes
	CPU     uint32 `json:"cpu,omitempty"`
	Copy    int    `json:"copy,omitempty"` // >0: this hop is of the n-th copy (clone, segment, fragment) of the packet
	Frame   *Frame `json:"-"`              // its bytes here, where they were asked for: for captures, not for JSON
}

// ByIPVS is Hop.NATBy of the kernel's balancer.
const ByIPVS = "ipvs"

// Frame is what a packet looked like at a hop.
type Frame struct {
	// LinkType is the LINKTYPE_ value of Bytes (draft-ietf-opsawg-pcaplinktype):
	// 1 Ethernet, 101 raw IP.
	LinkType uint16
	Bytes    []byte // from the link-layer header on, cut at the snap length
	Length   uint32 // bytes of the whole, link-layer header included
	// Synthetic tells that the link-layer header was made up: the packet had none
	// at this hop.
	Synthetic bool
}

// Drop is where and why a packet died.
type Drop struct {
	Reason     string     `json:"reason"`             // the kernel's name without SKB_DROP_REASON_
	Stage      Stage      `json:"stage,omitempty"`    // the part of the stack that the freeing function belongs to
	Function   string     `json:"function,omitempty"` // symbol+0xoffset, or the bare address when symbols are hidden
	Stack      []string   `json:"stack,omitempty"`
	Hook       string     `json:"hook,omitempty"`
	Family     string     `json:"family,omitempty"`
	Table      string     `json:"table,omitempty"`
	Chain      string     `json:"chain,omitempty"`
	Backend    string     `json:"backend,omitempty"`
	Rule       *Rule      `json:"rule,omitempty"`
	RuleSource RuleSource `json:"rule_source,omitempty"`
	// RuleUnknown says why Rule is not known, where a rule may have done it.
	RuleUnknown string `json:"rule_unknown,omitempty"`
	// RuleCandidates are the rules of which one did it, where it is not known which.
	RuleCandidates []Rule `json:"rule_candidates,omitempty"`
	// Unevaluated lists conditions on the way to an inferred rule that could not
	// be evaluated; whatever they say, the rule is the same.
	Unevaluated []string   `json:"unevaluated,omitempty"`
	Queue       *uint16    `json:"queue,omitempty"`      // the queue it was sent to, where it died of that
	Candidates  Candidates `json:"candidates,omitempty"` // tables of which one dropped it, where the backend cannot tell which
	Interface   string     `json:"interface,omitempty"`
	IfIndex     uint32     `json:"ifindex,omitempty"`
	Netns       uint32     `json:"netns,omitempty"`
	Place       string     `json:"place,omitempty"`
	Tunnel      *Tunnel    `json:"tunnel,omitempty"` // the outer header it was in when it died; nil: in none
}

// Packet is one packet of the flow with everything seen of it.
type Packet struct {
	Type      string     `json:"type"` // "packet"
	ID        uint64     `json:"id"`
	Direction Direction  `json:"direction"`
	Time      time.Time  `json:"time"`
	Proto     string     `json:"proto"` // tcp, udp, icmp, icmpv6, sctp
	Src       netip.Addr `json:"src"`
	SrcPort   uint16     `json:"sport,omitempty"`
	// SrcName and DstName are who has the address: a pod (namespace/name), a
	// service (namespace/svc/name), node, or node NAME; absent: not known.
	SrcName  string     `json:"src_name,omitempty"`
	Dst      netip.Addr `json:"dst"`
	DstPort  uint16     `json:"dport,omitempty"`
	DstName  string     `json:"dst_name,omitempty"`
	TCPFlags string     `json:"tcp_flags,omitempty"` // as tcpdump prints them: S, S., ., P., F., R
	ICMP     string     `json:"icmp,omitempty"`      // echo-request, echo-reply, ...
	ICMPID   uint16     `json:"icmp_id,omitempty"`
	ICMPSeq  uint16     `json:"icmp_seq,omitempty"`
	Length   uint32     `json:"length"` // IP datagram length, bytes (GSO: of the whole aggregate)
	TTL      uint8      `json:"ttl,omitempty"`
	Outcome  Outcome    `json:"outcome"`
	Hops     []Hop      `json:"hops"`
	Drop     *Drop      `json:"drop,omitempty"`
	Lost     bool       `json:"incomplete,omitempty"` // events were lost while it was under way: hops may be missing
	// Late: a TCP segment that came when its receiver's side of the connection had
	// ended: no fault.
	Late bool `json:"late,omitempty"`
	// Unwanted: it was for all, or for a group, on a link, and a receiver had no use for
	// it: no fault.
	Unwanted bool `json:"unwanted,omitempty"`
	// OwnAnswer: a TCP reset or an ICMP error that a kernel of this node made by
	// itself, for a rule, a route or a closed port: no program at the other end sent it.
	OwnAnswer bool `json:"own_answer,omitempty"`
	// AnswerTo is the packet that it answers; 0: not known.
	AnswerTo uint64 `json:"answer_to,omitempty"`
}

// End is one of the two ends asked for.
type End struct {
	Given      string   `json:"given"`
	Kind       string   `json:"kind"` // address, cidr, interface, node, any, pod, service
	Name       string   `json:"name,omitempty"`
	Namespace  string   `json:"namespace,omitempty"`
	Addresses  Prefixes `json:"addresses,omitempty"` // a single address is a full-length prefix
	Interface  string   `json:"interface,omitempty"` // host side
	IfIndex    uint32   `json:"ifindex,omitempty"`
	Netns      uint32   `json:"netns,omitempty"`
	ResolvedBy string   `json:"resolved_by,omitempty"`
}

// MissedHook is a hook the backend would have liked and did not get.
type MissedHook struct {
	Hook string `json:"hook"`
	Why  string `json:"why"`
}

// Start opens a trace.
type Start struct {
	Type     string    `json:"type"` // "start"
	Time     time.Time `json:"time"`
	Version  string    `json:"version"`
	Kernel   string    `json:"kernel"`
	Backend  string    `json:"backend"`
	Hooks    int       `json:"hooks"`
	AttachMS float64   `json:"attach_ms"`
	Src      End       `json:"src"`
	Dst      End       `json:"dst"`
	Proto    string    `json:"proto,omitempty"`
	Port     uint16    `json:"port,omitempty"`
	// RuleSets counts rules per backend in the node's netns; absent: not read.
	RuleSets *RuleSets `json:"rulesets,omitempty"`
	// Planes are what carries packets of the flow past the places that are watched.
	Planes []Plane `json:"planes,omitempty"`
}

// RuleSets counts the rules of both iptables backends.
type RuleSets struct {
	Legacy int `json:"legacy"`
	NFT    int `json:"nft"`
}

// By is who did something to the node.
type By struct {
	PID       uint32 `json:"pid"`
	Comm      string `json:"comm"`
	ParentPID uint32 `json:"parent_pid,omitempty"`
	Parent    string `json:"parent,omitempty"`    // name of the process that started it
	Container string `json:"container,omitempty"` // id of the container it runs in
	Unit      string `json:"unit,omitempty"`      // systemd unit it runs in
}

// What changes of the node there are.
const (
	LinkDown       = "link-down"
	LinkUp         = "link-up"
	LinkAdded      = "link-added"
	LinkDeleted    = "link-deleted"
	LinkMTU        = "link-mtu"
	RouteAdded     = "route-added"
	RouteDeleted   = "route-deleted"
	RouteReplaced  = "route-replaced"
	PolicyAdded    = "policy-rule-added" // of policy routing: ip rule
	PolicyDeleted  = "policy-rule-deleted"
	AddressAdded   = "address-added"
	AddressDeleted = "address-deleted"
	RulesetChanged = "ruleset-changed"
	SysctlChanged  = "sysctl-changed"
	ProcessSignal  = "process-signal"
	ProcessExit    = "process-exit"
	// Of an end of the trace, by its name.
	EndpointChanged = "endpoint-changed"
	EndpointGone    = "endpoint-gone"
)

// NodeEvent is something that changed on the node during the trace.
type NodeEvent struct {
	Type     string         `json:"type"` // "node"
	Time     time.Time      `json:"time"`
	What     string         `json:"what"`
	Object   string         `json:"object"`
	Netns    uint32         `json:"netns,omitempty"`    // inode number of the namespace it is in
	Place    string         `json:"place,omitempty"`    // what people call that
	IfIndex  uint32         `json:"ifindex,omitempty"`  // of the link, or of the route's or address' link
	Prefix   netip.Prefix   `json:"prefix,omitzero"`    // of a route or address
	Table    uint32         `json:"table,omitempty"`    // of a route
	Protocol uint8          `json:"protocol,omitempty"` // who keeps the route, by its own account: 12 is BIRD, 80 Felix
	Routes   []netip.Prefix `json:"routes,omitempty"`   // that went with a link that was set down
	PID      uint32         `json:"pid,omitempty"`      // of the process that ended or got a signal
	Signal   string         `json:"signal,omitempty"`   // that ended it, or that it got
	By       *By            `json:"by,omitempty"`       // where the kernel told
	Precise  bool           `json:"precise,omitempty"`  // Time is that of the act itself, not of our reading of it
	Times    int            `json:"times,omitempty"`    // how often, where it is told once for many
	Until    time.Time      `json:"until,omitzero"`     // of the last of them
	Text     string         `json:"text"`
	End      *End           `json:"end,omitempty"` // endpoint-changed: the end as it is now
}

// Finding is a cause in words.
type Finding struct {
	Type       string    `json:"type"` // "finding"
	Code       string    `json:"code"`
	Confidence string    `json:"confidence"` // certain, likely
	Direction  Direction `json:"direction,omitempty"`
	Packets    []uint64  `json:"packets,omitempty"`
	Summary    string    `json:"summary"`
	Evidence   []string  `json:"evidence"`
	Fix        []string  `json:"fix,omitempty"`
	// Live marks one that is told while the trace goes on, as soon as it is
	// certain. The one at the end, with all packets, takes its place.
	Live bool `json:"live,omitempty"`
}

// Fault tells that a finding says what is wrong on this node. The others only say
// where to look next.
func (f *Finding) Fault() bool {
	switch f.Code {
	case "left-node", "unanswered", "not-sent":
		return false
	}
	return true
}

// Counts sums one direction up. Delivered includes Consumed.
type Counts struct {
	Seen      int `json:"seen"`
	Delivered int `json:"delivered"`
	Dropped   int `json:"dropped"`
	Rejected  int `json:"rejected"`
	LeftNode  int `json:"left_node"`
	Unknown   int `json:"unknown"`
	// OwnAnswers are those of Seen that kernels of this node made by themselves:
	// resets and ICMP errors (Packet.OwnAnswer).
	OwnAnswers int `json:"own_answers,omitempty"`
}

// Take counts one packet.
func (c *Counts) Take(p *Packet) {
	c.Add(p.Outcome)
	if p.OwnAnswer {
		c.OwnAnswers++
	}
}

// Add counts one packet's outcome.
func (c *Counts) Add(o Outcome) {
	c.Seen++
	switch o {
	case Delivered, Consumed:
		c.Delivered++
	case Dropped:
		c.Dropped++
	case Rejected:
		c.Rejected++
	case LeftNode:
		c.LeftNode++
	default:
		c.Unknown++
	}
}

// Died counts the packets that ended on this node against their sender's will.
func (c Counts) Died() int { return c.Dropped + c.Rejected }

// Probe is what came of one probe: what an application in the source pod would
// have seen.
type Probe struct {
	Time     time.Time  `json:"time"`         // when it was sent
	Proto    string     `json:"proto"`        // icmp, tcp, udp
	From     string     `json:"from"`         // the source, as namespace/name or as given
	Src      netip.Addr `json:"src,omitzero"` // that the pod's kernel chose
	Dst      netip.Addr `json:"dst"`
	DstPort  uint16     `json:"dport,omitempty"`
	Answered bool       `json:"answered"` // connected, or an answer came
	// Error is the errno's name that the application got; absent without
	// Answered: it would have waited in vain.
	Error  string  `json:"error,omitempty"`
	TookMS float64 `json:"took_ms"` // until the answer, the error, or giving up
	Text   string  `json:"text"`    // the same in words
}

// Summary closes a trace.
type Summary struct {
	Type        string `json:"type"` // "summary"
	Forward     Counts `json:"forward"`
	Return      Counts `json:"return"`
	LostEvents  uint64 `json:"lost_events"`  // events the ring buffer had no room for: exact
	LostPackets uint64 `json:"lost_packets"` // packets not followed because the table of packets in flight was full: exact
	// SkippedRuns counts how often the kernel left out one of our programs because
	// it was running on that CPU already, whatever packet it was for: hops, and
	// the ends of packets told as unknown, may be missing for it.
	SkippedRuns uint64 `json:"skipped_runs,omitempty"`
	// SampledOut counts the packets left out on purpose: the flow was faster than
	// is followed (--sample). Exact.
	SampledOut uint64 `json:"sampled_out,omitempty"`
	// LostFrames counts the hops whose packet bytes were wanted and lost, the ring
	// buffer having no room: exact. CutFrames counts those that end before the
	// snap length, since a page fragment could not be read.
	LostFrames uint64 `json:"lost_frames,omitempty"`
	CutFrames  uint64 `json:"cut_frames,omitempty"`
	// UnknownRules counts the tables that a packet was seen to go through
	// without its rules being known.
	UnknownRules int `json:"unknown_rules,omitempty"`
	// LostChanges counts how often changes of the node were not told: the kernel's
	// messages about them came faster than they could be read.
	LostChanges uint64       `json:"lost_changes,omitempty"`
	MissedHooks []MissedHook `json:"missed_hooks"`
	Probes      []Probe      `json:"probes,omitempty"` // --probe: one for each address
	DurationMS  int64        `json:"duration_ms"`
	// Faults counts the findings of something that is wrong on this node: all but
	// those that only say where to look next.
	Faults int `json:"faults,omitempty"`
}

// ExitStatus is the process's exit status as the interface promises it: 2 at least one
// packet died on this node or something wrong was found on it, 3 no packet of the flow
// was seen, 0 otherwise.
func (s Summary) ExitStatus() int {
	switch {
	case s.Forward.Died()+s.Return.Died() > 0 || s.Faults > 0:
		return 2
	case s.Forward.Seen+s.Return.Seen == 0:
		return 3
	}
	return 0
}

// Sink takes the objects of a trace in order. Calls are never concurrent.
type Sink interface {
	Start(*Start) error
	Packet(*Packet) error
	Node(*NodeEvent) error
	Finding(*Finding) error
	Summary(*Summary) error
}
