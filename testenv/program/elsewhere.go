// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Where a program that is asked about connect() finds the destination: struct
// bpf_sock_addr (include/uapi/linux/bpf.h), both in network order.
const (
	userIP4  = 4
	userPort = 24
)

// elsewhere makes a program that sends what it sees somewhere else, as dataplanes of
// eBPF do: one on "CGROUP,SERVICE:PORT,BACKEND:PORT" gives connections to a service a
// backend's address, one on "INTERFACE,OTHER" hands IPv4 to the pod behind the other
// interface of this namespace.
func elsewhere(kind ebpf.ProgramType, what string) (asm.Instructions, error) {
	if kind == ebpf.SchedCLS {
		return toPeer(what)
	}
	words := strings.Split(what, ",")
	if len(words) != 2 {
		return nil, fmt.Errorf("%q: not SERVICE:PORT,BACKEND:PORT", what)
	}
	var ends [2]netip.AddrPort
	for i, w := range words {
		var err error
		if ends[i], err = netip.ParseAddrPort(w); err != nil {
			return nil, err
		}
	}
	ip := func(a netip.AddrPort) int32 {
		raw := a.Addr().As4()
		return int32(binary.LittleEndian.Uint32(raw[:]))
	}
	port := func(a netip.AddrPort) int32 {
		var raw [2]byte
		binary.BigEndian.PutUint16(raw[:], a.Port())
		return int32(binary.LittleEndian.Uint16(raw[:]))
	}
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, userIP4, asm.Word),
		asm.Mov.Imm32(asm.R3, ip(ends[0])),
		asm.JNE.Reg(asm.R2, asm.R3, "done"),
		asm.LoadMem(asm.R2, asm.R1, userPort, asm.Word),
		asm.JNE.Imm(asm.R2, port(ends[0]), "done"),
		asm.Mov.Imm32(asm.R2, ip(ends[1])),
		asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
		asm.Mov.Imm32(asm.R2, port(ends[1])),
		asm.StoreMem(asm.R1, userPort, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("done"),
		asm.Return(),
	}, nil
}

// toPeer redirects IPv4 past this namespace (bpf_redirect_peer, since 5.10); the rest,
// ARP, goes its way.
func toPeer(name string) (asm.Instructions, error) {
	l, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	const protocol, ipv4 = 16, 0x0008 // of struct __sk_buff; ETH_P_IP in network order
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, protocol, asm.Word),
		asm.JNE.Imm(asm.R2, ipv4, "pass"),
		asm.Mov.Imm(asm.R1, int32(l.Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxView.pass).WithSymbol("pass"),
		asm.Return(),
	}, nil
}
