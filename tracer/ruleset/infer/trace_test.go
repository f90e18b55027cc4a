// SPDX-License-Identifier: Apache-2.0

package infer_test

// The truth these tests compare with: the kernel's own trace of each packet
// through nftables (what `nft monitor trace` shows), which tells rule by rule
// what matched and what decided; and the counters of the rules as nft lists
// them, which have to agree with the trace.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// traceTable makes the kernel trace every packet of a namespace.
const traceTable = `table inet zz-trace {
	chain in { type filter hook prerouting priority -450; meta nftrace set 1; }
	chain out { type filter hook output priority -450; meta nftrace set 1; }
}
`

// Attributes of a trace (enum nft_trace_attributes, linux/netfilter/nf_tables.h;
// those of the connection since 6.16).
const (
	traceTableName, traceChain, traceHandle, traceType = 1, 2, 3, 4
	traceVerdict, traceID, traceNetwork, traceHeader   = 5, 6, 8, 9
	traceIif, traceOif, traceMark, tracePolicy         = 10, 12, 14, 16
	traceCTDirection, traceCTStatus, traceCTState      = 19, 20, 21
	typePolicy, typeRule                               = 1, 3
	groupTrace                                         = 9
	msgTrace                                           = 10<<8 | 17
)

// traversal is one packet's way through one base chain.
type traversal struct {
	family, table, chain string
	packet               packet.Packet // as it came
	matched              []uint64      // handles of the rules that matched, in order
	decided              uint64        // handle of the one that decided; 0: the policy
	verdict              string        // "" while it is under way
	gone                 time.Time     // when it was over at the latest
}

func (x *traversal) String() string {
	p := &x.packet
	return fmt.Sprintf("%s %s %s: %s -> %s proto %d ports %v %v in %v out %v mark %v ct %v", x.family, x.table, x.chain,
		p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort, p.In, p.Out, p.Mark, p.CT)
}

// listener gathers the traces of a namespace.
type listener struct {
	t     testing.TB
	fd    int
	marks map[uint32]uint32     // of packets by trace id: the last seen
	state map[uint32]uint32     // status of their connections, likewise
	open  map[uint32]*traversal // under way
	names map[uint32]string     // of interfaces by index
	all   []*traversal
}

// place is a network namespace to look at.
type place struct {
	t    testing.TB
	path string
	ns   *node.Namespaces
}

func openPlace(t testing.TB, path string) *place {
	t.Helper()
	ns, err := node.OpenNamespaces(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return &place{t, path, ns}
}

func (p *place) inode() uint32 { return p.ns.Node().Inode }

func (p *place) do(fn func() error) {
	p.t.Helper()
	if err := p.ns.Do(p.inode(), fn); err != nil {
		p.t.Fatal(err)
	}
}

// run runs a tool in the namespace.
func (p *place) run(stdin string, words ...string) string {
	p.t.Helper()
	var out []byte
	p.do(func() error {
		cmd := exec.CommandContext(p.t.Context(), words[0], words[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// listen begins to trace the packets of a namespace.
func (p *place) listen() *listener {
	p.t.Helper()
	l := &listener{t: p.t, marks: map[uint32]uint32{}, state: map[uint32]uint32{}, open: map[uint32]*traversal{}, names: map[uint32]string{}}
	p.do(func() (err error) {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, link := range links {
			l.names[uint32(link.Index)] = link.Name
		}
		if l.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		wait := unix.NsecToTimeval((300 * time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(l.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return err
		}
		if err := unix.Bind(l.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		return unix.SetsockoptInt(l.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, groupTrace)
	})
	p.t.Cleanup(func() {
		if err := unix.Close(l.fd); err != nil {
			p.t.Error(err)
		}
	})
	p.run(traceTable, "nft", "-f", "-")
	return l
}

// take gives the traversals since it was last asked, once no more come.
func (l *listener) take() []*traversal {
	l.t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(l.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			l.t.Fatalf("trace: %v", err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if binary.NativeEndian.Uint16(b[4:]) == msgTrace {
				l.event(slices.Clone(b[unix.NLMSG_HDRLEN:size]))
			}
			b = b[min(len(b), nfnetlink.Align(size)):]
		}
	}
	all := l.all
	l.all = nil
	for _, x := range all {
		x.gone = time.Now()
	}
	return all
}

// baseline forgets what was traced so far and gives the counters as they stand
// then: a node says something by itself now and then, and what came between the
// two would be traced and not counted.
func (l *listener) baseline(p *place) map[ruleKey]int {
	l.t.Helper()
	for before := p.counters(); ; {
		l.take()
		now := p.counters()
		if maps.Equal(before, now) {
			return now
		}
		before = now
	}
}

// event takes one message.
func (l *listener) event(msg []byte) {
	a, err := nfnetlink.Message(msg)
	if err != nil {
		l.t.Fatal(err)
	}
	id, _ := a.Uint32(traceID)
	if header, ok := a.Get(traceNetwork); ok {
		family := map[byte]string{1: "inet", 2: "ip", 10: "ip6"}[msg[0]]
		x := &traversal{family: family, table: a.Text(traceTableName), chain: a.Text(traceChain)}
		x.packet = l.facts(a, header)
		// An event is told after its rule: what the packet came with is what the
		// last chain told.
		if was, ok := l.marks[id]; ok {
			x.packet.Mark = packet.Known(was)
		}
		if was, ok := l.state[id]; ok && x.packet.CT.State.Known {
			x.packet.CT.Status = packet.Known(was)
		}
		l.open[id] = x
		l.all = append(l.all, x)
	}
	x := l.open[id]
	if x == nil {
		l.t.Fatalf("trace of a packet whose headers were not seen")
	}
	mark, _ := a.Uint32(traceMark) // absent: 0
	l.marks[id] = mark
	if status, ok := a.Uint32(traceCTStatus); ok {
		l.state[id] = status
	} else if a.Has(traceNetwork) {
		delete(l.state, id)
	}
	if x.table == "zz-trace" {
		x.packet.Mark = packet.Known(mark)
	}
	l.settle(x, a)
}

// settle notes what an event tells of rules.
func (l *listener) settle(x *traversal, a nfnetlink.Attrs) {
	handle, _ := a.Number(traceHandle)
	kind, _ := a.Uint32(traceType)
	var code uint32
	switch kind {
	case typePolicy:
		code, _ = a.Uint32(tracePolicy)
	case typeRule:
		if handle == 0 {
			return // the end of a chain that was jumped to
		}
		x.matched = append(x.matched, handle)
		nest, err := a.Nest(traceVerdict)
		if err != nil {
			l.t.Fatal(err)
		}
		code, _ = nest.Uint32(1)
		if int32(code) < 0 {
			return
		}
		x.decided = handle
	default:
		return
	}
	x.verdict = map[uint32]string{0: "drop", 1: "accept", 2: "stolen"}[code&0xff]
}

// facts reads what the trace tells of the packet itself.
func (l *listener) facts(a nfnetlink.Attrs, h []byte) packet.Packet {
	p := packet.Packet{In: packet.Known(""), Out: packet.Known("")}
	if index, ok := a.Uint32(traceIif); ok {
		p.In = packet.Known(l.names[index])
	}
	if index, ok := a.Uint32(traceOif); ok {
		p.Out = packet.Known(l.names[index])
	}
	if h[0]>>4 == 4 {
		p.Family, p.Proto = "ip", h[9]
		p.TOS, p.TTL = packet.Known(h[1]), packet.Known(h[8])
		p.Length = packet.Known(uint32(binary.BigEndian.Uint16(h[2:])))
		p.Fragment = packet.Known(binary.BigEndian.Uint16(h[6:])&0x1fff != 0)
		p.Src, p.Dst = netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
	} else {
		p.Family, p.Proto = "ip6", h[6]
		p.TTL, p.Fragment = packet.Known(h[7]), packet.Known(false)
		p.Src, p.Dst = netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
	}
	t, _ := a.Get(traceHeader)
	switch {
	case len(t) < 4:
	case p.Proto == unix.IPPROTO_ICMP, p.Proto == unix.IPPROTO_ICMPV6:
		p.ICMPType, p.ICMPCode = packet.Known(t[0]), packet.Known(t[1])
	case p.Proto == unix.IPPROTO_TCP, p.Proto == unix.IPPROTO_UDP:
		p.SrcPort, p.DstPort = packet.Known(binary.BigEndian.Uint16(t)), packet.Known(binary.BigEndian.Uint16(t[2:]))
		if p.Proto == unix.IPPROTO_TCP && len(t) > 13 {
			p.TCPFlags = packet.Known(t[13])
		}
	}
	if state, ok := a.Uint32(traceCTState); ok {
		names := map[uint32]string{1: packet.StateInvalid, 2: packet.StateEstablished, 4: packet.StateRelated, 8: packet.StateNew, 64: packet.StateUntracked}
		p.CT.State = packet.Known(names[state])
	}
	if direction, ok := a.Number(traceCTDirection); ok {
		p.CT.Reply = packet.Known(direction == 1)
	}
	return p
}

// target is the traversal's chain.
func (x *traversal) target() infer.Target {
	return infer.Target{Backend: node.BackendNFT, Family: x.family, Table: x.table, Chain: x.chain}
}

// ruleKey names a rule of a namespace.
type ruleKey struct {
	table  string // family and name
	handle uint64
}

var counterLine = regexp.MustCompile(`counter packets (\d+) bytes \d+.*# handle (\d+)$`)

// counters reads the counters of all rules that have one, as nft lists them.
func (p *place) counters() map[ruleKey]int {
	p.t.Helper()
	all := map[ruleKey]int{}
	table := ""
	for line := range strings.Lines(p.run("", "nft", "-a", "list", "ruleset")) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "table "); ok {
			table, _, _ = strings.Cut(rest, " {")
		}
		if found := counterLine.FindStringSubmatch(line); found != nil {
			packets, _ := strconv.Atoi(found[1])
			handle, _ := strconv.ParseUint(found[2], 10, 64)
			all[ruleKey{table, handle}] = packets
		}
	}
	return all
}
