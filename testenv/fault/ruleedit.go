// SPDX-License-Identifier: Apache-2.0

// Writing a single rule into a node or pod in any rule form, knowing the line
// that the rule will be listed as, and taking it out again.

package fault

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

// Rule is a rule that a fault put in place, as the tracer is to name it.
type Rule struct {
	Family  string // ip, ip6
	Table   string
	Chain   string
	Backend string // legacy, nft
	Text    string // the line that iptables-save or nft prints, without counters; empty: the chain's policy
}

// ruleSpec is a rule to be written at the head of a filter hook.
type ruleSpec struct {
	name     string // names the rule's comment and, natively, its table
	hook     string // INPUT, FORWARD, OUTPUT
	src, dst netip.Addr
	proto    string // icmp, icmpv6, tcp, udp; or a number, which is listed by its name where the machine knows one
	dport    int
	sport    int
	verdict  string // DROP, REJECT, NFQUEUE
	queue    int    // NFQUEUE's
}

func (s ruleSpec) v6() bool { return s.src.Is6() || s.dst.Is6() }

// insertRule writes the rule and returns it with what takes it out again.
func insertRule(ctx context.Context, e *cluster.Env, ns *netns.Namespace, form cluster.RuleForm, s ruleSpec) (Rule, func() error, error) {
	if form == cluster.FormNFTables {
		return insertNative(ctx, e, ns, s)
	}
	tool, family := "iptables-"+string(form), "ip"
	if s.v6() {
		tool, family = "ip6tables-"+string(form), "ip6"
	}
	args := s.iptablesArgs()
	if _, err := e.RunTool(ctx, ns, "", append([]string{tool, "-w", "-I", s.hook, "1"}, args...)...); err != nil {
		return Rule{}, nil, err
	}
	undo := func() error {
		_, err := e.RunTool(context.WithoutCancel(ctx), ns, "", append([]string{tool, "-w", "-D", s.hook}, args...)...)
		return err
	}
	text := strings.Join(append([]string{"-A", s.hook}, args...), " ")
	return Rule{Family: family, Table: "filter", Chain: s.hook, Backend: string(form), Text: text}, undo, nil
}

// iptablesArgs spells the rule in the order iptables-save prints it.
func (s ruleSpec) iptablesArgs() []string {
	var args []string
	add := func(flag string, a netip.Addr) {
		if a.IsValid() {
			args = append(args, flag, netns.HostPrefix(a).String())
		}
	}
	add("-s", s.src)
	add("-d", s.dst)
	proto := s.proto
	if proto == "icmpv6" {
		proto = "ipv6-icmp"
	}
	args = append(args, "-p", proto)
	if s.dport+s.sport > 0 {
		args = append(args, "-m", s.proto)
	}
	if s.sport > 0 {
		args = append(args, "--sport", strconv.Itoa(s.sport))
	}
	if s.dport > 0 {
		args = append(args, "--dport", strconv.Itoa(s.dport))
	}
	args = append(args, "-m", "comment", "--comment", s.name, "-j", s.verdict)
	if s.verdict == "REJECT" {
		args = append(args, "--reject-with", map[bool]string{false: "icmp-port-unreachable", true: "icmp6-port-unreachable"}[s.v6()])
	}
	if s.verdict == "NFQUEUE" {
		args = append(args, "--queue-num", strconv.Itoa(s.queue))
	}
	return args
}

// insertNative writes the rule into a table of its own, just ahead of the
// filters of the same hook.
func insertNative(ctx context.Context, e *cluster.Env, ns *netns.Namespace, s ruleSpec) (Rule, func() error, error) {
	family, table, chain := "ip", "site-"+s.name, strings.ToLower(s.hook)
	if s.v6() {
		family = "ip6"
	}
	text := s.nftText(family)
	in := fmt.Sprintf("table %s %s {\n\tchain %s {\n\t\ttype filter hook %s priority filter - 5; policy accept;\n\t\t%s\n\t}\n}\n",
		family, table, chain, chain, text)
	if _, err := e.RunTool(ctx, ns, in, "nft", "-f", "-"); err != nil {
		return Rule{}, nil, err
	}
	undo := func() error {
		_, err := e.RunTool(context.WithoutCancel(ctx), ns, "", "nft", "delete", "table", family, table)
		return err
	}
	return Rule{Family: family, Table: table, Chain: chain, Backend: "nft", Text: text}, undo, nil
}

// nftText spells the rule as nft prints it.
func (s ruleSpec) nftText(family string) string {
	var parts []string
	add := func(key string, a netip.Addr) {
		if a.IsValid() {
			parts = append(parts, family, key, a.String())
		}
	}
	add("saddr", s.src)
	add("daddr", s.dst)
	switch {
	case s.sport > 0:
		parts = append(parts, s.proto, "sport", strconv.Itoa(s.sport))
	case s.dport > 0:
		parts = append(parts, s.proto, "dport", strconv.Itoa(s.dport))
	case s.proto == "icmpv6":
		parts = append(parts, "meta l4proto ipv6-icmp")
	default:
		parts = append(parts, "ip protocol", s.proto)
	}
	verdict := map[string]string{"DROP": "drop", "REJECT": "reject", "NFQUEUE": fmt.Sprintf("queue to %d", s.queue)}[s.verdict]
	return strings.Join(append(parts, verdict, fmt.Sprintf("comment %q", s.name)), " ")
}
