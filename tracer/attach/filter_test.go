// SPDX-License-Identifier: Apache-2.0

package attach

// What was asked for, as the kernel half compares it.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

func endOf(prefixes ...string) endpoint.Endpoint {
	e := endpoint.Endpoint{End: model.End{Given: strings.Join(prefixes, " ")}}
	for _, p := range prefixes {
		if !strings.Contains(p, "/") {
			a := netip.MustParseAddr(p)
			p = fmt.Sprintf("%s/%d", a, a.BitLen())
		}
		e.Prefixes = append(e.Prefixes, netip.MustParsePrefix(p))
	}
	return e
}

var anyEnd = endpoint.Endpoint{End: model.End{Given: "any"}, Any: true}

// bytesOfWords is an address or mask as it stands in the kernel's memory.
func bytesOfWords(w [4]uint32) string {
	var raw [16]byte
	for i := range w {
		binary.LittleEndian.PutUint32(raw[4*i:], w[i])
	}
	return netip.AddrFrom16(raw).StringExpanded()
}

func TestPrefixes(t *testing.T) {
	for _, c := range []struct{ in, addr, mask string }{
		{"10.244.1.2", "0af4:0102:0000:0000:0000:0000:0000:0000", "ffff:ffff:0000:0000:0000:0000:0000:0000"},
		{"10.244.255.2/12", "0af0:0000:0000:0000:0000:0000:0000:0000", "fff0:0000:0000:0000:0000:0000:0000:0000"},
		{"0.0.0.0/0", "0000:0000:0000:0000:0000:0000:0000:0000", "0000:0000:0000:0000:0000:0000:0000:0000"},
		{"::ffff:10.0.0.9/127", "0a00:0008:0000:0000:0000:0000:0000:0000", "ffff:fffe:0000:0000:0000:0000:0000:0000"},
		{"fd00:1::2", "fd00:0001:0000:0000:0000:0000:0000:0002", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"fd00:1:ffff::/33", "fd00:0001:8000:0000:0000:0000:0000:0000", "ffff:ffff:8000:0000:0000:0000:0000:0000"},
	} {
		p := prefixOf(endOf(c.in).Prefixes[0])
		if a, m := bytesOfWords(p.Addr), bytesOfWords(p.Mask); a != c.addr || m != c.mask {
			t.Errorf("%s: address %s mask %s, want %s %s", c.in, a, m, c.addr, c.mask)
		}
	}
}

func TestNewFilter(t *testing.T) {
	f, err := NewFilter(endOf("10.0.0.1", "fd00::1"), endOf("10.0.1.0/24"), "tcp", 80, []node.Carrier{{Port: 8472, Kind: "vxlan"}, {Port: 6081, Kind: "geneve"}}, 77, map[uint32]string{2: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	if f.Src.N4 != 1 || f.Src.N6 != 1 || f.Dst.N4 != 1 || f.Dst.N6 != 0 || f.Src.Any+f.Dst.Any != 0 {
		t.Errorf("ends %+v %+v", f.Src, f.Dst)
	}
	if f.Proto != unix.IPPROTO_TCP || f.Port != 80 || f.NodeNetns != 77 || f.N_carriers != 2 || f.Carriers[0] != (bpf.Carrier{Port: 8472, Kind: bpf.TunnelVXLAN}) || f.Carriers[1] != (bpf.Carrier{Port: 6081, Kind: bpf.TunnelGeneve}) || f.N_uplinks != 1 || f.Uplinks[0] != 2 {
		t.Errorf("filter %+v", f)
	}
	if f.Sealed != 0 {
		t.Error("no port is WireGuard's")
	}
	if f.Tentative != 1 {
		t.Error("NAT may make one of these two ends: to be followed tentatively")
	}
	f, err = NewFilter(endOf("10.0.0.1"), anyEnd, "", 0, nil, 1, nil)
	if err != nil || f.Dst.Any != 1 || f.Tentative != 0 || f.Proto != 0 {
		t.Errorf("with any: %+v, %v", f, err)
	}
	f, err = NewFilter(endOf("10.0.0.1"), anyEnd, "", 0, []node.Carrier{{Port: 8472, Kind: "vxlan"}, {Port: 51820, Kind: "wireguard"}}, 1, nil)
	if err != nil || f.Sealed != 1 || f.Carriers[1] != (bpf.Carrier{Port: 51820, Kind: bpf.TunnelWireGuard}) {
		t.Errorf("with WireGuard: %+v, %v", f, err)
	}
}

func TestNewFilterRefuses(t *testing.T) {
	var many []string
	for i := range len(bpf.End{}.P4) + 1 {
		many = append(many, fmt.Sprintf("10.0.%d.1", i))
	}
	some := endOf("10.0.0.1")
	for _, c := range []struct {
		name     string
		src, dst endpoint.Endpoint
		proto    string
		want     string
	}{
		{"unknown protocol", some, some, "gre", `protocol "gre": not one of tcp, udp, icmp, sctp`},
		{"an end without addresses", endOf(), some, "", "source : no addresses"},
		{"too many addresses", some, endOf(many...), "", "more than 16 addresses of one family: give a CIDR that covers them"},
	} {
		_, err := NewFilter(c.src, c.dst, c.proto, 0, nil, 1, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if f, err := NewFilter(some, endOf(many[:len(many)-1]...), "", 0, nil, 1, nil); err != nil || f.Dst.N4 != 16 {
		t.Errorf("as many as there is room for: %d, %v", f.Dst.N4, err)
	}
}
