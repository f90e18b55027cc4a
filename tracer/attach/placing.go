// SPDX-License-Identifier: Apache-2.0

package attach

// In which namespaces the brackets are placed: the node's, those of the ends, and
// those that the flow gets to.

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// placeBrackets puts netfilter links into the node's namespace and into those
// of the two ends, where they are on this node.
func (a *Attachment) placeBrackets(have bool) {
	if !have {
		a.Miss(Missed{MissedHook: model.MissedHook{Hook: "netfilter links",
			Why: errNoLinks.Error() + "; without them not seen: netfilter hooks and tables, delivery"}})
		return
	}
	for _, in := range a.bracketPlaces() {
		a.bracket(in)
	}
}

// maxBracketed bounds the pods that get links of their own when it is not
// known which of them the flow may reach. Others get theirs when it does.
const maxBracketed = 64

// bracketPlaces are the node and the two ends; where an end is no pod of this
// node, it may be a service: then any pod may turn out to be behind it.
func (a *Attachment) bracketPlaces() []uint32 {
	ns, src, dst := a.cfg.Namespaces, a.cfg.Src, a.cfg.Dst
	places := append([]uint32{ns.Node().Inode}, src.NetnsInodes...)
	places = append(places, dst.NetnsInodes...)
	if len(src.NetnsInodes) > 0 && len(dst.NetnsInodes) > 0 {
		return places
	}
	members := ns.Members()
	if len(members) > maxBracketed {
		a.cfg.Verbose(fmt.Sprintf("netfilter links: in %d of the node's %d namespaces at first, in others once the flow gets there", maxBracketed, len(members)))
		members = members[:maxBracketed]
	}
	return append(places, members...)
}

// bracket places the links of one namespace, and says so if it cannot.
func (a *Attachment) bracket(in uint32) {
	ns := a.cfg.Namespaces
	err := a.brackets.add(in, a.coll.Programs)
	if err == nil {
		err = a.showTables()
	}
	if err != nil {
		m := model.MissedHook{Hook: "netfilter links in " + ns.Place(in), Why: err.Error() + "; without them not seen there: netfilter hooks and tables, delivery"}
		a.Miss(Missed{MissedHook: m})
		a.cfg.Verbose("left out " + m.Hook + ": " + m.Why)
		return
	}
	if unsure := a.brackets.unsure[in]; unsure != nil {
		m := unknownIPVS(ns.Place(in), unsure)
		a.Miss(Missed{MissedHook: m})
		a.cfg.Verbose("left out " + m.Hook + ": " + m.Why)
	}
}

// unknownIPVS tells that it could not be asked whether IPVS hangs at a namespace's hooks.
func unknownIPVS(place string, err error) model.MissedHook {
	return model.MissedHook{Hook: "IPVS's netfilter hooks in " + place, Why: err.Error() + "; without them not told apart there: what IPVS does in INPUT, OUTPUT and FORWARD and what the tables beside it do"}
}

// showTables tells the kernel half which legacy tables stand behind links.
func (a *Attachment) showTables() error {
	tables := a.brackets.tables
	for key, name := range tables {
		if name == "" {
			if err := a.coll.Maps["bracket_tables"].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("bracket_tables: %w", err)
			}
			delete(tables, key)
			continue
		}
		var table bpf.BracketTable
		for i := range name {
			table.Name[i] = int8(name[i])
		}
		if err := a.coll.Maps["bracket_tables"].Put(key, table); err != nil {
			return fmt.Errorf("bracket_tables: %w", err)
		}
		delete(tables, key)
	}
	return nil
}
