// SPDX-License-Identifier: Apache-2.0

package watch

// This file reads rtnetlink's messages about links and addresses; route.go those
// about routing, netconf.go sysctls, nft.go rules.

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// change is something that netlink told. Its event lacks who did it, and the
// words for that.
type change struct {
	event model.NodeEvent
	key   key    // by which its Deed is known; zero: none is to be expected
	each  each   // of a sysctl: by which it is known for all interfaces
	head  string // of the text: "cali1a2b set DOWN"
	tail  string // what follows the doer: "; its route 10.0.0.1/32 went with it"
}

// key is what change and deed of one act have in common.
type key struct {
	kind   Kind
	netns  uint32
	index  uint32
	set    bool
	prefix netip.Prefix
}

// keyOf is a deed's key.
func keyOf(d *Deed) key {
	switch d.Kind {
	case LinkFlags:
		return key{kind: LinkFlags, netns: d.Netns, index: d.Index, set: d.Set}
	case RouteChanged:
		return key{kind: RouteChanged, netns: d.Netns, index: d.Index, set: d.Set, prefix: d.Prefix}
	}
	return key{}
}

// link is what is known of an interface.
type link struct {
	name string
	kind string
	mtu  uint32
	up   bool
	peer uint32 // inode number of the namespace its other end is in; 0: not known, or none
}

// linkAt names an interface.
type linkAt struct {
	netns uint32
	index uint32
}

// place fills in where an event is.
func (w *Watcher) place(netns uint32) string { return w.namer.Place(netns) }

// newEvent begins an event.
func (w *Watcher) newEvent(m message, netns uint32, what, object string) model.NodeEvent {
	return model.NodeEvent{Type: model.TypeNode, Time: m.at, What: what, Object: object, Netns: netns, Place: w.place(netns)}
}

// where is " in default/client" for namespaces other than the node's.
func (w *Watcher) where(netns uint32) string {
	if netns == w.self {
		return ""
	}
	return " in " + w.place(netns)
}

// ifNewRegistration is ifi_change of a link that has just come to be
// (rtmsg_ifinfo(..., ~0U, ...), net/core/dev.c).
const ifNewRegistration = ^uint32(0)

// linkMessage reads RTM_NEWLINK and RTM_DELLINK (struct ifinfomsg,
// linux/rtnetlink.h). ifi_change holds the flags that changed.
func (w *Watcher) linkMessage(m message, netns uint32) *change {
	if len(m.body) < unix.SizeofIfInfomsg || m.body[0] != unix.AF_UNSPEC {
		return nil // a bridge port's own message is of family AF_BRIDGE
	}
	at := linkAt{netns, binary.NativeEndian.Uint32(m.body[4:])}
	flags, changed := binary.NativeEndian.Uint32(m.body[8:]), binary.NativeEndian.Uint32(m.body[12:])
	attr := attributes(m.body[unix.SizeofIfInfomsg:])
	was, known := w.links[at]
	now := link{name: unix.ByteSliceToString(attr[unix.IFLA_IFNAME]), mtu: number(attr[unix.IFLA_MTU]), up: flags&unix.IFF_UP != 0, peer: was.peer}
	now.kind = unix.ByteSliceToString(attributes(attr[unix.IFLA_LINKINFO])[unix.IFLA_INFO_KIND])
	if id, ok := attr[unix.IFLA_LINK_NETNSID]; ok && netns == w.self {
		if peer, ok := w.namespaceOf(int(int32(number(id)))); ok {
			now.peer = peer
		}
	}
	w.remember(at, now)
	c := &change{event: w.newEvent(m, netns, "", now.name)}
	c.event.IfIndex = at.index
	object := now.name + w.where(netns)
	switch {
	case m.kind == unix.RTM_DELLINK:
		delete(w.links, at)
		c.event.What, c.head = model.LinkDeleted, object+" deleted"
		c.event.Routes = w.routes.dropLink(at)
		c.tail = wentWith(c.event.Routes)
	case changed == ifNewRegistration:
		c.event.What, c.head = model.LinkAdded, object+" added"
	case changed&unix.IFF_UP != 0 && !(known && was.up == now.up):
		c.key = key{kind: LinkFlags, netns: netns, index: at.index, set: now.up}
		c.event.What, c.head = model.LinkUp, object+" set UP"
		if !now.up {
			c.event.What, c.head = model.LinkDown, object+" set DOWN"
			c.event.Routes = w.routes.dropLink(at)
			c.tail = wentWith(c.event.Routes)
		}
	case known && was.mtu != 0 && now.mtu != was.mtu:
		c.event.What, c.head = model.LinkMTU, fmt.Sprintf("MTU of %s set from %d to %d", object, was.mtu, now.mtu)
	default:
		return nil
	}
	return c
}

// maxLinks bounds the interfaces remembered: those of pods, mostly.
const maxLinks = 1 << 14

func (w *Watcher) remember(at linkAt, l link) {
	if _, known := w.links[at]; known || len(w.links) < maxLinks {
		w.links[at] = l
	}
}

// linkName names an interface, by its number if it is not known.
func (w *Watcher) linkName(at linkAt) string {
	if l, ok := w.links[at]; ok {
		return l.name
	}
	return fmt.Sprintf("interface %d", at.index)
}

// addressMessage reads RTM_NEWADDR and RTM_DELADDR (struct ifaddrmsg,
// linux/if_addr.h). New addresses of IPv6 are told again and again, so only
// their end is.
func (w *Watcher) addressMessage(m message, netns uint32) *change {
	if len(m.body) < unix.SizeofIfAddrmsg || m.body[3] != unix.RT_SCOPE_UNIVERSE {
		return nil
	}
	attr := attributes(m.body[unix.SizeofIfAddrmsg:])
	raw := attr[unix.IFA_LOCAL]
	if raw == nil {
		raw = attr[unix.IFA_ADDRESS]
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok || m.kind == unix.RTM_NEWADDR && addr.Is6() {
		return nil
	}
	at := linkAt{netns, binary.NativeEndian.Uint32(m.body[4:])}
	prefix := netip.PrefixFrom(addr, int(m.body[1]))
	what, verb := model.AddressAdded, "added to"
	if m.kind == unix.RTM_DELADDR {
		what, verb = model.AddressDeleted, "deleted from"
	}
	c := &change{event: w.newEvent(m, netns, what, prefix.String()), head: fmt.Sprintf("address %s %s %s%s", prefix, verb, w.linkName(at), w.where(netns))}
	c.event.IfIndex, c.event.Prefix = at.index, prefix
	return c
}
