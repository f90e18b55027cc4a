// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// What came through a tunnel came in by the tunnel's interface, whichever of the two
// was at hand where it was taken out; a pod's own way in is told last.
func TestCameBy(t *testing.T) {
	hop := func(stage model.Stage, netns uint32, iface string, index uint32) model.Hop {
		return model.Hop{Stage: stage, Netns: netns, Place: map[bool]string{true: "node", false: "pod"}[netns == nodeNS], Interface: iface, IfIndex: index}
	}
	into := hop(model.StageReceive, podNS, "eth0", 2)
	for name, hops := range map[string][]model.Hop{
		"the tunnel is at hand":        {hop(model.StageReceive, nodeNS, "eth0", 2), hop(model.StageDecapsulate, nodeNS, "vxlan.calico", 3), hop(model.StageReceive, nodeNS, "vxlan.calico", 3), into},
		"the uplink is at hand":        {hop(model.StageReceive, nodeNS, "eth0", 2), hop(model.StageDecapsulate, nodeNS, "eth0", 2), hop(model.StageReceive, nodeNS, "vxlan.calico", 3), into},
		"the outer packet is not seen": {hop(model.StageDecapsulate, nodeNS, "eth0", 2), hop(model.StageReceive, nodeNS, "vxlan.calico", 3), hop(model.StageReceive, nodeNS, "cni0", 9), into},
	} {
		t.Run(name, func(t *testing.T) {
			came := cameBy(&model.Packet{Hops: hops})
			if len(came) != 2 || came[0].Interface != "vxlan.calico" || came[1].Interface != "eth0" || came[1].Netns != podNS {
				t.Errorf("came by %+v", came)
			}
		})
	}
}
