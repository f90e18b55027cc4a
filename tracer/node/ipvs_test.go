// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// ipvsReply is a message as the kernel writes it: header, and attributes inside one.
func ipvsReply(command uint8, within uint16, attrs []byte) []byte {
	return nfnetlink.Put([]byte{command, ipvsVersion, 0, 0}, within|unix.NLA_F_NESTED, attrs)
}

func native(b []byte, typ uint16, value any) []byte {
	raw, err := binary.Append(nil, binary.NativeEndian, value)
	if err != nil {
		panic(err)
	}
	return nfnetlink.Put(b, typ, raw)
}

// inetAddr is union nf_inet_addr.
func inetAddr(a string) []byte {
	raw := make([]byte, 16)
	copy(raw, netip.MustParseAddr(a).AsSlice())
	return raw
}

func TestVirtualService(t *testing.T) {
	of := func(family, proto uint16, addr string, port uint16, flags, timeout uint32) []byte {
		b := native(nil, ipvsServiceFamily, family)
		b = native(b, ipvsServiceProto, proto)
		b = nfnetlink.Put(b, ipvsServiceAddr, inetAddr(addr))
		b = nfnetlink.Put(b, ipvsServicePort, binary.BigEndian.AppendUint16(nil, port))
		b = nfnetlink.PutText(b, ipvsServiceScheduler, "rr")
		b = native(b, ipvsServiceFlags, [2]uint32{flags, ^uint32(0)})
		return native(b, ipvsServiceTimeout, timeout)
	}
	marked := native(nil, ipvsServiceFamily, uint16(unix.AF_INET6))
	marked = native(marked, ipvsServiceMark, uint32(7))
	marked = nfnetlink.PutText(marked, ipvsServiceScheduler, "wlc")
	for name, tc := range map[string]struct {
		attrs []byte
		want  VirtualService
		text  string
	}{
		"tcp": {of(unix.AF_INET, 6, "10.96.0.20", 80, 2, 0),
			VirtualService{Proto: "tcp", Addr: netip.MustParseAddrPort("10.96.0.20:80"), Scheduler: "rr"}, "TCP 10.96.0.20:80 rr"},
		"timeout of none that persists": {of(unix.AF_INET, 17, "10.96.0.10", 53, 2, 360),
			VirtualService{Proto: "udp", Addr: netip.MustParseAddrPort("10.96.0.10:53"), Scheduler: "rr"}, "UDP 10.96.0.10:53 rr"},
		"persistent, ipv6": {of(unix.AF_INET6, 6, "fd00:96::1", 443, 3, 10800),
			VirtualService{Proto: "tcp", Addr: netip.MustParseAddrPort("[fd00:96::1]:443"), IPv6: true, Scheduler: "rr", Persistent: 10800}, "TCP [fd00:96::1]:443 rr persistent 10800"},
		"mark": {marked, VirtualService{Mark: 7, IPv6: true, Scheduler: "wlc"}, "FWM 7 wlc"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseVirtualService(ipvsReply(1, ipvsAttrService, tc.attrs))
			if err != nil || got != tc.want || got.String() != tc.text {
				t.Errorf("%+v (%s), %v, want %+v (%s)", got, got, err, tc.want, tc.text)
			}
			// the question about its real servers names it as the kernel did
			question := got.attribute().Serialize()
			asked, err := parseVirtualService(append([]byte{8, 1, 0, 0}, question...))
			tc.want.Scheduler, tc.want.Persistent = "", 0
			if err != nil || asked != tc.want {
				t.Errorf("asked about %+v, %v", asked, err)
			}
		})
	}
	if _, err := parseVirtualService(ipvsReply(1, ipvsAttrService, native(nil, ipvsServiceProto, uint16(6)))); err == nil {
		t.Error("a service without an address was taken")
	}
	if _, err := parseVirtualService([]byte{1}); err == nil {
		t.Error("a message that is cut off was taken")
	}
}

func TestRealServer(t *testing.T) {
	of := func(addr string, method, weight uint32) []byte {
		b := nfnetlink.Put(nil, ipvsServerAddr, inetAddr(addr))
		b = nfnetlink.Put(b, ipvsServerPort, binary.BigEndian.AppendUint16(nil, 8080))
		b = native(b, ipvsServerMethod, method)
		b = native(b, ipvsServerWeight, weight)
		b = native(b, ipvsServerUpper, uint32(9))
		b = native(b, ipvsServerActive, uint32(3))
		return native(b, ipvsServerInactive, uint32(4))
	}
	v4, v6 := VirtualService{Proto: "tcp"}, VirtualService{Proto: "tcp", IPv6: true}
	for name, tc := range map[string]struct {
		attrs []byte
		of    VirtualService
		text  string
	}{
		"masquerade":      {of("10.244.1.3", 0x100, 1), v4, "10.244.1.3:8080 Masq, weight 1, 3 active and 4 inactive connections"},
		"of its service":  {of("fd00::3", 3, 0), v6, "[fd00::3]:8080 Route, weight 0, 3 active and 4 inactive connections"},
		"by its own word": {native(of("10.244.1.3", 2, 5), ipvsServerFamily, uint16(unix.AF_INET)), v6, "10.244.1.3:8080 Tunnel, weight 5, 3 active and 4 inactive connections"},
		"unknown method":  {of("10.244.1.3", 7, 1), v4, "10.244.1.3:8080 7, weight 1, 3 active and 4 inactive connections"},
	} {
		got, err := parseRealServer(ipvsReply(7, ipvsAttrServer, tc.attrs), tc.of)
		if err != nil || got.String() != tc.text || got.Upper != 9 {
			t.Errorf("%s: %s (upper %d), %v, want %s", name, got, got.Upper, err, tc.text)
		}
	}
	if _, err := parseRealServer(ipvsReply(7, ipvsAttrServer, nil), v4); err == nil {
		t.Error("a real server without an address was taken")
	}
}

// connections are as a 6.12 node prints them.
const balancedConnections = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0A8A681 A2C4 0A600014 0050 C0A8A682 1F90 ESTABLISHED     899
UDP C0A8A681 14E9 0A600014 0050 C0A8A6BE 1F90 UDP             297
TCP fd00:0000:0000:0000:0000:0000:0000:0005 A2C4 fd00:0096:0000:0000:0000:0000:0000:0001 01BB fd00:0000:0000:0000:0000:0000:0000:0006 20FB SYN_RECV         59 sip x
`

func TestBalancedConnection(t *testing.T) {
	at := netip.MustParseAddrPort
	for name, tc := range map[string]struct {
		proto           string
		client, virtual netip.AddrPort
		want            string
		expires         uint64
	}{
		"udp":           {"udp", at("192.168.166.129:5353"), at("10.96.0.20:80"), "UDP UDP 192.168.166.129:5353 10.96.0.20:80 192.168.166.190:8080", 297},
		"ipv6":          {"tcp", at("[fd00::5]:41668"), at("[fd00:96::1]:443"), "TCP SYN_RECV [fd00::5]:41668 [fd00:96::1]:443 [fd00::6]:8443", 59},
		"other port":    {"udp", at("192.168.166.129:5354"), at("10.96.0.20:80"), "", 0},
		"other service": {"udp", at("192.168.166.129:5353"), at("10.96.0.20:81"), "", 0},
		"protocol":      {"sctp", at("192.168.166.129:5353"), at("10.96.0.20:80"), "", 0},
	} {
		c, ok, err := findBalanced(strings.NewReader(balancedConnections), tc.proto, tc.client, tc.virtual, time.Now().Add(time.Minute))
		if err != nil || ok != (tc.want != "") || ok && (c.String() != tc.want || c.Expires != tc.expires) {
			t.Errorf("%s: %s, %d s, %v, %v; want %s", name, c, c.Expires, ok, err, tc.want)
		}
	}
	for _, bad := range []string{"UDP xx 14E9 0A600014 0050 C0A8A6BE 1F90 UDP 297", "UDP C0A8A681 14E9 0A600014 0050 C0A8A6BE 1F90 UDP soon"} {
		if _, _, err := findBalanced(strings.NewReader(bad), "udp", at("192.168.166.129:5353"), at("10.96.0.20:80"), time.Now().Add(time.Minute)); err == nil {
			t.Errorf("line %q was taken", bad)
		}
	}
}

// endless is a table of connections without end; after so many lines time is up.
type endless struct {
	reads, slowAfter int
	until            time.Time
}

func (e *endless) Read(to []byte) (int, error) {
	if e.reads++; e.slowAfter > 0 && e.reads > e.slowAfter {
		time.Sleep(time.Until(e.until) + time.Millisecond)
	}
	return copy(to, "TCP C0A8A681 A2C4 0A600014 0050 C0A8A682 1F90 ESTABLISHED     899\n"), nil
}

// TestBalancedConnectionIsBounded: a search ends at so many connections and at its time, and
// does not say that there is no entry.
func TestBalancedConnectionIsBounded(t *testing.T) {
	client, virtual := netip.MustParseAddrPort("192.168.166.129:5353"), netip.MustParseAddrPort("10.96.0.20:80")
	line := "TCP C0A8A681 A2C4 0A600014 0050 C0A8A682 1F90 ESTABLISHED     899\n"
	wanted := "UDP C0A8A681 14E9 0A600014 0050 C0A8A6BE 1F90 UDP             297\n"
	soon := time.Now().Add(50 * time.Millisecond)
	for name, tc := range map[string]struct {
		from  io.Reader
		until time.Time
		ok    bool
		err   error
	}{
		"without end":     {&endless{}, time.Now().Add(time.Minute), false, errTooManyBalanced},
		"slow":            {&endless{slowAfter: 10, until: soon}, soon, false, errTooManyBalanced},
		"the last to see": {strings.NewReader("Pro\n" + strings.Repeat(line, mostBalanced-1) + wanted), time.Now().Add(time.Minute), true, nil},
		"one more":        {strings.NewReader("Pro\n" + strings.Repeat(line, mostBalanced) + wanted), time.Now().Add(time.Minute), false, errTooManyBalanced},
		"none of so many": {strings.NewReader("Pro\n" + strings.Repeat(line, mostBalanced)), time.Now().Add(time.Minute), false, nil},
	} {
		if _, ok, err := findBalanced(tc.from, "udp", client, virtual, tc.until); ok != tc.ok || !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, %v; want %v, %v", name, ok, err, tc.ok, tc.err)
		}
	}
}

// TestNoIPVS: where the kernel has not loaded it, nothing is balanced, and asking loads
// nothing.
func TestNoIPVS(t *testing.T) {
	loaded := func() bool {
		_, err := os.Stat("/proc/net/ip_vs")
		return err == nil
	}
	before := loaded()
	c := nodetest.New(t)
	c.Add("x")
	n := openNode(t, c.Path("x"))
	services, err := n.VirtualServices(c.Inode("x"))
	if err != nil || len(services) > 0 {
		t.Errorf("of a fresh namespace: %v, %v", services, err)
	}
	if _, ok, err := n.BalancedConnection(c.Inode("x"), "tcp", netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")); ok || err != nil {
		t.Errorf("a connection in a fresh namespace: %v, %v", ok, err)
	}
	if loaded() != before {
		t.Error("asking loaded IPVS")
	}
}
