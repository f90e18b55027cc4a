// SPDX-License-Identifier: Apache-2.0

package node

// This file asks netfilter through nfnetlink, from a thread that is inside the
// namespace in question: the hooks (nfnetlink_hook) and nft's base chains. Both
// are dumps, which change nothing. Callers make sure that the subsystem is
// there.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Subsystems and messages (linux/netfilter/nfnetlink.h, nfnetlink_hook.h,
// nf_tables.h).
const (
	subsysNFTables = 10 // NFNL_SUBSYS_NFTABLES
	subsysHook     = 12 // NFNL_SUBSYS_HOOK, since 5.14

	msgHookGet  = 0 // NFNL_MSG_HOOK_GET, also the type of the answer
	msgNewChain = 3 // NFT_MSG_NEWCHAIN
	msgGetChain = 4 // NFT_MSG_GETCHAIN

	nfgenSize = 4 // struct nfgenmsg
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

// nfgenmsg is the header of every nfnetlink message: family, version, and a
// resource id that dumps have no use for.
func nfgenmsg(family uint8) []byte { return []byte{family, unix.NFNETLINK_V0, 0, 0} }

// attribute is a netlink attribute with a number in network order.
func attribute(typ uint16, value uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, unix.SizeofNlAttr+4)
	b = binary.NativeEndian.AppendUint16(b, typ)
	return binary.BigEndian.AppendUint32(b, value)
}

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
				return nil, fmt.Errorf("family %s hook %s: %w", family, hookName(family, num), err)
			}
			all = append(all, hooks...)
		}
	}
	return all, nil
}

func dumpHook(proto uint8, num int) ([]Hook, error) {
	replies, err := dump(func() ([][]byte, error) {
		return nfDump(subsysHook<<8|msgHookGet, subsysHook<<8|msgHookGet, append(nfgenmsg(proto), attribute(hookNum, uint32(num))...))
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
	attrs, err := attributes(msg, nfgenSize)
	if err != nil {
		return Hook{}, fmt.Errorf("decode hook: %w", err)
	}
	num, ok1 := attrs.be32(hookNum)
	priority, ok2 := attrs.be32(hookPriority)
	if !ok1 || !ok2 {
		return Hook{}, errors.New("decode hook: no hook number or priority")
	}
	family := familyName(msg[0])
	h := Hook{
		Family:   family,
		HookNum:  int(num),
		Hook:     hookName(family, int(num)),
		Priority: int32(priority),
		Function: attrs.text(hookFunction),
		Module:   attrs.text(hookModule),
	}
	if isLegacyFunction(h.Function) {
		h.Backend, h.Table, h.TableFamily, h.Chain = BackendLegacy, legacyTableAt(h.HookNum, h.Priority), family, h.Hook
		h.Type = legacyType(h.Table)
	}
	if info, ok := attrs[hookChain]; ok {
		if err := h.setChain(info); err != nil {
			return Hook{}, fmt.Errorf("decode hook %s: %w", h.Function, err)
		}
	}
	return h, nil
}

// setChain takes the nft chain behind a hook. Other owners of a hook (BPF
// programs, flowtables) are no chains.
func (h *Hook) setChain(nest []byte) error {
	info, err := attributes(nest, 0)
	if err != nil {
		return err
	}
	if kind, _ := info.be32(hookInfoType); kind != hookTypeNFT {
		return nil
	}
	desc, err := attributes(info[hookInfoDesc], 0)
	if err != nil {
		return err
	}
	h.Backend, h.Table, h.Chain, h.TableFamily = BackendNFT, desc.text(hookChainTable), desc.text(hookChainName), h.Family
	if f := desc[hookChainFamily]; len(f) == 1 {
		h.TableFamily = familyName(f[0])
	}
	return nil
}

// nftChains lists the hooks of nft's base chains in the calling thread's
// namespace, one per packet family and device they see.
func nftChains() ([]Hook, error) {
	replies, err := dump(func() ([][]byte, error) {
		return nfDump(subsysNFTables<<8|msgGetChain, subsysNFTables<<8|msgNewChain, nfgenmsg(unix.AF_UNSPEC))
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
	attrs, err := attributes(msg, nfgenSize)
	if err != nil {
		return nil, fmt.Errorf("decode nft chain: %w", err)
	}
	nest, ok := attrs[chainHook]
	if !ok {
		return nil, nil
	}
	hook, err := attributes(nest, 0)
	if err != nil {
		return nil, fmt.Errorf("decode nft chain %s: %w", attrs.text(chainName), err)
	}
	num, ok1 := hook.be32(chainHookNum)
	priority, ok2 := hook.be32(chainHookPriority)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("decode nft chain %s: no hook number or priority", attrs.text(chainName))
	}
	h := Hook{
		HookNum:     int(num),
		Priority:    int32(priority),
		Backend:     BackendNFT,
		Table:       attrs.text(chainTable),
		TableFamily: familyName(msg[0]),
		Chain:       attrs.text(chainName),
		Type:        attrs.text(chainType),
	}
	if policy, ok := attrs.be32(chainPolicy); ok {
		h.Policy = map[uint32]string{0: "drop", 1: "accept"}[policy] // NF_DROP, NF_ACCEPT
	}
	devices, err := chainDevices(hook)
	if err != nil {
		return nil, fmt.Errorf("decode nft chain %s: %w", h.Chain, err)
	}
	return h.spread(devices), nil
}

// chainDevices lists the devices a netdev chain is bound to.
func chainDevices(hook attrSet) ([]string, error) {
	if devs, ok := hook[chainHookDevs]; ok {
		list, err := parseAttrs(devs)
		if err != nil {
			return nil, fmt.Errorf("devices: %w", err)
		}
		var names []string
		for _, d := range list {
			if d.Attr.Type&attrTypeMask == deviceName {
				names = append(names, unix.ByteSliceToString(d.Value))
			}
		}
		return names, nil
	}
	if name := hook.text(chainHookDev); name != "" {
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
		h.Family, h.Hook = family, hookName(family, h.HookNum)
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

// attrSet is the netlink attributes of one level, by type.
type attrSet map[uint16][]byte

// attrTypeMask cuts the flags off an attribute's type (NLA_TYPE_MASK).
const attrTypeMask = 0x3fff

// attributes decodes the attributes behind a header of the given length.
func attributes(msg []byte, header int) (attrSet, error) {
	if len(msg) < header {
		return nil, fmt.Errorf("message of %d bytes is too short", len(msg))
	}
	list, err := parseAttrs(msg[header:])
	if err != nil {
		return nil, err
	}
	set := make(attrSet, len(list))
	for _, a := range list {
		set[a.Attr.Type&attrTypeMask] = a.Value
	}
	return set, nil
}

// parseAttrs is nl.ParseRouteAttr for data that may end without the padding
// behind its last attribute, which the library would step over the end of.
func parseAttrs(b []byte) ([]syscall.NetlinkRouteAttr, error) {
	if pad := len(b) % unix.NLA_ALIGNTO; pad != 0 {
		b = append(b[:len(b):len(b)], make([]byte, unix.NLA_ALIGNTO-pad)...)
	}
	return nl.ParseRouteAttr(b)
}

// be32 is a number in network order.
func (s attrSet) be32(typ uint16) (uint32, bool) {
	v := s[typ]
	if len(v) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(v), true
}

// text is a string, with or without a NUL behind it.
func (s attrSet) text(typ uint16) string { return unix.ByteSliceToString(s[typ]) }
