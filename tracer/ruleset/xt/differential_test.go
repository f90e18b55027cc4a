// SPDX-License-Identifier: Apache-2.0

package xt

// The corpus through the kernel: loaded with the real iptables-legacy-restore,
// read back raw, and compared with what the real iptables-legacy-save prints.

import (
	"slices"
	"strings"
	"testing"
)

// leastCompared is how many rules have to be compared over both families, or the
// test would pass on a kernel that takes none.
const leastCompared = 250

func TestAgainstIPTablesSave(t *testing.T) {
	compared := 0
	for _, family := range []string{FamilyIPv4, FamilyIPv6} {
		t.Run(family, func(t *testing.T) { compared += againstIPTablesSave(t, inNamespace(t, family)) })
	}
	if t.Skipped() || compared == 0 && !t.Failed() {
		t.Skip("neither family could be tried; see above")
	}
	t.Logf("%d rules compared with iptables-save", compared)
	if compared < leastCompared {
		t.Errorf("only %d rules could be compared, want at least %d", compared, leastCompared)
	}
}

func againstIPTablesSave(t *testing.T, n node) (compared int) {
	n.makeSets()
	tables := map[string]bool{}
	var refused []string
	for _, group := range corpus() {
		if group.family != "" && group.family != n.family {
			continue
		}
		if !tables[group.table] {
			n.chains(group.table)
			tables[group.table] = true
		}
		n.addAll(group.table, n.withSets(group.list), func(rule string, err error) {
			refused = append(refused, rule+"  ("+firstLine(err)+")")
			n.mayRefuse(rule, err)
		})
	}
	for table := range tables {
		compared += compare(t, n.family+" "+table, n.saved(table), n.decoded(n.entries(table), kernelSets{n}))
	}
	slices.Sort(refused)
	t.Logf("%d rules refused by this kernel:\n  %s", len(refused), strings.Join(refused, "\n  "))
	return compared
}

func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	_, text, _ = strings.Cut(text, ": ")
	return text
}

// mayRefuse fails if a refused rule's extensions are all in the kernel: then the
// rule itself is wrong, and a decoder goes untested.
func (n node) mayRefuse(rule string, err error) {
	n.t.Helper()
	words := strings.Fields(rule)
	known := registered(n.t, n.family)
	for i, word := range words[:max(len(words)-1, 0)] {
		if (word == "-m" || word == "-j") && !known[words[i+1]] {
			return // not in this kernel
		}
	}
	for _, excuse := range refusals() {
		if strings.Contains(rule, excuse) {
			return
		}
	}
	n.t.Errorf("%s: refused though the kernel has its extensions: %v", rule, err)
}

// refusals are parts of rules that a kernel may refuse although it has the
// extension: it lacks what stands behind it.
func refusals() []string {
	return []string{
		"--nfacct-name",                          // the accounting object does not exist
		"-m cgroup --path", "-m cgroup ! --path", // the path does not exist
		"--timeout long", // the timeout policy does not exist
	}
}

// makeSets makes the ipsets that the corpus names.
func (n node) makeSets() {
	n.t.Helper()
	family := map[string]string{FamilyIPv4: "inet", FamilyIPv6: "inet6"}[n.family]
	for _, set := range []string{
		"addrs hash:ip family " + family + " counters timeout 0",
		"pairs hash:ip,port family " + family,
		"marked hash:net family " + family + " skbinfo",
	} {
		if _, err := n.run("", "ipset", strings.Fields("create "+set)...); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n node) withSets(rules []string) []string {
	var named []string
	for _, rule := range rules {
		named = append(named, strings.NewReplacer("SETNAME", "addrs", "SETPAIRS", "pairs", "SETMARKED", "marked").Replace(rule))
	}
	return named
}
