// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// protocols the flow can be narrowed to, by the name on the command line.
// icmp covers ICMPv6 as well: the kernel half knows.
var protocols = map[string]uint8{
	"":     0,
	"tcp":  unix.IPPROTO_TCP,
	"udp":  unix.IPPROTO_UDP,
	"icmp": unix.IPPROTO_ICMP,
	"sctp": unix.IPPROTO_SCTP,
}

// carrierKinds are the kinds of node.Carrier as the kernel half has them.
var carrierKinds = map[string]uint8{"vxlan": bpf.TunnelVXLAN, "geneve": bpf.TunnelGeneve, "wireguard": bpf.TunnelWireGuard}

// NewFilter turns what was asked for into what the kernel half compares with.
func NewFilter(src, dst endpoint.Endpoint, proto string, port uint16, carriers []node.Carrier, nodeNetns uint32, uplinks map[uint32]string) (bpf.Filter, error) {
	var f bpf.Filter
	p, ok := protocols[proto]
	if !ok {
		return f, fmt.Errorf("protocol %q: not one of tcp, udp, icmp, sctp", proto)
	}
	f.Proto, f.Port, f.NodeNetns = p, port, nodeNetns
	if err := fillEnd(&f.Src, src); err != nil {
		return f, fmt.Errorf("source %s: %w", src.Given, err)
	}
	if err := fillEnd(&f.Dst, dst); err != nil {
		return f, fmt.Errorf("destination %s: %w", dst.Given, err)
	}
	// with "any" as an end there is nothing left for NAT to settle
	if !src.Any && !dst.Any {
		f.Tentative = 1
	}
	for _, c := range carriers {
		if int(f.N_carriers) == len(f.Carriers) {
			break
		}
		f.Carriers[f.N_carriers] = bpf.Carrier{Port: c.Port, Kind: carrierKinds[c.Kind]}
		f.N_carriers++
		if c.Kind == "wireguard" {
			f.Sealed = 1
		}
	}
	for idx := range uplinks {
		if int(f.N_uplinks) == len(f.Uplinks) {
			break
		}
		f.Uplinks[f.N_uplinks] = idx
		f.N_uplinks++
	}
	return f, nil
}

func fillEnd(e *bpf.End, from endpoint.Endpoint) error {
	if from.Any {
		e.Any = 1
		return nil
	}
	if len(from.Prefixes) == 0 {
		return fmt.Errorf("no addresses")
	}
	for _, p := range from.Prefixes {
		list, n := e.P6[:], &e.N6
		if p.Addr().Unmap().Is4() {
			list, n = e.P4[:], &e.N4
		}
		if int(*n) == len(list) {
			return fmt.Errorf("more than %d addresses of one family: give a CIDR that covers them", len(list))
		}
		list[*n] = prefixOf(p)
		*n++
	}
	return nil
}

// prefixOf gives address and mask in network order, IPv4 in word 0.
func prefixOf(p netip.Prefix) bpf.Prefix {
	var out bpf.Prefix
	p = p.Masked()
	raw := p.Addr().Unmap().AsSlice()
	bits := p.Bits()
	if p.Addr().Is4In6() {
		bits -= 96
	}
	mask := make([]byte, len(raw))
	for i := 0; i < bits; i++ {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		out.Addr[i/4] = binary.LittleEndian.Uint32(raw[i:])
		out.Mask[i/4] = binary.LittleEndian.Uint32(mask[i:])
	}
	return out
}
