// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/tracer/kernel"
)

// Room for the counters of legacy tables (bpf/rules_legacy.h), for each CPU.
const (
	counterBlock   = 4096     // bytes: 256 rules
	ruleCounter    = 16       // struct xt_counters
	maxBlocks      = 64       // MAX_BLOCKS: 16384 rules
	fewestBlocks   = 16       // 4096 rules, however many CPUs
	snapshotMemory = 32 << 20 // what all CPUs together should not exceed, bytes
	maxNesting     = 4        // MAX_NESTING
)

// findTables tells the kernel half what leads to rule sets: the functions that run
// legacy tables, by address, and where nf_tables' number stands. 0 is what this
// kernel does not have, or hides.
func (a *Attachment) findTables(spec *ebpf.CollectionSpec) error {
	var tables [4]uint64
	for i, name := range tableFunctions() {
		tables[i], _ = a.cfg.Symbols.Addr(name)
	}
	var nat [10]uint64
	for i, name := range natFunctions() {
		nat[i], _ = a.cfg.Symbols.Addr(name)
	}
	number, _ := a.cfg.Symbols.Variable(kernel.NetTablesNumber)
	for name, value := range map[string]any{"table_functions": tables, "nat_functions": nat, "nf_tables_number_at": number} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// natFunctions are nf_nat's hooks, below which the nat tables run
// (net/netfilter/nf_nat_proto.c, 5.10 to 7.3).
func natFunctions() []string {
	return []string{"nf_nat_ipv4_pre_routing", "nf_nat_ipv4_in", "nf_nat_ipv4_out", "nf_nat_ipv4_local_fn", "nf_nat_ipv4_local_in", "nf_nat_ipv4_fn",
		"nf_nat_ipv6_in", "nf_nat_ipv6_out", "nf_nat_ipv6_local_fn", "nf_nat_ipv6_fn"}
}

// bracketOracle sets up what tells legacy rules without fentry. It needs a sign of
// tables being replaced, which a machine with one CPU does not give (its counters
// need no per-CPU memory).
func (a *Attachment) bracketOracle(spec *ebpf.CollectionSpec, cpus int) error {
	a.counts = cpus > 1 && a.cfg.Kernel.HasTracepoint("percpu_alloc_percpu")
	tells := uint8(0)
	switch {
	case cpus == 1:
		a.cfg.Verbose("legacy rules are inferred: with one CPU nothing tells that a table is replaced")
	case a.cfg.Symbols.Hidden():
		a.cfg.Verbose("legacy rules are inferred: the kernel hides the addresses of its functions")
	case !a.counts:
		a.cfg.Verbose("legacy rules are inferred: no tracepoint tells that a table is replaced")
	default:
		tells = 1
	}
	if err := spec.Variables["counts_tell_rules"].Set(tells); err != nil {
		return fmt.Errorf("set counts_tell_rules: %w", err)
	}
	if err := spec.Variables["links_tell_rules"].Set(uint8(1)); err != nil {
		return fmt.Errorf("set links_tell_rules: %w", err)
	}
	return nil
}

// sizeOracle makes room for every CPU this machine may have.
func sizeOracle(spec *ebpf.CollectionSpec, cpus int) error {
	blocks := min(maxBlocks, max(fewestBlocks, snapshotMemory/counterBlock/cpus))
	for name, entries := range map[string]int{
		"snapshots": cpus * blocks, "counters_now": cpus, "traversals": cpus * maxNesting, "rules_cpus": cpus,
	} {
		m, ok := spec.Maps[name]
		if !ok {
			return fmt.Errorf("committed BPF object: no map %s", name)
		}
		m.MaxEntries = uint32(entries)
	}
	if err := spec.Variables["blocks_per_cpu"].Set(uint32(blocks)); err != nil {
		return fmt.Errorf("set blocks_per_cpu: %w", err)
	}
	single := uint8(0)
	if cpus == 1 {
		single = 1 // xt_percpu_counter_alloc(), net/netfilter/x_tables.c
	}
	if err := spec.Variables["inline_counters"].Set(single); err != nil {
		return fmt.Errorf("set inline_counters: %w", err)
	}
	return nil
}
