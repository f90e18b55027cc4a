// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about layer 2: MACs, bridge ports, who has an address, who asked.

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

var linkStatements = []statement{
	// ip link, ip neigh
	{regexp.MustCompile(`^ip link: (\S+) (?:of .*)?has MAC (\S+)$`), hasMAC},
	{regexp.MustCompile(`^the frame was for another MAC than (\S+), that of .*\((\S+)\)$`), ownMAC},
	{regexp.MustCompile(`^ip neigh: (\S+) lladdr (\S+) dev (\S+) ([A-Z]+), at (.*)$`), hasEntry},
	// bridge
	{regexp.MustCompile(`^bridge link: (\S+) master (\S+) state (\S+)$`), portSays("master", "state")},
	{regexp.MustCompile(`^bridge -d link: (\S+) (?:master \S+ )?(hairpin|isolated|locked|flood|learning|bcast_flood|mcast_flood) (on|off)$`), portIs},
	{regexp.MustCompile(`^ip -d link: (\S+) vlan_filtering (\d)$`), filters},
	{regexp.MustCompile(`^ip -d link: (\S+) is an? (macvlan|macvtap|ipvlan|ipvtap) on (\S+)$`), standsOn},
	{regexp.MustCompile(`^bridge vlan: (\S+) is in VLAN (\d+)`), inVLAN},
	{regexp.MustCompile(`^bridge vlan: (\S+) is in no VLAN$`), inNoVLAN},
	{regexp.MustCompile(`^bridge fdb: (\S+) dev (\S+) (master|dst) (\S+)$`), hasForwarding},
	{regexp.MustCompile(`^bridge fdb: no entry of (\S+) (dev|on) (\S+)$`), noForwarding},
	{regexp.MustCompile(`^it came in by (\S+), and its destination is behind (\S+)$`), cameInBy},
	// ip address
	{regexp.MustCompile(`^ip addr: (\S+) of .* has (\S+)$`), hasAddr},
	{regexp.MustCompile(`^ip -6 addr: (\S+) has no (\S+)$`), hasNoAddr},
	{regexp.MustCompile(`^no interface of this node has (\S+): it could only answer`), notOfNode},
	{regexp.MustCompile(`^this node has (\S+)$`), ofNode},
	// packets
	{regexp.MustCompile(`^the request was sent by .* the reply came to `), strayed},
	{regexp.MustCompile(`^it came from node (\S+), VNI (\d+)$`), cameThrough},
	{regexp.MustCompile(`^the frame itself was for MAC `), held}, // bytes are in captures only
	{regexp.MustCompile(`^(?:in the pod|on this node): `), held}, // what follows is another statement
}

// everywhere gives what a tool says in each place that has a link.
func (c *Court) everywhere(link string) (says []string) {
	for _, in := range c.places {
		if out := c.run(in, "ip", "-d", "-o", "link", "show", "dev", link); out != "" {
			says = append(says, out)
		}
	}
	return says
}

// standsOn: ip names what a device stands on by its index in its own namespace.
func standsOn(c *Court, m []string, _ model.Finding) string {
	says := c.everywhere(m[1])
	for _, below := range c.everywhere(m[3]) {
		index, _, _ := strings.Cut(below, ":")
		if slices.ContainsFunc(says, func(s string) bool {
			return strings.Contains(s, " "+m[2]+" ") && (strings.Contains(s, m[1]+"@if"+index+":") || strings.Contains(s, m[1]+"@"+m[3]+":"))
		}) {
			return ""
		}
	}
	return "ip -d link says " + strings.Join(says, "; ")
}

func hasMAC(c *Court, m []string, _ model.Finding) string {
	says := c.everywhere(m[1])
	if !slices.ContainsFunc(says, func(s string) bool { return strings.Contains(s, "link/ether "+m[2]+" ") }) {
		return "ip link says " + strings.Join(says, "; ")
	}
	return ""
}

func ownMAC(c *Court, m []string, f model.Finding) string {
	return hasMAC(c, []string{"", m[2], m[1]}, f)
}

func hasEntry(c *Court, m []string, _ model.Finding) string {
	moving := []string{"REACHABLE", "STALE", "DELAY", "PROBE"} // one becomes the other with time
	if !c.anywhere(func(says string) bool {
		for line := range strings.Lines(says) {
			words := strings.Fields(line)
			if strings.HasPrefix(line, m[1]+" lladdr "+m[2]+" ") {
				state := words[len(words)-1]
				return state == m[4] || slices.Contains(moving, state) && slices.Contains(moving, m[4])
			}
		}
		return false
	}, "ip", "neigh", "show", "dev", m[3], "nud", "all") {
		return "ip neigh has no such entry anywhere"
	}
	return ""
}

// port gives what `bridge -d link` says of a port of the node.
func (c *Court) port(name string) string {
	says := c.run(c.node, "bridge", "-d", "link", "show", "dev", name)
	return strings.Join(strings.Fields(says), " ") + " "
}

// portSays holds the words that follow names.
func portSays(names ...string) func(*Court, []string, model.Finding) string {
	return func(c *Court, m []string, _ model.Finding) string {
		says := c.port(m[1])
		for i, name := range names {
			if !strings.Contains(says, " "+name+" "+m[i+2]+" ") {
				return "bridge -d link says " + says
			}
		}
		return ""
	}
}

func portIs(c *Court, m []string, _ model.Finding) string {
	if says := c.port(m[1]); !strings.Contains(says, " "+m[2]+" "+m[3]+" ") {
		return "bridge -d link says " + says
	}
	return ""
}

func filters(c *Court, m []string, _ model.Finding) string {
	if says := c.run(c.node, "ip", "-d", "-o", "link", "show", "dev", m[1]); !strings.Contains(says, " vlan_filtering "+m[2]+" ") {
		return "ip -d link says " + says
	}
	return ""
}

func inVLAN(c *Court, m []string, _ model.Finding) string {
	if says := c.run(c.node, "bridge", "vlan", "show", "dev", m[1]); !slices.Contains(strings.Fields(says), m[2]) {
		return "bridge vlan says " + says
	}
	return ""
}

func inNoVLAN(c *Court, m []string, _ model.Finding) string {
	for word := range strings.FieldsSeq(c.run(c.node, "bridge", "vlan", "show", "dev", m[1])) {
		if _, err := strconv.Atoi(word); err == nil {
			return "bridge vlan shows " + word
		}
	}
	return ""
}

func hasForwarding(c *Court, m []string, _ model.Finding) string {
	for line := range strings.Lines(c.run(c.node, "bridge", "fdb", "show", "dev", m[2])) {
		if strings.HasPrefix(line, m[1]+" ") && strings.Contains(line+" ", " "+m[3]+" "+m[4]) {
			return ""
		}
	}
	return "bridge fdb has no such entry"
}

func noForwarding(c *Court, m []string, _ model.Finding) string {
	command := []string{"bridge", "fdb", "show", "dev", m[3]}
	if m[2] == "on" {
		command = []string{"bridge", "fdb", "show", "br", m[3]}
	}
	for line := range strings.Lines(c.run(c.node, command...)) {
		if strings.HasPrefix(line, m[1]+" ") && strings.Contains(line, " master ") {
			return "bridge fdb has " + strings.TrimSpace(line)
		}
	}
	return ""
}

func cameInBy(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool { return h.Stage == model.StageReceive && h.Interface == m[1] })
	}) {
		return "none of its packets did"
	}
	return ""
}

// addressed tells that a link has an address in one of the places.
func (c *Court) addressed(link, addr string, in ...*netns.Namespace) bool {
	return slices.ContainsFunc(in, func(ns *netns.Namespace) bool {
		return strings.Contains(c.run(ns, "ip", "-o", "addr", "show", "dev", link), " "+addr+"/")
	})
}

func hasAddr(c *Court, m []string, _ model.Finding) string {
	if !c.addressed(m[1], m[2], c.places...) {
		return "ip addr does not say so anywhere"
	}
	return ""
}

func hasNoAddr(c *Court, m []string, _ model.Finding) string {
	if c.addressed(m[1], m[2], c.node) {
		return "ip addr has it"
	}
	return ""
}

func ofNode(c *Court, m []string, _ model.Finding) string {
	if !strings.Contains(c.run(c.node, "ip", "-o", "addr"), " "+m[1]+"/") {
		return "ip addr does not have it"
	}
	return ""
}

// strayed: a request left one namespace, and a reply to its source ended in another.
func strayed(c *Court, _ []string, f model.Finding) string {
	for _, reply := range c.of(f) {
		if len(reply.Hops) == 0 {
			continue
		}
		last := reply.Hops[len(reply.Hops)-1].Netns
		for _, p := range c.packets {
			if p.Direction != model.Forward || p.Src != reply.Dst || p.SrcPort != reply.DstPort {
				continue
			}
			if i := slices.IndexFunc(p.Hops, func(h model.Hop) bool { return h.Stage == model.StageTransmit }); i >= 0 && p.Hops[i].Netns != last {
				return ""
			}
		}
	}
	return "each reply ended where its request came from"
}

func cameThrough(c *Court, m []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		return slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			return h.Tunnel != nil && h.Tunnel.Src.String() == m[1] && fmt.Sprint(h.Tunnel.VNI) == m[2]
		})
	}) {
		return "none of its packets came so"
	}
	return ""
}
