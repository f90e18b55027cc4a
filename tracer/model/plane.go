// SPDX-License-Identifier: Apache-2.0

package model

// Plane is something that carries packets of the flow another way than a pair of
// devices, the node's routing and its packet filters would: what can be seen then, and
// what not.
type Plane struct {
	Kind     string   `json:"kind"`           // PlaneMacvlan, ...
	Ends     []string `json:"ends,omitempty"` // src, dst: it is that end's; absent: the node's
	Evidence []string `json:"evidence"`       // how it was recognised
	Says     []string `json:"says"`           // what is seen and what not, in sentences without a full stop
}

// Kinds of planes.
const (
	PlaneMacvlan  = "macvlan"
	PlaneIPvlan   = "ipvlan"
	PlaneVLAN     = "vlan"   // a VLAN device of the node's, handed to the pod
	PlaneDevice   = "device" // one of the machine's own: SR-IOV, host-device
	PlaneNetkit   = "netkit"
	PlaneBridge   = "bridge-vlan" // a port of a bridge, in a VLAN that the node itself is not in
	PlaneCilium   = "cilium"
	PlaneCalico   = "calico-ebpf"
	PlanePrograms = "programs" // eBPF programs on the way, of somebody else
	PlaneConnect  = "connect"  // eBPF programs that see connect() and sendmsg()
)
