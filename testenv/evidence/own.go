// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about addresses, IPsec, and the rules that name an address.

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var addressStatements = []statement{
	{regexp.MustCompile(`^ip addr: ([^ ,]+)(?: of .+?)? has (?:no (IPv[46]) address|(no )?([0-9a-f.:]+)(?:/\d+)?(?:, (dadfailed tentative|tentative))?)$`), hasAddress},
	{regexp.MustCompile(`^no interface of this node has (\S+)$`), notOfNode},
	{regexp.MustCompile(`^ip route show table local: none to (\S+)$`), noLocalRoute},
	{regexp.MustCompile(`^packet #(\d+): (\S+) to (\S+) was delivered at this node at `), wasDelivered},
	{regexp.MustCompile(`^packet #(\d+) was translated from (\S+) to (\S+)$`), thatTranslated},
	{regexp.MustCompile(`^no rule of this node names (\S+)$`), noRuleNames},
	{regexp.MustCompile(`^ip xfrm policy: (src .*)$`), isXfrmPolicy},
	{regexp.MustCompile(`^/proc/net/xfrm_stat: (Xfrm\w+) (\d+) `), countsXfrm},
	{regexp.MustCompile(`^ip xfrm state: none of (\d+) fits`), countsXfrmStates},
	{regexp.MustCompile(`^tc qdisc: (\S+) dev (\S+)( root)?(?: rate (\S+))?$`), isQdisc},
	{regexp.MustCompile(`^(no|a) socket listens on tcp port (\d+) there$`), listens},
	{regexp.MustCompile(`^the packet's mark was (0x[0-9a-f]+)`), hadMark},
	{regexp.MustCompile(`^an ICMP error came back: (\S+)$`), cameBack},
}

// hasAddress: in one of the places the interface has the address, or has not.
func hasAddress(c *Court, m []string, _ model.Finding) string {
	family, no, addr, state := m[2], m[3], m[4], m[5]
	for _, in := range c.places {
		says := c.run(in, "ip", "-o", "addr", "show", "dev", m[1])
		if c.run(in, "ip", "-o", "link", "show", "dev", m[1]) == "" {
			continue
		}
		inet := map[string]string{"IPv4": " inet ", "IPv6": " inet6 "}[family]
		switch {
		case family != "" && !slices.ContainsFunc(strings.Split(says, "\n"), func(l string) bool {
			return strings.Contains(l, inet) && !strings.Contains(l, "scope link")
		}), no != "" && !strings.Contains(says, " "+addr+"/"):
			return ""
		case family == "" && no == "" && slices.ContainsFunc(strings.Split(says, "\n"), func(l string) bool {
			return strings.Contains(l, " "+addr+"/") && (state == "" || strings.Contains(l, " "+state))
		}):
			return ""
		}
	}
	return "ip addr does not say so anywhere"
}

func noLocalRoute(c *Court, m []string, _ model.Finding) string {
	if strings.Contains(c.run(c.node, "ip", "route", "show", "table", "local"), "local "+m[1]+" ") {
		return "it is there"
	}
	return ""
}

// packet finds one that was told, by its number in words.
func (c *Court) packet(number string) (model.Packet, bool) {
	id, _ := strconv.ParseUint(number, 10, 64) // digits, as the form says
	p, ok := c.packets[id]
	return p, ok
}

func wasDelivered(c *Court, m []string, _ model.Finding) string {
	p, ok := c.packet(m[1])
	if !ok || p.Proto != m[2] || p.Outcome != model.Delivered || p.Dst.String() != m[3] {
		return "there is no such packet"
	}
	if last := p.Hops[len(p.Hops)-1]; last.Netns != 0 && last.Netns != uint32(c.node.Inode) {
		return "it was delivered elsewhere"
	}
	return ""
}

func thatTranslated(c *Court, m []string, f model.Finding) string {
	if p, ok := c.packet(m[1]); !ok || !slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
		return h.Before != nil && h.After != nil && fmt.Sprintf("%s:%d", h.Before.Dst, h.Before.DstPort) == m[2] && fmt.Sprintf("%s:%d", h.After.Dst, h.After.DstPort) == m[3]
	}) {
		return "that packet was not"
	}
	return ""
}

func noRuleNames(c *Court, m []string, _ model.Finding) string {
	word := regexp.MustCompile(`(^|[^0-9a-f.:])` + regexp.QuoteMeta(m[1]) + `($|[^0-9a-f.])`)
	for _, tool := range [][]string{{"iptables-legacy-save"}, {"ip6tables-legacy-save"}, {"nft", "list", "ruleset"}} {
		if word.MatchString(c.run(c.node, tool...)) {
			return strings.Join(tool, " ") + " has one"
		}
	}
	return ""
}

// isXfrmPolicy: all parts of the policy stand in one that ip lists.
func isXfrmPolicy(c *Court, m []string, _ model.Finding) string {
	parts := strings.Split(m[1], " tmpl ")
	head, dir, _ := strings.Cut(parts[0], " dir ")
	for _, in := range c.places {
		for _, p := range strings.Split("\n"+c.run(in, "ip", "xfrm", "policy"), "\nsrc ") {
			p = "src " + strings.Join(strings.Fields(p), " ") + " "
			ok := strings.Contains(p, head+" ") && strings.Contains(p, " dir "+dir+" ")
			for _, t := range parts[1:] {
				ok = ok && strings.Contains(p, " tmpl "+t+" ")
			}
			if ok {
				return ""
			}
		}
	}
	return "ip xfrm policy has no such anywhere"
}

// countsXfrm: counters only rise.
func countsXfrm(c *Court, m []string, _ model.Finding) string {
	want, _ := strconv.Atoi(m[2])
	if !c.anywhere(func(says string) bool {
		for line := range strings.Lines(says) {
			if words := strings.Fields(line); len(words) == 2 && words[0] == m[1] {
				n, err := strconv.Atoi(words[1])
				return err == nil && n >= want
			}
		}
		return false
	}, "cat", "/proc/net/xfrm_stat") {
		return "/proc/net/xfrm_stat has no such count anywhere"
	}
	return ""
}

func countsXfrmStates(c *Court, m []string, _ model.Finding) string {
	for _, in := range c.places {
		if strconv.Itoa(strings.Count("\n"+c.run(in, "ip", "xfrm", "state"), "\nsrc ")) == m[1] {
			return ""
		}
	}
	return "ip xfrm state lists another number"
}

func isQdisc(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool {
		return slices.ContainsFunc(strings.Split(says, "\n"), func(line string) bool {
			line += " "
			return strings.HasPrefix(line, "qdisc "+m[1]+" ") && strings.Contains(line, m[3]+" ") && (m[4] == "" || strings.Contains(line, " rate "+m[4]+" "))
		})
	}, "tc", "qdisc", "show", "dev", m[2]) {
		return "tc qdisc show does not say so"
	}
	return ""
}

func listens(c *Court, m []string, _ model.Finding) string {
	is := c.anywhere(func(says string) bool { return strings.Contains(says, ":"+m[2]+" ") }, "ss", "-Hlnt")
	if is != (m[1] == "a") {
		return "ss -lnt says otherwise"
	}
	return ""
}

func cameBack(c *Court, m []string, _ model.Finding) string {
	for _, p := range c.packets {
		if p.ICMP == m[1] {
			return ""
		}
	}
	return "no such error was told"
}
