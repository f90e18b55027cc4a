// SPDX-License-Identifier: Apache-2.0

// A UDP flood with exact counts, for benchmarks: so many numbered packets at
// such a rate from one pod to another, and which of them arrived.

package traffic

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/socket"
)

// FloodSpec says what to send.
type FloodSpec struct {
	Src, Dst string // pods
	IPv6     bool
	Port     int // 0: FloodPort
	Packets  int
	Rate     int // packets per second; 0: as fast as it goes
	Size     int // payload bytes, at least 8; 0: 64
}

// FloodPort is the default destination port of floods.
const FloodPort = 9000

// FloodResult counts what was sent and what arrived.
type FloodResult struct {
	Sent        int // packets the sender's stack took
	SendErrors  int // packets it refused; they are not sent again
	Received    int // different packets that arrived
	Duplicates  int
	Reordered   int // arrived after one with a higher number
	SocketDrops int // arrived, but the receiver's socket buffer was full
	SendTime    time.Duration
}

// Lost counts packets that were sent and reached no socket.
func (r FloodResult) Lost() int { return r.Sent - r.Received - r.SocketDrops }

// PPS is the rate that was reached, in packets per second.
func (r FloodResult) PPS() float64 { return float64(r.Sent) / r.SendTime.Seconds() }

// Flood timing and sizes.
const (
	floodMinSize   = 8        // run number and sequence number
	floodBuffer    = 64 << 20 // bytes of socket buffer asked for
	floodTick      = 500 * time.Microsecond
	floodIdle      = 400 * time.Millisecond // silence after the last packet that ends the count
	floodReadLimit = 50 * time.Millisecond
)

// Flood sends and counts. A cancelled context ends it early; the counts are of
// what was sent until then.
func Flood(ctx context.Context, e *cluster.Env, s FloodSpec) (FloodResult, error) {
	src, dst := e.Pod(s.Src), e.Pod(s.Dst)
	if src == nil || dst == nil {
		return FloodResult{}, fmt.Errorf("flood from %q to %q: both must be pods of this environment", s.Src, s.Dst)
	}
	if s.Port == 0 {
		s.Port = FloodPort
	}
	s.Size = max(s.Size, floodMinSize)
	if s.Size == floodMinSize {
		s.Size = 64
	}
	to := dst.IPv4
	if s.IPv6 {
		to = dst.IPv6
	}
	f := &flood{spec: s, run: rand.Uint32(), seen: make([]uint64, s.Packets/64+1)}
	if err := f.open(src.Netns, dst.Netns, netip.AddrPortFrom(to, uint16(s.Port))); err != nil {
		return FloodResult{}, fmt.Errorf("flood from %s to %s: %w", s.Src, s.Dst, err)
	}
	r, err := f.do(ctx, dst.Netns)
	f.close()
	return r, errors.Join(err, dst.Netns.AwaitFree("udp", s.Port)) // for the next flood
}

// flood is one flood on its way.
type flood struct {
	spec     FloodSpec
	run      uint32 // tells our packets from strays
	out, in  int    // sockets; 0: not open
	seen     []uint64
	received FloodResult // the receiver's part
}

func (f *flood) open(src, dst *netns.Namespace, to netip.AddrPort) error {
	family := unix.AF_INET
	any := netip.IPv4Unspecified()
	if to.Addr().Is6() {
		family, any = unix.AF_INET6, netip.IPv6Unspecified()
	}
	err := dst.Do(func() (err error) {
		if f.in, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(f.in, socket.Address(any, int(to.Port())))
	})
	if err == nil {
		err = src.Do(func() (err error) {
			if f.out, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Connect(f.out, socket.Address(to.Addr(), int(to.Port())))
		})
	}
	if err == nil {
		err = f.tune()
	}
	if err != nil {
		f.close()
	}
	return err
}

func (f *flood) tune() error {
	limit := unix.NsecToTimeval(int64(floodReadLimit))
	return errors.Join(
		unix.SetsockoptInt(f.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, floodBuffer),
		unix.SetsockoptTimeval(f.in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptInt(f.out, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, floodBuffer),
	)
}

func (f *flood) close() {
	for _, fd := range []*int{&f.in, &f.out} {
		if *fd != 0 {
			unix.Close(*fd)
			*fd = 0
		}
	}
}

// do runs sender and receiver.
func (f *flood) do(ctx context.Context, dst *netns.Namespace) (FloodResult, error) {
	before, err := socketDrops(dst, f.spec)
	if err != nil {
		return FloodResult{}, err
	}
	sent := make(chan struct{})
	counted := make(chan error, 1)
	go func() { counted <- f.receive(sent) }()
	r, err := f.send(ctx)
	close(sent)
	if err := errors.Join(err, <-counted); err != nil {
		return r, err
	}
	after, err := socketDrops(dst, f.spec)
	r.Received, r.Duplicates, r.Reordered = f.received.Received, f.received.Duplicates, f.received.Reordered
	r.SocketDrops = after - before
	return r, err
}

// send keeps to the rate on average: what is due by now goes out in one go.
func (f *flood) send(ctx context.Context) (FloodResult, error) {
	var r FloodResult
	packet := make([]byte, f.spec.Size)
	binary.BigEndian.PutUint32(packet, f.run)
	start := time.Now()
	defer func() { r.SendTime = time.Since(start) }()
	for number := 0; number < f.spec.Packets && ctx.Err() == nil; {
		due := f.spec.Packets
		if f.spec.Rate > 0 {
			due = min(due, 1+int(time.Since(start).Seconds()*float64(f.spec.Rate)))
		}
		for ; number < due; number++ {
			binary.BigEndian.PutUint32(packet[4:], uint32(number))
			if _, err := unix.Write(f.out, packet); err != nil {
				r.SendErrors++
			} else {
				r.Sent++
			}
		}
		if f.spec.Rate > 0 {
			time.Sleep(floodTick)
		}
	}
	r.SendTime = time.Since(start)
	return r, nil
}

// receive counts until the sender is done and nothing came for a while.
func (f *flood) receive(sent <-chan struct{}) error {
	buf := make([]byte, 64<<10)
	last, highest := time.Now(), -1
	for {
		n, err := unix.Read(f.in, buf)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			select {
			case <-sent:
				if time.Since(last) > floodIdle {
					return nil
				}
			default:
				last = time.Now()
			}
			continue
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		last = time.Now()
		if n >= floodMinSize && binary.BigEndian.Uint32(buf) == f.run {
			highest = f.count(int(binary.BigEndian.Uint32(buf[4:])), highest)
		}
	}
}

// count books one packet and returns the highest number seen.
func (f *flood) count(number, highest int) int {
	if number >= f.spec.Packets {
		return highest
	}
	word, bit := &f.seen[number/64], uint64(1)<<(number%64)
	if *word&bit != 0 {
		f.received.Duplicates++
		return highest
	}
	*word |= bit
	f.received.Received++
	if number < highest {
		f.received.Reordered++
	}
	return max(highest, number)
}

// socketDrops reads how many packets the receiver's socket had no room for: the
// last column of /proc/net/udp (net/ipv4/udp.c, udp4_format_sock).
func socketDrops(ns *netns.Namespace, s FloodSpec) (drops int, err error) {
	file := "/proc/thread-self/net/udp"
	if s.IPv6 {
		file += "6"
	}
	port := fmt.Sprintf(":%04X", s.Port)
	err = ns.Do(func() error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			fields := strings.Fields(scan.Text())
			if len(fields) < 13 || !strings.HasSuffix(fields[1], port) {
				continue
			}
			drops, err = strconv.Atoi(fields[12])
			return err
		}
		return errors.Join(scan.Err(), fmt.Errorf("no socket on port %d in %s", s.Port, file))
	})
	return drops, err
}
