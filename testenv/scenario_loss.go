// SPDX-License-Identifier: Apache-2.0

// Rows of the table of scenarios: what is lost elsewhere, and what programs,
// queues and checksums lose.

package testenv

import "github.com/pathtrace/pathtrace/tracer/model"

// farCases leave node1 in good order.
func farCases() []scenarioCase {
	gone := always(Expect{Direction: model.Forward, Outcomes: []model.Outcome{model.LeftNode}, Interface: []Role{RoleUplink}, Sender: silent})
	return []scenarioCase{
		{name: "left-node", fault: "far-policy", kinds: anyKind, protos: allProtos, way: out, expect: gone},
		{name: "masquerade", fault: "masquerade", kinds: anyKind, protos: allProtos, way: out, expect: gone},
	}
}

func lossCases() []scenarioCase {
	program := Expect{Direction: model.Forward, Outcomes: died, Places: []Role{RoleNode}, Interface: []Role{RoleSrcHost},
		Reasons: []string{"TC_INGRESS", "NOT_SPECIFIED"}, Sender: silent}
	egress := program
	egress.Interface, egress.Reasons = []Role{RoleDstHost}, []string{"TC_EGRESS", "NOT_SPECIFIED"}
	xdp := program
	xdp.Reasons = []string{"XDP", "NOT_SPECIFIED"}
	return []scenarioCase{
		{name: "tc-drop", fault: "tc-drop", kinds: anyKind, protos: allProtos, way: same, expect: always(program)},
		{name: "tc-drop-egress", fault: "tc-drop-egress", kinds: anyKind, protos: packets, way: same, expect: always(egress)},
		{name: "xdp-drop", fault: "xdp-drop", kinds: anyKind, protos: packets, way: same, expect: always(xdp)},
	}
}
