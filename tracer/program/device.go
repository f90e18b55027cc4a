// SPDX-License-Identifier: Apache-2.0

package program

// This file reads what is attached to an interface. All of it is asked in the
// interface's own network namespace: an index says nothing in another.

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OnInterface lists the programs and tc filters of an interface of the network
// namespace that the calling thread is in, in the order in which packets come by them.
// Interfaces that are gone have none.
func OnInterface(index int) ([]Program, error) {
	dev, err := netlink.LinkByIndex(index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", index, err)
	}
	all := xdpOf(dev)
	for _, read := range []func(netlink.Link) ([]Program, error){queried, filters} {
		found, err := read(dev)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dev.Attrs().Name, err)
		}
		all = append(all, found...)
	}
	for i := range all {
		if all[i].ID == 0 {
			continue
		}
		if err := all[i].describe(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// xdpModes are XDP's by XDP_ATTACHED_DRV and its like (include/uapi/linux/if_link.h).
var xdpModes = map[uint32]string{1: "native", 2: "generic", 3: "offloaded", 4: "several modes"}

func xdpOf(dev netlink.Link) []Program {
	at := dev.Attrs().Xdp
	if at == nil || !at.Attached {
		return nil
	}
	return []Program{{How: XDP, Side: xdpModes[at.AttachMode], Where: dev.Attrs().Name, ID: at.ProgId}}
}

// queries are the attachments that BPF_PROG_QUERY knows of interfaces: tcx since 6.6,
// netkit since 6.7.
var queries = []struct {
	how, side string
	as        ebpf.AttachType
}{
	{TCX, Ingress, ebpf.AttachTCXIngress},
	{TCX, Egress, ebpf.AttachTCXEgress},
	{Netkit, "primary", ebpf.AttachNetkitPrimary},
	{Netkit, "peer", ebpf.AttachNetkitPeer},
}

// queried lists them. A kernel that does not know an attachment, and a device that is
// no netkit or is one's peer, say EINVAL, ENXIO, EACCES or EOPNOTSUPP
// (net/core/filter.c, kernel/bpf/syscall.c, drivers/net/netkit.c, 6.12).
func queried(dev netlink.Link) (all []Program, err error) {
	for _, q := range queries {
		if q.how == Netkit && dev.Type() != "netkit" {
			continue
		}
		found, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: q.as})
		switch {
		case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EACCES), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODEV):
			continue
		case err != nil:
			return nil, fmt.Errorf("%s %s: %w", q.how, q.side, err)
		}
		for _, p := range found.Programs {
			id, _ := p.LinkID()
			all = append(all, Program{How: q.how, Side: q.side, Where: dev.Attrs().Name, ID: uint32(p.ID), Link: uint32(id)})
		}
	}
	return all, nil
}

// filters lists the tc filters at ingress and egress (the qdiscs clsact and ingress).
func filters(dev netlink.Link) (all []Program, err error) {
	for _, at := range []struct {
		side   string
		parent uint32
	}{{Ingress, netlink.HANDLE_MIN_INGRESS}, {Egress, netlink.HANDLE_MIN_EGRESS}} {
		found, err := netlink.FilterList(dev, at.parent)
		if err != nil {
			return nil, fmt.Errorf("tc filters at %s: %w", at.side, err)
		}
		for _, f := range found {
			if p, ok := filter(f); ok {
				p.Side, p.Where = at.side, dev.Attrs().Name
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// filter reads one; ok is false for what is no filter by itself (u32's hash tables).
func filter(f netlink.Filter) (p Program, ok bool) {
	a := f.Attrs()
	p = Program{How: TCFilter, Filter: fmt.Sprintf("pref %d %s", a.Priority, f.Type())}
	if a.Chain != nil && *a.Chain != 0 {
		p.Filter += fmt.Sprintf(" chain %d", *a.Chain)
	}
	if a.Handle != 0 {
		p.Filter += fmt.Sprintf(" handle %#x", a.Handle)
	}
	switch f := f.(type) {
	case *netlink.BpfFilter:
		p.ID = uint32(f.Id)
		if f.Name != "" {
			p.Filter += " " + f.Name
		}
		if f.DirectAction {
			p.Filter += " direct-action"
		}
	case *netlink.U32:
		p.Redirect = redirect(f.Actions)
		if f.Divisor != 0 {
			return p, false
		}
		p.Harmless = harmless(f.Actions) && (f.Police == nil || f.Police.ExceedAction != netlink.TC_POLICE_SHOT)
	case *netlink.MatchAll:
		p.Redirect = redirect(f.Actions)
		p.Harmless = harmless(f.Actions)
	case *netlink.Flower:
		p.Redirect = redirect(f.Actions)
		p.Harmless = harmless(f.Actions)
	}
	return p, true
}

// redirect is the interface to which the first action that does so sends packets away.
func redirect(actions []netlink.Action) int {
	for _, a := range actions {
		if m, ok := a.(*netlink.MirredAction); ok && (m.MirredAction == netlink.TCA_EGRESS_REDIR || m.MirredAction == netlink.TCA_INGRESS_REDIR) {
			return m.Ifindex
		}
	}
	return 0
}

// harmless tells that no action of a list is to drop.
func harmless(actions []netlink.Action) bool {
	for _, a := range actions {
		switch a := a.(type) {
		case *netlink.PoliceAction:
			if a.ExceedAction == netlink.TC_POLICE_SHOT || a.NotExceedAction == netlink.TC_POLICE_SHOT {
				return false
			}
		case *netlink.BpfAction:
			return false // the program says
		default:
			if a.Attrs().Action == netlink.TC_ACT_SHOT {
				return false
			}
		}
	}
	return true
}
