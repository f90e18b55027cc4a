// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about services: those of IPVS are held against ipvsadm.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// serviceForm is a virtual service; the lines of its real servers come after it.
var serviceForm = regexp.MustCompile(`ipvsadm -Ln: (TCP|UDP|SCTP|FWM) (\S+) (\w+)`)

var ipvsStatements = []statement{
	{serviceForm, isService},
	{regexp.MustCompile(`ipvsadm -Ln: (\S+ \S+ \w+).*, without a real server$`), withoutServer},
	{regexp.MustCompile(`ipvsadm -Ln: -> (\S+) (\w+), weight (\d+),`), isServer},
	{regexp.MustCompile(`ipvsadm -Lnc: (\S+) (\S+) (\S+) (\S+) (\S+?)(?:;|$)`), isBalanced},
	{regexp.MustCompile(`^(\S+) is not among the real servers any more$`), isNoServer},
	{regexp.MustCompile(`^ipvsadm -Lnc has no (\w+) entry from (\S+) to (\S+)$`), isNotBalanced},
	{regexp.MustCompile(`^the element that matched: ([^:]*?)(?: comment .*| : .*)?$`), isElement},
	{regexp.MustCompile(`^IPVS let go of it when it looked for the way`), endedInIPVS},
	{regexp.MustCompile(`^(kube-ipvs0), on which kube-proxy keeps the addresses of services, has (.+)$`), keepsAddresses},
	{regexp.MustCompile(`^(kube-ipvs0), on which kube-proxy keeps the addresses of services, is not there$`), isNoLink},
	{regexp.MustCompile(`^ipset (\S+) (holds|does not hold) (\S+)$`), inSet},
	{regexp.MustCompile(`^there is no ipset (\S+)$`), isNoSet},
	{regexp.MustCompile(`^iptables-save -t nat: no rule of (\S+) has (.+)$`), hasNoRule},
	{regexp.MustCompile(`^it left by (\S+) with the source (\S+)$`), leftAs},
}

// isSet tells that ipset lists a set.
func (c *Court) isSet(name string) bool {
	return slices.Contains(strings.Fields(c.run(c.node, "ipset", "list", "-n")), name)
}

// inSet: ipset says of the very element whether the set holds it. It says so on stderr,
// and by its exit status.
func inSet(c *Court, m []string, _ model.Finding) string {
	if !c.isSet(m[1]) {
		return "ipset list -n shows no such set"
	}
	is := c.run(c.node, "sh", "-c", `ipset -q test "$1" "$2" && echo yes || echo no`, "sh", m[1], m[3])
	if (strings.TrimSpace(is) == "yes") != (m[2] == "holds") || is == "" {
		return fmt.Sprintf("ipset test says %q", is)
	}
	return ""
}

func isNoSet(c *Court, m []string, _ model.Finding) string {
	if c.isSet(m[1]) {
		return "ipset list -n shows it"
	}
	return ""
}

// hasNoRule: no line of the chain in table nat of either backend has all of the words.
func hasNoRule(c *Court, m []string, _ model.Finding) string {
	for _, tool := range []string{"iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"} {
		table := ""
		for line := range strings.Lines(c.run(c.node, tool)) {
			line = strings.TrimSpace(line)
			if name, ok := strings.CutPrefix(line, "*"); ok {
				table = name
			}
			if table != "nat" || !strings.HasPrefix(line, "-A "+m[1]+" ") {
				continue
			}
			if !slices.ContainsFunc(strings.Split(m[2], " and "), func(w string) bool { return !strings.Contains(line+" ", w+" ") }) {
				return "it has: " + line
			}
		}
	}
	return ""
}

// leftAs: a packet of the finding left by that interface with that source.
func leftAs(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		src, by := p.Src.String(), ""
		for _, h := range p.Hops {
			if h.After != nil {
				src = h.After.Src.String()
			}
			if h.Stage == model.StageTransmit {
				by = h.Interface
			}
		}
		return p.Outcome == model.LeftNode && src == m[2] && by == m[1]
	}) {
		return "none of its packets left so"
	}
	return ""
}

// columns are the words of each line of ipvsadm.
func (c *Court) columns(flags string) (lines [][]string) {
	for line := range strings.Lines(c.run(c.node, "ipvsadm", flags)) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func isService(c *Court, m []string, _ model.Finding) string {
	if !slices.ContainsFunc(c.columns("-Ln"), func(l []string) bool { return len(l) > 2 && slices.Equal(l[:3], m[1:4]) }) {
		return "ipvsadm -Ln shows no such service"
	}
	return ""
}

// serversOf are the lines of a service's real servers, without their arrows.
func (c *Court) serversOf(service []string) (servers [][]string, there bool) {
	for _, l := range c.columns("-Ln") {
		switch {
		case len(l) > 1 && l[0] == "->":
			if there {
				servers = append(servers, l[1:])
			}
		case there:
			return servers, true
		default:
			there = len(l) > 2 && slices.Equal(l[:3], service)
		}
	}
	return servers, there
}

func withoutServer(c *Court, m []string, _ model.Finding) string {
	switch servers, there := c.serversOf(strings.Fields(m[1])); {
	case !there:
		return "ipvsadm -Ln shows no such service"
	case len(servers) > 0:
		return "it has one: " + strings.Join(servers[0], " ")
	}
	return ""
}

// isServer: the service that is told before it has that real server.
func isServer(c *Court, m []string, f model.Finding) string {
	var service []string
	for _, line := range f.Evidence {
		if s := serviceForm.FindStringSubmatch(line); s != nil {
			service = s[1:4]
		}
		if service == nil || !strings.Contains(line, m[0]) {
			continue
		}
		servers, _ := c.serversOf(service)
		if slices.ContainsFunc(servers, func(l []string) bool { return len(l) > 2 && slices.Equal(l[:3], m[1:4]) }) {
			return ""
		}
	}
	if service == nil {
		return "no service is told with it"
	}
	return "ipvsadm -Ln shows no such real server of its service"
}

// isBalanced: protocol, expiry, state, source, virtual, destination are its columns.
func isBalanced(c *Court, m []string, _ model.Finding) string {
	if !slices.ContainsFunc(c.columns("-Lnc"), func(l []string) bool { return len(l) > 5 && l[0] == m[1] && slices.Equal(l[3:6], m[3:6]) }) {
		return "ipvsadm -Lnc shows no such entry"
	}
	return ""
}

func isNotBalanced(c *Court, m []string, _ model.Finding) string {
	for _, l := range c.columns("-Lnc") {
		if len(l) > 5 && l[0] == m[1] && slices.Equal(l[3:5], m[2:4]) {
			return "it has: " + strings.Join(l, " ")
		}
	}
	return ""
}

// isElement: nft shows it among the elements of some set.
func isElement(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool { return strings.Contains(says, m[1]) }, "nft", "list", "ruleset") {
		return "nft list ruleset shows no such element"
	}
	return ""
}

func isNoServer(c *Court, m []string, _ model.Finding) string {
	for _, l := range c.columns("-Ln") {
		if len(l) > 1 && l[0] == "->" && l[1] == m[1] {
			return "ipvsadm -Ln shows it"
		}
	}
	return ""
}

// endedInIPVS: a packet was freed there, and IPVS had rewritten nothing.
func endedInIPVS(c *Court, _ []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return p.Drop != nil && strings.HasPrefix(p.Drop.Function, "ip_vs_") && !slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.NATBy != "" })
	}) {
		return "none of its packets died so"
	}
	return ""
}

func keepsAddresses(c *Court, m []string, _ model.Finding) string {
	says := c.run(c.node, "ip", "-o", "addr", "show", "dev", m[1])
	if m[2] == "no address" {
		if strings.Contains(says, " inet ") || strings.Contains(says, " inet6 ") {
			return "it has: " + says
		}
		return ""
	}
	for _, a := range strings.Split(m[2], ", ") {
		if !strings.HasPrefix(a, "and ") && !strings.Contains(says, " "+a+" ") {
			return fmt.Sprintf("it has not %s: %s", a, says)
		}
	}
	return ""
}

func isNoLink(c *Court, m []string, _ model.Finding) string {
	if c.run(c.node, "ip", "link", "show", "dev", m[1]) != "" {
		return "it is there"
	}
	return ""
}
