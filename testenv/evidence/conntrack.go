// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about conntrack, NAT and the answers that a kernel makes. Conntrack's
// table is read from /proc, or by its tool, whichever is there.

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// conntrackStatements are tried behind those of statements.go.
var conntrackStatements = []statement{
	{regexp.MustCompile(`conntrack's state of it (?:in hook \S+ )?at (.+): ([a-z-]+)$`), hadState},
	{regexp.MustCompile(`conntrack -L(?: in .+?)?: (\w+) src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)(?: \[UNREPLIED\])? src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)((?: zone(?:-orig|-reply)?=\d+)*)`), isEntry},
	{regexp.MustCompile(`^no rule of .+ that translates names (\S+) `), namedByNone},
	{regexp.MustCompile(`conntrack -S: insert_failed (?:=|was \d+ when the trace began, and is) (\d+)`), hasFailed},
	{regexp.MustCompile(`the sender was not told: packet #(\d+), the answer to it \((\S+)\), died`), diedAsAnswer},
	{regexp.MustCompile(`the sender was not told: the answer \((\S+)\)`), answered},
	{regexp.MustCompile(`^what it drops are this node's own answers to packets that died of \S+, such as #(\d+)`), dropsAnswers},
	{regexp.MustCompile(`it was not seen in (.+)'s namespace, which translated`), held},
}

// hasPolicy: nft shows the chain with that policy.
func hasPolicy(c *Court, m []string, _ model.Finding) string {
	table := m[2][strings.LastIndex(m[2], " ")+1:]
	chain := regexp.MustCompile(`table \S+ ` + regexp.QuoteMeta(table) + ` \{(?s:.*?)chain ` + regexp.QuoteMeta(m[1]) + ` \{\s+type [^\n]*policy ` + m[3] + `;`)
	if !c.anywhere(chain.MatchString, "nft", "list", "ruleset") {
		return "nft list ruleset shows no such policy"
	}
	return ""
}

// hadState: one of the packets had it there.
func hadState(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			return h.CTState == m[2] && (m[1] == h.Place || strings.HasPrefix(m[1], h.Place+" ("))
		})
	}) {
		return "none of its packets had that state there"
	}
	return ""
}

// isEntry: conntrack has such an entry.
func isEntry(c *Court, m []string, _ model.Finding) string {
	words := []string{m[1] + " ", "src=" + m[2] + " dst=" + m[3] + " sport=" + m[4] + " dport=" + m[5], "src=" + m[6] + " dst=" + m[7] + " sport=" + m[8] + " dport=" + m[9]}
	words = append(words, strings.Fields(m[10])...)
	readable := false
	for _, tool := range [][]string{{"cat", "/proc/net/nf_conntrack"}, {"conntrack", "-L"}} {
		if c.anywhere(func(says string) bool {
			readable = readable || says != ""
			for line := range strings.Lines(says) {
				if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
					return true
				}
			}
			return false
		}, tool...) {
			return ""
		}
	}
	if !readable {
		return "" // this kernel shows its table to nobody here
	}
	return "conntrack has no such entry anywhere"
}

// namedByNone: no rule of the node translates to that address and port.
func namedByNone(c *Court, m []string, _ model.Finding) string {
	addr, port, _ := strings.Cut(m[1], ":")
	for _, tool := range [][]string{{"iptables-legacy-save"}, {"iptables-nft-save"}, {"nft", "list", "ruleset"}} {
		for line := range strings.Lines(c.run(c.node, tool...)) {
			if (strings.Contains(line, "DNAT") || strings.Contains(line, "dnat")) && (strings.Contains(line, addr+":"+port) || strings.Contains(line, addr+" . "+port)) {
				return "there is one: " + strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// hasFailed: the counter of one of the places is no lower.
func hasFailed(c *Court, m []string, _ model.Finding) string {
	want, _ := strconv.ParseUint(m[1], 10, 64) // digits, as the form says
	if !c.anywhere(func(says string) bool {
		var names []string
		var sum uint64
		for line := range strings.Lines(says) {
			fields := strings.Fields(line)
			if names == nil {
				names = fields
				continue
			}
			if i := slices.Index(names, "insert_failed"); i >= 0 && i < len(fields) {
				n, _ := strconv.ParseUint(fields[i], 16, 64) // the kernel prints numbers there
				sum += n
			}
		}
		return sum >= want
	}, "cat", "/proc/net/stat/nf_conntrack") {
		return "no counter is that high"
	}
	return ""
}

func diedAsAnswer(c *Court, m []string, f model.Finding) string {
	p, ok := c.packet(m[1])
	switch {
	case !ok || p.Outcome != model.Dropped || !p.OwnAnswer:
		return fmt.Sprintf("packet #%s is no answer that died", m[1])
	case !slices.Contains(f.Packets, p.AnswerTo):
		return fmt.Sprintf("packet #%s answers #%d", m[1], p.AnswerTo)
	}
	return ""
}

func dropsAnswers(c *Court, m []string, f model.Finding) string {
	id, _ := strconv.ParseUint(m[1], 10, 64) // digits, as the form says
	if !c.one(f, func(p *model.Packet) bool { return p.OwnAnswer && p.AnswerTo == id }) {
		return fmt.Sprintf("none of its packets answers #%d", id)
	}
	return ""
}
