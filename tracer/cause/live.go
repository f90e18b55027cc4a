// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node. What was read is kept for a moment: a flood
// of packets that die of many things must not become a flood of questions.

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
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
	// Legacy may know legacy tables that others have read; nil: it does not.
	Legacy *legacy.Shelf

	ctx  context.Context
	ns   *node.Namespaces
	kept map[question]answer
}

type question struct {
	what  string // links, routes, ... or the name of a sysctl
	netns uint32
}

type answer struct {
	value any
	err   error
	until time.Time
}

// NewLive gives the state of a node. Reading rules ends when ctx does.
func NewLive(ctx context.Context, ns *node.Namespaces) *Live {
	return &Live{ctx: ctx, ns: ns, kept: make(map[question]answer)}
}

// ask gives what is still fresh, or reads it.
func ask[T any](l *Live, what string, netns uint32, read func() (T, error)) (T, error) {
	now, q := time.Now(), question{what, netns}
	a, ok := l.kept[q]
	if !ok || now.After(a.until) {
		if len(l.kept) >= keptAnswers {
			clear(l.kept)
		}
		value, err := read()
		read := time.Now()
		a = answer{value, err, read.Add(min(staleAfter, max(freshFor, costShare*read.Sub(now))))}
		l.kept[q] = a
	}
	return a.value.(T), a.err
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
	read, err := l.rules(netns)
	if with != nil && err == nil && !read.hold(with) {
		delete(l.kept, question{"rules", netns})
		read, err = l.rules(netns)
	}
	if err != nil {
		return RuleSets{}, err
	}
	return read.sets(), nil
}

// ruleSets are the rules of a namespace as they were read.
type ruleSets struct {
	legacy  []*legacy.Table
	nft     *nft.Ruleset // nil: none
	printer iptnft.Printer
}

func (l *Live) rules(netns uint32) (*ruleSets, error) {
	return ask(l, "rules", netns, func() (*ruleSets, error) {
		hasNFT, err := l.ns.HasNFT()
		if err != nil {
			return nil, err
		}
		s := new(ruleSets)
		err = l.ns.Do(netns, func() (err error) {
			if s.legacy, err = l.Legacy.ReadAll(); err != nil {
				return fmt.Errorf("legacy rules: %w", err)
			}
			if !hasNFT {
				return nil
			}
			if s.nft, err = nft.Read(l.ctx); err != nil {
				return fmt.Errorf("nft rules: %w", err)
			}
			if s.printer.Sets, err = ipset.ReadNames(); errors.Is(err, ipset.ErrNoSupport) {
				err = nil
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.ns.Place(netns), err)
		}
		return s, nil
	})
}

// sets gives the rules in words.
func (s *ruleSets) sets() (sets RuleSets) {
	if len(s.legacy) > 0 {
		sets.Legacy = s.legacyRules
	}
	if s.nft != nil {
		sets.NFT = s.nftRules
	}
	return sets
}

// hold tells whether a rule is among them; policies of legacy tables count as if.
func (s *ruleSets) hold(r *meaning.Rule) bool {
	if r.Backend != "legacy" {
		return s.holdNFT(r)
	}
	return isPolicy(*r) || slices.ContainsFunc(s.legacy, func(t *legacy.Table) bool {
		if t.Name != r.Table || t.Family != r.Family {
			return false
		}
		i := t.Ordinal(r.Chain, r.Number) // no need to put the whole chain into words
		return i >= 0 && t.Text(i) == r.Text
	})
}

func (s *ruleSets) holdNFT(r *meaning.Rule) bool {
	if s.nft == nil {
		return false
	}
	for _, t := range s.nft.Tables {
		if c := t.Chain(r.Chain); t.Name == r.Table && c != nil {
			for m := range s.chainRules(t, c) {
				if m.Text == r.Text {
					return true
				}
			}
		}
	}
	return false
}

// legacyRules goes through the rules of legacy tables; one that cannot be put
// into words counts by its place.
func (s *ruleSets) legacyRules(yield func(meaning.Rule) bool) {
	for _, t := range s.legacy {
		for i := range t.Entries {
			e := &t.Entries[i]
			if e.Kind != legacy.KindRule {
				continue
			}
			m := meaning.Rule{Backend: "legacy", Family: t.Family, Table: t.Name, Chain: e.Chain}
			if r, err := t.Rule(i); err == nil {
				m.Number, m.Text, m.Comments = r.Number, r.Text, r.Comments
			}
			if !yield(m) {
				return
			}
		}
	}
}

// nftRules goes through the rules of nft's tables.
func (s *ruleSets) nftRules(yield func(meaning.Rule) bool) {
	for _, t := range s.nft.Tables {
		for _, c := range t.Chains {
			for m := range s.chainRules(t, c) {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// chainRules goes through the rules of an nft chain, a base chain's policy first,
// in iptables' words where iptables wrote them.
func (s *ruleSets) chainRules(t *nft.Table, c *nft.Chain) iter.Seq[meaning.Rule] {
	return func(yield func(meaning.Rule) bool) {
		if c.Base() && !yield(policyLine(t, c)) {
			return
		}
		for _, r := range c.Rules {
			m := meaning.Rule{Backend: "nft", Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Comments: comments(r.Comment)}
			if text, comment, ok := s.printer.Text(t, r); ok {
				m.Text, m.Comments = text, comments(comment)
			} else {
				m.Text = s.nft.Text(r)
			}
			if !yield(m) {
				return
			}
		}
	}
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
