// SPDX-License-Identifier: Apache-2.0

// The kernel's own TRACE, read where xtables-monitor and `nft monitor trace`
// read it: legacy TRACE by nfnetlink_log (the test's node has it as its logger),
// nft's by nfnetlink's group for traces. Also what rules log by NFLOG. All only
// ever in the test's own namespace.

package rulecases

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// nftTraceRules have every packet traced before any other rule.
func nftTraceRules() []string {
	return []string{
		"add chain inet rc tracein { type filter hook prerouting priority -400; }",
		"add chain inet rc traceout { type filter hook output priority -400; }",
		"add chain bridge rcb trace { type filter hook prerouting priority -400; }",
		`add rule inet rc tracein meta nftrace set 1 comment "all-trace"`,
		`add rule inet rc traceout meta nftrace set 1 comment "all-trace"`,
		`add rule bridge rcb trace meta nftrace set 1 comment "all-trace"`,
	}
}

// Numbers of nfnetlink (include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_log.h,
// nf_tables.h).
const (
	subsysULOG, subsysNFT  = 4, 10
	ulogPacket, ulogConfig = 0, 1
	ulogCfgCmd, ulogCfgMode, ulogCfgThresh,
	ulogPayload, ulogPrefix = 1, 2, 5, 9, 10
	ulogCmdBind, ulogCmdPFBind = 1, 3
	ulogCopyPacket             = 2
	nftTraceMessage            = 17
	nftTraceGroup              = 9
	traceTable, traceChain, traceHandle, traceType, traceVerdict, traceID,
	traceNetwork, traceTransport, traceNFProto, tracePolicy = 1, 2, 3, 4, 5, 6, 8, 9, 15, 16
	traceTypePolicy, traceTypeReturn, traceTypeRule = 1, 2, 3
)

// kernelTrace collects what the kernel tells.
type kernelTrace struct {
	fd      int
	group   uint16 // of nfnetlink_log
	decode  func([]byte) []tracedRule
	records []tracedRule
	ended   chan error
	quit    chan struct{}
}

// tracedRule is one line of TRACE.
type tracedRule struct {
	packet        string // which packet: see packetKey; "" in a later message of the same id
	id            uint32
	family, table string
	chain         string
	number        int    // legacy: within the chain
	handle        uint64 // nft
	kind          string // rule, policy, return
	prefix        string // of NFLOG
}

// listen begins to collect; what is told from now on is not missed.
func listen(t *testing.T, ns *netns.Namespace, backend string) *kernelTrace {
	t.Helper()
	k := &kernelTrace{decode: decodeNFT}
	if backend == "legacy" {
		k.decode = decodeULOG
		k.begin(t, ns, 0, func() error { return errors.Join(k.bindFamilies(ns), k.bindLog()) })
		return k
	}
	k.begin(t, ns, 1<<(nftTraceGroup-1), func() error { return nil })
	return k
}

// listenLog begins to collect what rules send to a group of NFLOG.
func listenLog(t *testing.T, ns *netns.Namespace, group uint16) *kernelTrace {
	t.Helper()
	k := &kernelTrace{decode: decodeNFLOG, group: group}
	k.begin(t, ns, 0, k.bindLog)
	return k
}

// begin opens the socket, for the multicast groups that are told, and reads it.
func (k *kernelTrace) begin(t *testing.T, ns *netns.Namespace, groups uint32, bind func() error) {
	t.Helper()
	k.ended, k.quit = make(chan error, 1), make(chan struct{})
	// built in, or for modprobe to load; a logger that is missing shows below
	_ = exec.CommandContext(t.Context(), "modprobe", "-q", "nfnetlink_log").Run()
	err := ns.Do(func() (err error) {
		k.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		if err := unix.Bind(k.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			return err
		}
		return unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	})
	if err == nil {
		err = bind()
	}
	if err == nil {
		wait := unix.NsecToTimeval(int64(50 * time.Millisecond))
		err = unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	}
	if err != nil {
		t.Fatalf("listen to what the kernel tells: %v", err)
	}
	go func() { k.ended <- k.read() }()
}

// bindFamilies makes nfnetlink_log the logger of both families: TRACE has no
// group of its own.
func (k *kernelTrace) bindFamilies(ns *netns.Namespace) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := k.configure(family, attribute(ulogCfgCmd, []byte{ulogCmdPFBind})); err != nil {
			return err
		}
	}
	return ns.Sysctl(netns.Setting{Path: "netfilter/nf_log/2", Value: "nfnetlink_log"}, netns.Setting{Path: "netfilter/nf_log/10", Value: "nfnetlink_log"})
}

// bindLog makes this socket the reader of its log group of the namespace.
func (k *kernelTrace) bindLog() error {
	copyAll := []byte{0, 0, 0xff, 0xff, ulogCopyPacket, 0}
	for _, a := range [][]byte{attribute(ulogCfgCmd, []byte{ulogCmdBind}), attribute(ulogCfgMode, copyAll), attribute(ulogCfgThresh, []byte{0, 0, 0, 1})} {
		if err := k.configure(0, a); err != nil {
			return err
		}
	}
	return nil
}

// attribute is one netlink attribute, padded.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// configure sends one message to nfnetlink_log and reads the kernel's answer.
func (k *kernelTrace) configure(family byte, attr []byte) error {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+4+len(attr)))
	b = binary.NativeEndian.AppendUint16(b, subsysULOG<<8|ulogConfig)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, family, 0)
	b = binary.BigEndian.AppendUint16(b, k.group)
	if err := unix.Sendto(k.fd, append(b, attr...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(k.fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("answer of %d bytes", n)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// read collects until told to stop and nothing more comes.
func (k *kernelTrace) read() error {
	buf := make([]byte, 1<<20)
	for {
		n, _, err := unix.Recvfrom(k.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			select {
			case <-k.quit:
				return nil
			default:
			}
			continue
		case err != nil:
			return err // ENOBUFS too: then some is missing
		}
		k.records = append(k.records, k.decode(buf[:n])...)
	}
}

// stop ends collecting and gives everything.
func (k *kernelTrace) stop(t *testing.T) []tracedRule {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // the kernel sends in batches
	close(k.quit)
	if err := errors.Join(<-k.ended, unix.Close(k.fd)); err != nil {
		t.Fatalf("the kernel's TRACE: %v", err)
	}
	return k.records
}

// messages cuts a datagram up: subsystem<<8|type, family and attributes of each.
func messages(b []byte, each func(kind uint16, family byte, attrs map[uint16][]byte)) {
	for len(b) >= unix.SizeofNlMsghdr+4 {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr+4 || n > len(b) {
			return
		}
		attrs := map[uint16][]byte{}
		for a := b[unix.SizeofNlMsghdr+4 : n]; len(a) >= 4; {
			l := int(binary.NativeEndian.Uint16(a))
			if l < 4 || l > len(a) {
				break
			}
			attrs[binary.NativeEndian.Uint16(a[2:])&0x3fff] = a[4:l]
			a = a[min(len(a), (l+3)&^3):]
		}
		each(binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr], attrs)
		b = b[min(len(b), (n+3)&^3):]
	}
}

// decodeULOG reads legacy TRACE: a prefix "TRACE: filter:FORWARD:rule:3 " and the
// packet.
func decodeULOG(b []byte) (records []tracedRule) {
	messages(b, func(kind uint16, family byte, attrs map[uint16][]byte) {
		prefix := strings.TrimRight(string(attrs[ulogPrefix]), "\x00 ")
		words := strings.Split(strings.TrimPrefix(prefix, "TRACE: "), ":")
		if kind != subsysULOG<<8|ulogPacket || !strings.HasPrefix(prefix, "TRACE: ") || len(words) != 4 {
			return
		}
		number, err := strconv.Atoi(words[3])
		if err != nil {
			return
		}
		r := tracedRule{family: map[byte]string{unix.AF_INET: "ip", unix.AF_INET6: "ip6"}[family],
			table: words[0], chain: words[1], kind: words[2], number: number}
		r.packet = packetKey(attrs[ulogPayload], nil)
		records = append(records, r)
	})
	return records
}

// decodeNFLOG reads what NFLOG sends: its prefix and the packet.
func decodeNFLOG(b []byte) (records []tracedRule) {
	messages(b, func(kind uint16, _ byte, attrs map[uint16][]byte) {
		if kind == subsysULOG<<8|ulogPacket {
			records = append(records, tracedRule{kind: "log", packet: packetKey(attrs[ulogPayload], nil), prefix: strings.TrimRight(string(attrs[ulogPrefix]), "\x00 ")})
		}
	})
	return records
}

// decodeNFT reads messages of nft's TRACE. Only the first of each base chain has
// the packet; the others have the same id.
func decodeNFT(b []byte) (records []tracedRule) {
	messages(b, func(kind uint16, family byte, attrs map[uint16][]byte) {
		if kind != subsysNFT<<8|nftTraceMessage || len(attrs[traceType]) < 4 {
			return
		}
		text := func(kind uint16) string { return strings.TrimRight(string(attrs[kind]), "\x00") }
		r := tracedRule{table: text(traceTable), chain: text(traceChain), id: binary.BigEndian.Uint32(attrs[traceID])}
		r.family = map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev"}[family]
		switch binary.BigEndian.Uint32(attrs[traceType]) {
		case traceTypePolicy:
			r.kind = "policy"
		case traceTypeReturn:
			r.kind = "return"
		default:
			r.kind = "rule"
		}
		if h := attrs[traceHandle]; len(h) == 8 {
			r.handle = binary.BigEndian.Uint64(h)
		}
		if net := attrs[traceNetwork]; len(net) > 0 {
			r.packet = packetKey(net, attrs[traceTransport])
		}
		records = append(records, r)
	})
	return records
}

// packetKey names a packet by protocol, addresses and ports (ICMP: id). The
// transport header may stand apart.
func packetKey(ip, transport []byte) string {
	if len(ip) < 20 {
		return ""
	}
	proto, header, from, to := ip[9], int(ip[0]&15)*4, 12, 16
	size := 4
	if ip[0]>>4 == 6 {
		if len(ip) < 40 {
			return ""
		}
		proto, header, from, to, size = ip[6], 40, 8, 24, 16
	}
	if transport == nil && len(ip) >= header {
		transport = ip[header:]
	}
	if len(transport) < 6 {
		return ""
	}
	if proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6 {
		return fmt.Sprintf("icmp %d id %d", transport[0], binary.BigEndian.Uint16(transport[4:]))
	}
	return fmt.Sprintf("%d %x>%x %d>%d", proto, ip[from:from+size], ip[to:to+size], binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:]))
}

// keysOf are the same of a packet as told: at its first hop, and as NAT made it.
func keysOf(p *model.Packet) []string {
	keys := []string{keyOf(p)}
	for _, h := range p.Hops {
		if h.After != nil {
			q := *p
			q.Src, q.SrcPort, q.Dst, q.DstPort = h.After.Src, h.After.SrcPort, h.After.Dst, h.After.DstPort
			keys = append(keys, keyOf(&q))
		}
	}
	return keys
}

func keyOf(p *model.Packet) string {
	switch p.ICMP {
	case "echo-request":
		return fmt.Sprintf("icmp %d id %d", map[bool]int{false: icmpEcho, true: icmp6Echo}[p.Src.Is6()], p.ICMPID)
	case "echo-reply":
		return fmt.Sprintf("icmp %d id %d", map[bool]int{false: icmpEchoReply, true: icmp6EchoReply}[p.Src.Is6()], p.ICMPID)
	}
	proto := map[string]int{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[p.Proto]
	return fmt.Sprintf("%d %x>%x %d>%d", proto, p.Src.AsSlice(), p.Dst.AsSlice(), p.SrcPort, p.DstPort)
}
