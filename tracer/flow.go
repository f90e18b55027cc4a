// SPDX-License-Identifier: Apache-2.0

package tracer

// What is traced: which node, between which ends, and what the kernel half compares
// packets with.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/plane"
	"github.com/pathtrace/pathtrace/tracer/rulebook"
)

// flow is what is traced. An end's Prefixes hold its former addresses too once it
// has moved, as long as nobody else is known to have them: what is still sent to
// them is the flow's, and worth telling.
type flow struct {
	ns       *node.Namespaces
	resolver *endpoint.Resolver
	places   *placeBook
	src, dst endpoint.Endpoint
	filter   bpf.Filter
}

// findFlow finds the node's namespaces and both ends' addresses.
func findFlow(ctx context.Context, cfg Config) (*flow, error) {
	ns, err := node.OpenNamespacesAt(cfg.Names.HostRoot, cfg.NetnsPath)
	if err != nil {
		return nil, err
	}
	sources := cfg.Names
	sources.Warn = cfg.Warn
	f := &flow{ns: ns, resolver: endpoint.NewResolverWith(ns, sources)}
	if err := f.resolve(ctx, cfg); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *flow) resolve(ctx context.Context, cfg Config) (err error) {
	if f.src, err = f.resolver.Resolve(ctx, cfg.Src); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if f.dst, err = f.resolver.Resolve(ctx, cfg.Dst); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if err := endpoint.Check(f.src, f.dst); err != nil {
		return err
	}
	uplinks, err := f.ns.Uplinks()
	if err != nil {
		return err
	}
	carriers, err := f.ns.Carriers()
	if err != nil {
		return err
	}
	carriers = append(carriers, f.sealing(cfg.Verbose)...)
	names, err := f.resolver.Names(ctx)
	if err != nil {
		return err
	}
	names.Learn(f.src)
	names.Learn(f.dst)
	f.places = newPlaceBook(f.ns, names, uplinks, cfg.Warn)
	if n := len(bpf.Filter{}.Uplinks); len(uplinks) > n {
		cfg.Warn(fmt.Sprintf("%d interfaces lead off this node, %d are known as such to the kernel half: equal packets sent again from outside may be told as one", len(uplinks), n))
	}
	if n := len(bpf.Filter{}.Carriers); len(carriers) > n {
		cfg.Warn(fmt.Sprintf("tunnels by UDP on %d ports, inside %d of which is looked: %v", len(carriers), n, carriers[:n]))
	}
	f.filter, err = attach.NewFilter(f.src, f.dst, cfg.Proto, cfg.Port, carriers, f.ns.Node().Inode, uplinks)
	return err
}

// sealing are the ports at which WireGuard of this node may take in packets of the flow:
// of the devices with a peer that may send from an address of an end. Where they cannot
// be asked, such packets begin where they have been decrypted.
func (f *flow) sealing(verbose func(string)) (all []node.Carrier) {
	devices, err := f.ns.WireGuard(f.ns.Node().Inode)
	if err != nil {
		verbose(fmt.Sprintf("encrypted packets are not followed before they are decrypted: %v", err))
		return nil
	}
	for _, w := range devices {
		if w.ListenPort != 0 && slices.ContainsFunc(w.Peers, func(p node.WireGuardPeer) bool { return behind(&p, f.src) || behind(&p, f.dst) }) {
			all = append(all, node.Carrier{Port: w.ListenPort, Kind: "wireguard"})
		}
	}
	return all
}

// behind tells that an address of an end may be behind a peer.
func behind(p *node.WireGuardPeer, e endpoint.Endpoint) bool {
	return e.Any || slices.ContainsFunc(p.AllowedIPs, func(allowed netip.Prefix) bool { return slices.ContainsFunc(e.Prefixes, allowed.Overlaps) })
}

// expected is what packets of the flow may look like. Those in tunnels go between
// nodes: of these the node knows the ones that it talks to.
func (f *flow) expected() rulebook.Flow {
	others := f.places.names.Addresses()
	neighbors, err := f.ns.Neighbors(f.ns.Node().Inode)
	if err != nil {
		f.places.warn(err.Error())
	}
	for _, n := range neighbors {
		if a := n.Addr; a.IsValid() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !slices.Contains(others, a) {
			others = append(others, a)
		}
	}
	return rulebook.Flow{Src: singles(f.src.Prefixes), Dst: singles(f.dst.Prefixes), Others: others, Proto: f.filter.Proto, Port: f.filter.Port}
}

// planes are what carries the flow past what is watched. What could not be looked at
// is told with -v.
func (f *flow) planes(verbose func(string)) []model.Plane {
	var ends []plane.End
	for side, e := range map[string]endpoint.Endpoint{plane.Src: f.src, plane.Dst: f.dst} {
		if !e.Any {
			ends = append(ends, plane.End{Side: side, Netns: e.NetnsInodes, Prefixes: e.Prefixes})
		}
	}
	slices.SortFunc(ends, func(x, y plane.End) int { return strings.Compare(y.Side, x.Side) })
	all, err := plane.Find(f.ns, ends...)
	if err != nil {
		verbose(fmt.Sprintf("what carries the packets: %v", err))
	}
	return all
}

// singles are the prefixes that are one address each.
func singles(all []netip.Prefix) (addrs []netip.Addr) {
	for _, p := range all {
		if p.IsSingleIP() {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

// Close lets go of what was opened to find it.
func (f *flow) Close() error { return errors.Join(f.resolver.Close(), f.ns.Close()) }
