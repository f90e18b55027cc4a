// SPDX-License-Identifier: Apache-2.0

package node

// This file reads the IPsec policies and states (xfrm) of a namespace.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// IPsec is what a namespace wants encrypted, and the keys that it has for that.
type IPsec struct {
	Policies []IPsecPolicy
	States   []IPsecState
}

// IPsecPolicy says what becomes of packets of a kind (`ip xfrm policy`): they are
// blocked, or have to come, or to go, by states that fit all of its templates; without
// any they pass.
type IPsecPolicy struct {
	Src, Dst         netip.Prefix
	Proto            int // IP protocol; 0: any
	SrcPort, DstPort uint16
	Dir              string // in, out or fwd; others are of a single socket
	Priority, Index  int    // the lowest priority counts, of equal ones the lowest index
	LinkIndex        int    // 0: any
	Interface        int    // id of the xfrm interface that it is for; 0: of none
	Mark, Mask       uint32
	Block            bool
	Templates        []IPsecTemplate
}

// IPsecTemplate is a state that a policy demands.
type IPsecTemplate struct {
	Src, Dst netip.Addr // the tunnel's ends; unspecified: the packet's own
	Proto    string     // esp, ah, comp
	Mode     string     // tunnel, transport, ...
	ReqID    int        // 0: any
	Optional bool       // `level use`: it may be missing
}

// IPsecState is a security association (`ip xfrm state`), without its keys.
type IPsecState struct {
	Src, Dst netip.Addr
	Proto    string
	Mode     string
	ReqID    int
}

// IPsec lists policies and states of both families.
func (n *Namespaces) IPsec(inode uint32) (all IPsec, err error) {
	err = n.Do(inode, func() error {
		there, err := hasXfrm()
		if err != nil || !there {
			return err
		}
		if all.Policies, err = dump(ipsecPolicies); err != nil {
			return fmt.Errorf("list policies: %w", err)
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			states, err := dump(func() ([]netlink.XfrmState, error) { return netlink.XfrmStateList(family) })
			if err != nil {
				return fmt.Errorf("list states: %w", err)
			}
			for i := range states {
				s := &states[i]
				all.States = append(all.States, IPsecState{Src: addrOf(s.Src, family), Dst: addrOf(s.Dst, family), Proto: s.Proto.String(), Mode: s.Mode.String(), ReqID: s.Reqid})
			}
		}
		return nil
	})
	if err != nil {
		return IPsec{}, fmt.Errorf("%s: IPsec: %w", n.Place(inode), err)
	}
	return all, nil
}

// hasXfrm tells whether the kernel listens to questions about IPsec: asking where it
// does not would load xfrm_user. Its own socket is among those that proc lists
// (netlink_seq_show, net/netlink/af_netlink.c: the protocol comes second).
func hasXfrm() (bool, error) {
	file, err := os.Open("/proc/thread-self/net/netlink")
	if err != nil {
		return false, err
	}
	want, found := fmt.Sprint(unix.NETLINK_XFRM), false
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		found = found || len(fields) > 1 && fields[1] == want
	}
	return found, errors.Join(lines.Err(), file.Close())
}

// ipsecPolicies lists the policies of both families. The library's own list loses the
// lengths of IPv6 prefixes whose addresses end in twelve bytes of zero (fd00:2::/64).
func ipsecPolicies() (all []IPsecPolicy, err error) {
	req := nl.NewNetlinkRequest(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	found, err := req.Execute(unix.NETLINK_XFRM, nl.XFRM_MSG_NEWPOLICY)
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		p, err := readIPsecPolicy(m)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// readIPsecPolicy reads struct xfrm_userpolicy_info and its attributes (linux/xfrm.h).
func readIPsecPolicy(m []byte) (IPsecPolicy, error) {
	if len(m) < nl.SizeofXfrmUserpolicyInfo {
		return IPsecPolicy{}, fmt.Errorf("policy of %d bytes", len(m))
	}
	info := nl.DeserializeXfrmUserpolicyInfo(m)
	sel, family := &info.Sel, int(info.Sel.Family)
	out := IPsecPolicy{
		Src: netip.PrefixFrom(xfrmAddr(&sel.Saddr, family), int(sel.PrefixlenS)), Dst: netip.PrefixFrom(xfrmAddr(&sel.Daddr, family), int(sel.PrefixlenD)),
		Proto: int(sel.Proto), SrcPort: nl.Swap16(sel.Sport), DstPort: nl.Swap16(sel.Dport), LinkIndex: int(sel.Ifindex),
		Priority: int(info.Priority), Index: int(info.Index), Block: netlink.PolicyAction(info.Action) == netlink.XFRM_POLICY_BLOCK,
		Dir: strings.TrimPrefix(netlink.Dir(info.Dir).String(), "dir "),
	}
	attrs, err := nl.ParseRouteAttr(m[nl.SizeofXfrmUserpolicyInfo:])
	if err != nil {
		return IPsecPolicy{}, fmt.Errorf("attributes of a policy: %w", err)
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == nl.XFRMA_TMPL:
			for v := a.Value; len(v) >= nl.SizeofXfrmUserTmpl; v = v[nl.SizeofXfrmUserTmpl:] {
				t := nl.DeserializeXfrmUserTmpl(v[:nl.SizeofXfrmUserTmpl])
				of := int(t.Family)
				out.Templates = append(out.Templates, IPsecTemplate{Src: xfrmAddr(&t.Saddr, of), Dst: xfrmAddr(&t.XfrmId.Daddr, of),
					Proto: netlink.Proto(t.XfrmId.Proto).String(), Mode: netlink.Mode(t.Mode).String(), ReqID: int(t.Reqid), Optional: t.Optional != 0})
			}
		case a.Attr.Type == nl.XFRMA_MARK && len(a.Value) >= nl.SizeofXfrmMark:
			mark := nl.DeserializeXfrmMark(a.Value)
			out.Mark, out.Mask = mark.Value, mark.Mask
		case a.Attr.Type == nl.XFRMA_IF_ID && len(a.Value) >= 4:
			out.Interface = int(binary.NativeEndian.Uint32(a.Value))
		}
	}
	return out, nil
}

// xfrmAddr is an address of a family as the kernel gives it: of an IPv4 address the
// first four bytes count.
func xfrmAddr(raw *nl.XfrmAddress, family int) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.AddrFrom16(*raw)
	}
	return netip.AddrFrom4([4]byte(raw[:4]))
}

// addrOf is an address of a family as the library reads it, which takes one that ends
// in twelve bytes of zero for an IPv4 address.
func addrOf(ip net.IP, family int) netip.Addr {
	var raw nl.XfrmAddress
	raw.FromIP(ip)
	return xfrmAddr(&raw, family)
}
