// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file resolves a pod by name: it asks one source after the other, and
// completes what the first that knows the pod tells with what the node shows:
// the pod's namespace, its interfaces and addresses.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// pod resolves namespace/name.
func (r *Resolver) pod(ctx context.Context, v *view, pod podName) (Endpoint, error) {
	var tried []string
	var names []podName
	for _, s := range r.sources() {
		a, err := s.find(ctx, v, pod)
		if err != nil {
			return Endpoint{}, fmt.Errorf("pod %s: %w", pod, err)
		}
		if len(a.found) > 0 {
			return r.podEnd(ctx, v, a)
		}
		tried = append(tried, a.miss)
		names = append(names, a.names...)
	}
	return Endpoint{}, notFound("pod", pod, tried, names)
}

// notFound lists what was tried, and names that may have been meant.
func notFound(what string, name podName, tried []string, names []podName) error {
	return fmt.Errorf("%w: %s %s: %s%s", ErrUnknown, what, name, strings.Join(tried, ", "), meant(name, names))
}

// podEnd makes an end of what a source found.
func (r *Resolver) podEnd(ctx context.Context, v *view, a answer) (Endpoint, error) {
	p := v.newest(a.found)
	e := Endpoint{End: model.End{Kind: KindPod, Name: p.name, Namespace: p.namespace, ResolvedBy: a.how}}
	if n := len(a.found); n > 1 {
		e.ResolvedBy += fmt.Sprintf(", newest of %d sandboxes", n)
	}
	var err error
	switch {
	case p.node != "":
		e.ResolvedBy += ", on node " + p.node
		e.Node, e.Prefixes = p.node, addrPrefixes(p.addrs)
	case p.hostNetwork:
		err = r.hostNetworkEnd(&e)
	default:
		err = v.localEnd(ctx, &e, p, r.warn)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("pod %s (%s): %w", p, a.how, err)
	}
	if e.Prefixes = unique(e.Prefixes); len(e.Prefixes) == 0 {
		return Endpoint{}, fmt.Errorf("pod %s (%s): it has no address: it may be starting or ending, or its wiring be broken; name it by address", p, a.how)
	}
	return e, nil
}

// hostNetworkEnd is a pod in the node's own namespace.
func (r *Resolver) hostNetworkEnd(e *Endpoint) error {
	whole, err := r.node()
	if err != nil {
		return err
	}
	e.ResolvedBy += ", in the node's own network"
	e.Prefixes, e.Netns, e.NetnsInodes = whole.Prefixes, whole.Netns, whole.NetnsInodes
	return nil
}

// newest picks the sandbox to follow: one that is wired to the node before one
// that is not, then the newest. A restarted pod's old sandbox may linger.
func (v *view) newest(found []sandbox) sandbox {
	return slices.MaxFunc(found, func(x, y sandbox) int {
		return cmp.Or(boolOrder(v.wired(x), v.wired(y)), x.created.Compare(y.created))
	})
}

func boolOrder(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// wired tells whether one of the node's links leads to the sandbox.
func (v *view) wired(p sandbox) bool {
	if p.netns == 0 {
		return len(p.hostInterfaces) > 0
	}
	return slices.ContainsFunc(v.links, func(l node.Link) bool { return l.PeerNetns == p.netns })
}

// localEnd completes a pod of this node by its namespace, else by its
// interface on the node, else by its addresses.
func (v *view) localEnd(ctx context.Context, e *Endpoint, p sandbox, warn func(string)) error {
	e.Prefixes = addrPrefixes(p.addrs)
	if p.netns != 0 {
		done, err := v.byNamespace(e, p, warn)
		if done || err != nil {
			return err
		}
	}
	for _, name := range p.hostInterfaces {
		l, ok := v.linkNamed(name)
		if !ok || !v.leadsToPod(l) {
			continue
		}
		told := e.Prefixes
		e.Interface, e.IfIndex = l.Name, uint32(l.Index)
		how := e.ResolvedBy
		err := v.behindPort(e, l)
		e.ResolvedBy = how
		if err != nil && len(told) == 0 {
			return err
		}
		e.Prefixes = append(e.Prefixes, told...)
		return nil
	}
	return v.byAddress(ctx, e, p)
}

// byNamespace takes addresses and interface from the pod's namespace. False:
// it cannot be entered from here.
func (v *view) byNamespace(e *Endpoint, p sandbox, warn func(string)) (bool, error) {
	links, err := v.ns.Links(p.netns)
	if errors.Is(err, node.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.Netns, e.NetnsInodes = p.netns, []uint32{p.netns}
	var held []netip.Addr
	peerless := false // it hangs on the node, or the machine, without a pair
	for _, l := range links {
		peerless = peerless || node.Stacked(l.Kind) && l.PeerNetns == v.inode || l.Physical()
		for _, a := range l.GlobalAddrs() {
			if !l.Loopback {
				held = append(held, a.Addr())
			}
		}
		// The host's side of the first link that has one: eth0 in all CNIs.
		if host := v.peerOf(p.netns, l); e.HostIfIndex == 0 && host.Index != 0 {
			e.Interface, e.IfIndex, e.HostIfIndex = host.Name, uint32(host.Index), uint32(host.Index)
		}
	}
	if e.HostIfIndex == 0 && !peerless {
		warn(fmt.Sprintf("pod %s: no interface of this node leads to its namespace: its wiring is broken, or it is another node's", p))
	}
	if missing := without(p.addrs, held); len(missing) > 0 {
		warn(fmt.Sprintf("pod %s: by the %s it has %s, but its namespace does not: packets for both are followed", p, e.ResolvedBy, joinAddrs(missing)))
	}
	e.Prefixes = append(e.Prefixes, addrPrefixes(held)...)
	return true, nil
}

// peerOf is the node's link whose other end a link of the pod is.
func (v *view) peerOf(pod uint32, l node.Link) node.Link {
	for _, h := range v.links {
		if h.PeerNetns == pod && h.PeerIndex == l.Index {
			return h
		}
	}
	return node.Link{}
}

// byAddress finds out where a pod is of which only addresses are known.
func (v *view) byAddress(ctx context.Context, e *Endpoint, p sandbox) error {
	for _, a := range p.addrs {
		var at Endpoint
		if err := v.locate(ctx, &at, a); err != nil {
			return err
		}
		if at.HostIfIndex != 0 {
			e.Netns, e.NetnsInodes = at.Netns, at.NetnsInodes
			e.Interface, e.IfIndex, e.HostIfIndex = at.Interface, at.IfIndex, at.HostIfIndex
			return nil
		}
	}
	return nil
}

func addrPrefixes(addrs []netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// without gives those of x that are not in y.
func without(x, y []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range x {
		if !slices.Contains(y, a) {
			out = append(out, a)
		}
	}
	return out
}

func joinAddrs(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}
