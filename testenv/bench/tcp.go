// SPDX-License-Identifier: Apache-2.0

// TCP: one connection, either a stream one way or small exchanges one at a time.

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	streamChunk = 128 << 10 // bytes a system call
	rrSize      = 64        // bytes each way
)

// connection is both ends of one.
type connection struct{ client, server int }

// connect makes a connection from the sending to the receiving pod.
func connect(n *Node, port int) (c connection, err error) {
	listener, err := socket(n.To, unix.SOCK_STREAM, giveUp)
	if err != nil {
		return c, err
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, sockaddr(n.To.Addr, port)); err != nil {
		return c, fmt.Errorf("bind to port %d: %w", port, err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return c, fmt.Errorf("listen: %w", err)
	}
	if c.client, err = socket(n.From, unix.SOCK_STREAM, giveUp); err != nil {
		return c, err
	}
	if err := unix.Connect(c.client, sockaddr(n.To.Addr, port)); err != nil {
		return c, errors.Join(fmt.Errorf("connect: %w", err), unix.Close(c.client))
	}
	if c.server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
		return c, errors.Join(fmt.Errorf("accept: %w", err), unix.Close(c.client))
	}
	tv := unix.NsecToTimeval(int64(giveUp))
	err = errors.Join(
		unix.SetsockoptTimeval(c.server, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptInt(c.client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(c.server, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	)
	if err != nil {
		return c, errors.Join(fmt.Errorf("set up a connection: %w", err), c.close())
	}
	return c, nil
}

func (c connection) close() error {
	return errors.Join(unix.Close(c.client), unix.Close(c.server))
}

// run lets two functions work on the connection until the client's is through
// and has closed its direction.
func (c connection) run(n *Node, m *meter, client, server func() error) (s Sample, err error) {
	var closing error
	sender := &side{run: client, finish: func() { closing = unix.Shutdown(c.client, unix.SHUT_WR) }}
	receiver := &side{run: server}
	softirqs, err := n.both(sender, receiver, m)
	return Sample{Wall: sender.wall, CPU: sender.cpuTime + receiver.cpuTime + softirqs, ReceiveCPU: receiver.cpuTime,
			BestUnits: float64(m.bestUnits), BestCPU: m.bestCPU},
		errors.Join(err, closing)
}

func runStream(ctx context.Context, n *Node, d time.Duration) (Sample, error) {
	c, err := connect(n, streamPort)
	if err != nil {
		return Sample{}, err
	}
	var got atomic.Int64
	var during int64
	m := &meter{units: got.Load, withReceiver: true}
	send := func() error {
		buf := make([]byte, streamChunk)
		end := time.Now().Add(d)
		for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
			if err := m.tick(now); err != nil {
				return err
			}
			if _, err := again(func() (int, error) { return unix.Write(c.client, buf) }); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		during = got.Load() // what is in the buffers still is not of this time
		return m.end()
	}
	receive := func() error {
		buf := make([]byte, 2*streamChunk)
		for {
			k, err := again(func() (int, error) { return unix.Read(c.server, buf) })
			if err != nil {
				return fmt.Errorf("read: %w", err)
			}
			if k == 0 {
				return nil
			}
			got.Add(int64(k))
		}
	}
	s, err := c.run(n, m, send, receive)
	s.Units = float64(during)
	return s, errors.Join(err, c.close())
}

func runRR(ctx context.Context, n *Node, d time.Duration) (Sample, error) {
	c, err := connect(n, rrPort)
	if err != nil {
		return Sample{}, err
	}
	made := 0
	m := &meter{units: func() int64 { return int64(made) }, withReceiver: true}
	ask := func() error {
		buf := make([]byte, rrSize)
		end := time.Now().Add(d)
		for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
			if err := m.tick(now); err != nil {
				return err
			}
			if _, err := again(func() (int, error) { return unix.Write(c.client, buf) }); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			for k := 0; k < rrSize; {
				got, err := again(func() (int, error) { return unix.Read(c.client, buf[k:]) })
				if err == nil && got == 0 {
					err = errors.New("the other end closed")
				}
				if err != nil {
					return fmt.Errorf("read: %w", err)
				}
				k += got
			}
			made++
		}
		return m.end()
	}
	answer := func() error {
		buf := make([]byte, rrSize)
		for {
			k, err := again(func() (int, error) { return unix.Read(c.server, buf) })
			if err == nil && k > 0 {
				_, err = again(func() (int, error) { return unix.Write(c.server, buf[:k]) })
			}
			if err != nil || k == 0 {
				return err
			}
		}
	}
	s, err := c.run(n, m, ask, answer)
	s.Units = float64(made)
	return s, errors.Join(err, c.close())
}

// again repeats a system call that a signal interrupted: the Go runtime sends
// them to threads that run for long.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
