// SPDX-License-Identifier: Apache-2.0

// A case is a few rules in the way of one packet, with what the kernel must make
// of them; a set of cases is installed at once, each case's rules matching its
// own port only.

package rulecases

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

// How a case's packet ends.
const (
	drops   = "drop"   // the rule that matched last drops it
	rejects = "reject" // and answers
	policy  = "policy" // the policy of the case's `chain` drops it
	passes  = "pass"   // no rule stops it
	queues  = "queue"  // the rule that matched last hands it to a queue that nobody reads
)

// ruleCase is one row of a table of cases. In its rules {p} stands for the
// case's port, {q} for what NAT may make of it, {c} for the beginning of names
// that are the case's own, {len} for the length of its ICMP packet; {client},
// {server} and {node} for addresses, {in} and {out} for the node's interfaces to
// the pods, {br} for the client's port of the bridge.
type ruleCase struct {
	name   string
	packet packet
	rules  []string // "table chain rule" for iptables, "family table chain rule" for nft; ~ in front: see common
	setup  []string // what they need: `ipset restore` lines, or nft commands
	want   []int    // those that match, from 1, in order over all tables
	unseen []int    // those of want that pathtrace is known not to tell, by the kernel's TRACE neither compared
	ends   string   // "": drops
	chain  string   // policy: where, as rules say it
	hook   string   // "FAMILY HOOK": a hook of a device or bridge, which has to be told with its rule by any backend
	module string   // that not every kernel without modules has: without it the case is left out there
}

// placedCase is a case with its port.
type placedCase struct {
	ruleCase
	port uint16
}

// comment names a rule of the case, from 1, within the rule set.
func (c placedCase) comment(i int) string { return fmt.Sprintf("c%d-%d", c.port, i) }

// common begins the comments of rules that are no case's alone: packets of all
// may match them.
const common = "all-"

// placedRule is a rule of a case as it is installed.
type placedRule struct{ text, comment string }

// placed gives the case's rules with nothing left open.
func (s *stand) placed(c placedCase) []placedRule {
	words := s.words(c)
	var rules []placedRule
	for i, text := range c.rules {
		text, shared := strings.CutPrefix(text, "~")
		comment := c.comment(i + 1)
		if shared {
			comment = common + comment
		}
		rules = append(rules, placedRule{words.Replace(text), comment})
	}
	return rules
}

// ruleSet is what is installed at once.
type ruleSet struct {
	name     string
	policies []string // chains that drop: "table chain" for iptables
	filler   int      // rules that match nothing in front of filter's FORWARD
	cases    []placedCase
	traced   bool // by the kernel's TRACE too
}

// words fills in what a case's rules leave open.
func (s *stand) words(c placedCase) *strings.Replacer {
	client, server, node := s.client.IPv4, s.server.IPv4, s.gateway4
	length := 28
	if c.packet.v6 {
		client, server, node = s.client.IPv6, s.server.IPv6, gateway6
		length = 48
	}
	return strings.NewReplacer(
		"{p}", fmt.Sprint(c.port), "{q}", fmt.Sprint(c.port+natShift), "{c}", fmt.Sprintf("c%d", c.port),
		"{len}", fmt.Sprint(length+icmpPayload(c.port)),
		"{client}", client.String(), "{server}", server.String(), "{node}", node.String(),
		"{in}", s.client.HostInterface, "{out}", s.server.HostInterface, "{br}", bridgePort+"0",
		"{echo}", fmt.Sprint(cluster.DefaultPort),
	)
}
