// SPDX-License-Identifier: Apache-2.0

package node

// This file tells what hangs on the netfilter hooks of a namespace. The exact
// answer is the kernel's own dump of its hooks (nfnetlink_hook, since 5.14);
// what hangs below a dispatcher there (nat) or is not dumped is read off the
// tables themselves: the names of legacy tables and nft's base chains. None of
// these is asked before it is known to be there.

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// ErrNoHookDump: the kernel cannot list its hooks, or the module that does
// (nfnetlink_hook) is not loaded. KnownHooks tells what can be told without.
var ErrNoHookDump = errors.New("nfnetlink_hook is not loaded")

// Backends of a hook.
const (
	BackendLegacy = "legacy"
	BackendNFT    = "nft"
)

// Hook is one function on a netfilter hook, or one chain that hangs below it.
type Hook struct {
	Family   string // packet family the hook sees: ip, ip6, arp, bridge, netdev
	HookNum  int    // NF_INET_*, NF_ARP_* or NF_NETDEV_* (linux/netfilter.h, netfilter_arp.h)
	Hook     string // PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS, EGRESS; BROUTING on bridges
	Priority int32  // lower runs first
	Function string // kernel function; "" where only the table is known
	Module   string // its module; "" for built-in code or where not known
	Backend  string // BackendLegacy, BackendNFT, or "" for conntrack, defragmentation and the like

	Table       string // name of the table; "" for neither backend
	TableFamily string // family of the table: inet tables see ip and ip6
	Chain       string // nft base chain; legacy: the chain of the hook's name
	Type        string // nft chain type or what amounts to it: filter, nat, route
	Policy      string // nft: accept or drop, where read
	Device      string // netdev family only
}

// Numbers of protocol families in netfilter (linux/netfilter.h, NFPROTO_*).
const (
	protoInet   = 1
	protoIPv4   = 2
	protoARP    = 3
	protoNetdev = 5
	protoBridge = 7
	protoIPv6   = 10
)

// familyName is a family's name as nft writes it, or its number.
func familyName(proto uint8) string {
	return cmp.Or(nfnetlink.Family(proto), fmt.Sprintf("family %d", proto))
}

// Hooks lists what hangs on the hooks of a namespace for ip, ip6 and bridge
// packets, in the order it runs, and the chains of netdev and arp tables. Nat
// chains hang below a function of nf_nat of the same hook; where the kernel
// dumps that function only (seen on 6.12), they are listed after it without a
// Function; where it dumps them in its stead (7.3), they have one. It fails
// with ErrNoHookDump or ErrGone.
func (n *Namespaces) Hooks(inode uint32) ([]Hook, error) {
	has, err := n.has(hookSubsystem)
	if err != nil {
		return nil, err
	}
	if !has {
		return nil, fmt.Errorf("%s: list netfilter hooks: %w", n.Place(inode), ErrNoHookDump)
	}
	known, err := n.KnownHooks(inode)
	if err != nil {
		return nil, err
	}
	var dumped []Hook
	if err := n.Do(inode, func() (err error) { dumped, err = dumpHooks(); return err }); err != nil {
		return nil, fmt.Errorf("%s: list netfilter hooks: %w", n.Place(inode), err)
	}
	return mergeHooks(dumped, known), nil
}

// KnownHooks lists the hooks of the legacy tables and of nft's base chains of
// a namespace, in the order they run. Functions are not known, and
// conntrack and the like are missing. A legacy raw table is listed at -300
// although the module may have been told to sit at -450. It fails with ErrGone.
func (n *Namespaces) KnownHooks(inode uint32) ([]Hook, error) {
	nft, err := n.has(nftSubsystem)
	if err != nil {
		return nil, err
	}
	var hooks []Hook
	err = n.Do(inode, func() error {
		legacy, err := legacyHooks(procTableNames)
		if err != nil || !nft {
			hooks = legacy
			return err
		}
		chains, err := nftChains()
		hooks = append(legacy, chains...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: list packet-filter tables: %w", n.Place(inode), err)
	}
	sortHooks(hooks)
	return hooks, nil
}

// mergeHooks adds to the dumped hooks what a dump does not show: chains that
// hang below nf_nat's dispatchers, and the families that were not dumped. It
// carries policies over.
func mergeHooks(dumped, known []Hook) []Hook {
	type key struct {
		backend, family, tableFamily, table, chain string
		num                                        int
	}
	keyOf := func(h Hook) key {
		if h.Backend == BackendLegacy {
			return key{backend: h.Backend, family: h.Family, table: h.Table, num: h.HookNum}
		}
		return key{h.Backend, h.Family, h.TableFamily, h.Table, h.Chain, h.HookNum}
	}
	at := map[key]int{}
	for i, h := range dumped {
		if h.Backend != "" {
			at[keyOf(h)] = i
		}
	}
	all := dumped
	for _, k := range known {
		if i, seen := at[keyOf(k)]; seen {
			all[i].Type, all[i].Policy = k.Type, k.Policy
			continue
		}
		if k.Type == "nat" || k.Family == "netdev" || k.Family == "arp" {
			all = append(all, k)
		}
	}
	sortHooks(all)
	return all
}

// sortHooks sorts by family, hook and priority; among equals the order of the
// list, which is the kernel's, stays.
func sortHooks(hooks []Hook) {
	order := []string{"ip", "ip6", "bridge", "arp", "netdev"}
	slices.SortStableFunc(hooks, func(x, y Hook) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, x.Family), slices.Index(order, y.Family)),
			strings.Compare(x.Device, y.Device),
			cmp.Compare(x.HookNum, y.HookNum),
			cmp.Compare(x.Priority, y.Priority),
		)
	})
}

// subsystem is a part of the kernel that asking would load.
type subsystem struct {
	module string
	symbol string // a function of it, to be found in an image that has it built in
}

// The subsystems asked in here.
var (
	hookSubsystem = subsystem{module: "nfnetlink_hook", symbol: "nfnl_hook_get"} // net/netfilter/nfnetlink_hook.c
	nftSubsystem  = subsystem{module: "nf_tables", symbol: "nf_tables_getchain"} // net/netfilter/nf_tables_api.c
	// net/netfilter/nf_conntrack_netlink.c
	conntrackSubsystem = subsystem{module: "nf_conntrack_netlink", symbol: "ctnetlink_get_conntrack"}
)

// builtins remembers which subsystems the kernel image has; that never changes.
type builtins struct {
	once  sync.Once
	found map[string]bool
	err   error
}

// has tells whether a subsystem is there, without waking it up.
func (n *Namespaces) has(s subsystem) (bool, error) {
	mods, err := kernel.LoadedModules()
	if err != nil {
		return false, err
	}
	if slices.Contains(mods, s.module) {
		return true, nil
	}
	n.builtin.once.Do(func() {
		n.builtin.found, n.builtin.err = kernel.HasBuiltin(hookSubsystem.symbol, nftSubsystem.symbol, conntrackSubsystem.symbol,
			tcpDiagSubsystem.symbol, udpDiagSubsystem.symbol)
	})
	return n.builtin.found[s.symbol], n.builtin.err
}
