// SPDX-License-Identifier: Apache-2.0

package node

// This file reads the sockets of a namespace. It reads them from proc, not by
// sock_diag: asking that would load its module.

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// TCP states that are told apart (include/net/tcp_states.h).
const (
	TCPEstablished = 1
	TCPSynSent     = 2
	TCPTimeWait    = 6
	TCPListen      = 10
)

// Socket is a socket of TCP or of what was asked for.
type Socket struct {
	Local, Remote netip.AddrPort
	State         int // TCPListen, ...
	// Queue is, of a listening socket, how many connections wait to be accepted;
	// else how many bytes wait to be read.
	Queue int
	// Inode is what names it among a process' open files; 0: no process has it.
	Inode uint64
}

// Sockets lists the TCP sockets of a namespace.
func (n *Namespaces) Sockets(inode uint32) (all []Socket, err error) {
	return n.SocketsOf(inode, "tcp")
}

// SocketsOf lists the sockets of a namespace of tcp, udp, raw, or icmp, which are those
// of ping: of IPv4 and IPv6.
func (n *Namespaces) SocketsOf(inode uint32, proto string) (all []Socket, err error) {
	err = n.Do(inode, func() error {
		for _, name := range []string{proto, proto + "6"} {
			file, err := os.Open("/proc/thread-self/net/" + name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // no IPv6
			}
			if err != nil {
				return err
			}
			found, err := readSockets(file)
			if err := errors.Join(err, file.Close()); err != nil {
				return fmt.Errorf("net/%s: %w", name, err)
			}
			all = append(all, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s sockets: %w", n.Place(inode), strings.ToUpper(proto), err)
	}
	return all, nil
}

// readSockets reads what get_tcp4_sock, udp4_format_sock, raw_sock_seq_show and their
// like print (net/ipv4/tcp_ipv4.c, udp.c, raw.c, ping.c, 6.12): "sl local remote st
// tx:rx tr:when retransmits uid timeout inode ...".
func readSockets(r io.Reader) (all []Socket, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[0] == "sl" {
			continue
		}
		var s Socket
		if s.Local, err = parseSocketAddr(fields[1]); err != nil {
			return nil, err
		}
		if s.Remote, err = parseSocketAddr(fields[2]); err != nil {
			return nil, err
		}
		state, err := strconv.ParseUint(fields[3], 16, 8)
		if err != nil {
			return nil, fmt.Errorf("socket state %q: %w", fields[3], err)
		}
		_, queue, _ := strings.Cut(fields[4], ":")
		waiting, err := strconv.ParseUint(queue, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("socket queue %q: %w", fields[4], err)
		}
		s.State, s.Queue = int(state), int(waiting)
		if len(fields) > 9 {
			if s.Inode, err = strconv.ParseUint(fields[9], 10, 64); err != nil {
				return nil, fmt.Errorf("socket inode %q: %w", fields[9], err)
			}
		}
		all = append(all, s)
	}
	return all, lines.Err()
}

// parseSocketAddr reads "0100007F:1F90": words of the address as the machine
// reads them, and the port as a number.
func parseSocketAddr(s string) (at netip.AddrPort, err error) {
	words, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(words)
	if err != nil || len(raw)%4 != 0 {
		return at, fmt.Errorf("socket address %q is none", s)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return at, fmt.Errorf("socket address %q is none", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}
