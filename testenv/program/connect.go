// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf/asm"
)

// Where a program that is asked about connect() finds the destination: struct
// bpf_sock_addr (include/uapi/linux/bpf.h), both in network order.
const (
	userIP4  = 4
	userPort = 24
)

// translate makes a program that gives connections to one address another one, as
// dataplanes of eBPF do for services. The target is "CGROUP,SERVICE:PORT,BACKEND:PORT".
func translate(target string) (asm.Instructions, error) {
	words := strings.Split(target, ",")
	if len(words) != 3 {
		return nil, fmt.Errorf("target %q: not CGROUP,SERVICE:PORT,BACKEND:PORT", target)
	}
	var ends [2]netip.AddrPort
	for i, w := range words[1:] {
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
