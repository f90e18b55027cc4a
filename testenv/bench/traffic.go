// SPDX-License-Identifier: Apache-2.0

// The measured traffic: what is common to its kinds. Each kind (udp.go, tcp.go)
// runs a sender and a receiver on threads inside the two pods.

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is a kind of measured traffic.
type Kind string

// The kinds.
const (
	UDP       Kind = "udp"        // 64-byte datagrams, one way, as fast as it goes
	TCPStream Kind = "tcp-stream" // one connection, one way, as fast as it goes
	TCPRR     Kind = "tcp-rr"     // one connection, 64 bytes there and back, one at a time
)

// kinds are all kinds in the order they run.
var kinds = []struct {
	kind Kind
	unit string // what is counted
	run  func(ctx context.Context, n *Node, d time.Duration) (Sample, error)
}{
	{UDP, "packets", runUDP},
	{TCPStream, "bytes", runStream},
	{TCPRR, "exchanges", runRR},
}

// Kinds lists all kinds in the order they run.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds))
	for _, k := range kinds {
		all = append(all, k.kind)
	}
	return all
}

// Sample is what one run of traffic gave.
type Sample struct {
	Units      float64       `json:"units"`       // what arrived, in the kind's unit
	Wall       time.Duration `json:"wall_ns"`     // by the clock
	CPU        time.Duration `json:"cpu_ns"`      // of the threads that do the work, softirqs included
	ReceiveCPU time.Duration `json:"receive_ns"`  // of the receiving thread
	BestUnits  float64       `json:"best_units"`  // units of the part that took the least CPU time a unit
	BestCPU    time.Duration `json:"best_cpu_ns"` // CPU time of that part
	NoRoom     int           `json:"no_room"`     // arrived, but the receiving socket was full
	SendErrors int           `json:"send_errors"` // refused by the sender's own stack
}

// Rate is units a second by the clock.
func (s Sample) Rate() float64 { return s.Units / s.Wall.Seconds() }

// CPURate is units a second of CPU time, in the best part of the run: whatever
// else runs on the machine makes parts slower and none faster.
func (s Sample) CPURate() float64 { return s.BestUnits / s.BestCPU.Seconds() }

// Measure runs traffic of a kind for a while.
func (n *Node) Measure(ctx context.Context, kind Kind, d time.Duration) (Sample, error) {
	for _, k := range kinds {
		if k.kind != kind {
			continue
		}
		s, err := k.run(ctx, n, d)
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && (s.Units == 0 || s.BestCPU <= 0) {
			err = errors.New("nothing arrived")
		}
		if err != nil {
			return s, fmt.Errorf("%s traffic from %s to %s: %w", kind, n.From.Addr, n.To.Addr, err)
		}
		return s, nil
	}
	return Sample{}, fmt.Errorf("traffic %q does not exist; take one of %v", kind, Kinds())
}

// side is one half of a run: what its thread does, and what time that took.
type side struct {
	run    func() error
	finish func() // called when it has ended, however that was

	place         place
	up            chan int // gets the thread's number
	cpuTime, wall time.Duration
}

func (s *side) do() error {
	return onThread(s.place, func() error {
		before, err := threadTime(self)
		if err != nil {
			return err
		}
		s.up <- unix.Gettid()
		start := time.Now()
		if err := s.run(); err != nil {
			return err
		}
		s.wall = time.Since(start)
		after, err := threadTime(self)
		s.cpuTime = after - before
		return err
	})
}

// both runs two sides at once and gives the time of the kernel's softirq
// threads meanwhile. m is told the threads whose time it is to take.
func (n *Node) both(sender, receiver *side, m *meter) (softirqs time.Duration, err error) {
	sender.place, receiver.place = place{n.From.netns, n.cpuSend}, place{n.To.netns, n.cpuReceive}
	sender.up, receiver.up = make(chan int, 1), make(chan int, 1)
	before, err := n.softirqd.time()
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- receiver.do() }()
	select {
	case tid := <-receiver.up:
		m.receiver, m.softirqd = tid, n.softirqd
	case err := <-done:
		return 0, err
	}
	err = sender.do()
	sender.finish()
	if err := errors.Join(err, <-done); err != nil {
		return 0, err
	}
	after, err := n.softirqd.time()
	return after - before, err
}

// Ports of the measured traffic.
const (
	udpPort    = 7101
	streamPort = 7102
	rrPort     = 7103
)

// giveUp bounds every wait in a socket: a run on a machine that is busy with
// other things may starve, one that hangs must end.
const giveUp = 20 * time.Second

// socket makes a blocking socket in a pod that gives up after a while.
func socket(p *Pod, kind int, limit time.Duration) (fd int, err error) {
	err = onThread(place{p.netns, anyCPU}, func() error {
		if fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		tv := unix.NsecToTimeval(int64(limit))
		err := errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		)
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("make a socket in %s: %w", p.Name, err)
	}
	return fd, nil
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
}
