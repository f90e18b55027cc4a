// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// tracepointGroup is the group (/sys/kernel/tracing/events) of each tracepoint
// that stands in event.h's enum fn beside the functions.
var tracepointGroup = map[string]string{
	"net_dev_start_xmit": "net",
	"netif_receive_skb":  "net",
	"kfree_skb":          "skb",
	"consume_skb":        "skb",
	"fib_table_lookup":   "fib",
	"tcp_send_reset":     "tcp",
	"icmp_send":          "icmp",
	"module_load":        "module",
}

// FunctionNames reads enum fn from the object's own BTF, so that a function
// has its name in one place only. Tracepoints become group:name.
func FunctionNames(types *btf.Spec) (map[uint8]string, error) {
	var fn *btf.Enum
	if err := types.TypeByName("fn", &fn); err != nil {
		return nil, fmt.Errorf("enum fn of the BPF object: %w", err)
	}
	names := make(map[uint8]string, len(fn.Values))
	for _, v := range fn.Values {
		name := strings.TrimPrefix(v.Name, "FN_")
		if g, ok := tracepointGroup[name]; ok {
			name = g + ":" + name
		}
		names[uint8(v.Value)] = name
	}
	return names, nil
}

// Hooks of IP packets; a Passage and an event count from one.
const (
	PreRouting  = nfnetlink.PreRouting
	LocalIn     = nfnetlink.LocalIn
	LocalOut    = nfnetlink.LocalOut
	PostRouting = nfnetlink.PostRouting
)

// HookName names a hook of IP packets.
func HookName(hook uint8) string { return nfnetlink.Hook("ip", int(hook)) }

// hookOf names the hook that an event was in; it has to be in one. Only the netdev
// family counts its hooks anew.
func hookOf(e *Record) string { return hookOfFamily(e.Pf, e.Hook-1) }

// hookOfFamily names a hook of a family of packets (NFPROTO_*).
func hookOfFamily(pf, hook uint8) string {
	switch pf {
	case unix.NFPROTO_NETDEV, unix.NFPROTO_BRIDGE:
		return nfnetlink.Hook(nfnetlink.Family(pf), int(hook))
	}
	return HookName(hook)
}

// VerdictName: NF_*, include/uapi/linux/netfilter.h. nft and nf_hook_slow put
// an errno or a queue number above the low byte.
func VerdictName(v uint32) string {
	switch v & 0xff {
	case 0:
		return "drop"
	case 1:
		return "accept"
	case 2:
		return "stolen"
	case 3:
		return "queue"
	case 4:
		return "repeat"
	case 5:
		return "stop"
	}
	return fmt.Sprintf("verdict %#x", v)
}

// hookVerdict is what nf_hook_slow's return value means (net/netfilter/core.c):
// 1 go on, negative the errno of a drop, 0 somebody took the packet.
func hookVerdict(ret int32) string {
	switch {
	case ret == 1:
		return "accept"
	case ret < 0:
		return "drop"
	}
	return "stolen"
}

// routeTypes: RTN_*, include/uapi/linux/rtnetlink.h.
var routeTypes = [...]string{"", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat"}

func routeType(t uint8) string {
	if int(t) < len(routeTypes) {
		return routeTypes[t]
	}
	return fmt.Sprintf("type %d", t)
}

// neighbourState: NUD_*, include/uapi/linux/neighbour.h.
func neighbourState(s uint8) string {
	for _, n := range []struct {
		bit  uint8
		name string
	}{{0x01, "incomplete"}, {0x02, "reachable"}, {0x04, "stale"}, {0x08, "delay"}, {0x10, "probe"}, {0x20, "failed"}, {0x40, "noarp"}, {0x80, "permanent"}} {
		if s&n.bit != 0 {
			return n.name
		}
	}
	return "none"
}

// untracked is IP_CT_UNTRACKED + 1: conntrack is not to look at the packet
// (include/uapi/linux/netfilter/nf_conntrack_common.h).
const untracked = 8

// ConntrackState: enum ip_conntrack_info, nf_conntrack_common.h. The event
// carries it plus one; 0 is "no entry".
func ConntrackState(ct uint8) string {
	switch ct {
	case 1:
		return "established"
	case 2:
		return "related"
	case 3:
		return "new"
	case 4:
		return "established-reply"
	case 5:
		return "related-reply"
	case untracked:
		return "untracked"
	}
	return ""
}

// protoName is the name the interface promises; others by number.
func protoName(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprintf("ip-proto-%d", p)
}

// tcpFlags prints flags as tcpdump does: S, S., P., F., R, "." for a bare ACK.
func tcpFlags(f uint8) string {
	var b strings.Builder
	for _, x := range []struct {
		bit uint8
		c   byte
	}{{0x01, 'F'}, {0x02, 'S'}, {0x04, 'R'}, {0x08, 'P'}, {0x20, 'U'}, {0x10, '.'}} {
		if f&x.bit != 0 {
			b.WriteByte(x.c)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// icmpName: types and codes of ICMP (RFC 792, 1122, 1191) and ICMPv6 (RFC 4443).
func icmpName(v6 bool, typ, code uint8) string {
	if v6 {
		return icmp6Name(typ, code)
	}
	switch typ {
	case 0:
		return "echo-reply"
	case 3:
		codes := []string{"net-unreachable", "host-unreachable", "protocol-unreachable", "port-unreachable", "frag-needed",
			"source-route-failed", "net-unknown", "host-unknown", "host-isolated", "net-prohibited", "host-prohibited",
			"tos-net-unreachable", "tos-host-unreachable", "admin-prohibited"}
		if int(code) < len(codes) {
			return codes[code]
		}
	case 5:
		return "redirect"
	case 8:
		return "echo-request"
	case 11:
		if code == 1 {
			return "reassembly-time-exceeded"
		}
		return "ttl-exceeded"
	case 12:
		return "parameter-problem"
	}
	return fmt.Sprintf("type-%d-code-%d", typ, code)
}

func icmp6Name(typ, code uint8) string {
	switch typ {
	case 1:
		codes := []string{"no-route", "admin-prohibited", "beyond-scope", "address-unreachable", "port-unreachable", "policy-fail", "reject-route"}
		if int(code) < len(codes) {
			return codes[code]
		}
	case 2:
		return "packet-too-big"
	case 3:
		return "hop-limit-exceeded"
	case 4:
		return "parameter-problem"
	case 128:
		return "echo-request"
	case 129:
		return "echo-reply"
	case 135:
		return "neighbour-solicitation"
	case 136:
		return "neighbour-advertisement"
	case 137:
		return "redirect"
	}
	return fmt.Sprintf("type-%d-code-%d", typ, code)
}

// ErrnoName names a negative errno: ENETUNREACH for -101.
func ErrnoName(e int32) string {
	if e >= 0 {
		return ""
	}
	if n := unix.ErrnoName(unix.Errno(-e)); n != "" {
		return n
	}
	return fmt.Sprintf("errno %d", -e)
}

// xmitResult names a result of __dev_queue_xmit: NET_XMIT_* of
// include/linux/netdevice.h, or an errno.
func xmitResult(r int32) string {
	switch r {
	case 1:
		return "NET_XMIT_DROP"
	case 2:
		return "NET_XMIT_CN"
	}
	if n := ErrnoName(r); n != "" {
		return n
	}
	return fmt.Sprintf("result %d", r)
}

// EndpointsOf is a tuple as the model has it. ICMP has no ports.
func EndpointsOf(t *bpf.Tuple) model.Endpoints {
	e := model.Endpoints{Src: addrOf(t.Saddr, t.Family), Dst: addrOf(t.Daddr, t.Family)}
	if t.Proto != unix.IPPROTO_ICMP && t.Proto != unix.IPPROTO_ICMPV6 {
		e.SrcPort, e.DstPort = t.Sport, t.Dport
	}
	return e
}

// TunnelOf is an outer header as the model has it.
func TunnelOf(t *bpf.Tunnel) *model.Tunnel {
	return &model.Tunnel{Kind: tunnelKind(t), VNI: t.Vni,
		Src: addrOf(t.Saddr, t.Family), SrcPort: t.Sport, Dst: addrOf(t.Daddr, t.Family), DstPort: t.Dport}
}

// tunnelKind is a tunnel's kind as `ip -d link` names the devices that make it.
func tunnelKind(t *bpf.Tunnel) string {
	switch t.Kind {
	case bpf.TunnelVXLAN:
		return "vxlan"
	case bpf.TunnelGeneve:
		return "geneve"
	case bpf.TunnelGRE:
		return "gre"
	case bpf.TunnelWireGuard:
		return wireGuard
	}
	switch {
	case t.Family == 6:
		return "ip6tnl"
	case t.Kind == bpf.TunnelIPv6:
		return "sit"
	}
	return "ipip"
}

// gatewayOf reads a gateway; "" when the destination is on the link.
func gatewayOf(words [4]uint32, af uint8) string {
	var a netip.Addr
	switch af {
	case unix.AF_INET:
		a = addrOf(words, 4)
	case unix.AF_INET6:
		a = addrOf(words, 6)
	}
	if !a.IsValid() || a.IsUnspecified() {
		return ""
	}
	return a.String()
}

// abs32 is a number without its sign: dst_entry keeps errnos as positive numbers
// for IPv4 (rt->dst.error = -err, net/ipv4/route.c), as negative ones for IPv6.
func abs32(n int32) int32 {
	if n < 0 {
		return -n
	}
	return n
}
