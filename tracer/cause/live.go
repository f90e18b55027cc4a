// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node. What was read is kept for a moment: a flood
// of packets that die of many things must not become a flood of questions.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/recall"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/iptnft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

const (
	// freshFor is how long an answer is good for.
	freshFor = 200 * time.Millisecond
	// costShare times what an answer took it is good for at least, so that asking
	// takes no more than a part of our time; but never for longer than staleAfter.
	costShare  = 5
	staleAfter = time.Second
	// keptAnswers bounds what is remembered; past it all is forgotten.
	keptAnswers = 1024
)

// Live is the State of the running node. Its methods are not to be called
// concurrently.
type Live struct {
	ctx  context.Context
	ns   *node.Namespaces
	kept *recall.Memory[question]
}

type question struct {
	what  string // links, routes, ... or the name of a sysctl
	netns uint32
}

// NewLive gives the state of a node. Reading rules ends when ctx does.
func NewLive(ctx context.Context, ns *node.Namespaces) *Live {
	return &Live{ctx: ctx, ns: ns, kept: recall.New[question](recall.Config{Most: keptAnswers, Until: goodUntil})}
}

func goodUntil(asked, given time.Time) time.Time {
	return given.Add(min(staleAfter, recall.Pause(freshFor, costShare, given.Sub(asked))))
}

// ask gives what is still fresh, or reads it.
func ask[T any](l *Live, what string, netns uint32, read func() (T, error)) (T, error) {
	return recall.Ask(l.kept, question{what, netns}, read)
}

// Node implements State.
func (l *Live) Node() uint32 { return l.ns.Node().Inode }

// Members implements State.
func (l *Live) Members() []uint32 { return l.ns.Members() }

// Links implements State.
func (l *Live) Links(netns uint32) ([]node.Link, error) {
	return ask(l, "links", netns, func() ([]node.Link, error) { return l.ns.Links(netns) })
}

// Routes implements State.
func (l *Live) Routes(netns uint32) ([]node.Route, error) {
	return ask(l, "routes", netns, func() ([]node.Route, error) { return l.ns.Routes(netns) })
}

// Neighbors implements State.
func (l *Live) Neighbors(netns uint32) ([]node.Neighbor, error) {
	return ask(l, "neighbours", netns, func() ([]node.Neighbor, error) { return l.ns.Neighbors(netns) })
}

// Sockets implements State.
func (l *Live) Sockets(netns uint32) ([]node.Socket, error) {
	return ask(l, "sockets", netns, func() ([]node.Socket, error) { return l.ns.Sockets(netns) })
}

// Sysctl implements State. /proc/sys/net shows the namespace of the thread that
// looks (proc_sys_lookup, fs/proc/proc_sysctl.c; net_ctl_header_lookup,
// net/sysctl_net.c, 6.12).
func (l *Live) Sysctl(netns uint32, name string) (string, error) {
	return ask(l, name, netns, func() (value string, err error) {
		err = l.ns.Do(netns, func() error {
			raw, err := os.ReadFile(filepath.Join("/proc/sys/net", name))
			value = strings.TrimSpace(string(raw))
			return err
		})
		if err != nil {
			return "", fmt.Errorf("%s: sysctl net/%s: %w", l.ns.Place(netns), name, err)
		}
		return value, nil
	})
}

// Rules implements State. Subsystems and tables that are not there are not
// asked, since asking would make them.
func (l *Live) Rules(netns uint32, with *meaning.Rule) (RuleSets, error) {
	if sets, err := l.rules(netns); with == nil || err != nil || sets.hold(with) {
		return sets, err
	}
	l.kept.Forget(question{"rules", netns})
	return l.rules(netns)
}

func (l *Live) rules(netns uint32) (RuleSets, error) {
	return ask(l, "rules", netns, func() (sets RuleSets, err error) {
		hasNFT, err := l.ns.HasNFT()
		if err != nil {
			return sets, err
		}
		err = l.ns.Do(netns, func() error {
			tables, err := legacy.ReadAll()
			if err != nil {
				return fmt.Errorf("legacy rules: %w", err)
			}
			sets.Legacy = legacyRules(tables)
			if !hasNFT {
				return nil
			}
			set, err := nft.Read(l.ctx)
			if err != nil {
				return fmt.Errorf("nft rules: %w", err)
			}
			sets.NFT, err = nftRules(set)
			return err
		})
		if err != nil {
			return RuleSets{}, fmt.Errorf("%s: %w", l.ns.Place(netns), err)
		}
		return sets, nil
	})
}

// legacyRules gives the rules of legacy tables; one that cannot be put into
// words counts by its place.
func legacyRules(tables []*legacy.Table) (all []meaning.Rule) {
	for _, t := range tables {
		for i, e := range t.Entries {
			if e.Kind != legacy.KindRule {
				continue
			}
			m := meaning.Rule{Backend: "legacy", Family: t.Family, Table: t.Name, Chain: e.Chain}
			if r, err := t.Rule(i); err == nil {
				m.Number, m.Text, m.Comments = r.Number, r.Text, r.Comments
			}
			all = append(all, m)
		}
	}
	return all
}

// nftRules gives the rules of nft's tables, in iptables' words where iptables
// wrote them.
func nftRules(set *nft.Ruleset) (all []meaning.Rule, err error) {
	var printer iptnft.Printer
	if printer.Sets, err = ipset.ReadNames(); err != nil && !errors.Is(err, ipset.ErrNoSupport) {
		return nil, err
	}
	for _, t := range set.Tables {
		for _, c := range t.Chains {
			if c.Base() {
				all = append(all, policyLine(t, c))
			}
			for _, r := range c.Rules {
				m := meaning.Rule{Backend: "nft", Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Comments: comments(r.Comment)}
				if text, comment, ok := printer.Text(t, r); ok {
					m.Text, m.Comments = text, comments(comment)
				} else {
					m.Text = set.Text(r)
				}
				all = append(all, m)
			}
		}
	}
	return all, nil
}

// policyLine is a base chain's policy, as iptables prints it where iptables wrote
// it.
func policyLine(t *nft.Table, c *nft.Chain) meaning.Rule {
	m := meaning.Rule{Backend: "nft", Family: c.Family, Table: c.Table, Chain: c.Name, Text: "policy " + c.Policy}
	if text, ok := iptnft.Policy(t, c); ok {
		m.Text = text
	}
	return m
}

func comments(one string) []string {
	if one == "" {
		return nil
	}
	return []string{one}
}
