// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file proposes names near one that was not found, and words for what was
// looked at.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/endpoint/spelling"
)

// maxProposed bounds how many names one line proposes.
const maxProposed = 5

// errAbsent says why a source has nothing to list, which is no failure.
type errAbsent struct{ why string }

func (e errAbsent) Error() string { return e.why }

// meant proposes names: the same one in another namespace, those within two
// typing errors (fewer in short names), nearest first, then those that start with
// it (a Deployment's pods). "" when there is none.
func meant(name podName, names []podName) string {
	names = uniqueNames(names)
	within := func(most int) func(podName) bool {
		most = min(most, len(name.name)/3)
		return func(n podName) bool { return spelling.Distance(name.String(), n.String()) <= most }
	}
	tests := []func(podName) bool{
		func(n podName) bool { return n.name == name.name },
		within(1),
		within(2),
		func(n podName) bool { return n.namespace == name.namespace && strings.HasPrefix(n.name, name.name+"-") },
	}
	var likely []string
	for _, test := range tests {
		for _, n := range names {
			if n != name && test(n) && !slices.Contains(likely, n.String()) {
				likely = append(likely, n.String())
			}
		}
	}
	if len(likely) == 0 {
		return ""
	}
	return ": did you mean " + strings.Join(likely[:min(len(likely), maxProposed)], ", ") + "?"
}

func uniqueNames(names []podName) []podName {
	names = slices.Clone(names)
	slices.SortFunc(names, func(x, y podName) int { return strings.Compare(x.String(), y.String()) })
	return slices.Compact(names)
}

// countPods names the pods if they are few.
func countPods(names []podName) string {
	switch n := len(names); {
	case n == 0:
		return "no pods"
	case n == 1:
		return "1 pod: " + names[0].String()
	case n <= maxProposed:
		words := make([]string, n)
		for i, p := range names {
			words[i] = p.String()
		}
		return fmt.Sprintf("%d pods: %s", n, strings.Join(words, ", "))
	default:
		return fmt.Sprintf("%d pods", n)
	}
}

func orNone(s string) string {
	if s == "" {
		return "(not told)"
	}
	return s
}
