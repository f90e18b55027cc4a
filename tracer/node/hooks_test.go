// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// line prints a hook for comparison.
func line(h Hook) string {
	s := fmt.Sprintf("%s %s %d %s %s/%s/%s", h.Family, h.Hook, h.Priority, h.Backend, h.TableFamily, h.Table, h.Chain)
	for _, more := range []string{h.Type, h.Policy, h.Device, h.Function} {
		if more != "" {
			s += " " + more
		}
	}
	return s
}

func linesOf(hooks []Hook) []string {
	var all []string
	for _, h := range hooks {
		all = append(all, line(h))
	}
	return all
}

func compare(t *testing.T, got []Hook, want []string) {
	t.Helper()
	lines := linesOf(got)
	if !slices.Equal(lines, want) {
		t.Errorf("hooks:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

const someRules = `
table inet mine {
	chain fw { type filter hook forward priority 5; policy drop; }
	chain plain { counter; }
	chain ing { type filter hook ingress device "lo" priority -500; }
}
table ip nats {
	chain pre { type nat hook prerouting priority -100; policy accept; }
	chain outp { type route hook output priority -150; policy accept; }
}
table netdev dev {
	chain ing { type filter hook ingress device "lo" priority 3; policy accept; }
}
table bridge br {
	chain fw { type filter hook forward priority -200; policy accept; }
}
table arp a {
	chain inp { type filter hook input priority 0; policy accept; }
}
`

// Both iptables backends and native nft in one namespace, told exactly, and
// nothing told of the namespace next to it.
func TestKnownHooksOfBothBackends(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.InStdin("n1", someRules, "nft", "-f", "-")
	c.In("n1", "iptables-legacy -t filter -A FORWARD -j ACCEPT", "iptables-legacy -t nat -A POSTROUTING -j RETURN", "ip6tables-legacy -t raw -A OUTPUT -j ACCEPT")
	n := openNode(t, c.Path("n1"))
	got, err := n.KnownHooks(c.Inode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, []string{
		"ip PREROUTING -100 legacy ip/nat/PREROUTING nat",
		"ip PREROUTING -100 nft ip/nats/pre nat accept",
		"ip INPUT 0 legacy ip/filter/INPUT filter",
		"ip INPUT 100 legacy ip/nat/INPUT nat",
		"ip FORWARD 0 legacy ip/filter/FORWARD filter",
		"ip FORWARD 5 nft inet/mine/fw filter drop",
		"ip OUTPUT -150 nft ip/nats/outp route accept",
		"ip OUTPUT -100 legacy ip/nat/OUTPUT nat",
		"ip OUTPUT 0 legacy ip/filter/OUTPUT filter",
		"ip POSTROUTING 100 legacy ip/nat/POSTROUTING nat",
		"ip6 PREROUTING -300 legacy ip6/raw/PREROUTING filter",
		"ip6 FORWARD 5 nft inet/mine/fw filter drop",
		"ip6 OUTPUT -300 legacy ip6/raw/OUTPUT filter",
		"bridge FORWARD -200 nft bridge/br/fw filter accept",
		"arp INPUT 0 nft arp/a/inp filter accept",
		"netdev INGRESS -500 nft inet/mine/ing filter accept lo",
		"netdev INGRESS 3 nft netdev/dev/ing filter accept lo",
	})
	if got, err = n.KnownHooks(c.Inode("a")); err != nil || len(got) != 0 {
		t.Errorf("pod without rules has %v, %v", linesOf(got), err)
	}
	if _, err = n.KnownHooks(1); !errors.Is(err, ErrGone) {
		t.Errorf("hooks of an unknown namespace: %v", err)
	}
}

// iptables-nft's chains are nft chains with the names of tables and hooks.
func TestKnownHooksOfIptablesNFT(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n1")
	c.In("n1", "iptables-nft -A FORWARD -j ACCEPT", "iptables-nft -P FORWARD DROP")
	got, err := openNode(t, c.Path("n1")).KnownHooks(c.Inode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := linesOf(got); !slices.Contains(lines, "ip FORWARD 0 nft ip/filter/FORWARD filter drop") {
		t.Errorf("hooks:\n%s", strings.Join(lines, "\n"))
	}
}

// The kernel's own dump must agree with what was set up. Kernels without the
// module loaded must say so, and must not load it.
func TestHooks(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n1")
	c.InStdin("n1", someRules, "nft", "-f", "-")
	c.In("n1", "iptables-legacy -A FORWARD -m conntrack --ctstate INVALID -j DROP",
		"iptables-legacy -t nat -A POSTROUTING -j RETURN", "ip6tables-legacy -t mangle -A OUTPUT -j ACCEPT")
	n := openNode(t, c.Path("n1"))
	has, err := n.has(hookSubsystem)
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Hooks(c.Inode("n1"))
	if !has {
		if !errors.Is(err, ErrNoHookDump) {
			t.Errorf("without nfnetlink_hook: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := linesOf(got)
	var missing []string
	for _, want := range []string{
		"ip FORWARD 5 nft inet/mine/fw filter drop nft_do_chain_inet",
		"ip6 FORWARD 5 nft inet/mine/fw filter drop nft_do_chain_inet",
		"ip OUTPUT -150 nft ip/nats/outp route accept nf_route_table_hook4",
		"ip PREROUTING -100 nft ip/nats/pre nat accept",
		"bridge FORWARD -200 nft bridge/br/fw filter accept nft_do_chain_bridge",
		"netdev INGRESS 3 nft netdev/dev/ing filter accept lo",
		"ip FORWARD 0 legacy ip/filter/FORWARD filter ipt_do_table",
		"ip POSTROUTING 100 legacy ip/nat/POSTROUTING nat",
		"ip6 OUTPUT -150 legacy ip6/mangle/OUTPUT filter ip6table_mangle_hook",
		"ip PREROUTING -200  // ipv4_conntrack_in",
	} {
		// Of nat chains the kernel may or may not tell the function.
		told := func(l string) bool { return l == want || strings.HasPrefix(l, want+" ") }
		if !slices.ContainsFunc(lines, told) {
			missing = append(missing, want)
		}
	}
	if missing != nil {
		t.Errorf("missing:\n%s\nof:\n%s", strings.Join(missing, "\n"), strings.Join(lines, "\n"))
	}
}

// Looking at everything must leave the node as it was.
func TestLookingChangesNothing(t *testing.T) {
	c := nodetest.TwoNodes(t)
	c.InStdin("n1", someRules, "nft", "-f", "-")
	c.In("n1", "iptables-legacy -A FORWARD -j ACCEPT")
	state := func() string {
		modules, err := os.ReadFile("/proc/modules")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all := string(modules)
		for _, ns := range []string{"n1", "n2", "a", "b"} {
			all += c.InStdin(ns, "", "sh", "-ec", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>&1 || true;"+
				// ip complains of namespaces that other tests delete meanwhile
				"nft list ruleset; { ip link; ip addr; ip route show table all; ip -6 route show table all; } 2>/dev/null")
		}
		return all
	}
	var before string
	waitFor(t, "the links to settle", func() bool {
		last := before
		time.Sleep(1100 * time.Millisecond) // link watch reports carriers at most once a second
		before = state()
		return before == last
	})
	n := openNode(t, c.Path("n1"))
	for _, inode := range n.All() {
		if !n.Belongs(inode) {
			continue
		}
		if _, err := n.Hooks(inode); err != nil && !errors.Is(err, ErrNoHookDump) {
			t.Error(err)
		}
		_, err1 := n.KnownHooks(inode)
		_, err2 := n.Links(inode)
		_, err3 := n.Routes(inode)
		_, err4 := n.Neighbors(inode)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Error(err)
		}
	}
	_, err1 := n.Uplinks()
	_, err2 := n.Carriers()
	if err := errors.Join(err1, err2, n.Refresh()); err != nil {
		t.Error(err)
	}
	if after := state(); after != before {
		was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
		for i := range min(len(was), len(is)) {
			if was[i] != is[i] {
				t.Fatalf("line %d was %q, is %q", i, was[i], is[i])
			}
		}
		t.Fatalf("%d lines before, %d after", len(was), len(is))
	}
}

func TestLegacyTableAt(t *testing.T) {
	for _, c := range []struct {
		hook     int
		priority int32
		want     string
	}{
		{0, -300, "raw"}, {3, -450, "raw"}, {2, -150, "mangle"}, {0, -100, "nat"}, {4, 100, "nat"}, {1, 100, "nat"},
		{2, 0, "filter"}, {2, 50, "security"}, {0, 0, ""}, {2, 7, ""}, {2, -100, ""},
	} {
		if got := legacyTableAt(c.hook, c.priority); got != c.want {
			t.Errorf("hook %d priority %d: %q, want %q", c.hook, c.priority, got, c.want)
		}
	}
	for name, want := range map[string]bool{
		"ipt_do_table": true, "ip6t_do_table": true, "iptable_mangle_hook": true, "ip6table_filter_hook": true,
		"iptable_nat_do_chain": true, "nft_do_chain_ipv4": false, "iptable_nat_init": false, "": false,
	} {
		if got := isLegacyFunction(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestLegacyHooksWithoutTables(t *testing.T) {
	dir := t.TempDir()
	names := filepath.Join(dir, "names")
	if err := os.WriteFile(names, []byte("odd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := legacyHooks([2]tableNames{{"ip", filepath.Join(dir, "none")}, {"ip6", names}})
	if err != nil || len(got) != 1 || got[0].Table != "odd" || got[0].HookNum != -1 {
		t.Errorf("%v, %v", got, err)
	}
}

// attr builds one netlink attribute, padded.
func attr(typ uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func TestParseHook(t *testing.T) {
	minus := func(n int32) []byte { return number(uint32(-n)) }
	const nested = 0x8000
	desc := join(attr(hookChainTable, []byte("mine\x00")), attr(hookChainName, []byte("fw\x00")), attr(hookChainFamily, []byte{protoInet}))
	for _, c := range []struct {
		name string
		msg  []byte
		want string
	}{
		{
			name: "conntrack",
			msg: join([]byte{protoIPv4, 0, 0, 0}, attr(hookModule, []byte("nf_conntrack\x00")), attr(hookFunction, []byte("ipv4_conntrack_in\x00")),
				attr(hookNum, number(0)), attr(hookPriority, minus(200))),
			want: "ip PREROUTING -200  // ipv4_conntrack_in",
		},
		{
			name: "legacy filter",
			msg:  join([]byte{protoIPv6, 0, 0, 0}, attr(hookFunction, []byte("ip6t_do_table\x00")), attr(hookNum, number(2)), attr(hookPriority, number(0))),
			want: "ip6 FORWARD 0 legacy ip6/filter/FORWARD filter ip6t_do_table",
		},
		{
			name: "nft chain of an inet table",
			msg: join([]byte{protoIPv4, 0, 0, 0}, attr(hookFunction, []byte("nft_do_chain_inet\x00")), attr(hookNum, number(2)), attr(hookPriority, number(5)),
				attr(hookChain|nested, join(attr(hookInfoType, number(hookTypeNFT)), attr(hookInfoDesc|nested, desc)))),
			want: "ip FORWARD 5 nft inet/mine/fw nft_do_chain_inet",
		},
		{
			name: "BPF program",
			msg: join([]byte{protoIPv4, 0, 0, 0}, attr(hookFunction, []byte("nf_hook_run_bpf\x00")), attr(hookNum, number(2)), attr(hookPriority, minus(1)),
				attr(hookChain|nested, join(attr(hookInfoType, number(2)), attr(hookInfoDesc|nested, attr(1, number(77)))))),
			want: "ip FORWARD -1  // nf_hook_run_bpf",
		},
	} {
		got, err := parseHook(c.msg)
		if err != nil || line(got) != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, line(got), err, c.want)
		}
	}
	for _, bad := range [][]byte{nil, {2, 0}, {2, 0, 0, 0}, {2, 0, 0, 0, 255, 0, 1, 0}, join([]byte{2, 0, 0, 0}, attr(hookNum, number(1)))} {
		if h, err := parseHook(bad); err == nil {
			t.Errorf("% x gives %v", bad, h)
		}
	}
}

func TestMergeHooks(t *testing.T) {
	dumped := []Hook{
		{Family: "ip", HookNum: 0, Hook: "PREROUTING", Priority: -100, Function: "nf_nat_ipv4_pre_routing"},
		{Family: "ip", HookNum: 2, Hook: "FORWARD", Priority: 0, Function: "nft_do_chain_ipv4", Backend: BackendNFT, Table: "filter", TableFamily: "ip", Chain: "FORWARD"},
		{Family: "ip", HookNum: 2, Hook: "FORWARD", Priority: 0, Function: "ipt_do_table", Backend: BackendLegacy, Table: "filter", TableFamily: "ip", Chain: "FORWARD"},
	}
	known := append(hooksOfTable("ip", "filter"), hooksOfTable("ip", "nat")...)
	known = append(known, Hook{Family: "ip", HookNum: 2, Hook: "FORWARD", Backend: BackendNFT, Table: "filter", TableFamily: "ip", Chain: "FORWARD", Type: "filter", Policy: "drop"})
	compare(t, mergeHooks(dumped, known), []string{
		"ip PREROUTING -100  // nf_nat_ipv4_pre_routing",
		"ip PREROUTING -100 legacy ip/nat/PREROUTING nat",
		"ip INPUT 100 legacy ip/nat/INPUT nat",
		"ip FORWARD 0 nft ip/filter/FORWARD filter drop nft_do_chain_ipv4",
		"ip FORWARD 0 legacy ip/filter/FORWARD filter ipt_do_table",
		"ip OUTPUT -100 legacy ip/nat/OUTPUT nat",
		"ip POSTROUTING 100 legacy ip/nat/POSTROUTING nat",
	})
}
