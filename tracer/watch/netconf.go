// SPDX-License-Identifier: Apache-2.0

package watch

// This file reads what rtnetlink tells of sysctls: a few that routing depends
// on. The kernel half, where it sees who writes sysctls, sees all of them.

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Attributes of RTM_NEWNETCONF (linux/netconf.h).
const (
	netconfIfIndex    = 1
	netconfForwarding = 2
	netconfRPFilter   = 3
	netconfProxyNeigh = 5
	sizeofNetconf     = 4 // struct netconfmsg, with its padding

	allInterfaces     = ^uint32(0)     // NETCONFA_IFINDEX_ALL
	defaultInterfaces = ^uint32(0) - 1 // NETCONFA_IFINDEX_DEFAULT
)

// netconfNames are the sysctls by attribute, for IPv4 and IPv6.
var netconfNames = map[uint16][2]string{
	netconfForwarding: {"forwarding", "forwarding"},
	netconfRPFilter:   {"rp_filter", ""},
	netconfProxyNeigh: {"proxy_arp", "proxy_ndp"},
}

// followsWithin is how soon before or after the sysctl for all interfaces the
// kernel has told of each of them (inet_forward_change, net/ipv4/devinet.c: after;
// addrconf_fixup_forwarding, net/ipv6/addrconf.c: before).
const followsWithin = 100 * time.Millisecond

// each is a sysctl that all interfaces of a namespace have.
type each struct {
	netns uint32
	name  string // ipv4/forwarding
}

// sysctlMessage reads RTM_NEWNETCONF. A change is told with one attribute, a new
// interface with all of them.
func (w *Watcher) sysctlMessage(m message, netns uint32) *change {
	if len(m.body) < sizeofNetconf {
		return nil
	}
	attr := attributes(m.body[sizeofNetconf:])
	at, told := attr[netconfIfIndex]
	if len(attr) != 2 || !told {
		return nil
	}
	delete(attr, netconfIfIndex)
	for kind, value := range attr {
		names := netconfNames[kind]
		name, family := names[0], "ipv4"
		if m.body[0] == unix.AF_INET6 {
			name, family = names[1], "ipv6"
		}
		if name == "" {
			return nil
		}
		of := each{netns, family + "/" + name}
		iface := w.interfaces(of, number(at), m.at)
		if iface == "" {
			return nil
		}
		c := w.sysctlChange(m, netns, family+"/conf/"+iface+"/"+name, fmt.Sprint(int32(number(value))))
		c.each = of
		return c
	}
	return nil
}

// interfaces says what a sysctl is set for; "" if it is for one interface because
// it was for all.
func (w *Watcher) interfaces(of each, index uint32, at time.Time) string {
	switch {
	case index == allInterfaces:
		w.allSet[of] = at
		w.waiting = slices.DeleteFunc(w.waiting, func(c *change) bool { return c.each == of && at.Sub(c.event.Time) < followsWithin })
		return "all"
	case at.Sub(w.allSet[of]) < followsWithin:
		return ""
	case index == defaultInterfaces:
		return "default"
	}
	return w.linkName(linkAt{of.netns, index})
}

// sysctlChange words the change of a sysctl below net/.
func (w *Watcher) sysctlChange(m message, netns uint32, path, value string) *change {
	if path == "ipv4/conf/all/forwarding" {
		path = "ipv4/ip_forward"
	}
	object := "net." + dotted(path)
	return &change{key: key{kind: SysctlWritten}, event: w.newEvent(m, netns, model.SysctlChanged, object), head: fmt.Sprintf("%s%s set to %s", object, w.where(netns), value)}
}

// dotted writes a path as sysctl(8) does: dots between its parts, slashes for
// dots within.
func dotted(path string) string {
	swap := func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}
	out := []rune(path)
	for i, r := range out {
		out[i] = swap(r)
	}
	return string(out)
}
