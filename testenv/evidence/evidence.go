// SPDX-License-Identifier: Apache-2.0

// Package evidence holds what a finding says against the system's own tools: each
// line of it is a statement about something, and must be so at that moment. What a
// line says of the node is asked of ip, bridge, sysctl, iptables-save and nft; what
// it says of a packet, of the packets that were told. A line of which nothing can be
// held against anything is a problem too: whoever words a new one adds here how it
// is held.
package evidence

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Court holds findings against an environment as it stands.
type Court struct {
	ctx     context.Context
	places  []*netns.Namespace
	node    *netns.Namespace
	env     *cluster.Env
	packets map[uint64]model.Packet
	asked   map[string]string // what a tool said, by command and place
}

// New makes a court of the packets that a trace told.
func New(ctx context.Context, e *cluster.Env, packets []model.Packet) *Court {
	c := &Court{ctx: ctx, env: e, node: e.Node(1).Netns, packets: make(map[uint64]model.Packet), asked: make(map[string]string)}
	c.places = append(c.places, c.node)
	for _, p := range e.Pods {
		c.places = append(c.places, p.Netns)
	}
	for _, n := range e.Nodes[1:] {
		c.places = append(c.places, n.Netns)
	}
	c.places = append(append(c.places, e.Places...), e.Underlay)
	for _, p := range packets {
		c.packets[p.ID] = p
	}
	return c
}

// Problems lists what a finding says that is not so, or that nothing holds.
func (c *Court) Problems(f model.Finding) (all []string) {
	for _, line := range f.Evidence {
		held, wrong := c.hold(line, f)
		switch {
		case wrong != "":
			all = append(all, fmt.Sprintf("evidence %q is not so: %s", line, wrong))
		case !held:
			all = append(all, fmt.Sprintf("evidence %q: nothing is known to hold it against", line))
		}
	}
	return all
}

// statement is a kind of statement: where it stands in a line, and whether it is so.
type statement struct {
	form *regexp.Regexp
	// so tells what is not so; "": it is.
	so func(c *Court, m []string, f model.Finding) string
}

// hold tries all kinds of statements on a line.
func (c *Court) hold(line string, f model.Finding) (held bool, wrong string) {
	if passed(line) {
		return true, ""
	}
	for _, s := range slices.Concat(statements, linkStatements, programStatements, routeStatements, conntrackStatements, addressStatements, tunnelStatements, ipvsStatements, stateStatements, hopStatements, answerStatements, nearStatements, orderStatements) {
		for _, m := range s.form.FindAllStringSubmatch(line, -1) {
			held = true
			if wrong := s.so(c, m, f); wrong != "" {
				return true, wrong
			}
		}
	}
	return held, ""
}

// passed are lines that state nothing of their own: what is not known, counts, and
// other findings' sentences.
func passed(line string) bool {
	for _, begins := range []string{"not known: ", "also: ", "and "} {
		if strings.HasPrefix(line, begins) {
			return true
		}
	}
	return clockedLine.MatchString(line) || manyPackets.MatchString(line)
}

var (
	// a change of the node, told when it happened: who and what is held by the tests
	// of who did it
	clockedLine = regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} `)
	manyPackets = regexp.MustCompile(`^\d+ packets in all|^\d+ more died in the same table`)
)

// run gives what a tool says in a place; "" if it fails.
func (c *Court) run(in *netns.Namespace, command ...string) string {
	key := in.Name + " " + strings.Join(command, " ")
	says, known := c.asked[key]
	if !known {
		says, _ = c.env.RunTool(c.ctx, in, "", command...) // a tool that fails says nothing
		c.asked[key] = says
	}
	return says
}

// anywhere tells that a tool's words fit in one of the places.
func (c *Court) anywhere(fits func(says string) bool, command ...string) bool {
	for _, in := range c.places {
		if fits(c.run(in, command...)) {
			return true
		}
	}
	return false
}

// of gives the packets that a finding names.
func (c *Court) of(f model.Finding) (all []model.Packet) {
	for _, id := range f.Packets {
		if p, ok := c.packets[id]; ok {
			all = append(all, p)
		}
	}
	return all
}

// one tells that one of a finding's packets fits.
func (c *Court) one(f model.Finding, fits func(p *model.Packet) bool) bool {
	for _, p := range c.of(f) {
		if fits(&p) {
			return true
		}
	}
	return false
}
