// SPDX-License-Identifier: Apache-2.0

package infer_test

// Legacy tables: packets through a router, compared with the counters that
// iptables-legacy-save shows.

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
)

const legacySets = `create blocked hash:net family inet
add blocked 10.1.0.128/25
add blocked 10.1.0.200 nomatch
`

const legacyRules = `*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:sources -
:dice -
:far -
-A FORWARD -m set --match-set blocked src -j DROP
-A FORWARD -j sources
-A FORWARD -m mark --mark 0x10/0xf0 -j ACCEPT
-A FORWARD -d 10.2.0.64/26 -j dice
-A FORWARD -m addrtype --dst-type UNICAST --src-type LOCAL -j DROP
-A FORWARD -d 10.2.0.128/26 -g far
-A FORWARD -d 10.2.0.192/27 -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -d 10.2.0.224/27 -m limit --limit 1/hour --limit-burst 1
-A FORWARD -d 10.2.0.224/27 -j ACCEPT
-A sources -s 10.1.0.16/28 -j MARK --set-xmark 0x10/0xf0
-A sources -s 10.1.0.32/28 -j MARK --set-xmark 0x10/0xff
-A sources -s 10.1.0.0/26 -j RETURN
-A sources -j LOG --log-level 7
-A dice -m statistic --mode random --probability 0.5 -j ACCEPT
-A dice -j DROP
-A far -s 10.1.0.5/32 -j ACCEPT
COMMIT
`

var countedLine = regexp.MustCompile(`(?m)^\[(\d+):\d+\] (-A FORWARD.*|-A sources.*|-A dice.*|-A far.*)$|^:(FORWARD) (\w+) \[(\d+):\d+\]$`)

// counted reads how often each line of the filter table counted.
func (r *router) counted() map[string]string {
	all := map[string]string{}
	for _, m := range countedLine.FindAllStringSubmatch(r.run("", "iptables-legacy-save", "-c", "-t", "filter"), -1) {
		if m[3] != "" {
			all[":"+m[3]+" "+m[4]] = m[5]
		} else {
			all[m[2]] = m[1]
		}
	}
	return all
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestLegacyTablesAgainstTheCounters(t *testing.T) {
	r := newRouter(t)
	r.c.In("b", "iptables-legacy -A INPUT -j DROP") // so that nothing comes back
	r.run(legacySets, "ipset", "restore")
	r.run(legacyRules, "iptables-legacy-restore")
	b := newAsker(t, r.ns)
	target := infer.Target{Backend: node.BackendLegacy, Family: "ip", Table: "filter", Hook: "FORWARD"}
	exact, alternatives, ends := 0, 0, map[string]bool{}
	before := r.counted()
	for _, src := range []string{"10.1.0.2", "10.1.0.5", "10.1.0.17", "10.1.0.40", "10.1.0.70", "10.1.0.130", "10.1.0.200"} {
		for _, dst := range []string{"10.2.0.2", "10.2.0.70", "10.2.0.130", "10.2.0.200", "10.2.0.230"} {
			r.send(src, dst)
			after := r.counted()
			var rose []string
			for line := range after {
				if after[line] != before[line] {
					rose = append(rose, line)
				}
			}
			before = after
			verdict := seenVerdict(rose)
			ruling := b.Infer(r.inode(), target, forwarded(r, src, dst), verdict)
			told := lines(ruling.Rules)
			if i := slices.IndexFunc(told, func(line string) bool { return !slices.Contains(rose, line) }); i >= 0 {
				t.Errorf("%s -> %s: told %s, which did not count; %q did", src, dst, told[i], rose)
			}
			switch {
			case ruling.Decided != nil:
				exact++
				ends[ruling.Decided.Text] = true
				if len(ruling.Unevaluated) == 0 && len(told) != len(rose) {
					t.Errorf("%s -> %s: told %q, counted %q", src, dst, told, rose)
				}
			case len(ruling.Alternatives) > 0:
				alternatives++
				if !slices.ContainsFunc(lines(ruling.Alternatives), func(line string) bool { return slices.Contains(rose, line) }) {
					t.Errorf("%s -> %s: alternatives %+v, counted %q", src, dst, ruling.Alternatives, rose)
				}
			default:
				t.Errorf("%s -> %s: %s; counted %q", src, dst, ruling.Unknown, rose)
			}
		}
	}
	t.Logf("%d exact by %d rules and policies, %d alternatives", exact, len(ends), alternatives)
	if exact < 30 || len(ends) < 7 {
		t.Errorf("%d exact by %d rules: too few", exact, len(ends))
	}
	if err := b.World(r.inode()).Trouble(); err != nil {
		t.Errorf("a question about the node failed: %v", err)
	}
}

// lines are the texts of rules.
func lines(rules []model.Rule) []string {
	var all []string
	for _, r := range rules {
		all = append(all, r.Text)
	}
	return all
}

// seenVerdict is the verdict of the line that counted and decides.
func seenVerdict(rose []string) string {
	for _, line := range rose {
		switch {
		case strings.HasSuffix(line, "-j ACCEPT"):
			return "accept"
		case strings.HasSuffix(line, "DROP"), strings.Contains(line, "-j REJECT"):
			return "drop"
		}
	}
	return ""
}
