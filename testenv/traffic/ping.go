// SPDX-License-Identifier: Apache-2.0

// ICMP echo over a raw socket: like ping, but in this process, with every ICMP
// error that comes back in the result.

package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/socket"
)

// ICMP types and codes used here, RFC 792 and RFC 4443.
const (
	icmpEchoReply, icmpUnreachable, icmpEcho, icmpTimeExceeded              = 0, 3, 8, 11
	icmpPortUnreachable, icmpFragNeeded                                     = 3, 4 // codes of icmpUnreachable
	icmp6Unreachable, icmp6TooBig, icmp6TimeExceeded, icmp6Echo, icmp6Reply = 1, 2, 3, 128, 129
	icmpHeaderLen, ipv6HeaderLen                                            = 8, 40
)

// pingTick is how long one receive waits before it looks at clock and context.
const pingTick = 20 * time.Millisecond

// pinger is one ping run.
type pinger struct {
	fd   int
	dst  netip.Addr
	id   uint16
	t    Spec
	r    Result
	sent map[uint16]time.Time
}

func ping(ctx context.Context, ns *netns.Namespace, dst netip.Addr, t Spec) (Result, error) {
	p := &pinger{dst: dst, id: uint16(rand.Uint32()) | 1, t: t, sent: map[uint16]time.Time{}}
	p.r.Remote = netip.AddrPortFrom(dst, 0)
	err := ns.Do(func() error {
		if err := p.open(); err != nil {
			return err
		}
		defer unix.Close(p.fd)
		return p.run(ctx)
	})
	if err != nil {
		return p.r, fmt.Errorf("ping %s from %s: %w", dst, ns.Name, err)
	}
	p.r.conclude(t)
	return p.r, nil
}

func (p *pinger) open() (err error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if p.dst.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	p.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	if err := p.setUp(); err != nil {
		return errors.Join(err, unix.Close(p.fd))
	}
	return nil
}

func (p *pinger) setUp() error {
	for _, o := range ipOptions(p.t, p.dst.Is6()) {
		if err := unix.SetsockoptInt(p.fd, o.Level, o.Name, o.Value); err != nil {
			return fmt.Errorf("set socket option %d/%d: %w", o.Level, o.Name, err)
		}
	}
	if p.t.Source.IsValid() {
		if err := unix.Bind(p.fd, socket.Address(p.t.Source, 0)); err != nil {
			return fmt.Errorf("bind to %s: %w", p.t.Source, err)
		}
	}
	tick := unix.NsecToTimeval(int64(pingTick))
	return unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tick)
}

func (p *pinger) run(ctx context.Context) error {
	for seq := uint16(1); int(seq) <= p.t.Count && ctx.Err() == nil; seq++ {
		err := unix.Sendto(p.fd, p.echo(seq), 0, socket.Address(p.dst, 0))
		if err != nil {
			p.r.fail(err)
			continue
		}
		p.r.Sent++
		p.sent[seq] = time.Now()
		if err := p.receive(ctx, seq); err != nil {
			return err
		}
		pause(ctx, p.t.Interval)
	}
	return nil
}

// echo is one echo request; the kernel sums ICMPv6 itself.
func (p *pinger) echo(seq uint16) []byte {
	b := make([]byte, icmpHeaderLen+p.t.Size)
	b[0] = icmpEcho
	if p.dst.Is6() {
		b[0] = icmp6Echo
	}
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	if p.dst.Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum is the Internet checksum, RFC 1071.
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

// receive waits until seq was answered, by a reply or an error, or time is up.
func (p *pinger) receive(ctx context.Context, seq uint16) error {
	buf := make([]byte, 64<<10)
	deadline := time.Now().Add(p.t.Timeout)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			continue
		case err != nil:
			p.r.fail(err)
			return nil
		}
		if p.take(buf[:n], from, seq) {
			return nil
		}
	}
	return nil
}

// take looks at one received message and tells whether it settles seq.
func (p *pinger) take(b []byte, from unix.Sockaddr, seq uint16) bool {
	if p.dst.Is4() {
		if len(b) < 20 || len(b) < int(b[0]&15)*4+icmpHeaderLen {
			return false
		}
		b = b[int(b[0]&15)*4:]
	}
	if len(b) < icmpHeaderLen {
		return false
	}
	kind, code := b[0], b[1]
	if kind == icmpEchoReply && p.dst.Is4() || kind == icmp6Reply && p.dst.Is6() {
		return p.isOurs(b, seq) && p.answered(len(b)-icmpHeaderLen, seq)
	}
	outcome, text := p.errorMeaning(kind, code)
	if text == "" || !p.quoted(b[icmpHeaderLen:], seq) {
		return false
	}
	p.r.Outcome = outcome
	p.r.Errors = append(p.r.Errors, fmt.Sprintf("%s from %s", text, addrOf(from)))
	return true
}

func (p *pinger) isOurs(b []byte, seq uint16) bool {
	return binary.BigEndian.Uint16(b[4:]) == p.id && binary.BigEndian.Uint16(b[6:]) == seq
}

func (p *pinger) answered(bytes int, seq uint16) bool {
	p.r.Received++
	p.r.Bytes += bytes
	p.r.RTT = append(p.r.RTT, time.Since(p.sent[seq]))
	return true
}

// quoted tells whether an ICMP error quotes our echo request.
func (p *pinger) quoted(b []byte, seq uint16) bool {
	header := ipv6HeaderLen
	if p.dst.Is4() {
		if len(b) < 20 {
			return false
		}
		header = int(b[0]&15) * 4
	}
	return len(b) >= header+icmpHeaderLen && p.isOurs(b[header:], seq)
}

// errorMeaning names an ICMP error; no name: not an error.
func (p *pinger) errorMeaning(kind, code byte) (Outcome, string) {
	if p.dst.Is6() {
		switch kind {
		case icmp6Unreachable:
			return Unreachable, fmt.Sprintf("ICMPv6 unreachable, code %d", code)
		case icmp6TooBig:
			return TooBig, "ICMPv6 packet too big"
		case icmp6TimeExceeded:
			return TTLExceeded, "ICMPv6 time exceeded"
		}
		return "", ""
	}
	switch {
	case kind == icmpUnreachable && code == icmpFragNeeded:
		return TooBig, "ICMP fragmentation needed"
	case kind == icmpUnreachable && code == icmpPortUnreachable:
		return Refused, "ICMP port unreachable"
	case kind == icmpUnreachable:
		return Unreachable, fmt.Sprintf("ICMP unreachable, code %d", code)
	case kind == icmpTimeExceeded:
		return TTLExceeded, "ICMP time exceeded"
	}
	return "", ""
}

// addrOf is the address of a received message's sender.
func addrOf(s unix.Sockaddr) netip.Addr {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(s.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(s.Addr)
	}
	return netip.Addr{}
}
