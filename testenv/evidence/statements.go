// SPDX-License-Identifier: Apache-2.0

package evidence

// The kinds of statements. Each names the tool that it is held against.

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

var statements = []statement{
	// sysctl
	{regexp.MustCompile(`\bnet\.([\w./@-]+) = (-?\d+(?: \d+)*)`), isSysctl},
	{regexp.MustCompile(`\bnet\.([\w./@-]+) does not exist`), noSysctl},
	// ip link
	{regexp.MustCompile(`(\S+) <([A-Z,_-]+)> mtu (\d+)(: it is up again)?`), isLink},
	{regexp.MustCompile(`interface \((\S+)\) has MTU (\d+)`), hasMTU},
	{regexp.MustCompile(`^(\S+) was set (DOWN|UP) at [\d:.]+: by (.+?) \(pid (\d+)[,)]`), wasSet},
	{regexp.MustCompile(`^\S+ was set DOWN (?:\d+ times|at [\d:.]+(?:$|: by nobody))`), held},
	// ip neigh
	{regexp.MustCompile(`ip neigh: (\S+) dev ([^\s;,]+) ([A-Z]+)`), isNeighbour},
	{regexp.MustCompile(`ip neigh: (\S+) lladdr (\S+) dev ([^\s;,]+)`), isLLAddr},
	{regexp.MustCompile(`^its neighbour (\S+) is ([A-Z]+)$`), isInState},
	{regexp.MustCompile(`ip neigh has none for (\S+) on (\S+)`), noNeighbour},
	// bridge
	{regexp.MustCompile(`bridge fdb: (\S+) dst (\S+?),? `), isFDB},
	{regexp.MustCompile(`bridge fdb has no entry for that MAC on (\S+)`), held},
	// ip route
	{regexp.MustCompile(`(?:^|: |")((?:local|blackhole|unreachable|prohibit|throw) )?(default|[0-9a-f.:]+/\d+)((?: via [0-9a-f.:]*[0-9a-f])?)((?: dev [^\s:;,"]+)?)(?:$|[ :;,"])`), isRoute},
	{regexp.MustCompile(`there is no route back to (\S+)|neither a route to (\S+) nor a default route`), noRoute},
	// ip address
	{regexp.MustCompile(`(?:^|^a )pod of this node has (\S+)`), isHeld},
	{regexp.MustCompile(`^no pod of this node has (\S+)`), isNotHeld},
	{regexp.MustCompile(`(\S+) is no address of this node`), notOfNode},
	{regexp.MustCompile(`^(\S+) of .+ has (\S+) itself$`), hasItself},
	// iptables-save, nft
	{regexp.MustCompile(`^(?:rule \d+ of|the policy of|rule) .*?: (-A .*|:\S+ [A-Z]+.*)$`), isSaved},
	{regexp.MustCompile(`^policy of \S+ in .*: (:\S+ [A-Z]+)$`), isSaved},
	{regexp.MustCompile(`^policy of (\S+) in (\S+(?: \S+)?): policy (drop|accept)$`), hasPolicy},
	{regexp.MustCompile(`^rule \d+ of \S+ \(iptables-\S+\) drops it: its comment is "(.*)"`), hasComment},
	{regexp.MustCompile(`iptables-legacy holds (\d+) rules`), counts([]string{"-A "}, "iptables-legacy-save")},
	{regexp.MustCompile(`nft holds (\d+) rules`), counts([]string{`{"rule": {"family": "ip",`, `{"rule": {"family": "ip6",`, `{"rule": {"family": "inet",`}, "nft", "-j", "list", "ruleset")},
	{regexp.MustCompile(`the route is Calico's \(protocol (\d+)\)`), hasProtocol},
	{regexp.MustCompile(`^rule (\d+) of (\S+) in (\S+(?: \S+)?)( \(.*\))?: (.*)$`), isListed},
	// what was seen of the packets
	{regexp.MustCompile(`the kernel freed it in (\S+) at (.*?)(?:, reason (\w+))?$`), freed},
	{regexp.MustCompile(`it died in hook (\S+)`), diedIn},
	{regexp.MustCompile(`its TTL was (\d+) when it was first seen`), hadTTL},
	{regexp.MustCompile(`(?:answered|was told): ([a-z0-9-]+)$`), answered},
	{regexp.MustCompile(`the route look-up gave (\S+)`), looked},
	{regexp.MustCompile(`conntrack called it (\S+) in (\S+)`), called},
	{regexp.MustCompile(`(?:was translated from|the request was translated from) (\S+) (?:to|in) (\S+)`), translated},
	{regexp.MustCompile(`packet #(\d+): (\w+)`), isPacket},
	{regexp.MustCompile(`called from (.+)$`), calledFrom},
	{regexp.MustCompile(`^(?:(\d+) packets? )(?:left|left, and no answer came|left, none was answered but by an ICMP error|(?:was|were) sent there, and nothing of the flow came back)$`), held},
	{regexp.MustCompile(`its end was not seen|took it in$|not a packet filter: it died outside the netfilter hooks`), held},
	{regexp.MustCompile(`the reply's source was still (\S+)`), held},
	{regexp.MustCompile(`packets? of the (forward|return) direction (?:was seen|passed)`), asymmetric},
	{regexp.MustCompile(`it was (?:inside|sent in) (\S+)`), tunnelled},
	{regexp.MustCompile(`it came through a tunnel \((\S+)\)`), isTunnel},
	{regexp.MustCompile(`the last that was seen of #\d+`), held},
	{regexp.MustCompile(`no pod of this node, so its own side`), held},
}

// held: the line says what another one, or the packets' own list, shows.
func held(*Court, []string, model.Finding) string { return "" }

func isSysctl(c *Court, m []string, _ model.Finding) string {
	name := strings.TrimSuffix(m[1], ".")
	var said []string
	for _, in := range c.places {
		// a dot in an interface's name is a slash to sysctl: /proc takes either
		v, err := in.ReadSysctl(sysctlPath(name))
		if err != nil {
			continue
		}
		v = strings.Join(strings.Fields(v), " ") // of several values `sysctl` and /proc part them with tabs
		if v == m[2] || fits(v, m[2]) {
			return ""
		}
		said = append(said, v)
	}
	return fmt.Sprintf("net.%s is %s", name, strings.Join(said, ", "))
}

// fits lets what counts all the time be near.
func fits(is, said string) bool {
	a, err1 := strconv.Atoi(is)
	b, err2 := strconv.Atoi(said)
	return err1 == nil && err2 == nil && b > 100 && a > b*9/10 && a < b*11/10
}

// sysctlPath is a sysctl's file: of conf.IFACE.NAME the interface may have dots.
func sysctlPath(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if (p == "conf" || p == "neigh") && len(parts) > i+3 {
			return strings.Join(parts[:i+1], "/") + "/" + strings.Join(parts[i+1:len(parts)-1], ".") + "/" + parts[len(parts)-1]
		}
	}
	return strings.Join(parts, "/")
}

func noSysctl(c *Court, m []string, _ model.Finding) string {
	for _, in := range c.places {
		if _, err := in.ReadSysctl(sysctlPath(m[1])); err == nil {
			return "it exists in " + in.Name
		}
	}
	return ""
}

func isLink(c *Court, m []string, _ model.Finding) string {
	if m[4] != "" {
		return "" // it was down, and is told to be up again
	}
	var said []string
	for _, in := range c.places {
		says := c.run(in, "ip", "-o", "link", "show", "dev", m[1])
		if says == "" {
			continue
		}
		said = append(said, strings.TrimSpace(says))
		if strings.Contains(says, " mtu "+m[3]+" ") && sameFlags(says, strings.Split(m[2], ",")) {
			return ""
		}
	}
	return "ip link says " + strings.Join(said, "; ")
}

// sameFlags holds UP, LOWER_UP, NO-CARRIER and DOWN against ip's list of flags.
func sameFlags(says string, want []string) bool {
	_, rest, _ := strings.Cut(says, "<")
	list, _, _ := strings.Cut(rest, ">")
	flags := strings.Split(list, ",")
	if slices.Contains(want, "DOWN") {
		return !slices.Contains(flags, "UP")
	}
	for _, w := range want {
		if !slices.Contains(flags, w) {
			return false
		}
	}
	return true
}

func hasMTU(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool { return strings.Contains(says, " mtu "+m[2]+" ") }, "ip", "-o", "link", "show", "dev", m[1]) {
		return "ip link does not say so"
	}
	return ""
}

// wasSet: the link stands so still, and the process, where it lives, bears that name.
func wasSet(c *Court, m []string, _ model.Finding) string {
	if comm, err := os.ReadFile("/proc/" + m[4] + "/comm"); err == nil && strings.TrimSpace(string(comm)) != m[3] {
		return fmt.Sprintf("process %s is %s", m[4], strings.TrimSpace(string(comm)))
	}
	up := func(says string) bool { return says != "" && sameFlags(says, []string{m[2]}) }
	if !c.anywhere(up, "ip", "-o", "link", "show", "dev", m[1]) {
		return "ip link says otherwise everywhere"
	}
	return ""
}

func isNeighbour(c *Court, m []string, _ model.Finding) string {
	unanswered := []string{"INCOMPLETE", "FAILED", "NONE", "PROBE"}
	ok := c.anywhere(func(says string) bool {
		for line := range strings.Lines(says) {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != m[1] {
				continue
			}
			state := words[len(words)-1]
			if state == m[3] || slices.Contains(unanswered, state) && slices.Contains(unanswered, m[3]) || !slices.Contains(unanswered, m[3]) && !slices.Contains(unanswered, state) {
				return true
			}
		}
		return false
	}, "ip", "neigh", "show", "dev", m[2], "nud", "all")
	if !ok {
		return "ip neigh has no such entry anywhere"
	}
	return ""
}

// isInState: a state moves on by itself, but an entry that has an address keeps it.
func isInState(c *Court, m []string, f model.Finding) string {
	for _, in := range c.places {
		for line := range strings.Lines(c.run(in, "ip", "neigh", "show", "nud", "all")) {
			if words := strings.Fields(line); len(words) > 2 && words[0] == m[1] && isNeighbour(c, []string{"", m[1], words[2], m[2]}, f) == "" {
				return ""
			}
		}
	}
	return "ip neigh has no such entry anywhere"
}

func isLLAddr(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool { return strings.Contains(says, m[1]+" lladdr "+m[2]) }, "ip", "neigh", "show", "dev", m[3], "nud", "all") {
		return "ip neigh has no such entry anywhere"
	}
	return ""
}

func noNeighbour(c *Court, m []string, _ model.Finding) string {
	if strings.Contains(c.run(c.node, "ip", "neigh", "show", "dev", m[2], "nud", "all"), m[1]+" lladdr") {
		return "ip neigh has one"
	}
	return ""
}

func isFDB(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool { return strings.Contains(says, m[1]) && strings.Contains(says, "dst "+m[2]) }, "bridge", "fdb", "show") {
		return "bridge fdb has no such entry anywhere"
	}
	return ""
}

func isRoute(c *Court, m []string, _ model.Finding) string {
	kind, dst, via, dev := strings.TrimSpace(m[1]), m[2], m[3], m[4]
	plain := strings.TrimSuffix(strings.TrimSuffix(dst, "/32"), "/128")
	found := c.anywhere(func(says string) bool {
		for line := range strings.Lines(says) {
			line = " " + strings.TrimSpace(line) + " "
			words := strings.Fields(line)
			i := 0
			if len(words) > 1 && kind != "" && words[0] == kind {
				i = 1
			}
			if len(words) <= i || words[i] != plain && words[i] != dst && !(dst == "0.0.0.0/0" && words[i] == "default") {
				continue
			}
			if strings.Contains(line, via+" ") && strings.Contains(line, dev+" ") {
				return true
			}
		}
		return false
	}, "sh", "-c", "ip route show table all; ip -6 route show table all")
	if !found {
		return "ip route show table all has no such route anywhere"
	}
	return ""
}

func noRoute(c *Court, m []string, _ model.Finding) string {
	dst := strings.TrimSuffix(strings.Join(m[1:], ""), ",")
	if says := c.run(c.node, "ip", "route", "get", dst); says != "" && !strings.Contains(says, "unreachable") {
		return "ip route get says " + strings.TrimSpace(says)
	}
	return ""
}

// isHeld asks the pods, isNotHeld too.
func isHeld(c *Court, m []string, _ model.Finding) string {
	if !c.heldByPod(m[1]) {
		return "ip addr of no pod has it"
	}
	return ""
}

func isNotHeld(c *Court, m []string, _ model.Finding) string {
	if c.heldByPod(m[1]) {
		return "a pod has it"
	}
	return ""
}

func (c *Court) heldByPod(addr string) bool {
	for _, in := range c.env.Places {
		if strings.Contains(c.run(in, "ip", "-o", "addr"), " "+addr+"/") && c.hangsOnNode(in) {
			return true
		}
	}
	for _, p := range c.env.Pods {
		if p.Node.Number == 1 && strings.Contains(c.run(p.Netns, "ip", "-o", "addr"), " "+addr+"/") {
			return true
		}
	}
	return false
}

// hangsOnNode tells that a place has a device whose other end, or what it stands on, is
// a device of the node: the indexes agree, and ip names no other namespace for it.
func (c *Court) hangsOnNode(in *netns.Namespace) bool {
	own := c.run(c.node, "ip", "-o", "link")
	for line := range strings.Lines(c.run(in, "ip", "-o", "link")) {
		_, index, found := strings.Cut(strings.Fields(line)[1], "@if")
		_, there, named := strings.Cut(strings.TrimSpace(line)+" ", " link-netns ")
		if named && strings.TrimSpace(there) != c.node.Name {
			continue // indexes may agree by chance
		}
		if found && (strings.HasPrefix(own, strings.TrimSuffix(index, ":")+": ") || strings.Contains(own, "\n"+index+" ")) {
			return true
		}
	}
	return false
}

func hasItself(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(says string) bool { return strings.Contains(says, " "+m[2]+"/") }, "ip", "-o", "addr", "show", "dev", m[1]) {
		return "ip addr shows it on no such interface"
	}
	return ""
}

func notOfNode(c *Court, m []string, _ model.Finding) string {
	if strings.Contains(c.run(c.node, "ip", "-o", "addr"), " "+m[1]+"/") {
		return "ip addr has it"
	}
	return ""
}

// isSaved: the rule stands as iptables-save of one of the backends prints it.
func isSaved(c *Court, m []string, _ model.Finding) string {
	want := bare(m[1])
	for _, tool := range []string{"iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"} {
		if c.anywhere(func(says string) bool {
			for line := range strings.Lines(says) {
				if bare(line) == want {
					return true
				}
			}
			return false
		}, tool) {
			return ""
		}
	}
	return "iptables-save of neither backend has such a rule anywhere"
}

func hasComment(c *Court, m []string, _ model.Finding) string {
	for _, tool := range []string{"iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"} {
		if c.anywhere(func(says string) bool {
			return strings.Contains(strings.ReplaceAll(says, `"`, ""), "--comment "+strings.ReplaceAll(m[1], `"`, ""))
		}, tool) {
			return ""
		}
	}
	return "no rule of iptables-save has that comment"
}

// counts holds a number of rules against what a tool lists in the node.
func counts(rules []string, command ...string) func(*Court, []string, model.Finding) string {
	return func(c *Court, m []string, _ model.Finding) string {
		n := 0
		for _, rule := range rules {
			n += strings.Count(c.run(c.node, command...), rule)
		}
		if strconv.Itoa(n) != m[1] {
			return fmt.Sprintf("%s lists %d", strings.Join(command, " "), n)
		}
		return ""
	}
}

func hasProtocol(c *Court, m []string, _ model.Finding) string {
	if c.run(c.node, "ip", "route", "show", "table", "all", "proto", m[1]) == "" {
		return "ip route has none of that protocol"
	}
	return ""
}

// isListed: the rule stands in the chain at that place as nft lists it.
func isListed(c *Court, m []string, _ model.Finding) string {
	if strings.HasPrefix(m[5], "-A ") || strings.HasPrefix(m[5], ":") {
		return "" // iptables' own form
	}
	want := bare(m[5])
	if c.anywhere(func(says string) bool {
		for line := range strings.Lines(says) {
			if bare(line) == want {
				return true
			}
		}
		return false
	}, "nft", "-n", "-s", "list", "ruleset") || c.anywhere(func(says string) bool { return strings.Contains(bare(says), want) }, "nft", "-s", "list", "ruleset") {
		return ""
	}
	return "nft list ruleset has no such rule anywhere"
}

var counters = regexp.MustCompile(`counter packets \d+ bytes \d+|counter|\[\d+:\d+\]| comment "[^"]*"`)

// bare is a rule without counters, comment and odd spaces.
func bare(rule string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(counters.ReplaceAllString(rule, ""), `"`, "")), " ")
}

// --- packets ---

func freed(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return p.Drop != nil && p.Drop.Function == m[1] && (m[3] == "" || p.Drop.Reason == m[3])
	}) {
		return "none of its packets died so"
	}
	return ""
}

func diedIn(c *Court, m []string, f model.Finding) string {
	hook := strings.TrimSuffix(m[1], ",")
	if !c.one(f, func(p *model.Packet) bool { return p.Drop != nil && p.Drop.Hook == hook }) {
		return "none of its packets died there"
	}
	return ""
}

// asymmetric: of the other direction none was seen, or none by conntrack.
func asymmetric(c *Court, m []string, _ model.Finding) string {
	for _, p := range c.packets {
		if string(p.Direction) == m[1] && slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.Stage == model.StageConntrack && h.Netns == uint32(c.node.Inode) }) {
			return fmt.Sprintf("#%d was seen by the node's conntrack", p.ID)
		}
	}
	return ""
}

func hadTTL(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool { return strconv.Itoa(int(p.TTL)) == m[1] }) {
		return "none of its packets had that"
	}
	return ""
}

func answered(c *Court, m []string, f model.Finding) string {
	if m[1] == "nothing" {
		return ""
	}
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.Answer == m[1] })
	}) {
		return "none of its packets got that answer"
	}
	return ""
}

func looked(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			return h.Route != nil && (h.Route.Error == m[1] || h.Route.Type == m[1])
		})
	}) {
		return "none of its packets' look-ups gave that"
	}
	return ""
}

func called(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.CTState == m[1] })
	}) {
		return "none of its packets was called so"
	}
	return ""
}

// translated asks all packets: the request is another one than the reply.
func translated(c *Court, m []string, _ model.Finding) string {
	for _, p := range c.packets {
		if slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			if h.Before == nil || h.After == nil {
				return false
			}
			is := func(text string, e *model.Endpoints) bool {
				return slices.Contains([]string{e.Dst.String(), fmt.Sprintf("%s:%d", e.Dst, e.DstPort), e.Src.String(), fmt.Sprintf("%s:%d", e.Src, e.SrcPort)}, text)
			}
			return is(m[1], h.Before) && is(m[2], h.After)
		}) {
			return ""
		}
	}
	return "no packet was"
}

func isPacket(c *Court, m []string, _ model.Finding) string {
	if p, ok := c.packet(m[1]); !ok || p.Proto != m[2] {
		return "there is no such packet"
	}
	return ""
}

func calledFrom(c *Court, m []string, f model.Finding) string {
	first, _, _ := strings.Cut(m[1], ",")
	if !c.one(f, func(p *model.Packet) bool {
		return p.Drop != nil && slices.ContainsFunc(p.Drop.Stack, func(s string) bool { return strings.HasPrefix(s, first+"+") || s == first })
	}) {
		return "none of its packets' stacks has that"
	}
	return ""
}

func isTunnel(c *Court, m []string, _ model.Finding) string {
	if !strings.Contains(c.run(c.node, "ip", "-d", "-o", "link", "show", "dev", m[1]), " vxlan ") {
		return "ip link knows no such tunnel"
	}
	return ""
}

func tunnelled(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		is := func(t *model.Tunnel) bool { return t != nil && strings.TrimSuffix(m[1], ",") == t.Kind }
		return p.Drop != nil && is(p.Drop.Tunnel) || slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return is(h.Tunnel) })
	}) {
		return "none of its packets was in such a tunnel"
	}
	return ""
}
