// SPDX-License-Identifier: Apache-2.0

package legacy

import "github.com/pathtrace/pathtrace/tracer/ruleset/xt"

// IPSets gives the ipsets that the table's rules ask, and the names of those that
// they change.
func (t *Table) IPSets() (asked []xt.SetUse, filled []string) {
	if !t.usesSets {
		return nil, nil
	}
	for i := range t.Entries {
		for ext := range t.matches(i) {
			if ext.name == "set" {
				asked = append(asked, t.match(ext).Set())
			}
		}
		if t.Entries[i].Action == Extend && t.targetName(i) == "SET" {
			filled = append(filled, t.target(i).Fills()...)
		}
	}
	return asked, filled
}
