// SPDX-License-Identifier: Apache-2.0

package watch

// This file listens to netlink. One socket in the node's namespace hears its
// pods as well (NETLINK_LISTEN_ALL_NSID, since Linux 4.2), so that no pod's
// namespace is held open: that would keep a deleted pod's interfaces alive.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveRoom is asked for the socket's buffer, bytes.
	receiveRoom = 4 << 20
	// messageRoom holds one datagram; notifications are of a few KiB.
	messageRoom = 128 << 10
	// maxQueued bounds the messages that wait to be looked at.
	maxQueued = 1 << 15
	// attributeType masks the flags out of an attribute's type (NLA_TYPE_MASK,
	// linux/netlink.h).
	attributeType = 1<<14 - 1
	// ownNamespace is the id of messages from the socket's own namespace.
	ownNamespace = -1
)

// message is one netlink message with where and when it came from.
type message struct {
	at   time.Time
	nsid int // of the sender's namespace; ownNamespace
	kind uint16
	flag uint16
	body []byte
}

// listener is a socket and what it has heard.
type listener struct {
	file *os.File
	done chan struct{}

	mu     sync.Mutex
	heard  []message
	missed uint64 // times that the kernel, or we, had no room
	failed error  // why it hears no more
}

// listen opens a socket of a protocol in the calling thread's namespace and
// joins groups.
func listen(protocol int, groups ...int) (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	if err := join(fd, groups); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	l := &listener{file: file, done: make(chan struct{})}
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	go l.run(conn)
	return l, nil
}

func join(fd int, groups []int) error {
	// without the capability the ordinary limit holds, and losses are told
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveRoom); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveRoom); err != nil {
			return fmt.Errorf("netlink: ask for a larger buffer: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		return fmt.Errorf("netlink: listen to pods' namespaces: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fmt.Errorf("netlink: join group %d: %w", g, err)
		}
	}
	return nil
}

// run reads until the socket is closed.
func (l *listener) run(conn syscall.RawConn) {
	defer close(l.done)
	buf, control := make([]byte, messageRoom), make([]byte, 64)
	for {
		var n, oobn, flags int
		var from unix.Sockaddr
		var err error
		closed := conn.Read(func(fd uintptr) bool {
			n, oobn, flags, from, err = unix.Recvmsg(int(fd), buf, control, 0)
			return !errors.Is(err, unix.EAGAIN)
		})
		at := time.Now()
		switch {
		case closed != nil:
			return
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS), err == nil && flags&unix.MSG_TRUNC != 0:
			l.lose()
		case err != nil:
			l.mu.Lock()
			l.failed = os.NewSyscallError("recvmsg", err)
			l.mu.Unlock()
			return
		case fromKernel(from):
			l.queue(at, buf[:n], senderID(control[:oobn]))
		}
	}
}

func fromKernel(from unix.Sockaddr) bool {
	sender, ok := from.(*unix.SockaddrNetlink)
	return ok && sender.Pid == 0
}

// senderID is the id of the namespace that a datagram came from, which the
// kernel puts beside it (netlink_cmsg_listen_all_nsid, net/netlink/af_netlink.c).
func senderID(control []byte) int {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return ownNamespace
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return ownNamespace
}

func (l *listener) lose() {
	l.mu.Lock()
	l.missed++
	l.mu.Unlock()
}

// queue keeps the messages of a datagram.
func (l *listener) queue(at time.Time, datagram []byte, nsid int) {
	msgs, err := syscall.ParseNetlinkMessage(append([]byte(nil), datagram...))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || len(l.heard)+len(msgs) > maxQueued {
		l.missed++
		return
	}
	for _, m := range msgs {
		l.heard = append(l.heard, message{at: at, nsid: nsid, kind: m.Header.Type, flag: m.Header.Flags, body: m.Data})
	}
}

// take gives what was heard since the last time, and how often something was
// missed in all.
func (l *listener) take() (heard []message, missed uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard, l.heard = l.heard, nil
	return heard, l.missed, l.failed
}

func (l *listener) close() error {
	err := l.file.Close()
	<-l.done
	return err
}

// attributes splits the attributes of a message by type; of those that come
// twice the last counts.
func attributes(b []byte) map[uint16][]byte {
	all := make(map[uint16][]byte)
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return all
		}
		all[binary.NativeEndian.Uint16(b[2:])&attributeType] = b[unix.SizeofRtAttr:length]
		b = b[min(len(b), (length+3)&^3):]
	}
	return all
}

// number reads an attribute of four bytes in the machine's order; 0 if there is
// none.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
