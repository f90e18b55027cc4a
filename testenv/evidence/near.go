// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about where an interface hangs, and who listens where.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

var nearStatements = []statement{
	// ip link
	{regexp.MustCompile(`^ip link: (\S+) has no master$`), hasNoMaster},
	{regexp.MustCompile(`^ip link: (\S+) master (\S+)$`), hasMaster},
	{regexp.MustCompile(`^bridge link: ports of (\S+) are (.+?)(?: and \d+ more)?$`), hasPorts},
	{regexp.MustCompile(`^ip link: (\S+) of .* has its other end, interface (\d+), in network namespace (\d+); this node's own is (\d+)$`), hasEndIn},
	{regexp.MustCompile(`^ip link: (\S+) is NOARP$`), isNoARP},
	{regexp.MustCompile(`^the way from (\S+) to (\S+): rule \d+ .*\bdev (\S+)`), leadsFrom},
	// ss
	{regexp.MustCompile(`^ss -ln([tu]): (\S+:\d+) at (.+?)(?:, of (\S+) \(pid (\d+)\))?$`), socketAt},
	{regexp.MustCompile(`^ip -d link: (\S+) is a tun device`), isTun},
	{regexp.MustCompile(`^(\S+) is held open by (\S+) \(pid (\d+)\)$`), opensTun},
	{regexp.MustCompile(`^/proc/(\d+)/status: State: ([A-Za-z])`), doesNow},
	{regexp.MustCompile(`^ss -ant: (\d+) connections to (\S+) from (\S+), \d+ of them in TIME-WAIT$`), areConnected},
	{regexp.MustCompile(`^ss -nt: (\S+) to (\S+) at (.+), of (\S+) \(pid (\d+)\)$`), connectedAt},
	{regexp.MustCompile(`^ss -ln([tu]): none on port (\d+) at (.+?)(?:, but on (.+))?$`), noSocketAt},
}

func hasNoMaster(c *Court, m []string, _ model.Finding) string {
	if says := c.run(c.node, "ip", "-o", "link", "show", "dev", m[1]); says == "" || strings.Contains(says, " master ") {
		return "ip link says " + says
	}
	return ""
}

func hasMaster(c *Court, m []string, _ model.Finding) string {
	if says := c.run(c.node, "ip", "-o", "link", "show", "dev", m[1]); !strings.Contains(says, " master "+m[2]+" ") {
		return "ip link says " + says
	}
	return ""
}

func hasPorts(c *Court, m []string, f model.Finding) string {
	for _, port := range strings.Split(m[2], ", ") {
		if wrong := hasMaster(c, []string{"", port, m[1]}, f); wrong != "" {
			return wrong
		}
	}
	return ""
}

// hasEndIn: the namespaces bear those numbers, and the one has an interface of that number
// whose other end is such a one.
func hasEndIn(c *Court, m []string, _ model.Finding) string {
	if fmt.Sprint(c.node.Inode) != m[4] {
		return fmt.Sprintf("the node's is %d", c.node.Inode)
	}
	at := slices.IndexFunc(c.places, func(in *netns.Namespace) bool { return fmt.Sprint(in.Inode) == m[3] })
	if at < 0 {
		return "no place has that number"
	}
	if says := "\n" + c.run(c.places[at], "ip", "-o", "link"); !strings.Contains(says, "\n"+m[2]+": ") {
		return "ip link has no such interface there: " + says
	}
	if says := c.run(c.node, "ip", "-o", "link"); strings.Contains("\n"+says, "\n"+m[2]+": ") {
		return "the node has such an interface itself"
	}
	return ""
}

// placeNamed finds a place by what findings call it.
func (c *Court) placeNamed(name string) *netns.Namespace {
	if name == "node" {
		return c.node
	}
	for _, p := range c.env.Pods {
		if p.Name == name || "default/"+p.Name == name {
			return p.Netns
		}
	}
	for _, in := range c.places {
		if in.Name == name {
			return in
		}
	}
	return nil
}

func socketAt(c *Court, m []string, _ model.Finding) string {
	in := c.placeNamed(m[3])
	if in == nil {
		return "no place is called so"
	}
	says := c.run(in, "ss", "-Hln"+m[1])
	for line := range strings.Lines(says) {
		// state, two queues, local address, peer
		if f := strings.Fields(line); len(f) > 3 && f[3] == m[2] {
			return whoseIs(m[4], m[5])
		}
	}
	return "ss says " + says
}

// whoseIs holds a process' name against its number, where it lives still.
func whoseIs(name, pid string) string {
	if pid == "" {
		return ""
	}
	if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil && strings.TrimSpace(string(comm)) != name {
		return fmt.Sprintf("process %s is %s", pid, strings.TrimSpace(string(comm)))
	}
	return ""
}

func noSocketAt(c *Court, m []string, _ model.Finding) string {
	in := c.placeNamed(m[3])
	if in == nil {
		return "no place is called so"
	}
	says := c.run(in, "ss", "-Hln"+m[1])
	has := func(port string) bool { return strings.Contains(says, ":"+port+" ") }
	if has(m[2]) {
		return "ss says " + says
	}
	for _, port := range strings.Split(m[4], ", ") {
		if port != "" && !strings.HasSuffix(port, " more") && !has(port) {
			return "ss says " + says
		}
	}
	return ""
}

func isNoARP(c *Court, m []string, _ model.Finding) string {
	if says := c.run(c.node, "ip", "-o", "link", "show", "dev", m[1]); !strings.Contains(says, "NOARP") {
		return "ip link says " + says
	}
	return ""
}

func leadsFrom(c *Court, m []string, _ model.Finding) string {
	if says := c.run(c.node, "ip", "route", "get", m[2], "from", m[1]); !strings.Contains(says, " dev "+m[3]+" ") {
		return "ip route get says " + says
	}
	return ""
}

func connectedAt(c *Court, m []string, _ model.Finding) string {
	in := c.placeNamed(m[3])
	if in == nil {
		return "no place is called so"
	}
	for line := range strings.Lines(c.run(in, "ss", "-Hnt")) {
		if f := strings.Fields(line); len(f) > 4 && f[3] == m[1] && f[4] == m[2] {
			return whoseIs(m[4], m[5])
		}
	}
	return "ss shows no such connection"
}

func isTun(c *Court, m []string, _ model.Finding) string {
	if !c.anywhere(func(out string) bool { return strings.Contains(out, "tun type tun") }, "ip", "-d", "link", "show", "dev", m[1]) {
		return "ip -d link says nowhere that it is a tun"
	}
	return ""
}

func opensTun(_ *Court, m []string, _ model.Finding) string {
	files, _ := filepath.Glob("/proc/" + m[3] + "/fdinfo/*")
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && slices.Contains(strings.Fields(string(raw)), m[1]) {
			return whoseIs(m[2], m[3])
		}
	}
	return "no open file of that process is that device's"
}

func doesNow(_ *Court, m []string, _ model.Finding) string {
	raw, err := os.ReadFile("/proc/" + m[1] + "/status")
	if err != nil {
		return err.Error()
	}
	now := regexp.MustCompile(`State:\s+([A-Za-z])`).FindStringSubmatch(string(raw))
	asleep := func(s string) bool { return strings.Contains("SRD", s) } // it runs: of these it is now the one, now the other
	if now == nil || now[1] != m[2] && !(asleep(now[1]) && asleep(m[2])) {
		return "it is " + fmt.Sprint(now)
	}
	return ""
}

func areConnected(c *Court, m []string, _ model.Finding) string {
	for _, in := range c.places {
		n := 0
		for line := range strings.Lines(c.run(in, "ss", "-Hant", "dst", m[2])) {
			if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[3], m[3]+":") && f[0] != "LISTEN" {
				n++
			}
		}
		if fmt.Sprint(n) == m[1] {
			return ""
		}
	}
	return "ss counts that many nowhere"
}
