// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about answers that came from elsewhere, and about rules that nearly fit.

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// answerStatements are tried behind those of the other files.
var answerStatements = []statement{
	{regexp.MustCompile(`^ip -6 addr: (\S+) has none but link-local ones$`), hasLinkLocalOnly},
	{regexp.MustCompile(`^ss -lnu: (\S+) listens in `), listensUDP},
	{regexp.MustCompile(`^ip route get (\S+), there: src (\S+)$`), getsSource},
	{regexp.MustCompile(`^nstat of .*: Udp(6?)(\w+) \(.*\) was (\d+) when .*, and is (\d+)$`), countsUDP},
	{regexp.MustCompile(`^packet #(\d+) left this node (?:by (\S+) and came back by ([^\s,]+)|as it was asked)`), leftAndCame},
	{regexp.MustCompile(`^packet #(\d+), the answer: from (\S+) to (\S+),`), answersFrom},
	{regexp.MustCompile(`^no NAT of this node translated packet #(\d+)$`), untranslated},
	{regexp.MustCompile(`^in (\S+) of (\S+) rule (\d+), by which it was translated, comes before rule (\d+),`), bothStand},
	{regexp.MustCompile(`^ip route show table local: (local \S+?)(?:/32|/128)?( dev \S+) proto (\S+)$`), hasLocal},
	{regexp.MustCompile(`^its source was (\S+) all the way: no rule rewrote it$`), keptSource},
	{regexp.MustCompile(`^it met no rule with (-j \S+),`), metNone},
	{regexp.MustCompile(`^no rule of this node rewrites sources`), noSourceRule},
	{regexp.MustCompile(`^did not take it: rule (?:\d+|with handle \d+) of \S+ in \S+(?: \S+)?: (.*)$`), isSavedAndNotMet},
}

func listensUDP(c *Court, m []string, _ model.Finding) string {
	want := strings.Replace(m[1], "[::]", "*", 1)
	if c.anywhere(func(says string) bool {
		return slices.ContainsFunc(strings.Fields(says), func(w string) bool { return w == want || w == m[1] })
	}, "ss", "-Hlnu") {
		return ""
	}
	return "ss shows no such socket"
}

func getsSource(c *Court, m []string, _ model.Finding) string {
	if c.anywhere(func(says string) bool { return strings.Contains(says+" ", " src "+m[2]+" ") }, "ip", "route", "get", m[1]) {
		return ""
	}
	return "ip route get says so nowhere"
}

// countsUDP: a counter is as high as was said, in one of the places; it may have risen
// since.
func countsUDP(c *Court, m []string, _ model.Finding) string {
	was, err := strconv.ParseUint(m[3], 10, 64)
	if err != nil {
		return err.Error()
	}
	is, err := strconv.ParseUint(m[4], 10, 64)
	if err != nil {
		return err.Error()
	}
	if is <= was {
		return "it has not risen"
	}
	for _, in := range c.places {
		names := []string(nil)
		for line := range strings.Lines(c.run(in, "cat", "/proc/net/snmp", "/proc/net/snmp6")) {
			f := strings.Fields(line)
			if m[1] == "6" && len(f) == 2 && f[0] == "Udp6"+m[2] || m[1] == "" && len(f) > 1 && f[0] == "Udp:" && names != nil {
				at := 1
				if m[1] == "" {
					at = slices.Index(names, m[2])
				}
				if at < 0 || at >= len(f) {
					continue
				}
				if n, err := strconv.ParseUint(f[at], 10, 64); err == nil && n >= is {
					return ""
				}
			}
			if len(f) > 1 && f[0] == "Udp:" {
				names = f
			}
		}
	}
	return "no place has it as high"
}

// leftAndCame: the packet was seen to leave by the one interface of the node, and came
// by the other after that.
func leftAndCame(c *Court, m []string, _ model.Finding) string {
	p, ok := c.packet(m[1])
	if !ok {
		return "there is no such packet"
	}
	if m[2] == "" {
		if p.Outcome != model.LeftNode {
			return "it did not leave"
		}
		return ""
	}
	left := false
	for _, h := range p.Hops {
		if h.Netns != uint32(c.node.Inode) {
			continue
		}
		if left && h.Stage != model.StageTransmit && h.Interface == m[3] {
			return ""
		}
		left = left || h.Stage == model.StageTransmit && h.Interface == m[2]
	}
	return "it was not seen to"
}

func answersFrom(c *Court, m []string, _ model.Finding) string {
	p, ok := c.packet(m[1])
	if !ok || fmt.Sprintf("%s:%d", p.Src, p.SrcPort) != m[2] || fmt.Sprintf("%s:%d", p.Dst, p.DstPort) != m[3] {
		return "there is no such packet"
	}
	return ""
}

func untranslated(c *Court, m []string, _ model.Finding) string {
	p, ok := c.packet(m[1])
	if !ok || slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.Before != nil && h.Netns == uint32(c.node.Inode) }) {
		return "there is none, or it was"
	}
	return ""
}

func keptSource(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return p.Src.String() == m[1] && !slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.Before != nil && h.After != nil && h.Before.Src != h.After.Src })
	}) {
		return "none of its packets kept it"
	}
	return ""
}

// metNone: none of its packets was told with such a rule.
func metNone(c *Court, m []string, f model.Finding) string {
	if c.one(f, func(p *model.Packet) bool {
		return met(p, func(text string) bool { return strings.HasSuffix(text, m[1]) })
	}) {
		return "one of its packets did"
	}
	return ""
}

func met(p *model.Packet, fits func(text string) bool) bool {
	return slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
		return slices.ContainsFunc(h.Rules, func(r model.Rule) bool { return fits(r.Text) })
	})
}

func noSourceRule(c *Court, _ []string, _ model.Finding) string {
	for _, tool := range [][]string{{"iptables-legacy-save"}, {"iptables-nft-save"}, {"nft", "list", "ruleset"}} {
		for line := range strings.Lines(c.run(c.node, tool...)) {
			if strings.Contains(line, "MASQUERADE") || strings.Contains(line, "-j SNAT") || strings.Contains(line, "masquerade ") || strings.Contains(line, "snat to") {
				return "there is one: " + strings.TrimSpace(line)
			}
		}
	}
	return ""
}

func isSavedAndNotMet(c *Court, m []string, f model.Finding) string {
	if c.one(f, func(p *model.Packet) bool { return met(p, func(text string) bool { return text == m[1] }) }) {
		return "one of its packets met it"
	}
	if strings.HasPrefix(m[1], "-A ") {
		return isSaved(c, m, f)
	}
	if !c.anywhere(func(says string) bool { return strings.Contains(bare(says), bare(m[1])) }, "nft", "-s", "list", "ruleset") {
		return "nft list ruleset has no such rule anywhere"
	}
	return ""
}

// bothStand: the chain has as many rules, and the packet met the first.
func bothStand(c *Court, m []string, f model.Finding) string {
	before, _ := strconv.Atoi(m[3]) // digits, as the form says
	after, _ := strconv.Atoi(m[4])
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			return slices.ContainsFunc(h.Rules, func(r model.Rule) bool { return r.Chain == m[1] && r.Table == m[2] && r.Number == before })
		})
	}) {
		return "none of its packets met the first"
	}
	for _, tool := range []string{"iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"} {
		n := 0
		for line := range strings.Lines(c.run(c.node, tool, "-t", m[2])) {
			if strings.HasPrefix(line, "-A "+m[1]+" ") {
				n++
			}
		}
		if before < after && n >= after {
			return ""
		}
	}
	return "there are not as many rules"
}

func hasLocal(c *Court, m []string, _ model.Finding) string {
	for line := range strings.Lines(c.run(c.node, "ip", "route", "show", "table", "local")) {
		line = " " + strings.TrimSpace(line) + " "
		if strings.Contains(line, " "+m[1]+m[2]+" ") && (strings.Contains(line, " proto "+m[3]+" ") || m[3] == "boot" && !strings.Contains(line, " proto ")) {
			return ""
		}
	}
	return "table local has none such"
}

func hasLinkLocalOnly(c *Court, m []string, _ model.Finding) string {
	return strings.TrimSpace(c.run(c.node, "ip", "-6", "-o", "addr", "show", "dev", m[1], "scope", "global"))
}
