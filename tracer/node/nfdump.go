// SPDX-License-Identifier: Apache-2.0

package node

// This file sends one dump request to netfilter and gathers the answer. The
// netlink library is not used for it because it drops answers that are not
// addressed to the asking socket, and nfnetlink_hook addresses its own to
// nobody (net/netfilter/nfnetlink_hook.c, nfnl_hook_dump_one: the port id is
// that of the answer's buffer, 0).

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sizes and limits of a dump.
const (
	// dumpBuffer holds one part of a dump: the kernel sends at most 32 KiB at
	// once (net/netlink/af_netlink.c, netlink_dump).
	dumpBuffer = 64 << 10
	// dumpSeconds bounds the wait for one part; the kernel answers at once.
	dumpSeconds = 10
)

// nfDump asks nfnetlink in the calling thread's namespace for a dump and gives
// the bodies of all answers of one type. It fails with
// netlink.ErrDumpInterrupted when the kernel says that what it listed changed
// under way.
func nfDump(ask, answer uint16, body []byte) ([][]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd) // nothing is lost by a failed close of a socket that was only read
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: dumpSeconds}); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Sendto(fd, dumpRequest(ask, body), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var all [][]byte
	var interrupted bool
	buf := make([]byte, dumpBuffer)
	for {
		msgs, err := receive(fd, buf)
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if err := status(m.Data); err != nil {
					return nil, err
				}
				if interrupted {
					return nil, netlink.ErrDumpInterrupted
				}
				return all, nil
			case answer:
				all = append(all, bytes.Clone(m.Data))
			}
		}
	}
}

// dumpRequest is a netlink message that asks for a dump (struct nlmsghdr).
func dumpRequest(ask uint16, body []byte) []byte {
	const seq = 1 // the socket asks once
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, ask)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // port id: the kernel fills in the socket's
	return append(b, body...)
}

// receive takes one part of a dump. The messages share buf.
func receive(fd int, buf []byte) ([]syscall.NetlinkMessage, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(fd, buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("the kernel did not answer within %d s", dumpSeconds)
		case err != nil:
			return nil, os.NewSyscallError("recvmsg", err)
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("an answer is longer than %d bytes", len(buf))
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // another process wrote to our socket; the kernel is port 0
		}
		return syscall.ParseNetlinkMessage(buf[:n])
	}
}

// status is the outcome that ends a dump: none, zero or a negative errno.
func status(data []byte) error {
	if len(data) < 4 {
		return nil
	}
	if errno := int32(binary.NativeEndian.Uint32(data)); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}
