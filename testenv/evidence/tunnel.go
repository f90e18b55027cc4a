// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about tunnels and WireGuard's peers, held against ip -d link and wg show.

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var tunnelStatements = []statement{
	{regexp.MustCompile(`^ip -d link: (\S+) (ipip|sit|gre|gretap|ip6gre|ip6gretap|ip6tnl) remote (\S+) local (\S+)$`), hasEnds},
	{regexp.MustCompile(`^ip -d link: (\S+) geneve id (\d+) remote (\S+) dstport (\d+)$`), hasGeneve},
	{regexp.MustCompile(`^ip -d link: (\S+) (\S+) external$`), isExternal},
	{regexp.MustCompile(`^ip -d link: this node has no interface of kind (.+)$`), hasNoKind},
	{regexp.MustCompile(`\bwg show (\S+) allowed-ips: (\S+)((?: [0-9a-f.:]+/\d+)*| \(none\))( and \d+ more)?$`), allows},
	{regexp.MustCompile(`^wg show (\S+): (\d+) peers?, and none of their allowed IPs holds (\S+)$`), allowsNone},
	{regexp.MustCompile(`^wg show (\S+) endpoints: (\S+) \(none\)$`), hasNoEndpoint},
	{regexp.MustCompile(`^wg show (\S+) endpoints: (\S+) (\S+:\d+)$`), hasEndpoint},
	{regexp.MustCompile(`^encrypted packets from \S+ died in hook (PREROUTING|INPUT|FORWARD) at node \((\S+)\)$`), cameBy},
	{regexp.MustCompile(`^wg show (\S+) latest-handshakes: (\S+) (\d+)$`), hadHandshake},
	{regexp.MustCompile(`^the last of these packets came at ([\d:.]+)$`), lastCame},
}

// hasEnds: ip prints "ipip remote any local any ttl inherit ..."; of ip6tnl and sit other
// words may stand between.
func hasEnds(c *Court, m []string, _ model.Finding) string {
	says := c.everywhere(m[1])
	if !slices.ContainsFunc(says, func(s string) bool {
		s = strings.ReplaceAll(s, " :: ", " any ")
		return strings.Contains(s, " "+m[2]+" ") && strings.Contains(s, " remote "+m[3]+" local "+m[4]+" ")
	}) {
		return "ip -d link says " + strings.Join(says, "; ")
	}
	return ""
}

func hasGeneve(c *Court, m []string, _ model.Finding) string {
	says := c.everywhere(m[1])
	if !slices.ContainsFunc(says, func(s string) bool {
		return strings.Contains(s, " geneve id "+m[2]+" ") && (m[3] == "any" || strings.Contains(s, " remote "+m[3]+" ")) && strings.Contains(s, " dstport "+m[4]+" ")
	}) {
		return "ip -d link says " + strings.Join(says, "; ")
	}
	return ""
}

func isExternal(c *Court, m []string, _ model.Finding) string {
	says := c.everywhere(m[1])
	if !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(s, " "+m[2]+" external ") }) {
		return "ip -d link says " + strings.Join(says, "; ")
	}
	return ""
}

func hasNoKind(c *Court, m []string, _ model.Finding) string {
	for _, kind := range strings.Split(m[1], " or ") {
		if says := c.run(c.node, "ip", "-o", "link", "show", "type", kind); says != "" {
			return "ip link show type " + kind + " says " + says
		}
	}
	return ""
}

// wg gives the lines that `wg show DEVICE WHAT` prints in the node, by words.
func (c *Court) wg(device, what string) (lines [][]string) {
	for line := range strings.Lines(c.run(c.node, "wg", "show", device, what)) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func allows(c *Court, m []string, _ model.Finding) string {
	want := strings.Fields(m[3])
	for _, line := range c.wg(m[1], "allowed-ips") {
		if line[0] != m[2] {
			continue
		}
		has := slices.Clone(line[1:])
		missing := slices.ContainsFunc(want, func(p string) bool { return !slices.Contains(has, p) })
		if missing || m[4] == "" && len(has) != len(want) && m[3] != " (none)" {
			return "wg show says " + strings.Join(line, " ")
		}
		return ""
	}
	return "wg show knows no such peer"
}

func allowsNone(c *Court, m []string, _ model.Finding) string {
	addr, err := netip.ParseAddr(m[3])
	if err != nil {
		return err.Error()
	}
	lines := c.wg(m[1], "allowed-ips")
	if strconv.Itoa(len(lines)) != m[2] {
		return "wg show lists " + strconv.Itoa(len(lines)) + " peers"
	}
	for _, line := range lines {
		for _, allowed := range line[1:] {
			if p, err := netip.ParsePrefix(allowed); err == nil && p.Contains(addr) {
				return "wg show: " + strings.Join(line, " ")
			}
		}
	}
	return ""
}

func hasNoEndpoint(c *Court, m []string, _ model.Finding) string {
	for _, line := range c.wg(m[1], "endpoints") {
		if line[0] == m[2] {
			if line[1] != "(none)" {
				return "wg show says " + line[1]
			}
			return ""
		}
	}
	return "wg show knows no such peer"
}

func hasEndpoint(c *Court, m []string, _ model.Finding) string {
	for _, line := range c.wg(m[1], "endpoints") {
		if line[0] == m[2] {
			if line[1] != m[3] {
				return "wg show says " + line[1]
			}
			return ""
		}
	}
	return "wg show knows no such peer"
}

// cameBy: such packets are not told by themselves; the rule has a line of its own.
func cameBy(c *Court, m []string, _ model.Finding) string {
	if c.run(c.node, "ip", "-o", "link", "show", "dev", m[2]) == "" {
		return "the node has no interface " + m[2]
	}
	return ""
}

// hadHandshake: since it was told there may have been another.
func hadHandshake(c *Court, m []string, _ model.Finding) string {
	told, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil {
		return err.Error()
	}
	for _, line := range c.wg(m[1], "latest-handshakes") {
		if line[0] == m[2] {
			if is, err := strconv.ParseInt(line[1], 10, 64); err != nil || is < told || told == 0 && is != 0 {
				return "wg show says " + line[1]
			}
			return ""
		}
	}
	return "wg show knows no such peer"
}

// lastCame: a finding lists the first of its packets only, so the last one is sought
// among all.
func lastCame(c *Court, m []string, f model.Finding) string {
	const asTold = "15:04:05.000"
	var last time.Time
	for _, p := range c.packets {
		if p.Time.Format(asTold) == m[1] {
			last = p.Time
		}
	}
	if last.IsZero() {
		return "no packet came then"
	}
	if c.one(f, func(p *model.Packet) bool { return p.Time.After(last) && p.Time.Format(asTold) != m[1] }) {
		return "one of them came later"
	}
	return ""
}
