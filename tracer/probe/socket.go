// SPDX-License-Identifier: Apache-2.0

package probe

// This file wraps the sockets that a probe uses. They are non-blocking and
// waited for in short steps on the thread that opened them, so that everything
// happens in the pod's namespace and ends when the context does.

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// step bounds how long a cancelled probe goes on.
const step = 50 * time.Millisecond

// socket is a connected socket.
type socket struct {
	fd  int
	dst netip.Addr
}

// open makes a socket of the destination's family. Failures are ours, not an
// application's.
func open(dst netip.Addr, kind, proto int) (*socket, error) {
	family := unix.AF_INET6
	if dst.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("%w: open a socket: %w", errOurs, err)
	}
	return &socket{fd: fd, dst: dst}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) } // nothing was left to be written

// connect names the other end; for TCP it waits for the connection.
func (s *socket) connect(ctx context.Context, port uint16) error {
	err := unix.Connect(s.fd, sockaddr(s.dst, port))
	if err != unix.EINPROGRESS {
		return err
	}
	if _, err := s.wait(ctx, unix.POLLOUT); err != nil {
		return err
	}
	return s.pending()
}

// pending is the error that the kernel holds for the application (SO_ERROR).
func (s *socket) pending() error {
	code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("%w: ask for the socket's error: %w", errOurs, err)
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

// wait waits until the socket has one of the events, or an error.
func (s *socket) wait(ctx context.Context, events int16) (int16, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		poll := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
		n, err := unix.Poll(poll, int(step.Milliseconds()))
		if err != nil && err != unix.EINTR {
			return 0, fmt.Errorf("%w: poll: %w", errOurs, err)
		}
		if n > 0 {
			return poll[0].Revents, nil
		}
	}
}

// receive waits for a packet, or for the error that came in its stead.
func (s *socket) receive(ctx context.Context, into []byte) (int, error) {
	for {
		if _, err := s.wait(ctx, unix.POLLIN); err != nil {
			return 0, err
		}
		n, err := unix.Read(s.fd, into)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		return n, err
	}
}

// local is the address that the kernel chose.
func (s *socket) local() netip.Addr {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.Addr{}
	}
	var addr netip.Addr
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		addr = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		addr = netip.AddrFrom16(a.Addr)
	}
	if addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
}
