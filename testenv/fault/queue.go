// SPDX-License-Identifier: Apache-2.0

// Faults of queues that somebody does not empty: a server that does not accept
// or read, a shaper whose rate others use up.

package fault

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/socket"
)

func queueFaults() []Fault {
	return []Fault{
		{Name: "accept-queue", Code: "queue-full", Kinds: anyKind,
			Doc: "the server in the destination pod does not accept: its listening socket's queue is full", Apply: lazyServer},
		{Name: "socket-buffer", Code: "queue-full", Kinds: anyKind,
			Doc: "the server in the destination pod does not read: its socket's buffer is full", Apply: lazyServer},
		{Name: "shaper", Code: "queue-full", Kinds: anyKind,
			Doc: "a shaper on the destination pod's interface on the node has its rate used up by other traffic", Apply: shaper},
	}
}

// lazyServer replaces the server by a socket that nobody looks at, and fills it.
func lazyServer(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.dst == nil || f.Proto == "icmp" {
		return nil, errors.New("the traffic must be TCP or UDP to a pod")
	}
	fill := fillAcceptQueue
	if f.Proto == "udp" {
		fill = fillBuffer
	}
	ns := f.dst.Netns
	return apply(f.dst.FullName(), func(a *Applied) error {
		return a.then(func() error { return e.StopServing(ns, f.Proto, f.Port) }, func() error { return e.Serve(ns, f.Proto, f.Port) })
	}, func(a *Applied) error {
		var open sockets
		// the server that comes back needs the port
		release := func() error { return errors.Join(open.close(), ns.AwaitFree(f.Proto, f.Port)) }
		return a.then(func() error {
			err := ns.Do(func() error { return fill(&open, netip.AddrPortFrom(f.dst.IPv4, uint16(f.Port))) })
			if err != nil {
				return errors.Join(fmt.Errorf("fill %s port %d of %s: %w", f.Proto, f.Port, f.dst.FullName(), err), release())
			}
			return nil
		}, release)
	})
}

// sockets are those that a fault holds.
type sockets []int

func (s *sockets) open(kind int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		*s = append(*s, fd)
	}
	return fd, err
}

func (s *sockets) close() error {
	var errs []error
	for _, fd := range *s {
		errs = append(errs, unix.Close(fd))
	}
	*s = nil
	return errors.Join(errs...)
}

// fillAcceptQueue listens with the shortest queue there is, which one connection
// fills (sk_acceptq_is_full, include/net/sock.h).
func fillAcceptQueue(s *sockets, at netip.AddrPort) error {
	server, err := s.open(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(server, socket.Address(netip.IPv4Unspecified(), int(at.Port()))); err != nil {
		return err
	}
	if err := unix.Listen(server, 0); err != nil {
		return err
	}
	client, err := s.open(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	return unix.Connect(client, socket.Address(at.Addr(), int(at.Port())))
}

// fillBuffer binds a socket with the smallest buffer there is (SOCK_MIN_RCVBUF,
// include/net/sock.h) and sends it more than that holds.
func fillBuffer(s *sockets, at netip.AddrPort) error {
	server, err := s.open(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		return err
	}
	if err := unix.Bind(server, socket.Address(netip.IPv4Unspecified(), int(at.Port()))); err != nil {
		return err
	}
	client, err := s.open(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	for _, size := range []int{512, 1} { // the small ones fill what the large ones leave
		for range 32 {
			if err := unix.Sendto(client, make([]byte, size), 0, socket.Address(at.Addr(), int(at.Port()))); err != nil {
				return err
			}
		}
	}
	return nil
}

// A token bucket that lets one small packet through now and then, and what keeps
// it busy.
const (
	shaperRate  = 10   // bytes a second
	shaperBurst = 1600 // bytes
	shaperQueue = 400  // bytes
	noiseSize   = 8    // bytes: no larger packet finds room where this does not
	noiseEvery  = 2 * time.Millisecond
	noiseFirst  = 30 // datagrams at once, to use the burst up
	noisePort   = 9  // discard
)

func shaper(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	pod, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	ns := pod.Node.Netns
	index, err := ns.LinkIndex(pod.HostInterface)
	if err != nil {
		return nil, err
	}
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       shaperRate, Limit: shaperQueue, Buffer: netlink.Xmittime(shaperRate, shaperBurst),
	}
	return apply(pod.Node.Name, func(a *Applied) error {
		return a.then(func() error { return ns.Link().QdiscAdd(tbf) }, func() error { return ns.Link().QdiscDel(tbf) })
	}, noise(ns, netip.AddrPortFrom(pod.IPv4, noisePort)))
}

// noise sends datagrams that nobody waits for, until it is undone.
func noise(ns *netns.Namespace, to netip.AddrPort) func(*Applied) error {
	return func(a *Applied) error {
		var s sockets
		var fd int
		err := ns.Do(func() (err error) {
			fd, err = s.open(unix.SOCK_DGRAM)
			return err
		})
		if err != nil {
			return err
		}
		// what does not get through is what is wanted
		send := func() {
			_ = unix.Sendto(fd, make([]byte, noiseSize), unix.MSG_DONTWAIT, socket.Address(to.Addr(), int(to.Port())))
		}
		for range noiseFirst {
			send()
		}
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(noiseEvery); ; {
				select {
				case <-stop:
					tick.Stop()
					return
				case <-tick.C:
					send()
				}
			}
		}()
		a.undo = append(a.undo, func() error {
			close(stop)
			<-ended
			return s.close()
		})
		return nil
	}
}
