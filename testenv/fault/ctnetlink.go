// SPDX-License-Identifier: Apache-2.0

// Conntrack entries written through ctnetlink, many in one message: a table with
// a quarter of a million entries is full in a second.

package fault

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h and
// nf_conntrack_common.h (6.18).
const (
	subsysCtnetlink = 1
	ctNew, ctDelete = 0, 2

	ctaTupleOrig, ctaTupleReply, ctaStatus, ctaTimeout = 1, 2, 3, 7
	ctaTupleIP, ctaTupleProto                          = 1, 2
	ctaIPv4Src, ctaIPv4Dst                             = 1, 2
	ctaProtoNum, ctaProtoSrc, ctaProtoDst              = 1, 2, 3

	ipsSeenReply, ipsAssured, ipsConfirmed = 1 << 1, 1 << 2, 1 << 3

	nlaNested = 1 << 15
)

// entriesPerMessage and entryLifetime (seconds) of a fill.
const (
	entriesPerMessage = 512
	entryLifetime     = 600
)

// conntrackSocket talks to ctnetlink of the calling thread's namespace.
type conntrackSocket struct{ fd int }

func openConntrack() (*conntrackSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open ctnetlink: %w", err)
	}
	return &conntrackSocket{fd}, nil
}

// flush deletes all entries: a delete that names none.
func (s *conntrackSocket) flush() error {
	if err := unix.Sendto(s.fd, ctMessage(ctDelete, unix.NLM_F_ACK, nil), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s.fd, buf, 0)
	if err != nil {
		return err
	}
	if n >= unix.NLMSG_HDRLEN+4 {
		if errno := -int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); errno != 0 {
			return unix.Errno(errno)
		}
	}
	return nil
}

// sendEntries writes as many connections. Those that find no room are refused
// each by an answer that nobody reads.
func sendEntries(count int) error {
	s, err := openConntrack()
	if err != nil {
		return err
	}
	defer unix.Close(s.fd)
	for first := 0; first < count; first += entriesPerMessage {
		var batch []byte
		for i := first; i < first+entriesPerMessage; i++ {
			batch = append(batch, ctMessage(ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, entry(uint32(i)))...)
		}
		if err := unix.Sendto(s.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
	}
	return nil
}

// ctMessage is one ctnetlink message.
func ctMessage(kind, flags uint16, body []byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN+4, unix.NLMSG_HDRLEN+4+len(body)) // and struct nfgenmsg
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], subsysCtnetlink<<8|kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	b[unix.NLMSG_HDRLEN] = unix.AF_INET
	return append(b, body...)
}

// entry is an assured UDP connection between addresses for documentation (RFC
// 5737, 2544), another for each number. Being assured it makes no room for others
// (early_drop, net/netfilter/nf_conntrack_core.c).
func entry(number uint32) []byte {
	client, server := netip.AddrFrom4([4]byte{198, 18, byte(number >> 24), byte(number >> 16)}), netip.AddrFrom4([4]byte{203, 0, 113, 1})
	port := uint16(number)
	b := nested(ctaTupleOrig, tuple(client, server, port, 53))
	b = append(b, nested(ctaTupleReply, tuple(server, client, 53, port))...)
	b = append(b, attribute(ctaStatus, binary.BigEndian.AppendUint32(nil, ipsSeenReply|ipsAssured|ipsConfirmed))...)
	return append(b, attribute(ctaTimeout, binary.BigEndian.AppendUint32(nil, entryLifetime))...)
}

func tuple(src, dst netip.Addr, sport, dport uint16) []byte {
	ip := append(attribute(ctaIPv4Src, src.AsSlice()), attribute(ctaIPv4Dst, dst.AsSlice())...)
	proto := attribute(ctaProtoNum, []byte{unix.IPPROTO_UDP})
	proto = append(proto, attribute(ctaProtoSrc, binary.BigEndian.AppendUint16(nil, sport))...)
	proto = append(proto, attribute(ctaProtoDst, binary.BigEndian.AppendUint16(nil, dport))...)
	return append(nested(ctaTupleIP, ip), nested(ctaTupleProto, proto)...)
}

func nested(kind uint16, body []byte) []byte { return attribute(kind|nlaNested, body) }

// attribute is one netlink attribute, padded to four bytes.
func attribute(kind uint16, value []byte) []byte {
	b := make([]byte, 4, 4+(len(value)+3)&^3)
	binary.NativeEndian.PutUint16(b, uint16(4+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, value...)
	return b[:cap(b)]
}
