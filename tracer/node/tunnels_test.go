// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestTunnelOf(t *testing.T) {
	ip, addr := net.ParseIP, netip.MustParseAddr
	for name, tc := range map[string]struct {
		link netlink.Link
		want Tunnel
	}{
		"tunl0":          {&netlink.Iptun{Local: net.IPv4zero.To4(), Remote: net.IPv4zero.To4()}, Tunnel{}},
		"ipip":           {&netlink.Iptun{Local: ip("172.30.0.1").To4(), Remote: ip("172.30.0.2").To4(), Link: 2, Ttl: 64}, Tunnel{Local: addr("172.30.0.1"), Remote: addr("172.30.0.2"), Device: 2, TTL: 64}},
		"in FOU":         {&netlink.Iptun{Remote: ip("172.30.0.2").To4(), EncapType: 1, EncapDport: 5555}, Tunnel{Remote: addr("172.30.0.2"), Port: 5555}},
		"port of no FOU": {&netlink.Sittun{Remote: ip("172.30.0.2").To4(), EncapDport: 5555}, Tunnel{Remote: addr("172.30.0.2")}},
		"ip6tnl":         {&netlink.Ip6tnl{Local: ip("fd00::1"), Remote: net.IPv6zero}, Tunnel{Local: addr("fd00::1")}},
		"gre, by packet": {&netlink.Gretun{FlowBased: true}, Tunnel{External: true}},
		"gretap":         {&netlink.Gretap{Remote: ip("172.30.0.2")}, Tunnel{Remote: addr("172.30.0.2")}},
		"geneve":         {&netlink.Geneve{ID: 7, Remote: ip("172.30.0.2"), Dport: 6081}, Tunnel{Remote: addr("172.30.0.2"), VNI: 7, Port: 6081}},
		"no tunnel":      {&netlink.Dummy{}, Tunnel{}},
	} {
		if got := tunnelOf(tc.link); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// nest is an attribute that is made of others.
func nest(kind uint16, of ...[]byte) []byte { return attr(kind|unix.NLA_F_NESTED, bytes.Join(of, nil)) }

func message(attrs ...[]byte) []byte {
	return append(make([]byte, nl.SizeofGenlmsg), bytes.Join(attrs, nil)...)
}

func allowed(family uint16, ip []byte, bits byte) []byte {
	return nest(0, attr(1, nl.Uint16Attr(family)), attr(wgAllowedAddr, ip), attr(wgAllowedBits, []byte{bits}))
}

// What a device has is put together from messages that each have a part of it, one of
// them the rest of a peer's allowed IPs; and nothing secret stays in memory.
func TestReadWireGuard(t *testing.T) {
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, wgKeyLen) }
	words := func(b byte) string { return base64.StdEncoding.EncodeToString(key(b)) }
	endpoint := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), 51820)
	endpoint = append(endpoint, 172, 30, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0)
	endpoint6 := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), 51821)
	endpoint6 = append(append(append(endpoint6, 0, 0, 0, 0), netip.MustParseAddr("fd00::2").AsSlice()...), 0, 0, 0, 0)
	at := time.Unix(1700000000, 5)
	stamp := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, uint64(at.Unix())), uint64(at.Nanosecond()))
	messages := [][]byte{
		message(attr(wgDevicePrivateKey, key(0xee)), attr(wgDevicePublicKey, key(1)), attr(wgDeviceListenPort, nl.Uint16Attr(51820)), attr(wgDeviceFwMark, nl.Uint32Attr(0x100000)),
			nest(wgDevicePeers, nest(0, attr(wgPeerPublicKey, key(2)), attr(wgPeerPresharedKey, key(0xee)), attr(wgPeerEndpoint, endpoint),
				attr(wgPeerHandshake, stamp), attr(wgPeerReceived, nl.Uint64Attr(92)), attr(wgPeerSent, nl.Uint64Attr(148)),
				nest(wgPeerAllowedIPs, allowed(unix.AF_INET, []byte{10, 244, 2, 0}, 24))))),
		message(nest(wgDevicePeers,
			nest(0, attr(wgPeerPublicKey, key(2)), nest(wgPeerAllowedIPs, allowed(unix.AF_INET6, netip.MustParseAddr("fd00:2::").AsSlice(), 64))),
			nest(0, attr(wgPeerPublicKey, key(3)), attr(wgPeerEndpoint, endpoint6), attr(wgPeerHandshake, make([]byte, 16)),
				nest(wgPeerAllowedIPs, allowed(unix.AF_INET, []byte{10, 244, 0, 0}, 16))))),
	}
	got, err := readWireGuard(messages)
	if err != nil {
		t.Fatal(err)
	}
	want := WireGuard{PublicKey: words(1), ListenPort: 51820, FwMark: 0x100000, Peers: []WireGuardPeer{
		{PublicKey: words(2), Endpoint: netip.MustParseAddrPort("172.30.0.2:51820"), Handshake: at, Received: 92, Sent: 148,
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("fd00:2::/64")}},
		{PublicKey: words(3), Endpoint: netip.MustParseAddrPort("[fd00::2]:51821"), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v, want\n%+v", got, want)
	}
	if bytes.Contains(bytes.Join(messages, nil), key(0xee)) {
		t.Error("a secret key is still in memory")
	}
	for addr, peer := range map[string]string{"10.244.2.9": words(2), "10.244.3.9": words(3), "fd00:2::9": words(2), "10.1.1.1": "", "fd00:3::9": ""} {
		p := got.PeerOf(netip.MustParseAddr(addr))
		if is := p != nil; is != (peer != "") || is && p.PublicKey != peer {
			t.Errorf("%s is of peer %+v, want %q", addr, p, peer)
		}
	}
	for name, broken := range map[string][]byte{
		"no header":     {1},
		"no prefix":     message(nest(wgDevicePeers, nest(0, nest(wgPeerAllowedIPs, allowed(unix.AF_INET, []byte{10, 244}, 24))))),
		"long prefix":   message(nest(wgDevicePeers, nest(0, nest(wgPeerAllowedIPs, allowed(unix.AF_INET, []byte{10, 244, 0, 0}, 33))))),
		"half a time":   message(nest(wgDevicePeers, nest(0, attr(wgPeerHandshake, make([]byte, 8))))),
		"half a number": message(nest(wgDevicePeers, nest(0, attr(wgPeerSent, make([]byte, 4))))),
	} {
		if w, err := readWireGuard([][]byte{broken}); err == nil {
			t.Errorf("%s: taken for %+v", name, w)
		}
	}
}

// Where no link is of WireGuard, nothing is asked, so no module is loaded; where it can
// be had, the kernel's own answers are read.
func TestWireGuard(t *testing.T) {
	c := nodetest.New(t)
	c.Add("x")
	n := openNode(t, c.Path("x"))
	if all, err := n.WireGuard(c.Inode("x")); err != nil || len(all) != 0 {
		t.Errorf("of a fresh namespace: %+v, %v", all, err)
	}
	if _, err := n.WireGuard(1); err == nil {
		t.Error("a namespace that is not there has no error")
	}
}
