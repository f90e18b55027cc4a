// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about next hops, and about sources that nothing rewrites, held against ip
// route get, iptables-save and nft.

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

var hopStatements = []statement{
	{regexp.MustCompile(`^ip route get (\S+)((?: (?:from|iif|mark|ipproto|sport|dport) \S+)*): via (\S+) dev (\S+)( cache <redirected>)?$`), isUsed},
	{regexp.MustCompile(`^ip route get (\S+)((?: (?:from|iif|mark|ipproto|sport|dport) \S+)*): mtu (\d+)$`), hasLearned},
	{regexp.MustCompile(`\bnhid (\d+) via (\S+) dev (\S+)`), isObject},
	{regexp.MustCompile(`^packet #(\d+) from (\S+) came in by (\S+)$`), cameFromBy},
	{regexp.MustCompile(`^no rule of this node rewrites (IPv4|IPv6) sources \(MASQUERADE, SNAT\)$`), rewritesNone},
}

// isUsed asks for the way as the line does, in whatever place it was.
func isUsed(c *Court, m []string, _ model.Finding) string {
	command := append([]string{"ip", "route", "get", m[1]}, strings.Fields(m[2])...)
	var said []string
	if !slices.ContainsFunc(c.places, func(in *netns.Namespace) bool {
		says := strings.ReplaceAll(c.run(in, command...), "\n", " ") + " "
		said = append(said, says)
		return strings.Contains(says, " via "+m[3]+" dev "+m[4]+" ") && strings.Contains(says, "redirected") == (m[5] != "")
	}) {
		return strings.Join(said, "; ")
	}
	return ""
}

func hasLearned(c *Court, m []string, _ model.Finding) string {
	command := append([]string{"ip", "route", "get", m[1]}, strings.Fields(m[2])...)
	if !c.anywhere(func(says string) bool {
		return strings.Contains(strings.ReplaceAll(says, "\n", " ")+" ", " mtu "+m[3]+" ")
	}, command...) {
		return "ip route get says no such mtu anywhere"
	}
	return ""
}

func isObject(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool { return strings.Contains(says, " via "+m[2]+" dev "+m[3]+" ") }, "ip", "nexthop", "show", "id", m[1]) {
		return "ip nexthop does not say so anywhere"
	}
	return ""
}

func cameFromBy(c *Court, m []string, _ model.Finding) string {
	p, ok := c.packet(m[1])
	if !ok || p.Src.String() != m[2] || !slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
		return h.Stage == model.StageReceive && h.Interface == m[3] && h.Netns == uint32(c.node.Inode)
	}) {
		return "that packet did not"
	}
	return ""
}

var rewriting = regexp.MustCompile(`-j (MASQUERADE|SNAT)\b|\b(masquerade|snat)\b`)

func rewritesNone(c *Court, m []string, _ model.Finding) string {
	tools := []string{"iptables-legacy-save", "iptables-nft-save"}
	if m[1] == "IPv6" {
		tools = []string{"ip6tables-legacy-save", "ip6tables-nft-save"}
	}
	for _, tool := range tools {
		if says := rewriting.FindString(c.run(c.node, tool)); says != "" {
			return tool + " has " + says
		}
	}
	return ""
}
