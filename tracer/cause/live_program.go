// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node about programs: those on an interface, and those
// over a socket.

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/program"
)

// programState is what a diagnosis may ask about programs, and about counters.
type programState interface {
	// Programs lists the eBPF programs and tc filters of an interface.
	Programs(netns uint32, ifindex int) ([]program.Program, error)
	// SocketPrograms lists the cgroup programs over a packet's socket.
	SocketPrograms(netns uint32, s SocketAt) (SocketPrograms, error)
	// TunOwners are the processes that hold a tun or tap device of a namespace open. It
	// takes a look at the open files of all processes.
	TunOwners(netns uint32, name string) []TunOwner
	// Proc reads a file below /proc/net, such as sockstat.
	Proc(netns uint32, name string) (string, error)
}

// SocketAt is a socket as a packet shows it.
type SocketAt struct {
	Proto  string           // tcp, udp, icmp; of others the socket is not looked for
	Locals []netip.AddrPort // addresses it may have, before and after translation; ping's port is the identifier
	Remote netip.AddrPort
	Side   string // program.Ingress or program.Egress: what is asked for
}

// SocketPrograms are the programs over a socket.
type SocketPrograms struct {
	// Owner is the process that has the socket; PID 0: it was not found. Cgroup is the
	// one that it is in.
	Owner  program.Holder
	Cgroup string
	Mount  string // where the cgroups are in the file system
	// Programs are those on that cgroup and above it; without an owner those on the
	// cgroups of all processes of the namespace.
	Programs []program.Program
}

// TunOwner is a process behind a tun device, and what it does, as /proc/PID/status words
// it: "T (stopped)".
type TunOwner struct {
	program.Holder
	State string
}

// TunOwners implements State.
func (l *Live) TunOwners(netns uint32, name string) []TunOwner {
	all, _ := ask(l, "owners of tun "+name, netns, func() (all []TunOwner, err error) {
		host := program.NewHost(l.ns.Proc())
		for _, h := range host.TunOwners(netns, name) {
			all = append(all, TunOwner{h, host.StateOf(h.PID)})
		}
		return all, nil
	})
	return all
}

// Proc implements State.
func (l *Live) Proc(netns uint32, name string) (string, error) {
	return ask(l, "/proc/net/"+name, netns, func() (text string, err error) {
		err = l.ns.Do(netns, func() error {
			raw, err := os.ReadFile("/proc/thread-self/net/" + name)
			text = string(raw)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("%s: %w", l.ns.Place(netns), err)
		}
		return text, nil
	})
}

// Programs implements State.
func (l *Live) Programs(netns uint32, ifindex int) ([]program.Program, error) {
	return ask(l, fmt.Sprintf("programs of %d", ifindex), netns, func() (all []program.Program, err error) {
		err = l.ns.Do(netns, func() error {
			all, err = program.OnInterface(ifindex)
			return err
		})
		if errors.Is(err, node.ErrGone) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: programs: %w", l.ns.Place(netns), err)
		}
		program.NewHost(l.ns.Proc()).Whose(all)
		return all, nil
	})
}

// SocketPrograms implements State.
func (l *Live) SocketPrograms(netns uint32, s SocketAt) (SocketPrograms, error) {
	return ask(l, fmt.Sprintf("programs over %v", s), netns, func() (SocketPrograms, error) {
		out, err := l.socketPrograms(netns, s)
		if err != nil {
			return out, fmt.Errorf("%s: programs over a socket: %w", l.ns.Place(netns), err)
		}
		return out, nil
	})
}

func (l *Live) socketPrograms(netns uint32, s SocketAt) (out SocketPrograms, err error) {
	host := program.NewHost(l.ns.Proc())
	out.Mount, err = host.Cgroups()
	grouped := err == nil // without cgroups of version 2 no program hangs on them
	inode, err := l.socketOf(netns, s)
	if err != nil && !errors.Is(err, node.ErrGone) {
		return out, err
	}
	cgroups := make(map[string]bool)
	if inode != 0 {
		if owner, ok := host.SocketOwner(inode); ok {
			out.Owner = owner
			if out.Cgroup, err = host.CgroupOf(owner.PID); err != nil {
				return out, err
			}
			cgroups[out.Cgroup] = true
		}
	}
	if !grouped {
		return out, nil
	}
	if out.Owner.PID == 0 {
		for _, pid := range host.InNamespace(netns) {
			path, err := host.CgroupOf(pid)
			if err != nil {
				return out, err
			}
			cgroups[path] = true
		}
	}
	delete(cgroups, "")
	for path := range cgroups {
		found, err := host.OnCgroup(path, s.Side)
		if err != nil {
			return out, err
		}
		for _, p := range found {
			if !slices.ContainsFunc(out.Programs, func(have program.Program) bool { return have.ID == p.ID && have.Where == p.Where }) {
				out.Programs = append(out.Programs, p)
			}
		}
	}
	host.Whose(out.Programs)
	return out, nil
}

// rawPorts are the protocols that raw sockets of ping have for a port.
var rawPorts = []uint16{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}

// socketOf finds a packet's socket among those of its protocol; ping without a socket
// of its own kind has a raw one.
func (l *Live) socketOf(netns uint32, s SocketAt) (inode uint64, err error) {
	if s.Proto != "tcp" && s.Proto != "udp" && s.Proto != "icmp" {
		return 0, nil
	}
	sockets, err := l.ns.SocketsOf(netns, s.Proto)
	if inode = socketInode(sockets, s); inode != 0 || err != nil || s.Proto != "icmp" {
		return inode, err
	}
	if sockets, err = l.ns.SocketsOf(netns, "raw"); err != nil {
		return 0, err
	}
	raw := SocketAt{Remote: netip.AddrPortFrom(s.Remote.Addr(), 0)}
	for _, local := range s.Locals {
		for _, port := range rawPorts {
			raw.Locals = append(raw.Locals, netip.AddrPortFrom(local.Addr(), port))
		}
	}
	return socketInode(sockets, raw), nil
}

// socketInode finds a packet's socket: the connected one, else the one that is bound
// to its address, else to its port alone; 0 if there is none. Raw sockets have the
// protocol for a port.
func socketInode(sockets []node.Socket, s SocketAt) uint64 {
	best, rank := uint64(0), 0
	for _, local := range s.Locals {
		for _, have := range sockets {
			if have.Inode == 0 || have.Local.Port() != local.Port() {
				continue
			}
			free := have.Local.Addr().IsUnspecified()
			r := 0
			switch {
			case have.Local.Addr() == local.Addr() && have.Remote == s.Remote:
				r = 4
			case (free || have.Local.Addr() == local.Addr()) && have.Remote == netip.AddrPortFrom(s.Remote.Addr(), 0): // ping's, raw ones
				r = 3
			case have.Local.Addr() == local.Addr() && have.Remote.Addr().IsUnspecified():
				r = 2
			case free && have.Remote.Addr().IsUnspecified():
				r = 1
			}
			if r > rank {
				best, rank = have.Inode, r
			}
		}
	}
	return best
}
