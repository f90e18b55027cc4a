// SPDX-License-Identifier: Apache-2.0

package node

// This file asks netfilter through nfnetlink, from a thread that is inside the
// namespace in question: the hooks (nfnetlink_hook) and nft's base chains. Both
// are dumps, which change nothing. Callers make sure that the subsystem is
// there.

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/nfnetlink"
)

// Subsystems and messages (linux/netfilter/nfnetlink.h, nfnetlink_hook.h,
// nf_tables.h).
const (
	subsysNFTables = 10 // NFNL_SUBSYS_NFTABLES
	subsysHook     = 12 // NFNL_SUBSYS_HOOK, since 5.14

	msgHookGet  = 0 // NFNL_MSG_HOOK_GET, also the type of the answer
	msgNewChain = 3 // NFT_MSG_NEWCHAIN
	msgGetChain = 4 // NFT_MSG_GETCHAIN
)

// Attributes of a hook (enum nfnl_hook_attributes and the two nested in it).
const (
	hookNum      = 1
	hookPriority = 2
	hookFunction = 4
	hookModule   = 5
	hookChain    = 6

	hookInfoDesc = 1
	hookInfoType = 2
	hookTypeNFT  = 1 // NFNL_HOOK_TYPE_NFTABLES

	hookChainTable  = 1
	hookChainFamily = 2
	hookChainName   = 3
)

// Attributes of an nft chain (enum nft_chain_attributes, nft_hook_attributes,
// nft_devices_attributes).
const (
	chainTable  = 1
	chainName   = 3
	chainHook   = 4
	chainPolicy = 5
	chainType   = 7

	chainHookNum      = 1
	chainHookPriority = 2
	chainHookDev      = 3
	chainHookDevs     = 4

	deviceName = 1

	// inetIngress is NF_INET_INGRESS, which an inet chain may sit on since 5.10;
	// to the hooks it is a netdev's ingress.
	inetIngress = 5
)

// dumpHooks lists the hooks of the calling thread's namespace.
func dumpHooks() ([]Hook, error) {
	var all []Hook
	for _, proto := range []uint8{protoIPv4, protoIPv6, protoBridge} {
		family := familyName(proto)
		// Five hooks each (NF_INET_NUMHOOKS): ingress is a device's, and
		// brouting no hook of the list.
		for num := range 5 {
			hooks, err := dumpHook(proto, num)
			if err != nil {
				return nil, fmt.Errorf("family %s hook %s: %w", family, nfnetlink.Hook(family, num), err)
			}
			all = append(all, hooks...)
		}
	}
	return all, nil
}

func dumpHook(proto uint8, num int) ([]Hook, error) {
	replies, err := dump(func() ([][]byte, error) {
		return nfnetlink.Dump(context.Background(), subsysHook<<8|msgHookGet, subsysHook<<8|msgHookGet, nfnetlink.PutUint32(nfnetlink.Header(proto), hookNum, uint32(num)))
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // this kernel has no hooks of that family
	}
	if err != nil {
		return nil, err
	}
	hooks := make([]Hook, 0, len(replies))
	for _, reply := range replies {
		h, err := parseHook(reply)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, h)
	}
	return hooks, nil
}

// parseHook decodes one answer of nfnetlink_hook
// (net/netfilter/nfnetlink_hook.c, nfnl_hook_dump_one).
func parseHook(msg []byte) (Hook, error) {
	attrs, err := nfnetlink.Message(msg)
	if err != nil {
		return Hook{}, fmt.Errorf("decode hook: %w", err)
	}
	num, ok1 := attrs.Uint32(hookNum)
	priority, ok2 := attrs.Uint32(hookPriority)
	if !ok1 || !ok2 {
		return Hook{}, errors.New("decode hook: no hook number or priority")
	}
	family := familyName(msg[0])
	h := Hook{
		Family:   family,
		HookNum:  int(num),
		Hook:     nfnetlink.Hook(family, int(num)),
		Priority: int32(priority),
		Function: attrs.Text(hookFunction),
		Module:   attrs.Text(hookModule),
	}
	if isLegacyFunction(h.Function) {
		h.Backend, h.Table, h.TableFamily, h.Chain = BackendLegacy, legacyTableAt(h.HookNum, h.Priority), family, h.Hook
		h.Type = legacyType(h.Table)
	}
	if info, ok := attrs.Get(hookChain); ok {
		if err := h.setChain(info); err != nil {
			return Hook{}, fmt.Errorf("decode hook %s: %w", h.Function, err)
		}
	}
	return h, nil
}

// setChain takes the nft chain behind a hook. Other owners of a hook (BPF
// programs, flowtables) are no chains.
func (h *Hook) setChain(nest []byte) error {
	info, err := nfnetlink.Parse(nest)
	if err != nil {
		return err
	}
	if kind, _ := info.Uint32(hookInfoType); kind != hookTypeNFT {
		return nil
	}
	desc, err := info.Nest(hookInfoDesc)
	if err != nil {
		return err
	}
	h.Backend, h.Table, h.Chain, h.TableFamily = BackendNFT, desc.Text(hookChainTable), desc.Text(hookChainName), h.Family
	if f, ok := desc.Get(hookChainFamily); ok && len(f) == 1 {
		h.TableFamily = familyName(f[0])
	}
	return nil
}

// nftChains lists the hooks of nft's base chains in the calling thread's
// namespace, one per packet family and device they see.
func nftChains() ([]Hook, error) {
	replies, err := dump(func() ([][]byte, error) {
		return nfnetlink.Dump(context.Background(), subsysNFTables<<8|msgGetChain, subsysNFTables<<8|msgNewChain, nfnetlink.Header(unix.AF_UNSPEC))
	})
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	var hooks []Hook
	for _, reply := range replies {
		found, err := parseChain(reply)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, found...)
	}
	return hooks, nil
}

// parseChain decodes one nft chain (net/netfilter/nf_tables_api.c,
// nf_tables_fill_chain_info). A chain that is no base chain has no hooks.
func parseChain(msg []byte) ([]Hook, error) {
	attrs, err := nfnetlink.Message(msg)
	if err != nil {
		return nil, fmt.Errorf("decode nft chain: %w", err)
	}
	nest, ok := attrs.Get(chainHook)
	if !ok {
		return nil, nil
	}
	hook, err := nfnetlink.Parse(nest)
	if err != nil {
		return nil, fmt.Errorf("decode nft chain %s: %w", attrs.Text(chainName), err)
	}
	num, ok1 := hook.Uint32(chainHookNum)
	priority, ok2 := hook.Uint32(chainHookPriority)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("decode nft chain %s: no hook number or priority", attrs.Text(chainName))
	}
	h := Hook{
		HookNum:     int(num),
		Priority:    int32(priority),
		Backend:     BackendNFT,
		Table:       attrs.Text(chainTable),
		TableFamily: familyName(msg[0]),
		Chain:       attrs.Text(chainName),
		Type:        attrs.Text(chainType),
	}
	if policy, ok := attrs.Uint32(chainPolicy); ok {
		h.Policy = map[uint32]string{0: "drop", 1: "accept"}[policy] // NF_DROP, NF_ACCEPT
	}
	devices, err := chainDevices(hook)
	if err != nil {
		return nil, fmt.Errorf("decode nft chain %s: %w", h.Chain, err)
	}
	return h.spread(devices), nil
}

// chainDevices lists the devices a netdev chain is bound to.
func chainDevices(hook nfnetlink.Attrs) ([]string, error) {
	if hook.Has(chainHookDevs) {
		list, err := hook.Nest(chainHookDevs)
		if err != nil {
			return nil, fmt.Errorf("devices: %w", err)
		}
		var names []string
		for _, d := range list {
			if d.Type == deviceName {
				names = append(names, unix.ByteSliceToString(d.Value))
			}
		}
		return names, nil
	}
	if name := hook.Text(chainHookDev); name != "" {
		return []string{name}, nil
	}
	return nil, nil
}

// spread makes one hook for each packet family and device a chain sees.
func (h Hook) spread(devices []string) []Hook {
	families := []string{h.TableFamily}
	switch {
	case h.TableFamily == "inet" && h.HookNum == inetIngress:
		families, h.HookNum = []string{"netdev"}, 0 // NF_NETDEV_INGRESS
	case h.TableFamily == "inet":
		families = []string{"ip", "ip6"}
	}
	var hooks []Hook
	for _, family := range families {
		h.Family, h.Hook = family, nfnetlink.Hook(family, h.HookNum)
		if family != "netdev" {
			hooks = append(hooks, h)
			continue
		}
		for _, h.Device = range devices {
			hooks = append(hooks, h)
		}
	}
	return hooks
}
