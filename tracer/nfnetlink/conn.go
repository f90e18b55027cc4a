// SPDX-License-Identifier: Apache-2.0

// Package nfnetlink asks netfilter over netlink: one question, all answers, as
// raw messages. It only ever asks; what the messages mean is the business of
// the packages that ask. The netlink library is not used for it because it
// drops answers that are not addressed to the asking socket, and
// nfnetlink_hook addresses its own to nobody (net/netfilter/nfnetlink_hook.c,
// nfnl_hook_dump_one: the port id is that of the answer's buffer, 0).
//
// Asking a subsystem that is not loaded makes the kernel load it: callers look
// first.
package nfnetlink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInterrupted: what a dump lists changed while it was listed
// (NLM_F_DUMP_INTR). Asking again helps.
var ErrInterrupted = errors.New("what was listed changed under way")

// Sizes and limits of an answer.
const (
	// bufferSize holds one part of a dump: the kernel sends at most 32 KiB at
	// once (net/netlink/af_netlink.c, netlink_dump).
	bufferSize = 64 << 10
	// answerTime bounds the wait for one part; the kernel answers at once.
	answerTime = 10 * time.Second
)

// Conn is a socket into the network namespace of the thread that opened it. It
// stays there whatever the thread does later. It is not safe for concurrent
// use.
type Conn struct {
	fd  int
	seq uint32
	buf []byte
}

// Open makes a socket in the calling thread's network namespace.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	wait := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fd))
	}
	return &Conn{fd: fd, buf: make([]byte, bufferSize)}, nil
}

// Close releases the socket.
func (c *Conn) Close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// Dump asks for a list and gives the bodies (header and attributes) of all
// answers of one type. It fails with ErrInterrupted, with the kernel's errno,
// or with the context's error.
func (c *Conn) Dump(ctx context.Context, ask, answer uint16, body []byte) ([][]byte, error) {
	return c.exchange(ctx, ask, answer, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, body)
}

// Get asks for one thing and gives the body of the answer.
func (c *Conn) Get(ctx context.Context, ask, answer uint16, body []byte) ([]byte, error) {
	all, err := c.exchange(ctx, ask, answer, unix.NLM_F_REQUEST|unix.NLM_F_ACK, body)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%d answers where one was due", len(all))
	}
	return all[0], nil
}

// Dump opens a socket in the calling thread's namespace for one list.
func Dump(ctx context.Context, ask, answer uint16, body []byte) ([][]byte, error) {
	c, err := Open()
	if err != nil {
		return nil, err
	}
	all, err := c.Dump(ctx, ask, answer, body)
	return all, errors.Join(err, c.Close())
}

// exchange sends a question and gathers its answers up to the message that
// ends them: NLMSG_DONE after a dump, NLMSG_ERROR as acknowledgement or error.
func (c *Conn) exchange(ctx context.Context, ask, answer, flags uint16, body []byte) ([][]byte, error) {
	c.seq++
	if err := unix.Sendto(c.fd, request(ask, flags, c.seq, body), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var all [][]byte
	var interrupted bool
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		msgs, err := c.receive()
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			if m.Header.Seq != c.seq {
				continue // left over from a question given up
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if err := status(m.Data); err != nil {
					return nil, err
				}
				if interrupted {
					return nil, ErrInterrupted
				}
				return all, nil
			case answer:
				all = append(all, bytes.Clone(m.Data))
			}
		}
	}
}

// request is a netlink message (struct nlmsghdr).
func request(ask, flags uint16, seq uint32, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, ask)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // port id: the kernel fills in the socket's
	return append(b, body...)
}

// receive takes one part of an answer. The messages share the buffer.
func (c *Conn) receive() ([]syscall.NetlinkMessage, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, c.buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("the kernel did not answer within %s", answerTime)
		case err != nil:
			return nil, os.NewSyscallError("recvmsg", err)
		case flags&unix.MSG_TRUNC != 0:
			return nil, fmt.Errorf("an answer is longer than %d bytes", len(c.buf))
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // another process wrote to our socket; the kernel is port 0
		}
		return syscall.ParseNetlinkMessage(c.buf[:n])
	}
}

// status is the outcome that ends an answer: none, zero or a negative errno.
func status(data []byte) error {
	if len(data) < 4 {
		return nil
	}
	if errno := int32(binary.NativeEndian.Uint32(data)); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}
