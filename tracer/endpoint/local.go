// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file finds out where on the node an address lives, and which addresses
// are behind an interface of the node.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/endpoint/spelling"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// errNoInterface: the node has no interface of that name.
var errNoInterface = fmt.Errorf("%w: this node has no such interface", ErrUnknown)

// view is the node as it stands while one endpoint is resolved.
type view struct {
	ns      *node.Namespaces
	inode   uint32 // of the node
	links   []node.Link
	uplinks map[uint32]string
	routes  []node.Route

	calicoPrefixes []string // once asked for
}

// look takes a view of the node.
func (r *Resolver) look(ctx context.Context) (*view, error) {
	if err := r.ns.Refresh(); err != nil {
		return nil, err
	}
	v := &view{ns: r.ns, inode: r.ns.Node().Inode}
	var err error
	if v.links, err = r.ns.Links(v.inode); err != nil {
		return nil, err
	}
	if v.uplinks, err = r.ns.Uplinks(); err != nil {
		return nil, err
	}
	if v.routes, err = r.ns.Routes(v.inode); err != nil {
		return nil, err
	}
	return v, ctx.Err()
}

// locate says in e where an address lives: on the node itself, in a pod's
// namespace, behind a pod's interface by its host route or by the bridge it
// is a neighbour on; or nowhere here.
func (v *view) locate(ctx context.Context, e *Endpoint, addr netip.Addr) error {
	if l, ok := holder(v.links, addr); ok {
		e.Netns, e.NetnsInodes = v.inode, []uint32{v.inode}
		e.Interface, e.IfIndex = l.Name, uint32(l.Index)
		e.ResolvedBy = "address of the node's interface " + l.Name
		return nil
	}
	owners, err := v.owners(ctx, addr)
	if err != nil {
		return err
	}
	for _, o := range owners {
		e.NetnsInodes = append(e.NetnsInodes, o.netns)
	}
	port, how, err := v.portOf(addr)
	if err != nil {
		return err
	}
	// The node's own routing decides among several owners.
	if i := slices.IndexFunc(owners, func(o owner) bool { return o.host.Index == port.Index }); i >= 0 && port.Index != 0 {
		owners = owners[i : i+1]
	}
	switch {
	case len(owners) == 1:
		v.place(e, owners[0].host, "address in "+v.ns.Place(owners[0].netns))
		e.Netns = owners[0].netns
	case len(owners) > 1:
		e.ResolvedBy = fmt.Sprintf("address in %d namespaces of this node", len(owners))
	case port.Index != 0:
		v.place(e, port, how)
	default:
		e.ResolvedBy = "as given; not on this node"
	}
	return nil
}

// place notes a pod's interface on the host.
func (v *view) place(e *Endpoint, host node.Link, how string) {
	e.ResolvedBy = how
	e.Interface, e.IfIndex, e.HostIfIndex = host.Name, uint32(host.Index), uint32(host.Index)
	if host.PeerNetns != 0 && host.PeerNetns != v.inode && e.Netns == 0 {
		e.Netns = host.PeerNetns
		if !slices.Contains(e.NetnsInodes, host.PeerNetns) {
			e.NetnsInodes = append(e.NetnsInodes, host.PeerNetns)
		}
	}
}

// serviceParking holds every service address in kube-proxy's IPVS mode, which
// makes them the node's in name only.
const serviceParking = "kube-ipvs0"

// holder is the link that has the address.
func holder(links []node.Link, addr netip.Addr) (node.Link, bool) {
	for _, l := range links {
		if l.Name != serviceParking && slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l, true
		}
	}
	return node.Link{}, false
}

// owner is a pod's namespace that has an address, with the pod's interface on
// the host.
type owner struct {
	netns uint32
	host  node.Link
}

// owners lists the pods of this node that have an address.
func (v *view) owners(ctx context.Context, addr netip.Addr) ([]owner, error) {
	var found []owner
	members := v.ns.Members()
	slices.Sort(members)
	for _, inode := range members {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		links, err := v.ns.Links(inode)
		if errors.Is(err, node.ErrGone) {
			continue // the pod went away meanwhile
		}
		if err != nil {
			return nil, err
		}
		if l, ok := holder(links, addr); ok && !l.Loopback {
			found = append(found, owner{netns: inode, host: v.hostSide(inode, l)})
		}
	}
	return found, nil
}

// hostSide is the node's end of a pod's link, else of any link of that pod.
func (v *view) hostSide(pod uint32, podLink node.Link) node.Link {
	if node.Stacked(podLink.Kind) || podLink.Physical() {
		return node.Link{} // its packets take no other link of the pod
	}
	var other node.Link
	for _, l := range v.links {
		if l.PeerNetns != pod {
			continue
		}
		if l.PeerIndex == podLink.Index {
			return l
		}
		other = l
	}
	return other
}

// portOf is the pod's interface that the node would reach an address by: the
// device of a host route, or the bridge port behind which its neighbour entry
// says it is. A zero Link: none.
func (v *view) portOf(addr netip.Addr) (node.Link, string, error) {
	for _, r := range v.routes {
		if r.Type == unix.RTN_UNICAST && r.Dst.IsSingleIP() && r.Dst.Addr() == addr {
			if l, ok := v.podSide(r.LinkIndex); ok {
				return l, "host route to " + l.Name, nil
			}
		}
	}
	neighbors, err := v.ns.Neighbors(v.inode)
	if err != nil {
		return node.Link{}, "", err
	}
	for _, e := range neighbors {
		if e.Bridge || e.Addr != addr || e.MAC == "" {
			continue
		}
		for _, f := range neighbors {
			if l, ok := v.podSide(f.LinkIndex); ok && f.Bridge && f.MAC == e.MAC && l.Master == e.LinkIndex {
				return l, "neighbour behind bridge port " + l.Name, nil
			}
		}
	}
	return node.Link{}, "", nil
}

// podSide is the link of that index if a pod may be behind it.
func (v *view) podSide(index int) (node.Link, bool) {
	i := slices.IndexFunc(v.links, func(l node.Link) bool { return l.Index == index })
	if i < 0 {
		return node.Link{}, false
	}
	return v.links[i], v.leadsToPod(v.links[i])
}

func (v *view) leadsToPod(l node.Link) bool {
	_, up := v.uplinks[uint32(l.Index)]
	return !up && (l.Kind == "veth" || l.Kind == "netkit" || l.Kind == "tun")
}

// iface resolves an interface of the node to the addresses behind it.
func (r *Resolver) iface(ctx context.Context, name string) (Endpoint, error) {
	v, err := r.look(ctx)
	if err != nil {
		return Endpoint{}, err
	}
	i := slices.IndexFunc(v.links, func(l node.Link) bool { return l.Name == name })
	if i < 0 {
		return Endpoint{}, fmt.Errorf("%w%s", errNoInterface, v.near(name))
	}
	l := v.links[i]
	e := Endpoint{End: model.End{Kind: KindInterface, Name: name, Interface: l.Name, IfIndex: uint32(l.Index)}}
	switch {
	case v.leadsToPod(l):
		err = v.behindPort(&e, l)
	case l.Kind == "bridge":
		err = v.behindBridge(&e, l)
	case l.Loopback:
		err = errors.New("loopback: use node for this node's own addresses")
	default:
		err = errors.New("leads off this node, so anything may be behind it: give the far end's address or CIDR")
	}
	return e, err
}

// behindPort finds the addresses behind a pod's interface, by the first of
// these that tells any: the pod's own, the node's routes, its neighbours.
func (v *view) behindPort(e *Endpoint, l node.Link) error {
	e.HostIfIndex = uint32(l.Index)
	for _, ask := range []func(*Endpoint, node.Link) error{v.byPeer, v.byRoutes, v.byNeighbors} {
		if err := ask(e, l); err != nil {
			return err
		}
		if e.Prefixes = unique(e.Prefixes); len(e.Prefixes) > 0 {
			return nil
		}
	}
	return errors.New("no address found behind it: neither in the pod, nor by a route or neighbour entry of the node: the pod may be starting or its wiring broken; give its address instead")
}

// byPeer takes the addresses of the interface's other end, or when that has
// none, of the namespace it is in.
func (v *view) byPeer(e *Endpoint, l node.Link) error {
	if l.PeerNetns == 0 || l.PeerNetns == v.inode {
		return nil
	}
	links, err := v.ns.Links(l.PeerNetns)
	if errors.Is(err, node.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	e.Netns, e.NetnsInodes = l.PeerNetns, []uint32{l.PeerNetns}
	var all []netip.Prefix
	for _, p := range links {
		if p.Index == l.PeerIndex {
			e.Prefixes = hosts(p.GlobalAddrs())
		}
		all = append(all, hosts(p.GlobalAddrs())...)
	}
	if len(e.Prefixes) == 0 {
		e.Prefixes = all
	}
	e.ResolvedBy = "addresses in " + v.ns.Place(l.PeerNetns)
	return nil
}

// byRoutes takes the host routes that lead to the interface.
func (v *view) byRoutes(e *Endpoint, l node.Link) error {
	v.hostRoutes(e, l)
	e.ResolvedBy = "the node's routes"
	return nil
}

// hostRoutes adds the destinations of the host routes that lead to a link.
func (v *view) hostRoutes(e *Endpoint, l node.Link) {
	for _, r := range v.routes {
		if r.LinkIndex == l.Index && r.Type == unix.RTN_UNICAST && r.Dst.IsSingleIP() && !r.Dst.Addr().IsLinkLocalUnicast() {
			e.Prefixes = append(e.Prefixes, r.Dst)
		}
	}
}

// byNeighbors takes the neighbours of the bridge that are behind this port.
func (v *view) byNeighbors(e *Endpoint, l node.Link) error {
	neighbors, err := v.ns.Neighbors(v.inode)
	if err != nil {
		return err
	}
	behind := map[string]bool{}
	for _, f := range neighbors {
		// The port's own address is listed too, as a permanent entry.
		if f.Bridge && f.LinkIndex == l.Index && f.MAC != l.MAC {
			behind[f.MAC] = true
		}
	}
	for _, n := range neighbors {
		if !n.Bridge && n.LinkIndex == l.Master && behind[n.MAC] && !n.Addr.IsLinkLocalUnicast() {
			e.Prefixes = append(e.Prefixes, netip.PrefixFrom(n.Addr, n.Addr.BitLen()))
		}
	}
	e.ResolvedBy = "neighbours behind the bridge port"
	return nil
}

// behindBridge takes the subnets of a bridge's addresses: its pods are in them.
func (v *view) behindBridge(e *Endpoint, l node.Link) error {
	for _, p := range l.GlobalAddrs() {
		if !p.IsSingleIP() {
			e.Prefixes = append(e.Prefixes, p.Masked())
		}
	}
	if len(e.Prefixes) == 0 {
		return errors.New("the bridge has no address, so its subnet is not known: give a CIDR")
	}
	e.Prefixes, e.ResolvedBy = unique(e.Prefixes), "subnets of the bridge"
	return nil
}

// near names interfaces the user may have meant: those within two typing
// errors (fewer in short names), or else those that start with what was given.
func (v *view) near(name string) string {
	var likely, longer []string
	for _, l := range v.links {
		switch {
		case spelling.Distance(name, l.Name) <= min(2, len(name)/3):
			likely = append(likely, l.Name)
		case len(name) > 2 && strings.HasPrefix(l.Name, name):
			longer = append(longer, l.Name)
		}
	}
	if len(likely) == 0 {
		likely = longer
	}
	if len(likely) == 0 {
		return ": ip link shows those it has, and ip route get ADDRESS the one of a pod"
	}
	slices.Sort(likely)
	return ": did you mean " + strings.Join(likely[:min(len(likely), 5)], ", ") + "?"
}
