// SPDX-License-Identifier: Apache-2.0

package cause

// Deaths that no section of their own fits, and of which the kernel's reason is itself the
// whole cause: what is left is to say who is meant by it, and what to compare.

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// selfSaid is a kind of reasons that need no further cause.
type selfSaid struct {
	reasons []string
	fix     func(q *inquiry) []string
}

// selfSaids are those that the kernel gives for one thing only, and whose words say what
// is wrong (include/net/dropreason-core.h; tcp_inbound_hash and its two, net/ipv4/tcp.c
// and tcp_ao.c; tcp_v4_rcv, 6.12).
var selfSaids = []selfSaid{
	{[]string{"TCP_MD5NOTFOUND", "TCP_MD5UNEXPECTED", "TCP_MD5FAILURE"}, signedFix("MD5", "TcpExtTCPMD5NotFound TcpExtTCPMD5Unexpected TcpExtTCPMD5Failure", "md5keys")},
	{[]string{"TCP_AONOTFOUND", "TCP_AOUNEXPECTED", "TCP_AOKEYNOTFOUND", "TCP_AOFAILURE"}, signedFix("TCP-AO", "TcpExtTCPAORequired TcpExtTCPAOBad TcpExtTCPAOKeyNotFound TcpExtTCPAOGood", "")},
	{[]string{"TCP_AUTH_HDR"}, func(q *inquiry) []string {
		return []string{"see what sends such options: tcpdump -vv at the sender; a middlebox that adds one, or a program that asks for MD5 and TCP-AO at once"}
	}},
	{[]string{"TCP_MINTTL"}, func(q *inquiry) []string {
		return []string{"compare how many routers are between the two with what the receiver allows: of BGP, ttl-security (GTSM) of the peer's configuration; a tunnel or router in between takes one each",
			fmt.Sprintf("see with which TTL it comes: tcpdump -vni %s tcp port %d; nstat -az TcpExtTCPMinTTLDrop in %s", orElse(q.d.Interface, "any"), endsAt(q.p).DstPort, q.place())}
	}},
	{[]string{"SECURITY_HOOK"}, func(q *inquiry) []string {
		return []string{"see which module refused it: ausearch -m avc -ts recent; dmesg | grep -i -e apparmor -e smack; bpftool prog list | grep lsm"}
	}},
	{[]string{"PSP_INPUT", "PSP_OUTPUT", "OVS_DROP_EXPLICIT", "OVS_DROP_EXPLICIT_WITH_ERROR", "OVS_DROP_METER", "OVS_DROP_LAST_ACTION"}, nil},
}

// usualPorts are those of the programs that sign their connections.
var usualPorts = map[uint16]string{179: "BGP", 639: "MSDP", 646: "LDP"}

// signedFix compares the keys of two ends.
func signedFix(kind, counters, keys string) func(q *inquiry) []string {
	return func(q *inquiry) []string {
		e := endsAt(q.p)
		what := "the key"
		if q.usualPort() == "BGP" {
			what = "the password of the BGP session"
		}
		fix := []string{fmt.Sprintf("compare %s at %s and at %s: both want %s with the same one, or neither (Calico: password of the BGPPeer, a secret that calico-node may read; MetalLB: password or passwordSecret of the BGPPeer; FRR, BIRD: neighbor ... password)", what, e.Src, e.Dst, kind)}
		if keys != "" {
			fix = append(fix, fmt.Sprintf("see for which peers there is a key in %s: ss -tlni 'sport = :%d' or ss -tni 'sport = :%d' (as root %s shows the keys themselves, so do not pass it on)", q.place(), e.DstPort, e.DstPort, keys))
		}
		return append(fix, fmt.Sprintf("see whether it goes on: nstat -az %s, in %s", counters, q.place()))
	}
}

// saysItself words a death whose reason is the whole cause; false: it is none.
func (q *inquiry) saysItself(c *claim) bool {
	for _, s := range selfSaids {
		if !q.because(s.reasons...) {
			continue
		}
		words, ok := reasonWords(q.d.Reason, "")
		if !ok {
			return false
		}
		where := at(orElse(q.d.Place, "node"), q.d.Interface)
		if where == at("node", q.d.Interface) {
			where = at("this node", q.d.Interface)
		}
		port := ""
		if usual := q.usualPort(); usual != "" {
			port = fmt.Sprintf(" (%s, TCP port %d)", usual, endsAt(q.p).DstPort)
		}
		c.certain, c.missing = true, nil
		c.summary = fmt.Sprintf("%s dropped it, and the kernel says why itself: %s%s", where, words, port)
		if s.fix != nil {
			c.fix = s.fix(q)
		}
		q.tellReceiver(c)
		return true
	}
	return false
}

// usualPort is the name of what usually has one of the packet's TCP ports; "": not known.
func (q *inquiry) usualPort() string {
	e := endsAt(q.p)
	if q.p.Proto != "tcp" {
		return ""
	}
	return orElse(usualPorts[e.DstPort], usualPorts[e.SrcPort])
}

// tellReceiver adds whose socket it was for: the connection's, else the one that listens.
func (q *inquiry) tellReceiver(c *claim) {
	e := endsAt(q.p)
	if q.p.Proto != "tcp" || q.d.Netns == 0 {
		return
	}
	sockets, err := q.state.Sockets(q.d.Netns)
	q.gap(err)
	local, remote := netip.AddrPortFrom(e.Dst, e.DstPort), netip.AddrPortFrom(e.Src, e.SrcPort)
	for _, s := range sockets {
		if s.Local != local || s.Remote != remote || s.State == node.TCPListen {
			continue
		}
		if owner, ok := q.state.SocketOwner(s.Inode); ok {
			c.evidence = append(c.evidence, fmt.Sprintf("ss -nt: %s to %s at %s, of %s (pid %d)", local, remote, q.d.Place, owner.Comm, owner.PID))
			return
		}
	}
	there, err := q.state.Listeners(q.d.Netns, "tcp")
	q.gap(err)
	for _, l := range there {
		if a := l.Local.Addr(); l.Local.Port() == e.DstPort && (a == e.Dst || a.IsUnspecified()) {
			c.evidence = append(c.evidence, q.missWords(miss{Listener: l, proto: "tcp", netns: q.d.Netns}, q.d.Place))
			if owner, ok := q.state.SocketOwner(l.Inode); ok {
				c.summary += fmt.Sprintf("; %s (pid %d) listens there", owner.Comm, owner.PID)
			}
			return
		}
	}
}
