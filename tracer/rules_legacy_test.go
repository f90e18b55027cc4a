// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
)

// Old versions of small tables are kept, of big ones the newest two and what there
// is room for; one that came back unchanged takes no room of its own.
func TestKeptVersions(t *testing.T) {
	big := func() *legacy.Table { return &legacy.Table{Entries: make([]legacy.Entry, keptBytes/100)} } // some 40% of it
	huge := func() *legacy.Table { return &legacy.Table{Entries: make([]legacy.Entry, keptBytes)} }
	small := func() *legacy.Table { return &legacy.Table{Entries: make([]legacy.Entry, 10)} }
	still := big()
	for _, c := range []struct {
		name string
		next func() *legacy.Table
		want int
	}{
		{"small", small, keptVersions},
		{"big", big, 4},
		{"huge", huge, 2},
		{"big, the same again and again", func() *legacy.Table { return still }, keptVersions},
	} {
		h := &legacyHistory{}
		for i := range keptVersions + 4 {
			h.keep(1, uint64(i), c.next())
		}
		if n := len(h.versions); n != c.want || h.find(1, keptVersions+3) == nil {
			t.Errorf("%s: %d versions are kept, want the newest %d", c.name, n, c.want)
		}
	}
}
