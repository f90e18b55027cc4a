// SPDX-License-Identifier: Apache-2.0

// Package socket says to a socket what Go's net package has no words for:
// options by number, addresses as the system has them.
package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Option is one integer socket option.
type Option struct{ Level, Name, Value int }

// Set sets options on any Go socket.
func Set(conn syscall.Conn, opts ...Option) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return Control(raw, opts)
}

// Control sets options on a socket that is not connected yet, as net.Dialer and
// net.ListenConfig hand it out.
func Control(raw syscall.RawConn, opts []Option) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		for _, o := range opts {
			if err := unix.SetsockoptInt(int(fd), o.Level, o.Name, o.Value); err != nil {
				failed = fmt.Errorf("set socket option %d/%d to %d: %w", o.Level, o.Name, o.Value, err)
				return
			}
		}
	})
	return errors.Join(err, failed)
}

// Address is the system's form of an address.
func Address(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}
