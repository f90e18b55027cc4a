// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// What arrived here and got nothing back is told; a reply, or the receiving kernel's own
// answer, is something, whichever is told first.
func TestUnanswered(t *testing.T) {
	arrived := func() *model.Packet {
		p := away()
		p.Outcome = model.Delivered
		return p
	}
	own := reply(podB, 80)
	own.OwnAnswer = true
	for name, c := range map[string]struct {
		packets []*model.Packet
		told    bool
	}{
		"nothing came back":            {[]*model.Packet{arrived()}, true},
		"a reply":                      {[]*model.Packet{arrived(), reply(podB, 80)}, false},
		"a reply that is told first":   {[]*model.Packet{reply(podB, 80), arrived()}, false},
		"an answer of the node itself": {[]*model.Packet{arrived(), own}, false},
	} {
		t.Run(name, func(t *testing.T) {
			found := diagnoseAll(t, madeNode(), c.packets...)
			if told := len(found) == 1 && found[0].Code == "unanswered"; told != c.told || !c.told && len(found) > 0 {
				t.Errorf("told %+v, want unanswered %v", found, c.told)
			}
		})
	}
}
