// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"

	"github.com/cilium/ebpf"
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

// bracketOracle sets up what tells legacy rules without fentry: the functions
// that run tables, by address, and a sign of tables being replaced, which a
// machine with one CPU does not give (its counters need no per-CPU memory).
func (a *Attachment) bracketOracle(spec *ebpf.CollectionSpec, cpus int) error {
	var addrs [4]uint64
	switch {
	case cpus == 1:
		a.cfg.Verbose("legacy rules are inferred: with one CPU nothing tells that a table is replaced")
	case a.cfg.Symbols.Hidden():
		a.cfg.Verbose("legacy rules are inferred: the kernel hides the addresses of its functions")
	case !a.cfg.Kernel.HasTracepoint("percpu_alloc_percpu"):
		a.cfg.Verbose("legacy rules are inferred: no tracepoint tells that a table is replaced")
	default:
		for i, name := range tableFunctions() {
			addrs[i], _ = a.cfg.Symbols.Addr(name) // 0: not in this kernel, so nothing runs it
		}
	}
	if err := spec.Variables["table_functions"].Set(addrs); err != nil {
		return fmt.Errorf("set table_functions: %w", err)
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
