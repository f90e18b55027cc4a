// SPDX-License-Identifier: Apache-2.0

// The three ways to have rules: how a set of cases is installed, and what the
// tools print of it afterwards. A rule that was told is looked up there.

package rulecases

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// form is one way.
type form struct {
	name    string
	backend string // as model.Hop has it
	sets    func() []ruleSet
	install func(context.Context, *stand, ruleSet) error
	list    func(context.Context, *stand) (listing, error)
}

func forms() []form {
	iptables := func(variant string) form {
		f := form{name: "iptables-" + variant, backend: variant, sets: func() []ruleSet { return iptablesSets(variant) },
			install: func(ctx context.Context, s *stand, set ruleSet) error {
				return s.restoreIptables(ctx, variant, set)
			},
			list: func(ctx context.Context, s *stand) (listing, error) { return s.listIptables(ctx, variant) }}
		return f
	}
	return []form{
		{name: "nft", backend: "nft", sets: nftSets,
			install: func(ctx context.Context, s *stand, set ruleSet) error { return s.installNFT(ctx, set) },
			list:    func(ctx context.Context, s *stand) (listing, error) { return s.listNFT(ctx) }},
		iptables("nft"), iptables("legacy"),
	}
}

// ruleAt is where a rule stands.
type ruleAt struct {
	family, table, chain string
	number               int
}

// listed is what the tools print of a rule.
type listed struct {
	text, comment string
	handle        uint64 // nft only
}

// listing is what the tools print of all rules.
type listing map[ruleAt]listed

// iptablesTables and the chains they have, in the order of the hooks.
func iptablesTables() map[string][]string {
	return map[string][]string{
		"raw": {"PREROUTING", "OUTPUT"}, "mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
		"nat": {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}, "filter": {"INPUT", "FORWARD", "OUTPUT"},
	}
}

// restoreIptables replaces all tables of both families.
func (s *stand) restoreIptables(ctx context.Context, variant string, set ruleSet) error {
	if err := s.clear(ctx); err != nil {
		return err
	}
	for _, c := range set.cases {
		for _, line := range c.setup {
			if _, err := s.node.Run(ctx, s.words(c).Replace(line), "ipset", "restore", "-exist"); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	for v6, tool := range map[bool]string{false: "iptables", true: "ip6tables"} {
		if _, err := s.node.Run(ctx, s.iptablesText(set, v6), tool+"-"+variant+"-restore"); err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
	}
	return nil
}

// clear removes all rules of all kinds; legacy tables that are there stay.
func (s *stand) clear(ctx context.Context) error {
	if _, err := s.node.Run(ctx, "", "nft", "flush", "ruleset"); err != nil {
		return err
	}
	for tool, file := range map[string]string{"iptables-legacy-restore": tables4, "ip6tables-legacy-restore": tables6} {
		names, err := readInside(s.node, file)
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, table := range strings.Fields(names) {
			fmt.Fprintf(&text, "*%s\n", table)
			for _, chain := range iptablesTables()[table] {
				fmt.Fprintf(&text, ":%s ACCEPT [0:0]\n", chain)
			}
			text.WriteString("COMMIT\n")
		}
		if text.Len() == 0 {
			continue
		}
		if _, err := s.node.Run(ctx, text.String(), tool); err != nil {
			return err
		}
	}
	return nil
}

// iptablesText is what iptables-restore reads.
func (s *stand) iptablesText(set ruleSet, v6 bool) string {
	chains, rules := map[string][]string{}, map[string][]string{}
	add := func(table, chain, rule, comment string) {
		if !slices.Contains(iptablesTables()[table], chain) && !slices.Contains(chains[table], chain) {
			chains[table] = append(chains[table], chain)
		}
		rules[table] = append(rules[table], fmt.Sprintf("-A %s -m comment --comment %s %s", chain, comment, rule))
	}
	if set.traced {
		add("raw", "PREROUTING", "-j TRACE", common+"trace")
		add("raw", "OUTPUT", "-j TRACE", common+"trace")
	}
	for i := range set.filler {
		add("filter", "FORWARD", "-p udp --dport 9 -j ACCEPT", fmt.Sprint(common, i))
	}
	for _, c := range set.cases {
		if c.packet.v6 != v6 {
			continue
		}
		for _, r := range s.placed(c) {
			words := strings.SplitN(r.text, " ", 3)
			add(words[0], words[1], words[2], r.comment)
		}
	}
	var b strings.Builder
	for _, table := range []string{"raw", "mangle", "nat", "filter"} {
		fmt.Fprintf(&b, "*%s\n", table)
		for _, chain := range iptablesTables()[table] {
			verdict := "ACCEPT"
			if !v6 && slices.Contains(set.policies, table+" "+chain) {
				verdict = "DROP"
			}
			fmt.Fprintf(&b, ":%s %s [0:0]\n", chain, verdict)
		}
		for _, chain := range chains[table] {
			fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
		}
		fmt.Fprintf(&b, "%s\nCOMMIT\n", strings.Join(rules[table], "\n"))
	}
	return b.String()
}

var commentOption = regexp.MustCompile(`--comment (?:"([^"]*)"|(\S+))`)

// listIptables reads the rules back.
func (s *stand) listIptables(ctx context.Context, variant string) (listing, error) {
	all := listing{}
	for family, tool := range map[string]string{"ip": "iptables", "ip6": "ip6tables"} {
		text, err := s.node.Run(ctx, "", tool+"-"+variant+"-save")
		if err != nil {
			return nil, err
		}
		at := ruleAt{family: family}
		numbers := map[string]int{}
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if table, ok := strings.CutPrefix(line, "*"); ok {
				at.table = table
				clear(numbers)
			}
			rest, ok := strings.CutPrefix(line, "-A ")
			if !ok {
				continue
			}
			at.chain, _, _ = strings.Cut(rest, " ")
			numbers[at.chain]++
			at.number = numbers[at.chain]
			l := listed{text: line}
			if m := commentOption.FindStringSubmatch(line); m != nil {
				l.comment = m[1] + m[2]
			}
			all[at] = l
		}
	}
	if variant == "legacy" {
		return all, nil
	}
	return all, s.addHandles(ctx, all)
}

// addHandles reads the handles of iptables-nft's rules off nft's listing.
func (s *stand) addHandles(ctx context.Context, all listing) error {
	native, err := s.listNFT(ctx)
	if err != nil {
		return err
	}
	for at, l := range all {
		n, ok := native[at]
		if !ok {
			return fmt.Errorf("nft lists no rule %d of %s %s %s", at.number, at.family, at.table, at.chain)
		}
		l.handle = n.handle
		all[at] = l
	}
	return nil
}

// installNFT replaces all rules by native ones.
func (s *stand) installNFT(ctx context.Context, set ruleSet) error {
	if err := s.clear(ctx); err != nil {
		return err
	}
	lines := append(nftTables(), s.nftDeviceChains()...)
	if set.traced {
		lines = append(lines, nftTraceRules()...)
	}
	var rules []string
	for _, c := range set.cases {
		words := s.words(c)
		for _, l := range c.setup {
			lines = append(lines, words.Replace(l))
		}
		for _, r := range s.placed(c) {
			rules = append(rules, fmt.Sprintf("add rule %s comment \"%s\"", r.text, r.comment))
		}
	}
	_, err := s.node.Run(ctx, strings.Join(append(lines, rules...), "\n")+"\n", "nft", "-f", "-")
	if err != nil {
		return fmt.Errorf("%s: %w", set.name, err)
	}
	return nil
}

var (
	nftHandle  = regexp.MustCompile(` # handle (\d+)$`)
	nftComment = regexp.MustCompile(` comment "([^"]*)"`)
)

// listNFT reads the rules back. In `nft -a list ruleset` a chain's rules stand
// two tabs in, each in a line of its own that ends with its handle.
func (s *stand) listNFT(ctx context.Context) (listing, error) {
	text, err := s.node.Run(ctx, "", "nft", "-a", "list", "ruleset")
	if err != nil {
		return nil, err
	}
	all := listing{}
	var at ruleAt
	inChain := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Fields(line)
		switch depth := len(line) - len(strings.TrimLeft(line, "\t")); {
		case depth == 0 && len(words) > 2 && words[0] == "table":
			at = ruleAt{family: words[1], table: words[2]}
		case depth == 1 && len(words) > 1:
			inChain = words[0] == "chain"
			at.chain, at.number = words[1], 0
		case depth == 2 && inChain && nftHandle.MatchString(line):
			at.number++
			m := nftHandle.FindStringSubmatch(line)
			handle, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("nft's line %q: %w", line, err)
			}
			l := listed{text: strings.TrimSpace(strings.TrimSuffix(line, m[0])), handle: handle}
			if c := nftComment.FindStringSubmatch(line); c != nil {
				l.comment = c[1]
			}
			all[at] = l
		}
	}
	return all, nil
}

// Legacy tables that exist in a namespace.
const (
	tables4 = "/proc/thread-self/net/ip_tables_names"
	tables6 = "/proc/thread-self/net/ip6_tables_names"
)
