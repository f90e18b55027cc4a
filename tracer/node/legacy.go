// SPDX-License-Identifier: Apache-2.0

package node

// This file knows the legacy (x_tables) tables: which ones a namespace has,
// and where each hangs. Their names are read off /proc/net, never asked for by
// getsockopt: that would create the table.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// legacyTable is where a legacy table hangs.
type legacyTable struct {
	name  string
	hooks map[int]int32 // hook number to priority
}

// legacyTables are the tables of iptables and ip6tables: net/ipv4/netfilter/
// and net/ipv6/netfilter/ iptable_*.c, nf_nat; priorities from
// linux/netfilter_ipv4.h, enum nf_ip_hook_priorities.
func legacyTables() []legacyTable {
	const pre, in, fwd, out, post = nfnetlink.PreRouting, nfnetlink.LocalIn, nfnetlink.Forward, nfnetlink.LocalOut, nfnetlink.PostRouting
	return []legacyTable{
		{"raw", map[int]int32{pre: -300, out: -300}},
		{"mangle", map[int]int32{pre: -150, in: -150, fwd: -150, out: -150, post: -150}},
		{"nat", map[int]int32{pre: -100, in: 100, out: -100, post: 100}},
		{"filter", map[int]int32{in: 0, fwd: 0, out: 0}},
		{"security", map[int]int32{in: 50, fwd: 50, out: 50}},
	}
}

// priorityRawFirst is where raw sits with raw_before_defrag=1
// (NF_IP_PRI_RAW_BEFORE_DEFRAG).
const priorityRawFirst = -450

// legacyTableAt is the table of a priority; "" for one that no legacy table has.
func legacyTableAt(hook int, priority int32) string {
	if priority == priorityRawFirst {
		return "raw"
	}
	for _, t := range legacyTables() {
		if p, ok := t.hooks[hook]; ok && p == priority {
			return t.name
		}
	}
	return ""
}

// legacyType is what nft would call the type of a legacy table's chains.
func legacyType(table string) string {
	if table == "nat" {
		return "nat"
	}
	return "filter"
}

// isLegacyFunction tells the functions that run a legacy table: since 5.16
// ipt_do_table and ip6t_do_table themselves (mangle keeps its own), before
// them one wrapper per table: iptable_filter_hook, ip6table_raw_hook,
// iptable_nat_do_chain, ...
func isLegacyFunction(name string) bool {
	switch {
	case name == "ipt_do_table", name == "ip6t_do_table":
		return true
	case strings.HasPrefix(name, "iptable_"), strings.HasPrefix(name, "ip6table_"):
		return strings.HasSuffix(name, "_hook") || strings.HasSuffix(name, "_do_chain")
	}
	return false
}

// tableNames is where a family's legacy tables are listed.
type tableNames struct{ family, path string }

// procTableNames lists the tables of the calling thread's namespace
// (net/netfilter/x_tables.c, xt_proto_init).
var procTableNames = [...]tableNames{
	{"ip", "/proc/thread-self/net/ip_tables_names"},
	{"ip6", "/proc/thread-self/net/ip6_tables_names"},
}

// legacyHooks lists where the legacy tables of the calling thread's namespace
// hang. Without ip_tables in the kernel the list is empty.
func legacyHooks(lists [2]tableNames) ([]Hook, error) {
	var hooks []Hook
	for _, list := range lists {
		raw, err := os.ReadFile(list.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list legacy tables: %w", err)
		}
		for _, name := range strings.Fields(string(raw)) {
			hooks = append(hooks, hooksOfTable(list.family, name)...)
		}
	}
	return hooks, nil
}

// hooksOfTable lists where one table hangs. A table unknown here is listed
// once, without a hook.
func hooksOfTable(family, name string) []Hook {
	kind := legacyType(name)
	for _, t := range legacyTables() {
		if t.name != name {
			continue
		}
		hooks := make([]Hook, 0, len(t.hooks))
		for num := range len(nfnetlink.Hooks(family)) {
			if priority, ok := t.hooks[num]; ok {
				hook := nfnetlink.Hook(family, num)
				hooks = append(hooks, Hook{
					Family: family, HookNum: num, Hook: hook, Priority: priority, Backend: BackendLegacy,
					Table: name, TableFamily: family, Chain: hook, Type: kind,
				})
			}
		}
		return hooks
	}
	return []Hook{{Family: family, HookNum: -1, Backend: BackendLegacy, Table: name, TableFamily: family, Type: kind}}
}
