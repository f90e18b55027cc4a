// SPDX-License-Identifier: Apache-2.0

package node

// This file asks conntrack of a namespace for single connections, by their
// addresses. That is one look-up in its hash table: a list of them all would take
// seconds, and hundreds of megabytes, on a node with a million of them.

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// ErrNoConntrackQuery: conntrack cannot be asked: the module that answers
// (nf_conntrack_netlink) is not loaded, and asking would load it.
var ErrNoConntrackQuery = errors.New("nf_conntrack_netlink is not loaded")

// Messages and attributes of conntrack (linux/netfilter/nfnetlink.h,
// nfnetlink_conntrack.h).
const (
	subsysConntrack = 1 // NFNL_SUBSYS_CTNETLINK
	msgConnNew      = 0 // IPCTNL_MSG_CT_NEW, the answer
	msgConnGet      = 1 // IPCTNL_MSG_CT_GET

	connTupleOrig  = 1 // CTA_TUPLE_ORIG
	connTupleReply = 2
	connStatus     = 3
	connTimeout    = 7
	connZone       = 18

	tupleIP    = 1 // CTA_TUPLE_IP
	tupleProto = 2
	tupleZone  = 3

	ipv4Src, ipv4Dst = 1, 2 // CTA_IP_V4_SRC, ...
	ipv6Src, ipv6Dst = 3, 4

	protoNum               = 1 // CTA_PROTO_NUM
	protoSrcPort           = 2
	protoDstPort           = 3
	protoICMPID            = 4 // CTA_PROTO_ICMP_ID, _TYPE, _CODE
	protoICMPv6ID          = 7
	nested          uint16 = unix.NLA_F_NESTED
	statusSeenReply        = 1 << 1 // IPS_SEEN_REPLY, linux/netfilter/nf_conntrack_common.h
)

// Flow is a connection's addresses in one direction. Of ICMP echo both ports are
// its identifier.
type Flow struct {
	Proto    uint8 // IPPROTO_*
	Src, Dst netip.AddrPort
}

// Back is the other direction of a flow that nothing translates.
func (f Flow) Back() Flow { return Flow{f.Proto, f.Dst, f.Src} }

// Connection is an entry of conntrack's table.
type Connection struct {
	// Orig is the connection as the side that began it addressed it; Reply is what
	// answers to it bear when they come in. Without NAT one is the other's Back.
	Orig, Reply Flow
	Replied     bool          // an answer was seen (not UNREPLIED)
	Timeout     time.Duration // until it ends, if nothing more comes
	// Zone is the zone that it is in, ZoneOrig and ZoneReply where that is so for packets
	// of one direction only; 0 is the default one.
	Zone, ZoneOrig, ZoneReply uint16
}

// Connection gives the entry that a packet with these addresses belongs to, in
// either direction, in conntrack's default zone; ok is false where there is none.
// It fails with ErrGone or ErrNoConntrackQuery.
func (n *Namespaces) Connection(inode uint32, f Flow) (c Connection, ok bool, err error) {
	return n.ConnectionInZone(inode, f, 0)
}

// ConnectionInZone is Connection in any zone.
func (n *Namespaces) ConnectionInZone(inode uint32, f Flow, zone uint16) (c Connection, ok bool, err error) {
	has, err := n.has(conntrackSubsystem)
	if err != nil {
		return c, false, err
	}
	if !has {
		return c, false, fmt.Errorf("%s: conntrack's entry: %w", n.Place(inode), ErrNoConntrackQuery)
	}
	err = n.Do(inode, func() error {
		c, ok, err = askConnection(f, zone)
		return err
	})
	if err != nil {
		return c, false, fmt.Errorf("%s: conntrack's entry: %w", n.Place(inode), err)
	}
	return c, ok, nil
}

// askConnection asks within the calling thread's namespace
// (net/netfilter/nf_conntrack_netlink.c: ctnetlink_get_conntrack, 6.12).
func askConnection(f Flow, zone uint16) (Connection, bool, error) {
	conn, err := nfnetlink.Open()
	if err != nil {
		return Connection{}, false, err
	}
	family := uint8(unix.AF_INET)
	if f.Src.Addr().Is6() {
		family = unix.AF_INET6
	}
	body := nfnetlink.Put(nfnetlink.Header(family), connTupleOrig|nested, f.attributes())
	if zone != 0 {
		body = nfnetlink.Put(body, connZone, binary.BigEndian.AppendUint16(nil, zone))
	}
	msg, err := conn.Get(context.Background(), subsysConntrack<<8|msgConnGet, subsysConntrack<<8|msgConnNew, body)
	if closed := conn.Close(); !errors.Is(err, unix.ENOENT) {
		err = errors.Join(err, closed)
	}
	if errors.Is(err, unix.ENOENT) {
		return Connection{}, false, nil
	}
	if err != nil {
		return Connection{}, false, err
	}
	c, err := parseConnection(msg)
	return c, err == nil, err
}

// attributes is a flow as a question has it.
func (f Flow) attributes() (b []byte) {
	src, dst := uint16(ipv4Src), uint16(ipv4Dst)
	if f.Src.Addr().Is6() {
		src, dst = ipv6Src, ipv6Dst
	}
	ip := nfnetlink.Put(nil, src, f.Src.Addr().AsSlice())
	ip = nfnetlink.Put(ip, dst, f.Dst.Addr().AsSlice())
	proto := nfnetlink.Put(nil, protoNum, []byte{f.Proto})
	port := func(typ, port uint16) {
		proto = nfnetlink.Put(proto, typ, binary.BigEndian.AppendUint16(nil, port))
	}
	switch f.Proto {
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		id, request := uint16(protoICMPID), uint8(8)
		if f.Proto == unix.IPPROTO_ICMPV6 {
			id, request = protoICMPv6ID, 128
		}
		port(id, f.Src.Port())
		proto = nfnetlink.Put(proto, id+1, []byte{request})
		proto = nfnetlink.Put(proto, id+2, []byte{0})
	default:
		port(protoSrcPort, f.Src.Port())
		port(protoDstPort, f.Dst.Port())
	}
	b = nfnetlink.Put(b, tupleIP|nested, ip)
	return nfnetlink.Put(b, tupleProto|nested, proto)
}

// parseConnection reads what ctnetlink_fill_info puts together.
func parseConnection(msg []byte) (c Connection, err error) {
	attrs, err := nfnetlink.Message(msg)
	if err != nil {
		return c, err
	}
	if c.Orig, err = parseFlow(attrs, connTupleOrig); err != nil {
		return c, err
	}
	if c.Reply, err = parseFlow(attrs, connTupleReply); err != nil {
		return c, err
	}
	c.Zone, c.ZoneOrig, c.ZoneReply = zoneIn(attrs, connZone), tupleZoneOf(attrs, connTupleOrig), tupleZoneOf(attrs, connTupleReply)
	status, _ := attrs.Uint32(connStatus)
	timeout, _ := attrs.Uint32(connTimeout)
	c.Replied, c.Timeout = status&statusSeenReply != 0, time.Duration(timeout)*time.Second
	return c, nil
}

// zoneIn reads a zone; none is the default one (ctnetlink_dump_zone_id).
func zoneIn(attrs nfnetlink.Attrs, which uint16) uint16 {
	raw, ok := attrs.Get(which)
	if !ok || len(raw) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(raw)
}

func tupleZoneOf(attrs nfnetlink.Attrs, which uint16) uint16 {
	tuple, err := attrs.Nest(which)
	if err != nil {
		return 0
	}
	return zoneIn(tuple, tupleZone)
}

func parseFlow(attrs nfnetlink.Attrs, which uint16) (f Flow, err error) {
	tuple, err := attrs.Nest(which)
	if err != nil {
		return f, err
	}
	ip, err := tuple.Nest(tupleIP)
	if err != nil {
		return f, err
	}
	proto, err := tuple.Nest(tupleProto)
	if err != nil {
		return f, err
	}
	addr := func(v4, v6 uint16) netip.Addr {
		raw, ok := ip.Get(v4)
		if !ok {
			raw, _ = ip.Get(v6)
		}
		a, _ := netip.AddrFromSlice(raw)
		return a
	}
	number := func(types ...uint16) uint16 {
		for _, t := range types {
			if n, ok := proto.Number(t); ok {
				return uint16(n)
			}
		}
		return 0
	}
	src, dst := addr(ipv4Src, ipv6Src), addr(ipv4Dst, ipv6Dst)
	if !src.IsValid() || !dst.IsValid() {
		return f, errors.New("connection without addresses")
	}
	f.Proto = uint8(number(protoNum))
	f.Src = netip.AddrPortFrom(src, number(protoSrcPort, protoICMPID, protoICMPv6ID))
	f.Dst = netip.AddrPortFrom(dst, number(protoDstPort, protoICMPID, protoICMPv6ID))
	return f, nil
}

// ConntrackStats are conntrack's counters of a namespace, of all CPUs.
type ConntrackStats struct {
	InsertFailed uint64 // connections that found no place in the table: another had their addresses
	Drop         uint64 // packets dropped since no entry could be made, or two packets made the same
}

// ConntrackStats reads the counters. A kernel without them is fs.ErrNotExist.
func (n *Namespaces) ConntrackStats(inode uint32) (s ConntrackStats, err error) {
	err = n.Do(inode, func() error {
		file, err := os.Open("/proc/thread-self/net/stat/nf_conntrack")
		if err != nil {
			return err
		}
		s, err = readConntrackStats(file)
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return s, fmt.Errorf("%s: conntrack's counters: %w", n.Place(inode), err)
	}
	return s, nil
}

// readConntrackStats adds up what ct_cpu_seq_show prints: a line of names, and a
// line of hexadecimal numbers for each CPU (net/netfilter/nf_conntrack_standalone.c,
// 5.10 to 6.18).
func readConntrackStats(r io.Reader) (s ConntrackStats, err error) {
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		return s, errors.Join(errors.New("no line"), lines.Err())
	}
	names := strings.Fields(lines.Text())
	for lines.Scan() {
		for i, field := range strings.Fields(lines.Text()) {
			n, err := strconv.ParseUint(field, 16, 64)
			if err != nil {
				return s, fmt.Errorf("line %q: %w", lines.Text(), err)
			}
			switch {
			case i >= len(names):
			case names[i] == "insert_failed":
				s.InsertFailed += n
			case names[i] == "drop":
				s.Drop += n
			}
		}
	}
	return s, lines.Err()
}
