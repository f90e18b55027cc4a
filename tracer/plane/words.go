// SPDX-License-Identifier: Apache-2.0

package plane

// This file says of each plane what is seen of packets there, and what not.

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// rank is the order in which kinds are told.
func rank(kind string) int {
	return slices.Index([]string{model.PlaneMacvlan, model.PlaneIPvlan, model.PlaneVLAN, model.PlaneDevice, model.PlaneNetkit, model.PlaneBridge,
		model.PlaneCilium, model.PlaneCalico, model.PlanePrograms, model.PlaneConnect}, kind)
}

// says is what a plane means for a trace.
func (p *sighting) says() []string {
	switch p.kind {
	case model.PlaneMacvlan:
		return p.macvlan()
	case model.PlaneIPvlan:
		return p.ipvlan()
	case model.PlaneVLAN:
		return []string{p.passedBy()}
	case model.PlaneDevice:
		return []string{fmt.Sprintf("packets of %s do not pass the node's bridges, routing and packet filters: no rule and no service of the node applies to them, and none is told", p.device),
			"what the network adapter itself does with them is not seen (its switch, and of a virtual function the VLAN and the spoof check)"}
	case model.PlaneNetkit:
		return []string{"packets pass between the two as with a veth pair, and through the node's routing and packet filters, unless a program of the pair sends them elsewhere; one that such a program drops is told as tc-drop"}
	case model.PlaneBridge:
		return []string{fmt.Sprintf("%s passes packets to other ports of that VLAN only: the node does not route them and its services do not apply; its iptables and nft rules (ip, inet) see them only with net.bridge.bridge-nf-call-iptables=1", p.below)}
	}
	return p.dataplane()
}

// passedBy is said of devices that stand on a device of the node.
func (p *sighting) passedBy() string {
	return fmt.Sprintf("packets go between %s and %s past the node's bridges, routing and packet filters: no rule and no service of the node applies to them, and none is told", p.device, p.below)
}

// macvlan: drivers/net/macvlan.c (macvlan_handle_frame, macvlan_queue_xmit), 6.18.
func (p *sighting) macvlan() []string {
	between := fmt.Sprintf("the kernel hands nothing from the node's own addresses on %s to a macvlan on it, nor back", p.below)
	if p.mode == "private" || p.mode == "vepa" {
		between += "; in mode " + p.mode + " nothing from one macvlan to another either"
	}
	return []string{p.passedBy(), between}
}

// ipvlan: Documentation/networking/ipvlan.rst, drivers/net/ipvlan/ipvlan_l3s.c, 6.18.
func (p *sighting) ipvlan() []string {
	if p.mode == "l3s" {
		return []string{fmt.Sprintf("packets do not pass the node's bridges and its hook FORWARD; in mode l3s those that come in by %s pass PREROUTING and INPUT of the node before the pod gets them", p.below)}
	}
	return []string{p.passedBy()}
}

// dataplane is said of programs.
func (p *sighting) dataplane() (all []string) {
	whose, why := "programs of eBPF", "but why is known to whoever loaded it"
	switch p.kind {
	case model.PlaneCilium:
		whose = "programs with names of Cilium's"
	case model.PlaneCalico:
		whose = "programs with names of Calico's eBPF dataplane"
	}
	if p.drops != "" {
		why = "but the policy or reason is told by " + p.drops
	}
	if p.packets {
		all = append(all, fmt.Sprintf("%s see packets on the way: one that they drop is told as tc-drop, with the program, %s", whose, why),
			"what they send on themselves passes the node's routing and packet filters by: hops that are missing between two interfaces are no fault; addresses that they translate show as changed, their own connections and services are not read")
		whose = "some of them"
	}
	if p.calls {
		all = append(all, whose+" see connect() and sendmsg(), and may put a backend in the place of a service before there is a packet: then none has the service's address (--dst svc/NAME follows the backends too, --dst any everything)")
	}
	return all
}
