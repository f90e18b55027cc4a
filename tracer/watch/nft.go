// SPDX-License-Identifier: Apache-2.0

package watch

// This file reads what nf_tables tells of changed rules. It names the process
// itself, so that no backend has to see it.

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// Attributes of NFT_MSG_NEWGEN (enum nft_gen_attributes), and the first one of
// all others: the name of the table.
const (
	genPID    = 2
	genName   = 3
	tableName = 1

	sizeofNfgenmsg = 4
)

// commit gathers the messages of one transaction, which NFT_MSG_NEWGEN ends.
type commit struct {
	tables         []string
	added, deleted int // rules
	elements       bool
	others         int
}

// nftMessage reads a message of the group NFNLGRP_NFTABLES.
func (w *Watcher) nftMessage(m message, netns uint32) *change {
	if m.kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.body) < sizeofNfgenmsg {
		return nil
	}
	attr := attributes(m.body[sizeofNfgenmsg:])
	t := w.commits[netns]
	if t == nil {
		t = &commit{}
		w.commits[netns] = t
	}
	kind := m.kind & 0xff
	if kind != unix.NFT_MSG_NEWGEN {
		t.note(kind, m.body[0], unix.ByteSliceToString(attr[tableName]))
		return nil
	}
	delete(w.commits, netns)
	object := "nft"
	if len(t.tables) > 0 {
		object += " " + strings.Join(t.tables, ", ")
	}
	c := &change{event: w.newEvent(m, netns, model.RulesetChanged, object), head: fmt.Sprintf("rules of %s%s changed (%s)", object, w.where(netns), t.words())}
	if pid := attr[genPID]; len(pid) == 4 {
		by := model.By{PID: binary.BigEndian.Uint32(pid), Comm: unix.ByteSliceToString(attr[genName])}
		w.proc.complete(&by)
		c.event.By = &by
	}
	return c
}

// shownTables is how many tables of a transaction are named.
const shownTables = 4

func (t *commit) note(kind uint16, family uint8, table string) {
	switch kind {
	case unix.NFT_MSG_NEWRULE:
		t.added++
	case unix.NFT_MSG_DELRULE:
		t.deleted++
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		t.elements = true
	default:
		t.others++
	}
	name := strings.TrimSpace(nfnetlink.Family(family) + " " + table)
	if len(t.tables) < shownTables && !slices.Contains(t.tables, name) {
		t.tables = append(t.tables, name)
	}
}

func (t *commit) words() string {
	var parts []string
	if t.added > 0 || t.deleted > 0 {
		parts = append(parts, fmt.Sprintf("%d added, %d deleted", t.added, t.deleted))
	}
	if t.elements {
		parts = append(parts, "elements of sets")
	}
	if t.others > 0 {
		parts = append(parts, "chains, sets or tables")
	}
	if len(parts) == 0 {
		return "nothing that is told"
	}
	return strings.Join(parts, "; ")
}
