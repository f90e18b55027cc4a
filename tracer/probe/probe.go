// SPDX-License-Identifier: Apache-2.0

// Package probe sends the reproduction of a problem from inside a pod's network
// namespace and tells what an application there would have seen: connected,
// refused, timed out, no route to host. It uses plain sockets of the pod's
// namespace, opened on a thread that enters it and leaves it again; nothing is
// installed, started or changed in the pod.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Protocols of a probe.
const (
	ICMP = "icmp"
	TCP  = "tcp"
	UDP  = "udp"
)

// Spec is what to send: icmp, or tcp or udp to a port.
type Spec struct {
	Proto string
	Port  uint16 // 0 for icmp
}

// Parse reads icmp, tcp:PORT or udp:PORT.
func Parse(word string) (Spec, error) {
	proto, port, hasPort := strings.Cut(strings.ToLower(word), ":")
	switch {
	case proto == ICMP && !hasPort:
		return Spec{Proto: ICMP}, nil
	case proto == ICMP:
		return Spec{}, fmt.Errorf("bad probe %q: icmp has no ports: write icmp alone", word)
	case proto != TCP && proto != UDP:
		return Spec{}, fmt.Errorf("unknown probe %q: use icmp, tcp:PORT or udp:PORT", word)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Spec{}, fmt.Errorf("bad probe %q: write %s: and a port from 1 to 65535, as in %s:80", word, proto, proto)
	}
	return Spec{Proto: proto, Port: uint16(n)}, nil
}

// String is the probe as Parse reads it.
func (s Spec) String() string {
	if s.Port == 0 {
		return s.Proto
	}
	return fmt.Sprintf("%s:%d", s.Proto, s.Port)
}

// Timeout is how long one probe waits in all. TCP has sent its SYN three times
// by then (after 0, 1 and 3 s: RFC 6298); a neighbour that does not answer is
// given up on within it (3 s, mcast_solicit and retrans_time_ms).
const Timeout = 4 * time.Second

// Result is what came of one probe.
type Result struct {
	Spec Spec
	Src  netip.Addr // that the kernel chose; invalid when it never got to that
	Dst  netip.Addr
	// Answered tells that the other end's application (tcp: its kernel)
	// answered well: a connection, an echo reply, a datagram.
	Answered bool
	// Err is what the application would have got; nil when it would have
	// waited in vain. Only without Answered.
	Err  error
	Took time.Duration // until the answer, the error or giving up
	Sent int           // packets sent by this package; the kernel's repetitions are not counted
}

// Namespaces enters network namespaces (package node's Namespaces does).
type Namespaces interface {
	Do(inode uint32, fn func() error) error
}

// Run sends one probe from the network namespace with that inode number and
// waits for what comes of it. An error means that the probe could not be sent
// at all for a reason that is not the network's: the namespace is gone, this
// process may not use it, ctx is done.
func Run(ctx context.Context, ns Namespaces, inode uint32, spec Spec, dst netip.Addr) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r := Result{Spec: spec, Dst: dst.Unmap()}
	send := map[string]func(context.Context, *Result) error{ICMP: pingOnce, TCP: connectOnce, UDP: exchangeOnce}[spec.Proto]
	if send == nil {
		return r, fmt.Errorf("probe %s: unknown protocol", spec)
	}
	var seen error // by the application
	if err := ns.Do(inode, func() error {
		began := time.Now()
		seen = send(ctx, &r)
		r.Took = time.Since(began)
		return nil
	}); err != nil {
		return r, fmt.Errorf("probe %s to %s: %w", spec, r.Dst, err)
	}
	var errno unix.Errno
	switch {
	case seen == nil:
		r.Answered = true
	case errors.Is(seen, context.DeadlineExceeded):
	case errors.As(seen, &errno) && !errors.Is(seen, errOurs):
		r.Err = errno
	default:
		return r, fmt.Errorf("probe %s to %s: %w", spec, r.Dst, seen)
	}
	return r, nil
}

// errOurs marks failures that an application would not have had.
var errOurs = errors.New("cannot probe")

// String is the application's view in a few words, such as "connected in 0.4
// ms" or "connection refused after 0.3 ms".
func (r Result) String() string {
	took := fmt.Sprintf("%.1f ms", float64(r.Took.Microseconds())/1000)
	if r.Took >= time.Second {
		took = fmt.Sprintf("%.1f s", r.Took.Seconds())
	}
	switch {
	case r.Answered && r.Spec.Proto == TCP:
		return "connected in " + took
	case r.Answered:
		return "answered in " + took
	case r.Err != nil:
		return r.Err.Error() + " after " + took
	case r.Spec.Proto == UDP:
		return "no answer within " + took + " (which with UDP may just mean that the application does not answer)"
	}
	return "timed out: no answer within " + took
}

// Target is the destination as people write it: address, or address and port.
func (r Result) Target() string {
	if r.Spec.Port == 0 {
		return r.Dst.String()
	}
	return netip.AddrPortFrom(r.Dst, r.Spec.Port).String()
}
