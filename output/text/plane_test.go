// SPDX-License-Identifier: Apache-2.0

package text

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// What carries packets another way is told at the start, and again only where silence, or
// an end that was not seen, could be taken for innocence.
func TestPlanes(t *testing.T) {
	s := start()
	s.Planes = []model.Plane{
		{Kind: model.PlaneMacvlan, Ends: []string{"src", "dst"}, Evidence: []string{"net1 in a is a macvlan on eth0", "net1 in b is too"}, Says: []string{"no rule applies", "nothing passes"}},
		{Kind: model.PlaneCilium, Evidence: []string{"a program"}, Says: []string{"not all is seen"}}}
	const again = "not all is seen there: "
	for name, tc := range map[string]struct {
		sum  model.Summary
		told bool
	}{
		"all seen":        {model.Summary{Forward: model.Counts{Seen: 2, Delivered: 2}}, false},
		"an end not seen": {model.Summary{Forward: model.Counts{Seen: 2, Delivered: 1, Unknown: 1}}, true},
		"nothing seen":    {model.Summary{}, true},
	} {
		var out bytes.Buffer
		trace{s, &tc.sum}.play(t, New(&out, Options{}))
		says := out.String()
		head, end, _ := strings.Cut(says, "VERDICT")
		for _, want := range []string{"  note   macvlan (both ends): net1 in a is a macvlan on eth0; net1 in b is too\n", "         no rule applies\n         nothing passes\n", "  note   cilium: a program\n         not all is seen\n"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s: the start lacks %q:\n%s", name, want, head)
			}
		}
		if strings.Contains(end, again+"macvlan (both ends)") != tc.told || strings.Contains(end, again+"cilium: a program") != tc.told {
			t.Errorf("%s: told at the end: want %v:\n%s", name, tc.told, end)
		}
	}
	var out bytes.Buffer
	trace{start(), &model.Summary{}}.play(t, New(&out, Options{}))
	if says := out.String(); strings.Contains(says, "note ") || strings.Contains(says, again) {
		t.Errorf("told though there is nothing of the kind:\n%s", says)
	}
	if one := Plane(model.Plane{Kind: "device", Ends: []string{"dst"}, Evidence: []string{"net1 is"}, Says: []string{"a", "b"}}); !strings.HasPrefix(one, "device (destination): net1") || !strings.HasSuffix(one, " is: a; b") {
		t.Errorf("in one line: %q", one)
	}
}
