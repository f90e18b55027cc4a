// SPDX-License-Identifier: Apache-2.0

// Package plane recognises what carries packets another way than a pair of devices,
// the node's routing and its packet filters would: devices of a pod that pass the node
// by (macvlan, ipvlan, SR-IOV), bridges with VLANs, and dataplanes of eBPF (Cilium,
// Calico's). In go the ends of a trace, out comes what is seen there and what not. It
// goes by what the kernel tells: kinds of devices, and which programs are attached by
// which names. It loads and changes nothing.
package plane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/program"
)

// The two ends, as model.Plane names them.
const (
	Src = "src"
	Dst = "dst"
)

// End is an end of a trace, as far as it matters here.
type End struct {
	Side     string         // Src or Dst; "": it is looked at for itself
	Netns    []uint32       // namespaces of this node that have it
	Prefixes []netip.Prefix // its addresses; none: all that the namespaces have
}

// most bounds what is looked at and told: namespaces of an end, interfaces, and lines.
const (
	mostNetns      = 16
	mostInterfaces = 16
	mostEvidence   = 4
)

// Find recognises what carries the flow between some ends. What could not be looked at
// is among the errors; the planes that were found stand all the same.
func Find(ns *node.Namespaces, ends ...End) ([]model.Plane, error) {
	s := &search{ns: ns, inode: ns.Node().Inode, on: map[uint32][]int{}}
	var err error
	if s.links, err = ns.Links(s.inode); err != nil {
		return nil, err
	}
	uplinks, err := ns.Uplinks()
	s.note(err)
	for index := range uplinks {
		s.look(s.inode, int(index))
	}
	for _, e := range ends {
		s.end(e)
	}
	s.programs()
	s.calls(ends)
	return s.planes(), errors.Join(s.errs...)
}

// search is one Find.
type search struct {
	ns    *node.Namespaces
	inode uint32 // of the node
	links []node.Link
	ports []node.BridgePort // once asked for
	on    map[uint32][]int  // interfaces on the way, whose programs count
	found []*sighting
	errs  []error
}

// sighting is a plane as it is put together.
type sighting struct {
	kind     string
	ends     []string
	evidence []string
	facts
}

// facts are what the words of a plane depend on.
type facts struct {
	device, below, mode string
	packets, calls      bool   // programs see packets; and calls
	drops               string // the command that tells why they drop packets; "": nobody's is known
}

func (s *search) note(err error) {
	if err != nil && !errors.Is(err, node.ErrGone) {
		s.errs = append(s.errs, err)
	}
}

// look notes an interface whose programs count.
func (s *search) look(netns uint32, index int) {
	if index != 0 && !slices.Contains(s.on[netns], index) && len(s.on[netns]) < mostInterfaces {
		s.on[netns] = append(s.on[netns], index)
	}
}

// of is the plane of a kind and of facts, which is made if there is none yet.
func (s *search) of(kind, side string, f facts) *sighting {
	i := slices.IndexFunc(s.found, func(p *sighting) bool {
		return p.kind == kind && p.below == f.below && p.mode == f.mode
	})
	if i < 0 {
		i = len(s.found)
		s.found = append(s.found, &sighting{kind: kind, facts: f})
	}
	p := s.found[i]
	if side != "" && !slices.Contains(p.ends, side) {
		p.ends = append(p.ends, side)
	}
	return p
}

func (p *sighting) tell(line string) {
	if !slices.Contains(p.evidence, line) {
		p.evidence = append(p.evidence, line)
	}
}

// end looks at the devices that hold an end's addresses.
func (s *search) end(e End) {
	for _, netns := range e.Netns[:min(len(e.Netns), mostNetns)] {
		if netns == s.inode {
			continue // the node's own devices are its own way
		}
		links, err := s.ns.Links(netns)
		s.note(err)
		for i := range links {
			if l := &links[i]; !l.Loopback && holds(l, e.Prefixes) {
				s.device(e.Side, netns, l)
			}
		}
	}
}

// holds tells whether a device has an address that is asked for.
func holds(l *node.Link, of []netip.Prefix) bool {
	return slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool {
		if len(of) == 0 {
			return !a.Addr().IsLinkLocalUnicast()
		}
		return slices.ContainsFunc(of, func(p netip.Prefix) bool { return p.Contains(a.Addr()) })
	})
}

// device recognises a device of a pod.
func (s *search) device(side string, netns uint32, l *node.Link) {
	place := s.ns.Place(netns)
	var other *node.Link // its other end, or what it stands on
	if l.PeerNetns == s.inode {
		if i := slices.IndexFunc(s.links, func(o node.Link) bool { return o.Index == l.PeerIndex }); i >= 0 {
			other = &s.links[i]
			s.look(s.inode, other.Index)
		}
	}
	kind, below := l.Kind, "a device that is not this node's"
	if other != nil {
		below = other.Name
	}
	switch {
	case l.Physical():
		s.of(model.PlaneDevice, side, facts{device: l.Name}).tell(fmt.Sprintf("%s in %s is a device of this machine: nothing on the node is its other end", l.Name, place))
	case node.Stacked(kind):
		kind = map[string]string{"macvtap": model.PlaneMacvlan, "macvlan": model.PlaneMacvlan, "ipvtap": model.PlaneIPvlan, "ipvlan": model.PlaneIPvlan, "vlan": model.PlaneVLAN}[kind]
		s.of(kind, side, facts{device: l.Name, below: below, mode: l.Mode}).tell(fmt.Sprintf("%s in %s is %s on %s", l.Name, place, kindWords(l), below))
	case kind == "netkit" && other != nil:
		s.of(model.PlaneNetkit, side, facts{device: l.Name, below: below}).tell(fmt.Sprintf("%s in %s and %s are a netkit pair", l.Name, place, below))
	case kind == "veth" && other != nil && other.Master != 0:
		s.bridged(side, other)
	}
}

// kindWords is a kind with its mode, as ip -d link has them: "a macvlan (mode bridge)".
func kindWords(l *node.Link) string {
	words := "a " + l.Kind
	if strings.HasPrefix(l.Kind, "i") {
		words = "an " + l.Kind
	}
	if l.Mode != "" {
		words += " (mode " + l.Mode + ")"
	}
	return words
}

// bridged recognises a port of a bridge that filters VLANs, where what comes in without
// a tag is in a VLAN that the bridge itself is not in.
func (s *search) bridged(side string, port *node.Link) {
	i := slices.IndexFunc(s.links, func(l node.Link) bool { return l.Index == port.Master })
	if i < 0 || !s.links[i].VLANFiltering {
		return
	}
	bridge := &s.links[i]
	if s.ports == nil {
		var err error
		s.ports, err = s.ns.BridgePorts(s.inode)
		s.note(err)
	}
	at := func(index int) *node.BridgePort {
		for i := range s.ports {
			if s.ports[i].LinkIndex == index {
				return &s.ports[i]
			}
		}
		return nil
	}
	p, own := at(port.Index), at(bridge.Index)
	if p == nil || p.PVID() == 0 || own != nil && own.In(p.PVID()) {
		return
	}
	s.of(model.PlaneBridge, side, facts{device: port.Name, below: bridge.Name}).
		tell(fmt.Sprintf("%s is a port of bridge %s in VLAN %d, and %s itself is not in that VLAN", port.Name, bridge.Name, p.PVID(), bridge.Name))
}

// programs looks at what is attached to the interfaces on the way.
func (s *search) programs() {
	for netns, indexes := range s.on {
		for _, index := range indexes {
			var all []program.Program
			err := s.ns.Do(netns, func() (err error) {
				all, err = program.OnInterface(index)
				return err
			})
			s.note(err)
			for i := range all {
				if all[i].ID != 0 {
					s.program(&all[i], false)
				}
			}
		}
	}
}

// calls looks at what sees connect() and sendmsg(): of the processes of the source, or
// of all where it is not known.
func (s *search) calls(ends []End) {
	host := program.NewHost(s.ns.Proc())
	if _, err := host.Cgroups(); err != nil {
		return // without cgroups of version 2 no program hangs on them
	}
	paths := map[string]bool{"/": true}
	for _, e := range ends {
		if e.Side != Src {
			continue
		}
		for _, netns := range e.Netns[:min(len(e.Netns), 1)] {
			for _, pid := range host.InNamespace(netns) {
				if path, err := host.CgroupOf(pid); err == nil && path != "" && len(paths) < mostInterfaces {
					paths[path] = true
				}
			}
		}
	}
	for path := range paths {
		all, err := host.OnCgroup(path, program.Calls)
		s.note(err)
		for i := range all {
			if all[i].Side != "socket" {
				s.program(&all[i], true)
			}
		}
	}
}

// program notes a program under the plane that its name tells.
func (s *search) program(p *program.Program, call bool) {
	kind := model.PlanePrograms
	if call {
		kind = model.PlaneConnect
	}
	whose, ok := p.Dataplane()
	if ok {
		kind = map[string]string{"Cilium": model.PlaneCilium, "Calico": model.PlaneCalico}[whose.Name]
	}
	to := s.of(kind, "", facts{})
	to.drops = whose.Drops
	to.calls, to.packets = to.calls || call, to.packets || !call
	to.tell(p.Thing() + ", " + p.At())
}

// planes puts what was found into words, the ends' own before the node's.
func (s *search) planes() []model.Plane {
	var all []model.Plane
	slices.SortStableFunc(s.found, func(x, y *sighting) int { return rank(x.kind) - rank(y.kind) })
	for _, p := range s.found {
		out := model.Plane{Kind: p.kind, Ends: p.ends, Evidence: p.evidence, Says: p.says()}
		if p.packets || p.calls {
			slices.Sort(out.Evidence)
		}
		if more := len(out.Evidence) - mostEvidence; more > 0 {
			out.Evidence = append(out.Evidence[:mostEvidence:mostEvidence], fmt.Sprintf("and %d more", more))
		}
		all = append(all, out)
	}
	return all
}
