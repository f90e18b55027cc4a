// SPDX-License-Identifier: Apache-2.0

package infer_test

// Rule sets that stand still: each table is read when it is asked for first.

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/infer"
	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/tell"
)

// asker holds packets against the tables of a node's namespaces.
type asker struct {
	t      *testing.T
	ns     *node.Namespaces
	worlds map[uint32]*infer.World
	tables map[string]infer.Rules
}

func newAsker(t *testing.T, ns *node.Namespaces) *asker {
	return &asker{t, ns, make(map[uint32]*infer.World), make(map[string]infer.Rules)}
}

// World is what rules of a namespace ask about the node.
func (a *asker) World(netns uint32) *infer.World {
	if a.worlds[netns] == nil {
		a.worlds[netns] = infer.NewWorld(a.ns, netns)
	}
	return a.worlds[netns]
}

// standing is a node whose ipsets stand still.
type standing struct {
	*infer.World
	ns    *node.Namespaces
	netns uint32
}

func (s standing) IPSet(name string, dirs []bool, p *packet.Packet) (in packet.Answer) {
	err := s.ns.Do(s.netns, func() (err error) {
		sets, err := ipset.Open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sets.Close()) }()
		in, err = sets.Test(name, dirs, p)
		return err
	})
	if err != nil {
		return packet.Unknown
	}
	return in
}

// Infer asks about a packet.
func (a *asker) Infer(netns uint32, target infer.Target, p *packet.Packet, verdict string) infer.Ruling {
	a.t.Helper()
	q := *p
	q.World = standing{a.World(netns), a.ns, netns}
	return infer.Ask(a.rules(netns, target), target, &q, verdict)
}

func (a *asker) rules(netns uint32, target infer.Target) infer.Rules {
	a.t.Helper()
	key := fmt.Sprint(netns, target.Backend, target.Family, target.Table)
	if known := a.tables[key]; known != nil {
		return known
	}
	err := a.ns.Do(netns, func() error {
		if target.Backend == node.BackendLegacy {
			table, err := legacy.Read(target.Family, target.Table)
			if err == nil {
				a.tables[key] = infer.Legacy(table)
			}
			return err
		}
		set, err := nft.Read(a.t.Context())
		if err != nil {
			return err
		}
		names, err := ipset.ReadNames()
		if err == nil {
			a.tables[key] = infer.NFT(tell.NFT{Set: set, Table: set.Table(target.Family, target.Table), Names: names})
		}
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.tables[key]
}
