// SPDX-License-Identifier: Apache-2.0

package evidence

// Statements about sockets, queues and chains as they stand, and about what was seen of
// packets that nobody answered.

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var stateStatements = []statement{
	// /proc/net/netfilter/nfnetlink_queue
	{regexp.MustCompile(`no program listens on queue (\d+) of `), noListenerOnQueue},
	// ss
	{regexp.MustCompile(`^connections that wait to be accepted at (\S+): (\d+)$`), waitingAt},
	{regexp.MustCompile(`a connection of this node to (\S+) \(BGP\) is not answered: SYN-SENT`), halfOpen},
	{regexp.MustCompile(`no BGP session of this node is established`), noSession},
	// iptables-save, nft
	{regexp.MustCompile(`^a rule of \S+, table \S+, keeps TCP port \d+ out: (-A .*)$`), isSaved},
	{regexp.MustCompile(`^a rule of nft, table (\S+), keeps TCP port \d+ out: ([^-].*)$`), nftHas},
	{regexp.MustCompile(`^nft: table (\S+) (\S+), chain (\S+): .*\b(?i:(drop|accept)).*, and no rule$`), emptyChain},
	// what was seen of the packets
	{regexp.MustCompile(`^the request to open a connection arrived (\d+) times`), arrivedTimes},
	{regexp.MustCompile(`: (\S+) became (\S+) in \S+$`), translated},
	{regexp.MustCompile(`^it (?:went on inside the|was put into a) tunnel`), wentIntoTunnel},
}

func noListenerOnQueue(c *Court, m []string, _ model.Finding) string {
	for line := range strings.Lines(c.run(c.node, "cat", "/proc/net/netfilter/nfnetlink_queue")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == m[1] {
			return "netlink port " + f[1] + " listens there"
		}
	}
	return ""
}

func waitingAt(c *Court, m []string, _ model.Finding) string {
	at := strings.Replace(m[1], "[::]", "*", 1)
	if c.anywhere(func(says string) bool {
		for line := range strings.Lines(says) {
			f := strings.Fields(line) // state, waiting, most that may wait, local address, peer
			if len(f) > 3 && f[1] == m[2] && (f[3] == at || f[3] == m[1]) {
				return true
			}
		}
		return false
	}, "ss", "-Hlnt") {
		return ""
	}
	return fmt.Sprintf("ss shows no socket at %s where %s wait", m[1], m[2])
}

func halfOpen(c *Court, m []string, _ model.Finding) string {
	// whoever asks gives up and asks again: there is none in between
	for range 20 {
		if says, err := c.env.RunTool(c.ctx, c.node, "", "ss", "-Hnt", "state", "syn-sent"); err == nil && strings.Contains(says, m[1]) {
			return ""
		}
		time.Sleep(150 * time.Millisecond)
	}
	return "ss shows no connection to it that waits for an answer"
}

func nftHas(c *Court, m []string, _ model.Finding) string {
	if c.anywhere(func(says string) bool {
		return strings.Contains(says, " "+m[1]+" {") && strings.Contains(says, m[2])
	}, "nft", "list", "ruleset") {
		return ""
	}
	return "nft lists no such rule"
}

func noSession(c *Court, _ []string, _ model.Finding) string {
	if says := c.run(c.node, "ss", "-Hnt", "state", "established"); strings.Contains(says, ":179 ") {
		return "ss shows one: " + says
	}
	return ""
}

func emptyChain(c *Court, m []string, _ model.Finding) string {
	if c.anywhere(func(says string) bool {
		_, rules, listed := strings.Cut(says, "policy "+strings.ToLower(m[4])+";")
		return listed && !strings.Contains(rules, "\n\t\t")
	}, "nft", "list", "chain", m[1], m[2], m[3]) {
		return ""
	}
	return "nft lists no such chain without rules"
}

func arrivedTimes(c *Court, m []string, f model.Finding) string {
	said, err := strconv.Atoi(m[1])
	if err != nil {
		return err.Error()
	}
	// of one of its connections: those of a finding are told as one
	most := 0
	for _, of := range c.of(f) {
		times := 0
		for _, p := range c.packets {
			if p.Src == of.Src && p.SrcPort == of.SrcPort && p.Dst == of.Dst && p.TCPFlags == "S" && p.Outcome == model.Delivered {
				times++
			}
		}
		most = max(most, times)
	}
	if most < said {
		return fmt.Sprintf("it arrived %d times", most)
	}
	return ""
}

func wentIntoTunnel(c *Court, _ []string, f model.Finding) string {
	if !c.one(f, func(p *model.Packet) bool {
		for _, h := range p.Hops {
			if h.Stage == model.StageEncapsulate {
				return true
			}
		}
		return false
	}) {
		return "none of its packets did"
	}
	return ""
}
