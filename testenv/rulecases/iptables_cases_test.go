// SPDX-License-Identifier: Apache-2.0

package rulecases

import "fmt"

// iptablesCases run with iptables-legacy and with iptables-nft.
func iptablesCases() []ruleCase {
	v6 := func(w way) packet { return packet{way: w, v6: true} }
	return []ruleCase{
		// every table at every hook
		{name: "raw-prerouting", packet: packet{way: fwd}, rules: []string{"raw PREROUTING -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "raw-output", packet: packet{way: out}, rules: []string{"raw OUTPUT -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "mangle-prerouting", packet: packet{way: fwd}, rules: []string{"mangle PREROUTING -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "mangle-input", packet: packet{way: in}, rules: []string{"mangle INPUT -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "mangle-forward", packet: packet{way: fwd}, rules: []string{"mangle FORWARD -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "mangle-output", packet: packet{way: out}, rules: []string{"mangle OUTPUT -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "mangle-postrouting", packet: packet{way: fwd}, rules: []string{"mangle POSTROUTING -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "filter-input", packet: packet{way: in}, rules: []string{"filter INPUT -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "filter-forward", packet: packet{way: fwd}, rules: []string{"filter FORWARD -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "filter-output", packet: packet{way: out}, rules: []string{"filter OUTPUT -p udp --dport {p} -j DROP"}, want: []int{1}},
		{name: "nat-prerouting-dnat", packet: packet{way: in}, want: []int{1, 2}, rules: []string{
			"nat PREROUTING -p udp --dport {p} -j DNAT --to-destination {server}:{q}", "filter FORWARD -p udp --dport {q} -j DROP"}},
		{name: "nat-prerouting-redirect", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"nat PREROUTING -p udp --dport {p} -j REDIRECT --to-ports {q}", "filter INPUT -p udp --dport {q} -j DROP"}},
		{name: "nat-output-dnat", packet: packet{way: out}, want: []int{1, 2}, rules: []string{
			"nat OUTPUT -p udp --dport {p} -j DNAT --to-destination {client}:{q}", "filter OUTPUT -p udp --dport {q} -j DROP"}},
		{name: "nat-input-snat", packet: packet{way: in}, ends: passes, want: []int{1},
			rules: []string{"nat INPUT -p udp --dport {p} -j SNAT --to-source {client}"}},
		{name: "nat-postrouting-masquerade", packet: packet{way: fwd}, ends: passes, want: []int{1},
			rules: []string{"nat POSTROUTING -p udp --dport {p} -j MASQUERADE"}},
		{name: "nat-chain-return", packet: packet{way: fwd}, ends: passes, want: []int{1, 2, 3}, rules: []string{
			"nat POSTROUTING -p udp --dport {p} -j {c}a", "nat {c}a -p udp -j RETURN", "nat POSTROUTING -p udp --dport {p} -j ACCEPT"}},

		// REJECT in every kind
		{name: "reject-net", packet: packet{way: fwd}, ends: rejects, rules: []string{"filter FORWARD -p udp --dport {p} -j REJECT --reject-with icmp-net-unreachable"}, want: []int{1}},
		{name: "reject-host", packet: packet{way: fwd}, ends: rejects, rules: []string{"filter FORWARD -p udp --dport {p} -j REJECT --reject-with icmp-host-unreachable"}, want: []int{1}},
		{name: "reject-proto", packet: packet{way: in}, ends: rejects, rules: []string{"filter INPUT -p udp --dport {p} -j REJECT --reject-with icmp-proto-unreachable"}, want: []int{1}},
		{name: "reject-port", packet: packet{way: in}, ends: rejects, rules: []string{"filter INPUT -p udp --dport {p} -j REJECT"}, want: []int{1}},
		{name: "reject-net-prohib", packet: packet{way: fwd}, ends: rejects, rules: []string{"filter FORWARD -p udp --dport {p} -j REJECT --reject-with icmp-net-prohibited"}, want: []int{1}},
		{name: "reject-host-prohib", packet: packet{way: fwd}, ends: rejects, rules: []string{"filter FORWARD -p udp --dport {p} -j REJECT --reject-with icmp-host-prohibited"}, want: []int{1}},
		{name: "reject-admin-prohib", packet: packet{way: out}, ends: rejects, rules: []string{"filter OUTPUT -p udp --dport {p} -j REJECT --reject-with icmp-admin-prohibited"}, want: []int{1}},
		{name: "reject-tcp-reset", packet: packet{way: fwd, proto: "tcp"}, ends: rejects, rules: []string{"filter FORWARD -p tcp --dport {p} -j REJECT --reject-with tcp-reset"}, want: []int{1}},
		{name: "reject-tcp-reset-input", packet: packet{way: in, proto: "tcp"}, ends: rejects, rules: []string{"filter INPUT -p tcp --dport {p} -j REJECT --reject-with tcp-reset"}, want: []int{1}},
		// its answer goes through OUTPUT of the same table in the middle of INPUT
		{name: "reject-answer-counts", packet: packet{way: in}, ends: rejects, want: []int{2}, rules: []string{
			"filter OUTPUT -p icmp --icmp-type port-unreachable -m length --length 65 -j ACCEPT", "filter INPUT -p udp --dport {p} -j REJECT"}},

		// chains
		{name: "deep-goto", packet: packet{way: fwd}, want: []int{1, 2, 4, 5, 6, 7}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -j {c}b", "filter {c}b -p tcp -j DROP", "filter {c}b -g {c}c",
			"filter {c}c -j {c}d", "filter {c}d -p udp -j RETURN", "filter {c}c -p udp -j DROP"}},
		{name: "after-return", packet: packet{way: fwd}, want: []int{1, 2, 4}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -p udp -j RETURN", "filter {c}a -j DROP", "filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "after-end-of-chain", packet: packet{way: fwd}, want: []int{1, 3}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -p tcp -j DROP", "filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "return-of-goto", packet: packet{way: fwd}, want: []int{1, 2, 3, 5}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -g {c}b", "filter {c}b -p udp -j RETURN", "filter {c}a -j ACCEPT",
			"filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "chain-twice", packet: packet{way: fwd}, want: []int{1, 3, 2, 3, 4}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -j MARK --set-xmark 0x0/0x0",
			"filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "nine-deep", packet: packet{way: fwd}, want: []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -j {c}b", "filter {c}b -j {c}c", "filter {c}c -j {c}d", "filter {c}d -j {c}e",
			"filter {c}e -j {c}f", "filter {c}f -j {c}g", "filter {c}g -j {c}h", "filter {c}h -p udp -j DROP"}},
		{name: "accept", packet: packet{way: fwd}, ends: passes, want: []int{1}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j ACCEPT", "filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "accept-then-other-table", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"mangle FORWARD -p udp --dport {p} -j ACCEPT", "filter FORWARD -p udp --dport {p} -j DROP"}},

		// matches and marks
		{name: "ipset", packet: packet{way: fwd}, setup: []string{"create {c} hash:ip,port", "add {c} {server},udp:{p}"}, want: []int{1},
			rules: []string{"filter FORWARD -m set --match-set {c} dst,dst -j DROP"}},
		{name: "ipset-not", packet: packet{way: fwd}, setup: []string{"create {c} hash:ip", "add {c} 192.0.2.1"}, want: []int{2}, rules: []string{
			"filter FORWARD -p udp --dport {p} -m set --match-set {c} dst -j ACCEPT", "filter FORWARD -p udp --dport {p} -m set ! --match-set {c} dst -j DROP"}},
		{name: "mark-then-drop", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"mangle PREROUTING -p udp --dport {p} -j MARK --set-xmark 0x{p}/0xffffffff", "filter FORWARD -m mark --mark 0x{p} -j DROP"}},
		{name: "mark-in-the-same-table", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j MARK --set-xmark 0x{p}/0xffffffff", "filter FORWARD -m mark --mark 0x{p} -j DROP"}},
		{name: "connmark", packet: packet{way: ret}, want: []int{1, 2}, rules: []string{
			"mangle FORWARD -p udp --dport {p} -j CONNMARK --set-xmark 0x{p}/0xffffffff", "filter FORWARD -m connmark --mark 0x{p} -j DROP"}},
		{name: "ct-new", packet: packet{way: fwd}, want: []int{2}, rules: []string{
			"filter FORWARD -p udp --dport {p} -m conntrack --ctstate ESTABLISHED -j ACCEPT", "filter FORWARD -p udp --dport {p} -m conntrack --ctstate NEW -j DROP"}},
		{name: "ct-invalid", packet: packet{way: fwd, proto: "icmp-reply"}, want: []int{1},
			rules: []string{"filter FORWARD -p icmp -m length --length {len} -m conntrack --ctstate INVALID -j DROP"}},
		{name: "notrack", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"raw PREROUTING -p udp --dport {p} -j CT --notrack", "filter FORWARD -p udp --dport {p} -m conntrack --ctstate UNTRACKED -j DROP"}},
		{name: "icmp", packet: packet{way: fwd, proto: "icmp"}, want: []int{1}, rules: []string{"filter FORWARD -p icmp -m icmp --icmp-type 8 -m length --length {len} -j DROP"}},
		{name: "icmp-input", packet: packet{way: in, proto: "icmp"}, want: []int{1}, rules: []string{"filter INPUT -p icmp -m icmp --icmp-type 8 -m length --length {len} -j DROP"}},
		{name: "multiport", packet: packet{way: fwd}, want: []int{1}, rules: []string{"filter FORWARD -p udp -m multiport --dports 1,{p} -j DROP"}},
		{name: "addrtype", packet: packet{way: in}, want: []int{2}, rules: []string{
			"raw PREROUTING -p udp --dport {p} -m addrtype ! --dst-type LOCAL -j DROP", "raw PREROUTING -p udp --dport {p} -m addrtype --dst-type LOCAL -j DROP"}},
		{name: "interfaces", packet: packet{way: fwd}, want: []int{2}, rules: []string{
			"filter FORWARD -i {out} -o {in} -p udp --dport {p} -j ACCEPT", "filter FORWARD -i {in} -o {out} -p udp --dport {p} -j DROP"}},
		{name: "statistic", packet: packet{way: fwd}, want: []int{2}, rules: []string{
			"filter FORWARD -p udp --dport {p} -m statistic --mode nth --every 2 --packet 1 -j ACCEPT", "filter FORWARD -p udp --dport {p} -m statistic --mode nth --every 1 --packet 0 -j DROP"}},
		{name: "limit", packet: packet{way: fwd}, want: []int{1}, rules: []string{"filter FORWARD -p udp --dport {p} -m limit --limit 10/sec -j DROP"}},
		{name: "log-then-drop", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j NFLOG --nflog-group 7", "filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "no-target-then-drop", packet: packet{way: fwd}, want: []int{1, 2}, rules: []string{
			"filter FORWARD -p udp --dport {p}", "filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "nfqueue", packet: packet{way: fwd}, ends: queues, want: []int{1}, rules: []string{"filter FORWARD -p udp --dport {p} -j NFQUEUE --queue-num 9"}},
		{name: "syn", packet: packet{way: fwd, proto: "tcp"}, want: []int{1}, rules: []string{"filter FORWARD -p tcp --dport {p} --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"}},

		// replies
		{name: "reply-raw", packet: packet{way: ret}, want: []int{1}, rules: []string{"raw PREROUTING -i {out} -p udp --dport {p} -j DROP"}},
		{name: "reply-filter", packet: packet{way: ret}, want: []int{1}, rules: []string{"filter FORWARD -p udp --sport {echo} --dport {p} -m conntrack --ctstate ESTABLISHED -j DROP"}},
		{name: "reply-postrouting", packet: packet{way: ret}, want: []int{1}, rules: []string{"mangle POSTROUTING -p udp --sport {echo} --dport {p} -j DROP"}},
		{name: "reply-reject", packet: packet{way: ret}, ends: rejects, want: []int{1}, rules: []string{"filter FORWARD -p udp --sport {echo} --dport {p} -j REJECT"}},

		// IPv6
		{name: "v6-raw-prerouting", packet: v6(fwd), want: []int{1}, rules: []string{"raw PREROUTING -p udp --dport {p} -j DROP"}},
		{name: "v6-raw-output", packet: v6(out), want: []int{1}, rules: []string{"raw OUTPUT -p udp --dport {p} -j DROP"}},
		{name: "v6-mangle-output", packet: v6(out), want: []int{1}, rules: []string{"mangle OUTPUT -p udp --dport {p} -j DROP"}},
		{name: "v6-mangle-postrouting", packet: v6(fwd), want: []int{1}, rules: []string{"mangle POSTROUTING -p udp --dport {p} -j DROP"}},
		{name: "v6-filter-input", packet: v6(in), want: []int{1}, rules: []string{"filter INPUT -p udp --dport {p} -j DROP"}},
		{name: "v6-filter-forward", packet: v6(fwd), want: []int{1}, rules: []string{"filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "v6-nat", packet: v6(in), want: []int{1, 2}, rules: []string{
			"nat PREROUTING -p udp --dport {p} -j DNAT --to-destination [{server}]:{q}", "filter FORWARD -p udp --dport {q} -j DROP"}},
		{name: "v6-reject", packet: v6(fwd), ends: rejects, want: []int{1}, rules: []string{"filter FORWARD -p udp --dport {p} -j REJECT --reject-with icmp6-adm-prohibited"}},
		{name: "v6-reject-no-route", packet: v6(in), ends: rejects, want: []int{1}, rules: []string{"filter INPUT -p udp --dport {p} -j REJECT --reject-with icmp6-no-route"}},
		{name: "v6-tcp-reset", packet: packet{way: fwd, proto: "tcp", v6: true}, ends: rejects, want: []int{1}, rules: []string{"filter FORWARD -p tcp --dport {p} -j REJECT --reject-with tcp-reset"}},
		{name: "v6-deep", packet: v6(fwd), want: []int{1, 2, 3, 4}, rules: []string{
			"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -g {c}b", "filter {c}b -p udp -j RETURN", "filter FORWARD -p udp --dport {p} -j DROP"}},
		{name: "v6-reply", packet: v6(ret), want: []int{1}, rules: []string{"filter FORWARD -p udp --sport {echo} --dport {p} -j DROP"}},
		{name: "v6-icmp", packet: packet{way: fwd, proto: "icmp", v6: true}, want: []int{1}, rules: []string{"filter FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -m length --length {len} -j DROP"}},
	}
}

// iptablesPolicies are sets whose chains drop by themselves. The nat table's may
// with iptables-legacy, if restored, and see packets if there is connection
// tracking; iptables-nft leaves such a policy out.
func iptablesPolicies(variant string) []ruleSet {
	by := func(w way, chain string) ruleCase {
		return ruleCase{name: "policy-" + chain, packet: packet{way: w}, ends: policy, chain: chain}
	}
	passing := ruleCase{name: "let-in", packet: packet{way: in}, ends: passes, want: []int{1, 2}, rules: []string{
		"filter INPUT -p udp --dport {p} -j {c}a", "filter {c}a -p udp -j ACCEPT"}}
	back := ruleCase{name: "chain-ends-then-policy", packet: packet{way: fwd}, ends: policy, chain: "filter FORWARD", want: []int{1, 2}, rules: []string{
		"filter FORWARD -p udp --dport {p} -j {c}a", "filter {c}a -p udp -j RETURN"}}
	chains := [][]ruleCase{
		{by(fwd, "filter FORWARD"), by(in, "filter INPUT"), by(out, "filter OUTPUT"), passing, back},
		{by(fwd, "raw PREROUTING"), by(out, "raw OUTPUT")},
		{by(fwd, "mangle FORWARD"), by(in, "mangle INPUT"), by(out, "mangle POSTROUTING")},
		{by(fwd, "mangle PREROUTING"), by(out, "mangle OUTPUT")},
	}
	if variant == "legacy" {
		chains = append(chains, []ruleCase{by(fwd, "nat PREROUTING"), by(out, "nat OUTPUT")}, []ruleCase{by(fwd, "nat POSTROUTING")})
		for _, cases := range chains[len(chains)-2:] {
			cases[0].rules = []string{"~filter INPUT -p udp --dport 9 -m conntrack --ctstate NEW -j ACCEPT"}
		}
	}
	var sets []ruleSet
	for i, cases := range chains {
		set := ruleSet{name: fmt.Sprintf("policy-%d", i+1)}
		for _, c := range cases {
			if c.chain != "" {
				set.policies = append(set.policies, c.chain)
			}
			set.cases = append(set.cases, placedCase{ruleCase: c})
		}
		sets = append(sets, set)
	}
	return sets
}
