// SPDX-License-Identifier: Apache-2.0

package journey

// Hooks of devices and bridges (netdev's INGRESS and EGRESS, the inet family's
// INGRESS, all of the bridge family) have no netfilter links: a link is of IPv4
// or IPv6 (net/netfilter/nf_bpf_link.c: bpf_nf_check_pf_and_hooks, 6.4 to 7.3).
// Where a packet died there, the kernel's stack tells the hook, the namespace's
// chains tell which of them hang there, and the rules are asked which of them
// it was.

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// HookSite is a hook of a device or bridge, counted as its family does.
type HookSite struct {
	PF   uint8 // NFPROTO_NETDEV or NFPROTO_BRIDGE
	Hook uint8
	// family is the one whose chains were run, where the stack tells; "" it does not.
	family string
}

// enum nf_dev_hooks, include/uapi/linux/netfilter.h
const (
	NetdevIngress = 0
	netdevEgress  = 1
)

const (
	inetIngress   = 5 // NF_INET_INGRESS, include/uapi/linux/netfilter.h: so nft has it for inet chains
	BridgeForward = 2 // NF_BR_FORWARD, include/uapi/linux/netfilter_bridge.h
	notKnown      = 0xff
)

// hookRunners are the functions that run hooks of devices and bridges, and no
// others; nf_hook_slow() is not inlined into them (net/core/dev.c, net/packet/
// af_packet.c, net/bridge/br_{input,forward}.c and br_netfilter_hooks.c,
// Linux 5.17 to 7.3). PREROUTING of a bridge is run by br_handle_frame itself.
var hookRunners = []struct {
	prefix string
	pf     uint8
	hook   uint8
}{
	{"__netif_receive_skb_core", unix.NFPROTO_NETDEV, NetdevIngress},
	{"nf_ingress", unix.NFPROTO_NETDEV, NetdevIngress},
	{"__dev_queue_xmit", unix.NFPROTO_NETDEV, netdevEgress},
	{"nf_hook_egress", unix.NFPROTO_NETDEV, netdevEgress},
	{"nf_hook_direct_egress", unix.NFPROTO_NETDEV, netdevEgress},
	{"packet_xmit", unix.NFPROTO_NETDEV, netdevEgress},
	{"br_handle_frame_finish", unix.NFPROTO_BRIDGE, notKnown}, // only others inlined into it run hooks
	{"br_handle_frame", unix.NFPROTO_BRIDGE, PreRouting},
	{"nf_hook_bridge_pre", unix.NFPROTO_BRIDGE, PreRouting},
	{"br_nf_pre_routing_finish", unix.NFPROTO_BRIDGE, PreRouting},
	{"br_pass_frame_up", unix.NFPROTO_BRIDGE, LocalIn},
	{"br_forward_finish", unix.NFPROTO_BRIDGE, PostRouting},
	{"br_nf_forward_finish", unix.NFPROTO_BRIDGE, BridgeForward},
	{"__br_forward", unix.NFPROTO_BRIDGE, BridgeForward}, // or OUTPUT, see siteOf
}

// throughHook are the functions between the one that runs a hook and the one
// that frees: they run it for whoever called them.
var throughHook = []string{"nft_do_chain", "nf_hook_slow", "nf_queue", "__nf_queue", "br_nf_hook_thresh"}

// siteOf reads off a death's stack the hook of a device or bridge it was in.
func siteOf(d *model.Drop) (s HookSite, ok bool) {
	for i, frame := range d.Stack {
		fn, _, _ := strings.Cut(frame, "+")
		switch fn {
		case "nft_do_chain_netdev":
			s.family = "netdev"
		case "nft_do_chain_inet_ingress":
			s.family = "inet"
		case "nft_do_chain_bridge":
			s.family = "bridge"
		}
		if slices.ContainsFunc(throughHook, func(f string) bool { return strings.HasPrefix(fn, f) }) {
			continue
		}
		for _, r := range hookRunners {
			if !strings.HasPrefix(fn, r.prefix) {
				continue
			}
			s.PF, s.Hook = r.pf, r.hook
			if r.prefix == "__br_forward" {
				s.Hook = forwardedFrom(d.Stack[i+1:])
			}
			return s, true
		}
		return s, false
	}
	return s, false
}

// forwardedFrom tells for whom __br_forward() works: for what the bridge itself
// sends it runs OUTPUT, for what came in by a port FORWARD.
func forwardedFrom(callers []string) uint8 {
	for _, frame := range callers {
		switch {
		case strings.HasPrefix(frame, "br_dev_xmit"):
			return LocalOut
		case strings.HasPrefix(frame, "br_handle_frame"):
			return BridgeForward
		}
	}
	return notKnown
}

// String is the hook's name; "" where it is not known.
func (s HookSite) String() string {
	if s.Hook == notKnown {
		return ""
	}
	return hookOfFamily(s.PF, s.Hook)
}

// maybeAtSite tells, where symbols are hidden, that the hook passed last is over
// and chains of devices or bridges may have ended the packet.
func (c *copyState) maybeAtSite(w *world, e *Record) bool {
	if !w.Hidden() || e.Index != LastBracket {
		return false
	}
	tables, _ := w.tables.Beside(e.Netns, 0, 0, "", e.Ts)
	return len(tables) > 0
}

// placeAtSite names hook, chain and rule of a death in a hook of a device or
// bridge.
func placeAtSite(w *world, c *copyState, e *Record, d *model.Drop, s HookSite, verdict string) {
	d.Hook, d.Family, d.Stage = s.String(), nfnetlink.Family(s.PF), model.StageNetfilter
	inChain := freedByChain(d.Function)
	switch {
	case d.Hook == "":
		d.RuleUnknown = "which hook of the bridge it was in is not known"
		return
	case !inChain && verdict == "drop" && w.FreesInChain():
		d.RuleUnknown = "no nft chain freed it: ebtables or a flow table may have"
		return
	}
	tables, changed := w.tables.Beside(e.Netns, s.PF, s.Hook, d.Interface, e.Ts)
	tables = slices.DeleteFunc(tables, func(t Table) bool {
		return t.Backend == "" && inChain || t.Backend != "" && s.family != "" && t.Family != s.family
	})
	if changed && !inChain {
		d.Candidates = candidates(tables)
		return
	}
	left, r := decidingTable(w, tables, func(t Table) Passage { return c.beside(e, t, s) }, verdict)
	switch {
	case len(tables) == 0:
		d.RuleUnknown = "no chain was found on this hook: it is gone by now, or could not be read"
	case len(left) == 0:
		d.RuleUnknown = "the rules as they were read let it go on: they changed meanwhile, or something about the packet was not seen"
	case len(left) > 1 || left[0].Backend == "":
		d.Candidates = candidates(left)
	default:
		d.Backend, d.Table, d.Chain, d.Family = left[0].Backend, left[0].Table, left[0].Chain, left[0].Family
		nameRuling(c, d, r)
	}
}

func candidates(tables []Table) (all model.Candidates) {
	for _, t := range tables {
		all = append(all, model.Candidate(t))
	}
	return all
}

// decidingTable asks the tables of a hook, in the order they run, which of them
// may have set the verdict, and the one that is left for its rules. Only one that
// lets the packet go on for sure is out, and what comes behind one that ends it
// for sure.
func decidingTable(w *world, tables []Table, about func(Table) Passage, verdict string) (left []Table, r Ruling) {
	for _, t := range tables {
		if t.Backend == "" {
			left = append(left, t)
			continue
		}
		says := w.rules.Infer(about(t), "")
		if says.Decided != nil && says.Ends == "accept" && len(tables) > 1 {
			continue
		}
		left = append(left, t)
		if says.Decided != nil && (says.Ends == verdict || verdict == "drop" && says.Ends == "reject") {
			break
		}
	}
	if len(left) == 1 && left[0].Backend != "" {
		r = w.rules.Infer(about(left[0]), verdict)
	}
	return left, r
}

// beside is the packet's way through a chain of a device or bridge. It is known as
// it was when it died: what the chain may have changed counts only where it is
// as it was before.
func (c *copyState) beside(e *Record, t Table, s HookSite) Passage {
	family := e.T.Family
	if e.Flags&bpf.FlagEncap != 0 {
		family = e.Tun.Family
	}
	p := Passage{At: e.Event, After: true, Before: c.last, Came: c.came, Site: &s, Netns: e.Netns, PF: unix.NFPROTO_IPV4, CT: c.ct, Table: t}
	if family == 6 {
		p.PF = unix.NFPROTO_IPV6
	}
	return p
}

// within is the packet's way through a chain that told itself, as it came out of
// it. A bridge's hooks show the other device then: they are left out.
func (c *copyState) within(e *Record, t Table) Passage {
	if e.Pf == unix.NFPROTO_NETDEV {
		return c.beside(e, t, HookSite{PF: e.Pf, Hook: e.Hook - 1})
	}
	if e.Hook-1 == inetIngress {
		return c.beside(e, t, HookSite{PF: unix.NFPROTO_NETDEV, Hook: NetdevIngress})
	}
	return Passage{At: e.Event, After: true, Before: c.last, Netns: e.Netns, PF: e.Pf, Hook: e.Hook, Out: c.out, OutIndex: c.outIndex, CT: c.ct, Invalid: c.invalid, Table: t}
}

// HookName is the hook's name for rules.
func (p Passage) HookName() string {
	if p.Site != nil {
		return p.Site.String()
	}
	return HookName(p.Hook - 1)
}
