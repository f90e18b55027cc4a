// SPDX-License-Identifier: Apache-2.0

package nft

// This file finds the words that are not in the rule set: names of interfaces
// by index, and the files of iproute2 that give words for marks, groups and
// realms. nft reads the same files.

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// names are words for numbers. A nil one has none.
type names struct {
	links  map[uint64]string
	tables map[symbolTable]map[uint64]string
}

// word finds a word of a file.
func (n *names) word(t symbolTable, number uint64) (string, bool) {
	if n == nil || t == tableNone {
		return "", false
	}
	word, ok := n.tables[t][number]
	return word, ok
}

// link finds the name of an interface.
func (n *names) link(index uint64) (string, bool) {
	if n == nil {
		return "", false
	}
	name, ok := n.links[index]
	return name, ok
}

// nameFiles are the files of words.
var nameFiles = map[symbolTable]string{
	tableMarks:  "/etc/iproute2/rt_marks",
	tableGroups: "/etc/iproute2/group",
	tableRealms: "/etc/iproute2/rt_realms",
	tableLabels: "/etc/connlabel.conf",
}

// readNames gathers the words a rule set needs; the interfaces are those of the
// calling thread's namespace, asked for only where a rule has an index.
func readNames(rs *Ruleset) (*names, error) {
	n := &names{tables: map[symbolTable]map[uint64]string{}}
	for t, file := range nameFiles {
		words, err := readWords(file)
		if err != nil {
			return nil, err
		}
		n.tables[t] = words
	}
	if !rs.usesIndex() {
		return n, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	n.links = map[uint64]string{}
	for _, l := range links {
		n.links[uint64(l.Attrs().Index)] = l.Attrs().Name
	}
	return n, nil
}

// readWords reads lines of a number and a word. A file that is not there has
// none; what is no such line is left out, as nft does.
func readWords(path string) (map[uint64]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("words for numbers: %w", err)
	}
	words := map[uint64]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		parts := strings.Fields(lines.Text())
		if len(parts) < 2 || strings.HasPrefix(parts[0], "#") {
			continue
		}
		number, err := strconv.ParseUint(parts[0], 0, 32)
		if err != nil {
			continue
		}
		if _, seen := words[number]; !seen {
			words[number] = parts[1]
		}
	}
	return words, errors.Join(lines.Err(), f.Close())
}

// usesIndex tells whether a rule or a set has interfaces by index.
func (rs *Ruleset) usesIndex() bool {
	for _, t := range rs.Tables {
		for _, s := range t.Sets {
			for _, kind := range concatTypes(s.KeyType) {
				if kind == typeIfindex {
					return true
				}
			}
			if s.DataType == typeIfindex.id {
				return true
			}
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if r.usesIndex() {
					return true
				}
			}
		}
	}
	return false
}

func (r *Rule) usesIndex() bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case Meta:
			if e.Key == MetaIif || e.Key == MetaOif || e.Key == MetaSdif {
				return true
			}
		case FIB:
			if e.Result == FIBOif {
				return true
			}
		case Dup, Fwd:
			return true
		}
	}
	return false
}
