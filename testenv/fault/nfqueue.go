// SPDX-License-Identifier: Apache-2.0

// A program that listens on a netfilter queue (NFQUEUE, nft's queue) and says of
// each packet that it may go on, or not.

package fault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_queue.h (6.18).
const (
	subsysQueue                            = 3
	queuePacket, queueVerdict, queueConfig = 0, 1, 2

	queueConfigCommand, queueConfigParams = 1, 2
	queuePacketHeader, queueVerdictHeader = 1, 2

	queueBind     = 1
	queueCopyMeta = 1

	verdictDrop, verdictAccept = 0, 1
)

// QueueListener listens on a queue.
type QueueListener struct {
	number uint16
	accept bool
	fd     int
	closed atomic.Bool
	done   chan error
	// Taken counts the packets it was handed.
	Taken atomic.Int64
}

// ListenQueue begins to listen on a queue of a namespace; accept is what it says
// of every packet.
func ListenQueue(ns *netns.Namespace, number uint16, accept bool) (*QueueListener, error) {
	l := &QueueListener{number: number, accept: accept, done: make(chan error, 1)}
	err := ns.Do(func() (err error) {
		l.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on queue %d: %w", number, err)
	}
	bind := attribute(queueConfigCommand, []byte{queueBind, 0, 0, 0})
	params := attribute(queueConfigParams, []byte{0, 0, 0, 0, queueCopyMeta})
	err = errors.Join(
		unix.SetsockoptTimeval(l.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		l.send(queueConfig, unix.NLM_F_ACK, bind), l.answered(), l.send(queueConfig, unix.NLM_F_ACK, params), l.answered())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on queue %d: %w", number, err), unix.Close(l.fd))
	}
	go func() { l.done <- l.serve() }()
	return l, nil
}

// Close ends it. What waits in the queue is dropped.
func (l *QueueListener) Close() error {
	l.closed.Store(true)
	return errors.Join(<-l.done, unix.Close(l.fd))
}

func (l *QueueListener) send(kind, flags uint16, body []byte) error {
	b := ctMessage(kind, flags, body)
	binary.NativeEndian.PutUint16(b[4:], subsysQueue<<8|kind)
	b[unix.NLMSG_HDRLEN] = unix.AF_UNSPEC
	binary.BigEndian.PutUint16(b[unix.NLMSG_HDRLEN+2:], l.number)
	return unix.Sendto(l.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// answered reads the answer to a message.
func (l *QueueListener) answered() error {
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(l.fd, b, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 {
		return fmt.Errorf("answer of %d bytes", n)
	}
	if errno := -int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// serve says its verdict of every packet.
func (l *QueueListener) serve() error {
	b := make([]byte, 65536)
	for !l.closed.Load() {
		n, _, err := unix.Recvfrom(l.fd, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("queue %d: %w", l.number, err)
		}
		const header = unix.NLMSG_HDRLEN + 4 // and struct nfgenmsg
		if n < header+8 || binary.NativeEndian.Uint16(b[4:]) != subsysQueue<<8|queuePacket ||
			binary.NativeEndian.Uint16(b[header+2:]) != queuePacketHeader {
			continue // struct nfqnl_msg_packet_hdr comes first
		}
		verdict := uint32(verdictDrop)
		if l.accept {
			verdict = verdictAccept
		}
		l.Taken.Add(1)
		body := binary.BigEndian.AppendUint32(nil, verdict)
		body = append(body, b[header+4:header+8]...) // the packet's id
		if err := l.send(queueVerdict, 0, attribute(queueVerdictHeader, body)); err != nil {
			return fmt.Errorf("queue %d: %w", l.number, err)
		}
	}
	return nil
}
