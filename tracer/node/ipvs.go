// SPDX-License-Identifier: Apache-2.0

package node

// This file reads what IPVS balances in a namespace: its virtual services, their real
// servers, and where a connection was sent. Nothing is asked before IPVS is known to be
// there, which familyID tells. github.com/moby/ipvs runs modprobe when it begins, so it
// is not used.

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// Commands and attributes of the family (include/uapi/linux/ip_vs.h).
const (
	ipvsFamily  = "IPVS"
	ipvsVersion = 1

	ipvsGetService = 4
	ipvsGetServer  = 8

	ipvsAttrService = 1
	ipvsAttrServer  = 2

	ipvsServiceFamily    = 1
	ipvsServiceProto     = 2
	ipvsServiceAddr      = 3
	ipvsServicePort      = 4
	ipvsServiceMark      = 5
	ipvsServiceScheduler = 6
	ipvsServiceFlags     = 7
	ipvsServiceTimeout   = 8

	ipvsServerAddr     = 1
	ipvsServerPort     = 2
	ipvsServerMethod   = 3
	ipvsServerWeight   = 4
	ipvsServerUpper    = 5
	ipvsServerActive   = 7
	ipvsServerInactive = 8
	ipvsServerFamily   = 11

	ipvsPersistent = 0x1 // IP_VS_SVC_F_PERSISTENT
	ipvsMethodMask = 0x7 // IP_VS_CONN_F_FWD_MASK
)

// ipvsMethods are the ways to a real server as ipvsadm names them, by their number
// (IP_VS_CONN_F_MASQ and on).
var ipvsMethods = [...]string{"Masq", "Local", "Tunnel", "Route", "Bypass"}

// VirtualService is a service that IPVS balances: what comes to its address and port,
// or bears its mark.
type VirtualService struct {
	Proto     string         // tcp, udp, sctp; "" for one by mark
	Addr      netip.AddrPort // port 0: any that no other service has
	Mark      uint32         // not 0: what bears it, whatever its address
	IPv6      bool
	Scheduler string // rr, wrr, lc, sh, ...
	// Persistent is for how many seconds a client stays with its real server; 0: each
	// connection is scheduled anew.
	Persistent uint32
}

// String is the service as `ipvsadm -Ln` prints it.
func (s VirtualService) String() string {
	says := strings.ToUpper(s.Proto) + " " + s.Addr.String()
	if s.Mark != 0 {
		says = "FWM " + strconv.FormatUint(uint64(s.Mark), 10)
	}
	if says += " " + s.Scheduler; s.Persistent != 0 {
		says += fmt.Sprintf(" persistent %d", s.Persistent)
	}
	return says
}

// RealServer is one of those that a virtual service is balanced over.
type RealServer struct {
	Addr             netip.AddrPort
	Method           string // Masq, Local, Tunnel, Route, Bypass
	Weight           uint32 // 0: it gets no new connections
	Upper            uint32 // of connections, past which it gets no new ones; 0: none
	Active, Inactive uint32 // connections
}

// String is what `ipvsadm -Ln` prints of the real server, with the names of its columns.
func (r RealServer) String() string {
	return fmt.Sprintf("%s %s, weight %d, %d active and %d inactive connections", r.Addr, r.Method, r.Weight, r.Active, r.Inactive)
}

// BalancedConnection is IPVS's entry of a connection.
type BalancedConnection struct {
	Proto                 string
	Client, Virtual, Real netip.AddrPort
	State                 string // SYN_RECV, ESTABLISHED, UDP, ...
	Expires               uint64 // seconds until it ends, as of the reading
}

// String is the entry as `ipvsadm -Lnc` prints it, without its time.
func (c BalancedConnection) String() string {
	return fmt.Sprintf("%s %s %s %s %s", strings.ToUpper(c.Proto), c.State, c.Client, c.Virtual, c.Real)
}

// VirtualServices lists the services that IPVS balances in a namespace; none where the
// kernel has not loaded IPVS.
func (n *Namespaces) VirtualServices(inode uint32) (all []VirtualService, err error) {
	err = n.Do(inode, func() error {
		replies, err := dumpIPVS(ipvsGetService, nil)
		for _, reply := range replies {
			s, err := parseVirtualService(reply)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: list virtual services of IPVS: %w", n.Place(inode), err)
	}
	return all, nil
}

// RealServers lists those of a virtual service. One that is gone has none.
func (n *Namespaces) RealServers(inode uint32, s VirtualService) (all []RealServer, err error) {
	err = n.Do(inode, func() error {
		replies, err := dumpIPVS(ipvsGetServer, s.attribute())
		for _, reply := range replies {
			r, err := parseRealServer(reply, s)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: list real servers of IPVS service %s: %w", n.Place(inode), s, err)
	}
	return all, nil
}

// Bounds of a search through IPVS's connections. Before Linux 6.14 (178883fd039d) each read
// of a page begins at the first of them again, so that reading all takes the square of
// their number.
const (
	mostBalanced   = 20000
	balancedWithin = 200 * time.Millisecond
)

// errTooManyBalanced ends a search: whether there is an entry is not known then.
var errTooManyBalanced = errors.New("too many connections of IPVS to look through")

// BalancedConnection finds IPVS's entry of what a client sends to a virtual address. Where
// there are too many to look through, that is an error: ok false says that there is none.
func (n *Namespaces) BalancedConnection(inode uint32, proto string, client, virtual netip.AddrPort) (c BalancedConnection, ok bool, err error) {
	err = n.Do(inode, func() error {
		file, err := os.Open("/proc/thread-self/net/ip_vs_conn")
		if errors.Is(err, fs.ErrNotExist) {
			return nil // IPVS is not loaded
		}
		if err != nil {
			return err
		}
		c, ok, err = findBalanced(file, proto, client, virtual, time.Now().Add(balancedWithin))
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return c, false, fmt.Errorf("%s: connections of IPVS: %w", n.Place(inode), err)
	}
	return c, ok, nil
}

// attribute is the service as questions about it name it.
func (s VirtualService) attribute() *nl.RtAttr {
	family, addr := uint16(unix.AF_INET), make([]byte, 16)
	if s.IPv6 {
		family = unix.AF_INET6
	}
	a := nl.NewRtAttr(unix.NLA_F_NESTED|ipvsAttrService, nil)
	a.AddRtAttr(ipvsServiceFamily, nl.Uint16Attr(family))
	if s.Mark != 0 {
		a.AddRtAttr(ipvsServiceMark, nl.Uint32Attr(s.Mark))
		return a
	}
	copy(addr, s.Addr.Addr().AsSlice())
	a.AddRtAttr(ipvsServiceProto, nl.Uint16Attr(ipvsProtoNumber(s.Proto)))
	a.AddRtAttr(ipvsServiceAddr, addr)
	a.AddRtAttr(ipvsServicePort, binary.BigEndian.AppendUint16(nil, s.Addr.Port()))
	return a
}

// ipvsProtos are the protocols that services are of.
var ipvsProtos = map[uint16]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}

// IPVSProtocol names a protocol that IPVS balances; "" for others.
func IPVSProtocol(number uint8) string { return ipvsProtos[uint16(number)] }

func ipvsProtoNumber(name string) uint16 {
	for number, proto := range ipvsProtos {
		if proto == name {
			return number
		}
	}
	return 0
}

// dumpIPVS asks the calling thread's namespace; nil where there is no IPVS.
func dumpIPVS(command uint8, about *nl.RtAttr) ([][]byte, error) {
	family, err := familyID(ipvsFamily)
	if err != nil || family == 0 {
		return nil, err
	}
	return dump(func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(int(family), unix.NLM_F_DUMP)
		req.AddData(genlHeader{command, ipvsVersion})
		if about != nil {
			req.AddData(about)
		}
		return req.Execute(unix.NETLINK_GENERIC, 0)
	})
}

// ipvsAttrs are the attributes inside the one that a reply holds. Its header is as long
// as that of nfnetlink (struct genlmsghdr), and numbers but ports are in the machine's order.
func ipvsAttrs(reply []byte, within uint16) (nfnetlink.Attrs, error) {
	outer, err := nfnetlink.Message(reply)
	if err != nil {
		return nil, err
	}
	return outer.Nest(within)
}

// ipvsNumber reads an integer; 0 where there is none.
func ipvsNumber(attrs nfnetlink.Attrs, typ uint16) uint32 {
	switch raw, _ := attrs.Get(typ); len(raw) {
	case 2:
		return uint32(binary.NativeEndian.Uint16(raw))
	case 4, 8:
		return binary.NativeEndian.Uint32(raw)
	}
	return 0
}

// ipvsAddr reads union nf_inet_addr and a port.
func ipvsAddr(attrs nfnetlink.Attrs, addrType, portType uint16, v6 bool) (netip.AddrPort, error) {
	raw, _ := attrs.Get(addrType)
	port, _ := attrs.Get(portType)
	if len(raw) < 16 || len(port) < 2 {
		return netip.AddrPort{}, errShort
	}
	addr := netip.AddrFrom4([4]byte(raw[:4]))
	if v6 {
		addr = netip.AddrFrom16([16]byte(raw[:16]))
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port)), nil
}

// parseVirtualService reads what ip_vs_genl_fill_service writes (net/netfilter/ipvs/
// ip_vs_ctl.c, 5.17 to 7.3).
func parseVirtualService(reply []byte) (s VirtualService, err error) {
	attrs, err := ipvsAttrs(reply, ipvsAttrService)
	if err != nil {
		return s, err
	}
	s.IPv6 = ipvsNumber(attrs, ipvsServiceFamily) == unix.AF_INET6
	s.Mark = ipvsNumber(attrs, ipvsServiceMark)
	s.Scheduler = attrs.Text(ipvsServiceScheduler)
	if ipvsNumber(attrs, ipvsServiceFlags)&ipvsPersistent != 0 { // struct ip_vs_flags: flags, mask
		s.Persistent = ipvsNumber(attrs, ipvsServiceTimeout)
	}
	if s.Mark != 0 {
		return s, nil
	}
	number := uint16(ipvsNumber(attrs, ipvsServiceProto))
	if s.Proto = ipvsProtos[number]; s.Proto == "" {
		s.Proto = fmt.Sprint(number)
	}
	s.Addr, err = ipvsAddr(attrs, ipvsServiceAddr, ipvsServicePort, s.IPv6)
	return s, err
}

// parseRealServer reads what ip_vs_genl_fill_dest writes. With tunnels a real server may
// be of the other family than its service.
func parseRealServer(reply []byte, of VirtualService) (r RealServer, err error) {
	attrs, err := ipvsAttrs(reply, ipvsAttrServer)
	if err != nil {
		return r, err
	}
	v6 := of.IPv6
	if attrs.Has(ipvsServerFamily) {
		v6 = ipvsNumber(attrs, ipvsServerFamily) == unix.AF_INET6
	}
	method := ipvsNumber(attrs, ipvsServerMethod) & ipvsMethodMask
	if r.Method = fmt.Sprint(method); int(method) < len(ipvsMethods) {
		r.Method = ipvsMethods[method]
	}
	r.Weight, r.Upper = ipvsNumber(attrs, ipvsServerWeight), ipvsNumber(attrs, ipvsServerUpper)
	r.Active, r.Inactive = ipvsNumber(attrs, ipvsServerActive), ipvsNumber(attrs, ipvsServerInactive)
	r.Addr, err = ipvsAddr(attrs, ipvsServerAddr, ipvsServerPort, v6)
	return r, err
}

// findBalanced reads what ip_vs_conn_seq_show prints (net/netfilter/ipvs/ip_vs_conn.c,
// 5.17 to 7.3), until it comes to the connection, to a bound or past a time.
func findBalanced(r io.Reader, proto string, client, virtual netip.AddrPort, until time.Time) (c BalancedConnection, ok bool, err error) {
	lines := bufio.NewScanner(r)
	for seen := 0; lines.Scan(); seen++ {
		if seen > mostBalanced || time.Now().After(until) { // the heading is one
			return c, false, errTooManyBalanced
		}
		f := strings.Fields(lines.Text())
		if len(f) < 9 || !strings.EqualFold(f[0], proto) {
			continue // the heading, too
		}
		ends := [3]netip.AddrPort{}
		for i := range ends {
			if ends[i], err = ipvsText(f[1+2*i], f[2+2*i]); err != nil {
				return c, false, fmt.Errorf("line %q: %w", lines.Text(), err)
			}
		}
		if ends[0] != client || ends[1] != virtual {
			continue
		}
		expires, err := strconv.ParseUint(f[8], 10, 64)
		if err != nil {
			return c, false, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		return BalancedConnection{Proto: proto, Client: ends[0], Virtual: ends[1], Real: ends[2], State: f[7], Expires: expires}, true, nil
	}
	return c, false, lines.Err()
}

// ipvsText reads an address as it is printed there: IPv4 in hexadecimal digits, IPv6 in
// full, the port in hexadecimal digits.
func ipvsText(addr, port string) (netip.AddrPort, error) {
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		raw, bad := hex.DecodeString(addr)
		if bad != nil || len(raw) != 4 {
			return netip.AddrPort{}, err
		}
		a = netip.AddrFrom4([4]byte(raw))
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}
