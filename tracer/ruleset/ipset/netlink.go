// SPDX-License-Identifier: Apache-2.0

package ipset

// This file speaks nfnetlink to the ipset subsystem: the head of a set, the
// members of a list:set, and whether an element is in a set. The netlink
// library has these, but logs what it does not know, leaves out the members of
// lists, and adds a protocol to every port, which a bitmap:port refuses since
// 5.2.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// flagTypeMask cuts the flags off an attribute's type (NLA_TYPE_MASK).
const flagTypeMask = 0x3fff

// listAttempts bounds how often an interrupted dump is asked for again.
const listAttempts = 5

// attrName is IPSET_ATTR_NAME, the name of a set in a list:set, which the
// netlink library does not know (linux/netfilter/ipset/ip_set.h).
const attrName = 18

// request begins a message about a set.
func (s *Sets) request(cmd, flags int, name string) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_IPSET<<8|cmd, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: s.netlink}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(protocol)))
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(name)))
	return req
}

// Set tells a set's type. It fails with ErrNoSet.
func (s *Sets) Set(name string) (Set, error) {
	what := fmt.Sprintf("ipset %s", name)
	if err := checkName(name); err != nil {
		return Set{}, err
	}
	replies, err := s.request(nl.IPSET_CMD_HEADER, 0, name).Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		err = ErrNoSet
	}
	if err != nil {
		return Set{}, explain(what, err)
	}
	if len(replies) != 1 {
		return Set{}, fmt.Errorf("%s: %d answers, want 1", what, len(replies))
	}
	attrs, err := attributes(replies[0], nl.SizeofNfgenmsg)
	if err != nil {
		return Set{}, fmt.Errorf("%s: %w", what, err)
	}
	set := Set{
		Name:     unix.ByteSliceToString(attrs[nl.IPSET_ATTR_SETNAME]),
		Type:     unix.ByteSliceToString(attrs[nl.IPSET_ATTR_TYPENAME]),
		Family:   first(attrs[nl.IPSET_ATTR_FAMILY]),
		Revision: first(attrs[nl.IPSET_ATTR_REVISION]),
	}
	if set.Type == "" {
		return Set{}, fmt.Errorf("%s: the kernel did not tell its type", what)
	}
	return set, nil
}

// checkName refuses names that the kernel would cut or take for another set.
func checkName(name string) error {
	if name == "" || len(name) >= maxNameLen {
		return fmt.Errorf("ipset %q: a name has 1 to %d bytes: %w", name, maxNameLen-1, ErrNoSet)
	}
	return nil
}

func first(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// members lists the sets in a list:set, in order.
func (s *Sets) members(name string) ([]string, error) {
	what := fmt.Sprintf("list ipset %s", name)
	var replies [][]byte
	err := error(netlink.ErrDumpInterrupted)
	for n := 0; n < listAttempts && errors.Is(err, netlink.ErrDumpInterrupted); n++ {
		replies, err = s.request(nl.IPSET_CMD_LIST, nl.GetIpsetFlags(nl.IPSET_CMD_LIST), name).Execute(unix.NETLINK_NETFILTER, 0)
	}
	if errors.Is(err, unix.ENOENT) {
		err = ErrNoSet
	}
	if err != nil {
		return nil, explain(what, err)
	}
	var all []string
	for _, reply := range replies {
		attrs, err := attributes(reply, nl.SizeofNfgenmsg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		names, err := memberNames(attrs[nl.IPSET_ATTR_ADT])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, names...)
	}
	return all, nil
}

// memberNames takes the names out of a list of elements.
func memberNames(nest []byte) ([]string, error) {
	elements, err := parse(nest)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range elements {
		attrs, err := attributes(e.Value, 0)
		if err != nil {
			return nil, err
		}
		if name := unix.ByteSliceToString(attrs[attrName]); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// attributes decodes the attributes behind a header, by type.
func attributes(msg []byte, header int) (map[uint16][]byte, error) {
	if len(msg) < header {
		return nil, fmt.Errorf("answer of %d bytes is too short", len(msg))
	}
	list, err := parse(msg[header:])
	if err != nil {
		return nil, err
	}
	set := make(map[uint16][]byte, len(list))
	for _, a := range list {
		set[a.Attr.Type&flagTypeMask] = a.Value
	}
	return set, nil
}

// parse is nl.ParseRouteAttr for data that may end without the padding behind
// its last attribute, which the library would step over the end of.
func parse(b []byte) ([]syscall.NetlinkRouteAttr, error) {
	if pad := len(b) % unix.NLA_ALIGNTO; pad != 0 {
		b = append(b[:len(b):len(b)], make([]byte, unix.NLA_ALIGNTO-pad)...)
	}
	return nl.ParseRouteAttr(b)
}

// data is what a set is asked for; which parts it has is up to the set's type.
type data struct{ *nl.RtAttr }

// address adds an address as attribute IPSET_ATTR_IP or IPSET_ATTR_IP2.
func (d data) address(attr int, addr netip.Addr) {
	kind := nl.IPSET_ATTR_IPADDR_IPV4
	if addr.Is6() {
		kind = nl.IPSET_ATTR_IPADDR_IPV6
	}
	nest := nl.NewRtAttr(attr|int(nl.NLA_F_NESTED), nil)
	nest.AddRtAttr(kind|int(nl.NLA_F_NET_BYTEORDER), addr.AsSlice())
	d.AddChild(nest)
}

func (d data) port(port uint16) {
	d.AddRtAttr(nl.IPSET_ATTR_PORT|int(nl.NLA_F_NET_BYTEORDER), binary.BigEndian.AppendUint16(nil, port))
}

func (d data) proto(proto uint8) { d.AddRtAttr(nl.IPSET_ATTR_PROTO, []byte{proto}) }

func (d data) iface(name string) { d.AddRtAttr(nl.IPSET_ATTR_IFACE, nl.ZeroTerminated(name)) }

func (d data) mark(mark uint32) {
	d.AddRtAttr(nl.IPSET_ATTR_MARK|int(nl.NLA_F_NET_BYTEORDER), binary.BigEndian.AppendUint32(nil, mark))
}

// Contains asks whether an element is in a set now (IPSET_CMD_TEST, net/netfilter/
// ipset/ip_set_core.c, ip_set_utest): a look-up, which does not count either.
// For net types the kernel tries all prefix lengths and obeys nomatch, as it
// does for packets. It fails with ErrNoSet; a set of another type than the
// element's may answer anything.
func (s *Sets) Contains(name string, e Element) (packet.Answer, error) {
	what := fmt.Sprintf("ipset %s", name)
	if err := checkName(name); err != nil {
		return packet.Unknown, err
	}
	req := s.request(nl.IPSET_CMD_TEST, unix.NLM_F_ACK, name)
	req.AddData(e.attribute())
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case err == nil:
		return packet.Yes, nil
	case errors.Is(err, syscall.Errno(nl.IPSET_ERR_EXIST)):
		return packet.No, nil
	case errors.Is(err, unix.ENOENT):
		err = ErrNoSet
	}
	return packet.Unknown, explain(what, err)
}
