// SPDX-License-Identifier: Apache-2.0

// Package program attaches eBPF programs that drop packets, as a node's agents do: to
// a cgroup, to an interface, to a socket. They stay for as long as the process that
// attached them, which is therefore one of its own: a test binary that starts itself
// again (Main).
//
//	TEST-BINARY attach-program MODE TARGET PROTOCOL READY-FILE
package program

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Command is the first argument of a process that is to attach a program.
const Command = "attach-program"

// Main is for TestMain: in a process that is to attach a program, it does and does
// not return before it is interrupted.
func Main() {
	if len(os.Args) != 6 || os.Args[1] != Command {
		return
	}
	if err := run(os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(mode, target, protocol, ready string) error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	number, err := strconv.Atoi(protocol)
	if err != nil {
		return fmt.Errorf("protocol %q: %w", protocol, err)
	}
	m, ok := modes[mode]
	if !ok {
		return fmt.Errorf("%q is no way to attach a program", mode)
	}
	prog, err := m.load(int32(number), target)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer prog.Close()
	where, _, _ := strings.Cut(target, ",")
	held, err := m.attach(prog, where)
	if err != nil {
		return fmt.Errorf("attach to %s: %w", target, err)
	}
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		return errors.Join(err, held.Close())
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
	return held.Close()
}

// closer is what keeps a program attached.
type closer interface{ Close() error }

// mode is one way to attach a program.
type mode struct {
	name   string // the program's
	kind   ebpf.ProgramType
	as     ebpf.AttachType
	view   view
	attach func(prog *ebpf.Program, target string) (closer, error)
}

// view is how a program sees a packet: where its context keeps the packet's first and
// last byte (include/uapi/linux/bpf.h), where the IPv4 header has the protocol, and
// what it says to drop and to pass.
type view struct {
	data, end, protocol int16
	drop, pass          int32
}

var (
	cgroupView = view{76, 80, 9, 0, 1}
	tcxView    = view{76, 80, 23, 2, -1} // TCX_DROP, TCX_NEXT
	clsView    = view{76, 80, 23, 2, 0}  // TC_ACT_SHOT, TC_ACT_OK
	xdpView    = view{0, 4, 23, 1, 2}    // XDP_DROP, XDP_PASS
)

var modes = map[string]mode{
	"cgroup-egress":  {"egress_guard", ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress, cgroupView, cgroup(ebpf.AttachCGroupInetEgress)},
	"cgroup-ingress": {"ingress_guard", ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, cgroupView, cgroup(ebpf.AttachCGroupInetIngress)},
	"cgroup-connect": {"connect_guard", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, view{}, cgroup(ebpf.AttachCGroupInet4Connect)},
	// by the names of dataplanes that others know
	"cilium-ingress": {"cil_from_container", ebpf.SchedCLS, ebpf.AttachTCXIngress, tcxView, tcx(ebpf.AttachTCXIngress)},
	"cilium-connect": {"cil_sock4_connect", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, view{}, cgroup(ebpf.AttachCGroupInet4Connect)},
	"cilium-peer":    {"cil_from_container", ebpf.SchedCLS, ebpf.AttachTCXIngress, view{}, tcx(ebpf.AttachTCXIngress)},
	"calico-ingress": {"cali_tc_preamble", ebpf.SchedCLS, ebpf.AttachNone, clsView, cls(netlink.HANDLE_MIN_INGRESS)},
	"tcx-ingress":    {"tcx_guard", ebpf.SchedCLS, ebpf.AttachTCXIngress, tcxView, tcx(ebpf.AttachTCXIngress)},
	"tcx-egress":     {"tcx_guard", ebpf.SchedCLS, ebpf.AttachTCXEgress, tcxView, tcx(ebpf.AttachTCXEgress)},
	"tc-ingress":     {"cls_guard", ebpf.SchedCLS, ebpf.AttachNone, clsView, cls(netlink.HANDLE_MIN_INGRESS)},
	"tc-egress":      {"cls_guard", ebpf.SchedCLS, ebpf.AttachNone, clsView, cls(netlink.HANDLE_MIN_EGRESS)},
	"xdp-native":     {"xdp_guard", ebpf.XDP, ebpf.AttachXDP, xdpView, xdp(link.XDPDriverMode)},
	"xdp-generic":    {"xdp_guard", ebpf.XDP, ebpf.AttachXDP, xdpView, xdp(link.XDPGenericMode)},
	"socket":         {"sock_guard", ebpf.SocketFilter, ebpf.AttachNone, view{}, socket},
}

// load makes the program: it drops IPv4 packets of a protocol and lets the rest pass.
// A socket's takes nothing at all, and one that is asked about connect() refuses all. One
// whose target tells more than where it is attached sends elsewhere (elsewhere.go).
func (m mode) load(protocol int32, target string) (*ebpf.Program, error) {
	spec := &ebpf.ProgramSpec{Name: m.name, Type: m.kind, AttachType: m.as, License: "GPL"}
	v := m.view
	if _, what, given := strings.Cut(target, ","); given {
		code, err := elsewhere(m.kind, what)
		if err != nil {
			return nil, err
		}
		spec.Instructions = code
		return ebpf.NewProgram(spec)
	}
	if v == (view{}) {
		spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
		return ebpf.NewProgram(spec)
	}
	spec.Instructions = asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, v.data, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, v.end, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(v.protocol)+1),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, v.protocol, asm.Byte),
		asm.JNE.Imm(asm.R5, protocol, "pass"),
		asm.Mov.Imm(asm.R0, v.drop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, v.pass).WithSymbol("pass"),
		asm.Return(),
	}
	return ebpf.NewProgram(spec)
}

func cgroup(as ebpf.AttachType) func(*ebpf.Program, string) (closer, error) {
	return func(prog *ebpf.Program, path string) (closer, error) {
		return link.AttachCgroup(link.CgroupOptions{Path: path, Attach: as, Program: prog})
	}
}

func tcx(as ebpf.AttachType) func(*ebpf.Program, string) (closer, error) {
	return func(prog *ebpf.Program, name string) (closer, error) {
		l, err := net.InterfaceByName(name)
		if err != nil {
			return nil, err
		}
		return link.AttachTCX(link.TCXOptions{Interface: l.Index, Attach: as, Program: prog})
	}
}

func xdp(flags link.XDPAttachFlags) func(*ebpf.Program, string) (closer, error) {
	return func(prog *ebpf.Program, name string) (closer, error) {
		l, err := net.InterfaceByName(name)
		if err != nil {
			return nil, err
		}
		return link.AttachXDP(link.XDPOptions{Interface: l.Index, Flags: flags, Program: prog})
	}
}

// cls adds a filter below clsact; the filter keeps the program, so that closing it
// takes the qdisc away.
func cls(parent uint32) func(*ebpf.Program, string) (closer, error) {
	return func(prog *ebpf.Program, name string) (closer, error) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, err
		}
		at := l.Attrs().Index
		qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: at, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := netlink.QdiscAdd(qdisc); err != nil {
			return nil, err
		}
		err = netlink.FilterAdd(&netlink.BpfFilter{Fd: prog.FD(), Name: "guard.o:[cls]", DirectAction: true,
			FilterAttrs: netlink.FilterAttrs{LinkIndex: at, Parent: parent, Handle: 1, Priority: 7, Protocol: unix.ETH_P_ALL}})
		if err != nil {
			return nil, errors.Join(err, netlink.QdiscDel(qdisc))
		}
		return closerFunc(func() error { return netlink.QdiscDel(qdisc) }), nil
	}
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// socket listens on a UDP address with a filter that takes nothing.
func socket(prog *ebpf.Program, address string) (closer, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_BPF, prog.FD())
	})
	if err := errors.Join(err, set); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
