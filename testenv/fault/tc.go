// SPDX-License-Identifier: Apache-2.0

// Faults of programs on an interface: a tc filter, an XDP program.

package fault

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

func programFaults() []Fault {
	return []Fault{
		{Name: "tc-drop", Code: "tc-drop", Kinds: anyKind,
			Doc: "a tc program at ingress of the source pod's interface on the node drops IPv4", Apply: tcDrop(netlink.HANDLE_MIN_INGRESS, sourceEnd)},
		{Name: "tc-drop-egress", Code: "tc-drop", Kinds: anyKind,
			Doc: "a tc program at egress of the destination pod's interface on the node drops IPv4", Apply: tcDrop(netlink.HANDLE_MIN_EGRESS, destinationEnd)},
		{Name: "xdp-drop", Code: "tc-drop", Kinds: anyKind,
			Doc: "an XDP program on the source pod's interface on the node drops IPv4", Apply: xdpDrop},
	}
}

func sourceEnd(f flow) (*cluster.Pod, error)      { return localEnd(f.src, "source") }
func destinationEnd(f flow) (*cluster.Pod, error) { return localEnd(f.dst, "destination") }

// Verdicts of programs (include/uapi/linux/pkt_cls.h, bpf.h).
const (
	tcActOK, tcActShot  = 0, 2
	xdpDropped, xdpPass = 1, 2
)

// etherTypeOffset is where the Ethernet header has its type.
const etherTypeOffset = 12

// dropIPv4 makes a program that drops IPv4 and lets the rest (ARP) pass.
func dropIPv4(kind ebpf.ProgramType, drop, pass int32) (*ebpf.Program, error) {
	code := asm.Instructions{
		// __sk_buff has protocol at 16; xdp_md has data at 0 and data_end at 4
		asm.LoadMem(asm.R2, asm.R1, 16, asm.Word),
	}
	if kind == ebpf.XDP {
		code = asm.Instructions{
			asm.LoadMem(asm.R3, asm.R1, 0, asm.Word),
			asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
			asm.Mov.Reg(asm.R5, asm.R3),
			asm.Add.Imm(asm.R5, etherTypeOffset+2),
			asm.JGT.Reg(asm.R5, asm.R4, "pass"),
			asm.LoadMem(asm.R2, asm.R3, etherTypeOffset, asm.Half),
		}
	}
	const ipv4 = 0x0008 // ETH_P_IP as a little-endian machine reads it
	code = append(code,
		asm.JNE.Imm(asm.R2, ipv4, "pass"),
		asm.Mov.Imm(asm.R0, drop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "site_filter", Type: kind, Instructions: code, License: "GPL"})
	if err != nil {
		return nil, fmt.Errorf("load a program that drops IPv4: %w", err)
	}
	return prog, nil
}

func tcDrop(parent uint32, end func(flow) (*cluster.Pod, error)) func(context.Context, *cluster.Env, flow) (*Applied, error) {
	return func(_ context.Context, _ *cluster.Env, f flow) (*Applied, error) {
		pod, err := end(f)
		if err != nil {
			return nil, err
		}
		ns := pod.Node.Netns
		index, err := ns.LinkIndex(pod.HostInterface)
		if err != nil {
			return nil, err
		}
		clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		return apply("node1", func(a *Applied) error {
			return a.then(func() error { return ns.Link().QdiscAdd(clsact) }, func() error { return ns.Link().QdiscDel(clsact) })
		}, func(a *Applied) error {
			prog, err := dropIPv4(ebpf.SchedCLS, tcActShot, tcActOK)
			if err != nil {
				return err
			}
			defer prog.Close() // the filter holds it
			return ns.Link().FilterAdd(&netlink.BpfFilter{Fd: prog.FD(), Name: "site-filter", DirectAction: true,
				FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL}})
		})
	}
}

func xdpDrop(_ context.Context, _ *cluster.Env, f flow) (*Applied, error) {
	pod, err := sourceEnd(f)
	if err != nil {
		return nil, err
	}
	ns := pod.Node.Netns
	index, err := ns.LinkIndex(pod.HostInterface)
	if err != nil {
		return nil, err
	}
	return apply("node1", func(a *Applied) error {
		prog, err := dropIPv4(ebpf.XDP, xdpDropped, xdpPass)
		if err != nil {
			return err
		}
		var attached link.Link
		return errors.Join(a.then(func() error {
			return ns.Do(func() (err error) {
				attached, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: index, Flags: link.XDPGenericMode})
				return err
			})
		}, func() error { return attached.Close() }), prog.Close())
	})
}
