// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about policy rules, tables and the ways that packets took, held against
// ip rule, ip route show table and ip route get.

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

var routeStatements = []statement{
	// ip rule
	{regexp.MustCompile(`^ip( -6)? rule: (\d+): (.*)$`), isRule},
	{regexp.MustCompile(`^ip( -6)? rule: none of the rules looks up table (\S+)$`), looksUpNone},
	{regexp.MustCompile(`\brule (\d+)(?: \(([^)]*)\))? looks up table (\S+): `), looksUp},
	{regexp.MustCompile(`policy rule (\d+) refuses it: (.*)$`), refuses},
	// ip route show table
	{regexp.MustCompile(`\btable (\S+) (?:has|also has:|would lead to:|would lead back by \S+:) (.*?)(?:, but (?:no policy rule looks it up|rule (\d+) (?:does not give it to this packet: (.*)|is for packets with (.*), and the reply's mark is (\S+))))?$`), inTable},
	// ip route get
	{regexp.MustCompile(`^(?:the way (?:it was|they were) sent|what decides it|the way to it|this node sends it there): rule \d+.* looks up table \S+: (.*)$`), goesBy},
	{regexp.MustCompile(`no policy rule leads to a route to (\S+)`), noRoute},
	{regexp.MustCompile(`with the packet's mark (0x[0-9a-f]+)`), hadMark},
	{regexp.MustCompile(`^the pod that has (\S+) is behind (\S+) of this node$`), isBehind},
	{regexp.MustCompile(`^neither this node nor a pod of it has (\S+)$`), ofNobody},
	// what was seen of the packets
	{regexp.MustCompile(`^(request|reply) #(\d+) (?:came in|left) by (\S+) at `), wentBy},
	{regexp.MustCompile(`^(\d+) repl(?:y|ies) left by that way(?:.*the request came (\d+) times)?`), wentOften},
	{regexp.MustCompile(`^one packet left by (\S+) and came in by it again (?:once|(\d+) times)`), cameAgain},
	{regexp.MustCompile(`^(\S+-exceeded) came back from (\S+)$`), toldExceeded},
	{regexp.MustCompile(`an ICMP error came: (\S+) from (\S+)$`), toldExceeded},
}

// rules gives the lines of `ip rule` of a place, of one family.
func (c *Court) rules(in *netns.Namespace, v6 bool) (lines []string) {
	command := []string{"ip", "rule"}
	if v6 {
		command = []string{"ip", "-6", "rule"}
	}
	for line := range strings.Lines(c.run(in, command...)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

// hasRule tells that a place has a rule that fits, of either family.
func (c *Court) hasRule(fits func(line string) bool) bool {
	for _, in := range c.places {
		if slices.ContainsFunc(append(c.rules(in, false), c.rules(in, true)...), fits) {
			return true
		}
	}
	return false
}

func isRule(c *Court, m []string, _ model.Finding) string {
	if !c.hasRule(func(line string) bool { return line == m[2]+": "+m[3] }) {
		return "ip rule prints no such line anywhere"
	}
	return ""
}

func refuses(c *Court, m []string, f model.Finding) string {
	return isRule(c, []string{"", "", m[1], m[2]}, f)
}

func looksUpNone(c *Court, m []string, _ model.Finding) string {
	for _, line := range c.rules(c.node, m[1] != "") {
		if strings.Contains(line, " lookup "+m[2]) {
			return "ip rule: " + line
		}
	}
	return ""
}

func looksUp(c *Court, m []string, _ model.Finding) string {
	if !c.hasRule(func(line string) bool {
		if !strings.HasPrefix(line, m[1]+": ") || !strings.Contains(line+" ", " lookup "+m[3]+" ") {
			return false
		}
		for _, part := range strings.Fields(m[2]) {
			if !slices.Contains(strings.Fields(line), part) {
				return false
			}
		}
		return true
	}) {
		return "ip rule has no such rule anywhere"
	}
	return ""
}

// table holds a route against what ip prints of a table: all its words are there.
func (c *Court) table(in *netns.Namespace, table, route string) bool {
	words := strings.Fields(route)
	for i, w := range words {
		words[i] = strings.TrimSuffix(strings.TrimSuffix(w, "/32"), "/128")
	}
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(c.run(in, "ip", family, "route", "show", "table", table)) {
			has := strings.Fields(line)
			if len(has) > 0 && !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(has, w) }) {
				return true
			}
		}
	}
	return false
}

func inTable(c *Court, m []string, _ model.Finding) string {
	i := slices.IndexFunc(c.places, func(in *netns.Namespace) bool { return c.table(in, m[1], m[2]) })
	if i < 0 {
		return "ip route show table " + m[1] + " has no such route anywhere"
	}
	rules := append(c.rules(c.places[i], false), c.rules(c.places[i], true)...)
	switch {
	case strings.Contains(m[0], "no policy rule looks it up"):
		for _, line := range c.rules(c.places[i], strings.Contains(m[2], ":")) {
			if strings.Contains(line+" ", " lookup "+m[1]+" ") {
				return "ip rule: " + line
			}
		}
	case m[4] != "":
		if !slices.Contains(rules, m[3]+": "+m[4]) {
			return "ip rule prints no such line"
		}
	case m[5] != "":
		if !slices.ContainsFunc(rules, func(line string) bool {
			return strings.HasPrefix(line, m[3]+": ") && strings.Contains(line, " "+m[5]+" ")
		}) {
			return "ip rule prints no such line"
		}
	}
	return ""
}

// goesBy asks for the way of one of the finding's packets, as it was looked up where
// it was: from its source, by the interface it came in by, with its mark.
func goesBy(c *Court, m []string, f model.Finding) string {
	dev := regexp.MustCompile(` dev (\S+)`).FindStringSubmatch(m[1])
	refused := regexp.MustCompile(`^(blackhole|unreachable|prohibit) `).MatchString(m[1])
	if dev == nil && !refused {
		return "no interface is told"
	}
	var said []string
	for _, p := range c.of(f) {
		for _, in := range c.places {
			for _, ask := range questions(&p, in) {
				says := strings.TrimSpace(c.run(in, ask...))
				if refused {
					if says == "" || strings.Contains(says, "unreachable") { // it fails
						return ""
					}
				} else if strings.Contains(strings.ReplaceAll(says, "\n", " ")+" ", " dev "+dev[1]+" ") {
					return ""
				}
				said = append(said, strings.Join(ask, " ")+": "+says)
			}
		}
	}
	return strings.Join(said, "; ")
}

// questions are those for ip route get of a packet in a place that it was in: what
// came in, and what the place sends itself.
func questions(p *model.Packet, in *netns.Namespace) (all [][]string) {
	here, dsts := false, []string{p.Dst.String()}
	for _, h := range p.Hops {
		if h.Netns == uint32(in.Inode) && h.Before != nil && h.After != nil && h.Before.Dst != h.After.Dst {
			dsts = append(dsts, h.After.Dst.String()) // it is looked up once it is translated
		}
	}
	for _, h := range p.Hops {
		if h.Netns != uint32(in.Inode) {
			continue
		}
		here = true
		for _, dst := range dsts {
			if h.Stage == model.StageReceive {
				all = append(all, append([]string{"ip", "route", "get", dst, "from", p.Src.String(), "iif", h.Interface, "mark", fmt.Sprint(h.Mark)}, ports(p)...))
			}
		}
	}
	if here && len(all) == 0 {
		all = append(all, []string{"ip", "route", "get", p.Dst.String(), "from", p.Src.String()})
	}
	return all
}

// ports are what a policy rule may ask of a packet besides.
func ports(p *model.Packet) []string {
	if p.Proto != "tcp" && p.Proto != "udp" {
		return nil
	}
	return []string{"ipproto", p.Proto, "sport", fmt.Sprint(p.SrcPort), "dport", fmt.Sprint(p.DstPort)}
}

func hadMark(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return fmt.Sprintf("%#x", h.Mark) == m[1] })
	}) {
		return "none of its packets had that mark"
	}
	return ""
}

func isBehind(c *Court, m []string, _ model.Finding) string {
	for _, p := range c.env.Pods {
		if p.IPv4.String() != m[1] && p.IPv6.String() != m[1] {
			continue
		}
		if p.HostInterface == m[2] || strings.Contains(c.run(c.node, "ip", "-o", "link", "show", "dev", p.HostInterface), " master "+m[2]+" ") {
			return ""
		}
		return "it is behind " + p.HostInterface
	}
	return "no pod has it"
}

func ofNobody(c *Court, m []string, f model.Finding) string {
	if says := notOfNode(c, m, f); says != "" {
		return says
	}
	return isNotHeld(c, m, f)
}

func wentBy(c *Court, m []string, _ model.Finding) string {
	stages := []model.Stage{model.StageReceive, model.StageDecapsulate}
	if m[1] == "reply" {
		stages = []model.Stage{model.StageTransmit, model.StageEncapsulate}
	}
	p, _ := c.packet(m[2]) // one that is not there came by nothing
	if !slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.Interface == m[3] && slices.Contains(stages, h.Stage) }) {
		return "that packet did not"
	}
	return ""
}

func wentOften(c *Court, m []string, f model.Finding) string {
	if n, _ := strconv.Atoi(m[1]); n != len(f.Packets) {
		return fmt.Sprintf("%d are named", len(f.Packets))
	}
	if m[2] == "" {
		return ""
	}
	came := 0
	for _, p := range c.packets {
		if p.Direction != f.Direction && p.Outcome == model.Delivered {
			came++
		}
	}
	if n, _ := strconv.Atoi(m[2]); n != came {
		return fmt.Sprintf("%d arrived", came)
	}
	return ""
}

func cameAgain(c *Court, m []string, f model.Finding) string {
	want := 1
	if m[2] != "" {
		want, _ = strconv.Atoi(m[2]) // digits, as the form says
	}
	if !c.one(f, func(p *model.Packet) bool {
		n, left := 0, false
		for _, h := range p.Hops {
			switch {
			case h.Netns != uint32(c.node.Inode) || h.Interface != m[1]:
			case h.Stage == model.StageTransmit:
				left = true
			case h.Stage == model.StageReceive && left:
				n++
			}
		}
		return n == want
	}) {
		return "none of its packets did"
	}
	return ""
}

// toldExceeded asks all packets: the error is another one than that it is about.
func toldExceeded(c *Court, m []string, _ model.Finding) string {
	for _, p := range c.packets {
		if p.ICMP == m[1] && (p.Src.String() == m[2] || m[2] == "a") {
			return ""
		}
	}
	return "no such error was seen"
}
