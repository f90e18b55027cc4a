// SPDX-License-Identifier: Apache-2.0

package node

// This file reads what the ports of a namespace's bridges may do. Asking for it
// loads nothing: the dump is the core's (rtnl_bridge_getlink, net/core/rtnetlink.c),
// and only devices that are ports answer.

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// STP states of a port (BR_STATE_*, linux/if_bridge.h); with STP off the kernel
// sets forwarding by itself, and whoever is root may set another.
const (
	PortDisabled = iota
	PortListening
	PortLearning
	PortForwarding
	PortBlocking
)

// BridgePort is a port of a bridge, as `bridge -d link` and `bridge vlan` show it,
// or the bridge itself, which is one as far as VLANs go.
type BridgePort struct {
	LinkIndex int
	Bridge    int // index of the bridge; LinkIndex where this is the bridge itself
	State     int // PortForwarding, ...; of the bridge itself it means nothing
	Hairpin   bool
	Isolated  bool // nothing goes from one isolated port to another (since 4.18)
	Locked    bool // only known source MACs come in (since 5.18)
	Learning  bool
	Flood     bool // frames for MACs that nobody knows are sent by it
	// NoBroadcast and NoMulticast: what is for all, or for a group, is not sent by it
	// (bcast_flood off, mcast_flood off).
	NoBroadcast, NoMulticast bool
	VLANs                    []PortVLAN
}

// PortVLAN is a VLAN that a port is in.
type PortVLAN struct {
	ID       uint16
	PVID     bool // what comes in without a tag is in it
	Untagged bool // what goes out in it has no tag
}

// In tells whether the port is in a VLAN.
func (p *BridgePort) In(vlan uint16) bool {
	return slices.ContainsFunc(p.VLANs, func(v PortVLAN) bool { return v.ID == vlan })
}

// PVID is the VLAN of frames that come in without a tag; 0: they are dropped.
func (p *BridgePort) PVID() uint16 {
	for _, v := range p.VLANs {
		if v.PVID {
			return v.ID
		}
	}
	return 0
}

// BridgePorts lists the ports of all bridges of a namespace, and the bridges.
func (n *Namespaces) BridgePorts(inode uint32) (all []BridgePort, err error) {
	err = n.Do(inode, func() error {
		all, err = dump(readBridgePorts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: bridge ports: %w", n.Place(inode), err)
	}
	return all, nil
}

// readBridgePorts asks within the namespace of the calling thread. The library's
// own reading of it knows neither state nor lock.
func readBridgePorts() (all []BridgePort, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(uint32(nl.RTEXT_FILTER_BRVLAN))))
	answers, asked := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if asked != nil && len(answers) == 0 {
		return nil, asked
	}
	for _, raw := range answers {
		p, ok, err := newBridgePort(raw)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, p)
		}
	}
	return all, asked
}

// newBridgePort reads one answer; ok is false for what is no bridge's.
func newBridgePort(raw []byte) (p BridgePort, ok bool, err error) {
	if len(raw) < unix.SizeofIfInfomsg {
		return p, false, fmt.Errorf("an answer of %d bytes", len(raw))
	}
	about := nl.DeserializeIfInfomsg(raw)
	attrs, err := nl.ParseRouteAttr(raw[about.Len():])
	if err != nil {
		return p, false, err
	}
	p.LinkIndex, p.Bridge = int(about.Index), int(about.Index)
	for _, a := range attrs {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.IFLA_MASTER:
			if len(a.Value) < 4 {
				return p, false, fmt.Errorf("port %d: master of %d bytes", p.LinkIndex, len(a.Value))
			}
			p.Bridge, ok = int(binary.NativeEndian.Uint32(a.Value)), true
		case unix.IFLA_PROTINFO:
			err = p.readPort(a.Value)
		case unix.IFLA_AF_SPEC:
			err = p.readVLANs(a.Value)
		}
		if err != nil {
			return p, false, fmt.Errorf("port %d: %w", p.LinkIndex, err)
		}
	}
	return p, ok || len(p.VLANs) > 0, nil
}

// readPort reads the attributes of br_port_fill_attrs (net/bridge/br_netlink.c).
func (p *BridgePort) readPort(raw []byte) error {
	attrs, err := nl.ParseRouteAttr(raw)
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if len(a.Value) == 0 {
			continue
		}
		on := a.Value[0] != 0
		switch a.Attr.Type {
		case nl.IFLA_BRPORT_STATE:
			p.State = int(a.Value[0])
		case nl.IFLA_BRPORT_MODE:
			p.Hairpin = on
		case nl.IFLA_BRPORT_ISOLATED:
			p.Isolated = on
		case nl.IFLA_BRPORT_LOCKED:
			p.Locked = on
		case nl.IFLA_BRPORT_LEARNING:
			p.Learning = on
		case nl.IFLA_BRPORT_UNICAST_FLOOD:
			p.Flood = on
		case nl.IFLA_BRPORT_BCAST_FLOOD:
			p.NoBroadcast = !on
		case nl.IFLA_BRPORT_MCAST_FLOOD:
			p.NoMulticast = !on
		}
	}
	return nil
}

// readVLANs reads struct bridge_vlan_info (linux/if_bridge.h): each VLAN is listed
// by itself, since ranges were not asked for.
func (p *BridgePort) readVLANs(raw []byte) error {
	attrs, err := nl.ParseRouteAttr(raw)
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if a.Attr.Type != nl.IFLA_BRIDGE_VLAN_INFO || len(a.Value) < nl.SizeofBridgeVlanInfo {
			continue
		}
		v := nl.DeserializeBridgeVlanInfo(a.Value)
		p.VLANs = append(p.VLANs, PortVLAN{ID: v.Vid, PVID: v.PortVID(), Untagged: v.EngressUntag()})
	}
	return nil
}

// vlanFiltering tells whether a link is a bridge that heeds VLANs.
func vlanFiltering(l netlink.Link) bool {
	b, ok := l.(*netlink.Bridge)
	return ok && b.VlanFiltering != nil && *b.VlanFiltering
}
