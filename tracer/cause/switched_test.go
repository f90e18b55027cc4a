// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// A segment in the midst of a connection that another backend resets arrived, and is a
// fault of the connection's entry all the same.
func TestSwitchedBackend(t *testing.T) {
	third := netip.MustParseAddr("10.244.1.4")
	segment := func(flags string, to netip.Addr, state, answer string) *model.Packet {
		p := asksService(to, "", state, nil)
		p.Proto, p.TCPFlags, p.Outcome, p.Drop = "tcp", flags, model.Delivered, nil
		if answer != "" {
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: podNS, Place: "default/b", Answer: answer})
		}
		return p
	}
	first := segment("S", podB, "new", "")
	for name, tc := range map[string]struct {
		packets []*model.Packet
		want    bool
	}{
		"to another one, and reset":       {[]*model.Packet{first, segment("P.", third, "new", "tcp-reset")}, true},
		"to another one, and taken":       {[]*model.Packet{first, segment("P.", third, "new", "")}, false},
		"to the same one, and reset":      {[]*model.Packet{first, segment("P.", podB, "established", "tcp-reset")}, false},
		"a connection of its own":         {[]*model.Packet{first, segment("S", third, "new", ""), segment("P.", third, "established", "tcp-reset")}, false},
		"nobody saw where it went before": {[]*model.Packet{segment("P.", third, "new", "tcp-reset")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			told := false
			for _, f := range diagnoseAll(t, madeNode(), tc.packets...) {
				told = told || f.Code == "conntrack-unknown"
			}
			if told != tc.want {
				t.Errorf("conntrack-unknown told: %v, want %v", told, tc.want)
			}
		})
	}
}
