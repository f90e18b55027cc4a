// SPDX-License-Identifier: Apache-2.0

// When a port is free again. Closing a socket does not end it while another
// process holds a copy, and one that this process is just starting holds copies
// of all sockets, those marked close-on-exec too, until it executes its program:
// on a busy machine for many milliseconds. As long as that lasts nobody else can
// have the port, and what is sent to it is not refused.

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// portFreeLimit bounds the wait for a port: a process that has not executed its
// program by then never will.
const portFreeLimit = 10 * time.Second

// tcpListen is TCP_LISTEN (include/net/tcp_states.h).
const tcpListen = 10

// AwaitFree waits until no socket in the namespace serves a port any more:
// none that listens to it over "tcp", none that is bound to it over "udp".
func (n *Namespace) AwaitFree(proto string, port int) error {
	for deadline := time.Now().Add(portFreeLimit); ; time.Sleep(time.Millisecond) {
		serving, err := n.Serving(proto, port)
		switch {
		case err != nil:
			return err
		case len(serving) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s port %d in %s is still served %v after it was closed: another process holds the socket", proto, port, n.Name, portFreeLimit)
		}
	}
}

// Serving gives the inodes of the sockets that serve a port.
func (n *Namespace) Serving(proto string, port int) (inodes []string, err error) {
	err = n.Do(func() error {
		for _, table := range []string{proto, proto + "6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + table)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				if inode, ok := servingSocket(line, proto, port); ok {
					inodes = append(inodes, inode)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s sockets in %s: %w", proto, n.Name, err)
	}
	return inodes, nil
}

// servingSocket reads one line of /proc/net/tcp or udp (tcp4_seq_show in
// net/ipv4/tcp_ipv4.c): number, local address and port, remote ones, state, four
// fields of queues and timers, user, a timeout, inode. The head is no socket.
func servingSocket(line, proto string, port int) (inode string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 {
		return "", false
	}
	_, local, _ := strings.Cut(fields[1], ":")
	number, err := strconv.ParseUint(local, 16, 16)
	if err != nil || int(number) != port {
		return "", false
	}
	state, err := strconv.ParseUint(fields[3], 16, 8)
	return fields[9], err == nil && (proto == "udp" || state == tcpListen)
}
