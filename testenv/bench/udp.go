// SPDX-License-Identifier: Apache-2.0

// UDP: one flow of small datagrams, sent and taken in batches so that the way
// through the node, not the system calls, is what takes the time. With veth the
// whole way up to the receiving socket is run by the sending thread, in softirqs
// on top of it.

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	udpSize   = 64                    // payload bytes
	udpBatch  = 64                    // datagrams a system call
	udpBuffer = 64 << 20              // bytes of socket buffer asked for: the receiver may be kept from its CPU
	udpQuiet  = 50 * time.Millisecond // silence after the last packet that ends the count
	skDrops   = 8                     // include/uapi/linux/sock_diag.h: SK_MEMINFO_DROPS
	skMemVars = 9                     // likewise: SK_MEMINFO_VARS
)

// mmsghdr is struct mmsghdr, include/linux/socket.h.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is room for one sendmmsg or recvmmsg.
type batch struct {
	bytes [udpBatch][udpSize]byte
	iov   [udpBatch]unix.Iovec
	msgs  [udpBatch]mmsghdr
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.msgs {
		b.iov[i].Base = &b.bytes[i][0]
		b.iov[i].SetLen(udpSize)
		b.msgs[i].hdr.Iov = &b.iov[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// call is sendmmsg(2) or recvmmsg(2) on the whole batch; it gives the number of
// messages.
func (b *batch) call(trap uintptr, fd, flags int) (int, error) {
	n, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), udpBatch, uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// udpRun is one run.
type udpRun struct {
	in, out  int
	d        time.Duration
	done     atomic.Bool // the sender is
	received int
	sent     int
	refused  int
}

func runUDP(ctx context.Context, n *Node, d time.Duration) (s Sample, err error) {
	r := &udpRun{d: d}
	if r.in, err = socket(n.To, unix.SOCK_DGRAM, udpQuiet); err != nil {
		return s, err
	}
	defer unix.Close(r.in)
	if r.out, err = socket(n.From, unix.SOCK_DGRAM, giveUp); err != nil {
		return s, err
	}
	defer unix.Close(r.out)
	err = errors.Join(
		unix.SetsockoptInt(r.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, udpBuffer),
		unix.SetsockoptInt(r.out, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, udpBuffer),
	)
	if err != nil {
		return s, fmt.Errorf("set the socket buffers: %w", err)
	}
	if err := unix.Bind(r.in, sockaddr(n.To.Addr, udpPort)); err != nil {
		return s, fmt.Errorf("bind to port %d: %w", udpPort, err)
	}
	if err := unix.Connect(r.out, sockaddr(n.To.Addr, udpPort)); err != nil {
		return s, fmt.Errorf("connect: %w", err)
	}
	m := &meter{units: func() int64 { return int64(r.sent) }}
	sender := &side{run: func() error { return r.send(ctx, m) }, finish: func() { r.done.Store(true) }}
	receiver := &side{run: r.receive}
	softirqs, err := n.both(sender, receiver, m)
	if err != nil {
		return s, err
	}
	dropped, err := socketDrops(r.in)
	s = Sample{Units: float64(r.received + dropped), Wall: sender.wall, CPU: sender.cpuTime + softirqs,
		ReceiveCPU: receiver.cpuTime, BestUnits: float64(m.bestUnits), BestCPU: m.bestCPU, NoRoom: dropped, SendErrors: r.refused}
	if lost := r.sent - r.received - dropped; lost != 0 && err == nil {
		err = fmt.Errorf("%d of %d packets got lost on the way: the node is not as it should be", lost, r.sent)
	}
	return s, err
}

func (r *udpRun) send(ctx context.Context, m *meter) error {
	b := newBatch()
	end := time.Now().Add(r.d)
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
		if err := m.tick(now); err != nil {
			return err
		}
		n, err := b.call(unix.SYS_SENDMMSG, r.out, 0)
		switch err {
		case nil:
			r.sent += n
		case unix.EINTR:
		case unix.ENOBUFS, unix.EAGAIN: // a queue is full: nothing was sent
			r.refused += udpBatch
		default:
			return fmt.Errorf("send: %w", err)
		}
	}
	return m.end()
}

// receive counts until the sender is done and nothing has come for a while.
func (r *udpRun) receive() error {
	b := newBatch()
	for {
		over := r.done.Load() // asked before waiting: what was sent before is there
		n, err := b.call(unix.SYS_RECVMMSG, r.in, unix.MSG_WAITFORONE)
		switch err {
		case nil:
			r.received += n
		case unix.EINTR:
		case unix.EAGAIN:
			if over {
				return nil
			}
		default:
			return fmt.Errorf("receive: %w", err)
		}
	}
}

// socketDrops asks a socket how many packets it had no room for.
func socketDrops(fd int) (int, error) {
	var mem [skMemVars]uint32
	size := uint32(unsafe.Sizeof(mem))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&mem)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("ask a socket for its drops: %w", errno)
	}
	return int(mem[skDrops]), nil
}
