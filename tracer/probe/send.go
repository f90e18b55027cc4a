// SPDX-License-Identifier: Apache-2.0

package probe

// This file has what is sent: a connection, a datagram, an echo request.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// tries is how often a datagram or echo request is sent until an answer comes.
const tries = 3

// payload is what datagrams carry: it tells who they are from.
const payload = "pathtrace probe\n"

// connectOnce opens a TCP connection and closes it.
func connectOnce(ctx context.Context, r *Result) error {
	s, err := open(r.Dst, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer s.close()
	r.Sent = 1
	err = s.connect(ctx, r.Spec.Port)
	r.Src = s.local()
	return err
}

// exchangeOnce sends datagrams until one is answered.
func exchangeOnce(ctx context.Context, r *Result) error {
	s, err := open(r.Dst, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.connect(ctx, r.Spec.Port); err != nil {
		return err
	}
	r.Src = s.local()
	buffer := make([]byte, 1)
	return repeat(ctx, func(ctx context.Context, _ int) error {
		if _, err := unix.Write(s.fd, []byte(payload)); err != nil {
			return err
		}
		r.Sent++
		_, err := s.receive(ctx, buffer)
		return err
	})
}

// repeat tries something until it does not end for want of time, giving each
// try its share.
func repeat(ctx context.Context, try func(context.Context, int) error) error {
	for i := range tries {
		limit, ok := ctx.Deadline()
		if !ok {
			return errors.New("no deadline") // Run sets one
		}
		share := time.Until(limit) / time.Duration(tries-i)
		one, cancel := context.WithTimeout(ctx, share)
		err := try(one, i)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
	return context.DeadlineExceeded
}

// ICMP types (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// pingOnce sends echo requests until one is answered.
func pingOnce(ctx context.Context, r *Result) error {
	s, raw, err := openPing(r)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.connect(ctx, 0); err != nil {
		return err
	}
	r.Src = s.local()
	id := uint16(rand.Uint32())
	return repeat(ctx, func(ctx context.Context, i int) error {
		if _, err := unix.Write(s.fd, echo(r.Dst.Is4(), id, uint16(i+1))); err != nil {
			return err
		}
		r.Sent++
		return awaitEcho(ctx, s, r.Dst.Is4(), raw, id)
	})
}

// openPing makes a raw socket or, where that takes a capability this process
// lacks, a ping socket, which net.ipv4.ping_group_range may allow. Errors that
// come back by ICMP are asked for (IP_RECVERR): ping shows them too.
func openPing(r *Result) (s *socket, raw bool, err error) {
	proto, level, option := unix.IPPROTO_ICMPV6, unix.SOL_IPV6, unix.IPV6_RECVERR
	if r.Dst.Is4() {
		proto, level, option = unix.IPPROTO_ICMP, unix.SOL_IP, unix.IP_RECVERR
	}
	s, err = open(r.Dst, unix.SOCK_RAW, proto)
	if raw = err == nil; errors.Is(err, unix.EPERM) {
		if s, err = open(r.Dst, unix.SOCK_DGRAM, proto); err != nil {
			return nil, false, fmt.Errorf("%w (CAP_NET_RAW is needed)", err)
		}
	}
	if err != nil {
		return nil, false, err
	}
	if err := unix.SetsockoptInt(s.fd, level, option, 1); err != nil {
		s.close()
		return nil, false, fmt.Errorf("%w: ask for ICMP errors: %w", errOurs, err)
	}
	return s, raw, nil
}

// awaitEcho waits for the reply to one of our requests: a raw socket sees all
// ICMP from the other end.
func awaitEcho(ctx context.Context, s *socket, ipv4, raw bool, id uint16) error {
	want := byte(echoReply6)
	if ipv4 {
		want = echoReply4
	}
	buffer := make([]byte, 1500)
	for {
		n, err := s.receive(ctx, buffer)
		if err != nil {
			return err
		}
		message := buffer[:n]
		if raw && ipv4 { // comes with its IP header
			if n < 20 || n < int(message[0]&0x0f)*4 {
				continue
			}
			message = message[int(message[0]&0x0f)*4:]
		}
		if len(message) < 8 || message[0] != want {
			continue
		}
		if got := binary.BigEndian.Uint16(message[4:]); got == id || !raw { // a ping socket has an id of its own
			return nil
		}
	}
}

// echo makes an echo request. The kernel fills in ICMPv6's checksum.
func echo(ipv4 bool, id, seq uint16) []byte {
	m := make([]byte, 8, 8+len(payload))
	m[0] = echoRequest6
	if ipv4 {
		m[0] = echoRequest4
	}
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], seq)
	m = append(m, payload...)
	if ipv4 {
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	return m
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
