// SPDX-License-Identifier: Apache-2.0

package rulecases

// nftTables are the tables and base chains that native cases put rules into, in
// nft's words. Every family, hook and kind of chain is there, at priorities of
// iptables and at others.
func nftTables() []string {
	return []string{
		"add table inet rc", "add table ip rc4", "add table ip6 rc6", "add table bridge rcb", "add table netdev rcn", "add table inet rcp",
		"add chain inet rc raw { type filter hook prerouting priority -300; }",
		"add chain inet rc mangle { type filter hook prerouting priority -150; }",
		"add chain inet rc late { type filter hook prerouting priority -17; }",
		"add chain inet rc natpre { type nat hook prerouting priority -100; }",
		"add chain inet rc input { type filter hook input priority 0; }",
		"add chain inet rc input2 { type filter hook input priority 10; }",
		"add chain inet rc snatin { type nat hook input priority 100; }",
		"add chain inet rc early { type filter hook forward priority -10; }",
		"add chain inet rc forward { type filter hook forward priority 0; }",
		"add chain inet rc rawout { type filter hook output priority -300; }",
		"add chain inet rc natout { type nat hook output priority -100; }",
		"add chain inet rc output { type filter hook output priority 0; }",
		"add chain inet rc post { type filter hook postrouting priority -150; }",
		"add chain inet rc natpost { type nat hook postrouting priority 100; }",
		"add chain ip rc4 routing { type route hook output priority -150; }",
		"add chain ip rc4 forward { type filter hook forward priority 7; }",
		"add chain ip6 rc6 pre { type filter hook prerouting priority -200; }",
		"add chain ip6 rc6 forward { type filter hook forward priority 7; }",
		"add chain bridge rcb pre { type filter hook prerouting priority -300; }",
		"add chain bridge rcb forward { type filter hook forward priority 0; }",
		"add chain bridge rcb forward2 { type filter hook forward priority 10; }",
		"add chain bridge rcb post { type filter hook postrouting priority 300; }",
	}
}

// nftDeviceChains hang on devices.
func (s *stand) nftDeviceChains() []string {
	dev := s.client.HostInterface
	return []string{
		"add chain netdev rcn ingress { type filter hook ingress device " + dev + " priority 0; }",
		"add chain netdev rcn egress { type filter hook egress device " + s.server.HostInterface + " priority 0; }",
		"add chain inet rc ingress { type filter hook ingress device " + dev + " priority 5; }",
	}
}

// nftCases run with native nftables rules.
func nftCases() []ruleCase {
	f, v6 := packet{way: fwd}, packet{way: fwd, v6: true}
	return []ruleCase{
		// every kind of base chain
		{name: "raw", packet: f, want: []int{1}, rules: []string{"inet rc raw udp dport {p} drop"}},
		{name: "mangle", packet: f, want: []int{1}, rules: []string{"inet rc mangle udp dport {p} drop"}},
		{name: "priority-minus-17", packet: f, want: []int{1}, rules: []string{"inet rc late udp dport {p} drop"}},
		{name: "input", packet: packet{way: in}, want: []int{1}, rules: []string{"inet rc input udp dport {p} drop"}},
		{name: "accept-then-later-chain", packet: packet{way: in}, want: []int{1, 2}, rules: []string{"inet rc input udp dport {p} accept", "inet rc input2 udp dport {p} drop"}},
		{name: "early-forward", packet: f, want: []int{1}, rules: []string{"inet rc early udp dport {p} drop"}},
		{name: "forward", packet: f, want: []int{1}, rules: []string{"inet rc forward udp dport {p} drop"}},
		{name: "output", packet: packet{way: out}, want: []int{1}, rules: []string{"inet rc output udp dport {p} drop"}},
		{name: "raw-output", packet: packet{way: out}, want: []int{1}, rules: []string{"inet rc rawout udp dport {p} drop"}},
		{name: "route-output", packet: packet{way: out}, want: []int{1}, rules: []string{"ip rc4 routing udp dport {p} drop"}},
		{name: "postrouting", packet: f, want: []int{1}, rules: []string{"inet rc post udp dport {p} drop"}},
		{name: "ip-forward", packet: f, want: []int{1}, rules: []string{"ip rc4 forward udp dport {p} drop"}},
		{name: "ip6-forward", packet: v6, want: []int{1}, rules: []string{"ip6 rc6 forward udp dport {p} drop"}},
		{name: "ip6-pre", packet: v6, want: []int{1}, rules: []string{"ip6 rc6 pre udp dport {p} drop"}},
		{name: "inet-v6", packet: v6, want: []int{1}, rules: []string{"inet rc forward udp dport {p} drop"}},
		{name: "inet-v6-output", packet: packet{way: out, v6: true}, want: []int{1}, rules: []string{"inet rc output udp dport {p} drop"}},
		{name: "bridge-pre", packet: packet{way: bridged}, hook: "bridge PREROUTING", want: []int{1}, rules: []string{"bridge rcb pre udp dport {p} drop"}},
		{name: "bridge-forward", packet: packet{way: bridged}, hook: "bridge FORWARD", want: []int{1}, rules: []string{"bridge rcb forward iifname {br} ip protocol udp udp dport {p} drop"}},
		{name: "bridge-second", packet: packet{way: bridged}, hook: "bridge FORWARD", want: []int{2}, rules: []string{
			"bridge rcb forward ip protocol tcp drop", "bridge rcb forward2 ip protocol udp udp dport {p} drop"}},
		{name: "bridge-post", packet: packet{way: bridged}, hook: "bridge POSTROUTING", want: []int{1}, rules: []string{"bridge rcb post udp dport {p} drop"}},
		{name: "netdev-ingress", packet: f, hook: "netdev INGRESS", want: []int{1}, rules: []string{"netdev rcn ingress udp dport {p} drop"}},
		{name: "netdev-egress", packet: f, hook: "netdev EGRESS", want: []int{1}, rules: []string{"netdev rcn egress udp dport {p} drop"}},
		{name: "inet-ingress", packet: f, hook: "inet INGRESS", want: []int{1}, rules: []string{"inet rc ingress udp dport {p} drop"}},
		{name: "netdev-ingress-jump", packet: f, hook: "netdev INGRESS", setup: []string{"add chain netdev rcn {c}a"}, want: []int{1, 2}, rules: []string{
			"netdev rcn ingress udp dport {p} jump {c}a", "netdev rcn {c}a meta l4proto udp drop"}},

		// nat
		{name: "dnat", packet: packet{way: in}, want: []int{1, 2}, rules: []string{
			"inet rc natpre udp dport {p} dnat ip to {server}:{q}", "inet rc forward udp dport {q} drop"}},
		{name: "redirect", packet: f, want: []int{1, 2}, rules: []string{"inet rc natpre udp dport {p} redirect to :{q}", "inet rc input udp dport {q} drop"}},
		{name: "natout", packet: packet{way: out}, want: []int{1, 2}, rules: []string{
			"inet rc natout udp dport {p} dnat ip to {client}:{q}", "inet rc output udp dport {q} drop"}},
		{name: "masquerade", packet: f, ends: passes, want: []int{1}, rules: []string{"inet rc natpost udp dport {p} masquerade"}},
		{name: "snat-input", packet: packet{way: in}, ends: passes, want: []int{1}, rules: []string{"inet rc snatin udp dport {p} snat ip to {client}"}},
		{name: "drop-in-nat", packet: f, want: []int{1}, rules: []string{"inet rc natpre udp dport {p} drop"}},
		{name: "dnat-map", packet: packet{way: in}, setup: []string{"add map inet rc {c}m { type inet_service : ipv4_addr; elements = { {p} : {server} }; }"},
			want: []int{1, 2}, rules: []string{"inet rc natpre meta nfproto ipv4 dnat ip to udp dport map @{c}m", "inet rc forward udp dport {p} drop"}},

		// reject in every kind
		{name: "reject", packet: f, ends: rejects, want: []int{1}, rules: []string{"inet rc forward udp dport {p} reject"}},
		{name: "reject-icmp-net", packet: f, ends: rejects, want: []int{1}, rules: []string{"ip rc4 forward udp dport {p} reject with icmp type net-unreachable"}},
		{name: "reject-icmp-host", packet: f, ends: rejects, want: []int{1}, rules: []string{"inet rc forward udp dport {p} reject with icmp type host-prohibited"}},
		{name: "reject-icmpx", packet: packet{way: in}, ends: rejects, want: []int{1}, rules: []string{"inet rc input udp dport {p} reject with icmpx type admin-prohibited"}},
		{name: "reject-icmpx-v6", packet: packet{way: in, v6: true}, ends: rejects, want: []int{1}, rules: []string{"inet rc input udp dport {p} reject with icmpx type no-route"}},
		{name: "reject-icmpv6", packet: v6, ends: rejects, want: []int{1}, rules: []string{"ip6 rc6 forward udp dport {p} reject with icmpv6 type addr-unreachable"}},
		{name: "reject-reset", packet: packet{way: fwd, proto: "tcp"}, ends: rejects, want: []int{1}, rules: []string{"inet rc forward tcp dport {p} reject with tcp reset"}},
		{name: "reject-reset-v6", packet: packet{way: in, proto: "tcp", v6: true}, ends: rejects, want: []int{1}, rules: []string{"inet rc input tcp dport {p} reject with tcp reset"}},
		{name: "reject-output", packet: packet{way: out}, ends: rejects, want: []int{1}, rules: []string{"inet rc output udp dport {p} reject"}},

		// chains
		{name: "deep-goto", packet: f, setup: []string{"add chain inet rc {c}a", "add chain inet rc {c}b", "add chain inet rc {c}c", "add chain inet rc {c}d"},
			want: []int{1, 2, 4, 5, 6, 7}, rules: []string{
				"inet rc forward udp dport {p} jump {c}a", "inet rc {c}a jump {c}b", "inet rc {c}b meta l4proto tcp drop", "inet rc {c}b goto {c}c",
				"inet rc {c}c jump {c}d", "inet rc {c}d meta l4proto udp return", "inet rc {c}c meta l4proto udp drop"}},
		{name: "after-return", packet: f, setup: []string{"add chain inet rc {c}a"}, want: []int{1, 2, 4}, rules: []string{
			"inet rc forward udp dport {p} jump {c}a", "inet rc {c}a return", "inet rc {c}a drop", "inet rc forward udp dport {p} drop"}},
		{name: "after-end-of-chain", packet: f, setup: []string{"add chain inet rc {c}a"}, want: []int{1, 3}, rules: []string{
			"inet rc forward udp dport {p} jump {c}a", "inet rc {c}a meta l4proto tcp drop", "inet rc forward udp dport {p} drop"}},
		{name: "return-of-goto", packet: f, setup: []string{"add chain inet rc {c}a", "add chain inet rc {c}b"}, want: []int{1, 2, 3, 5}, rules: []string{
			"inet rc forward udp dport {p} jump {c}a", "inet rc {c}a goto {c}b", "inet rc {c}b return", "inet rc {c}a accept", "inet rc forward udp dport {p} drop"}},
		{name: "chain-twice", packet: f, setup: []string{"add chain inet rc {c}a"}, want: []int{1, 3, 2, 3, 4}, rules: []string{
			"inet rc forward udp dport {p} jump {c}a", "inet rc forward udp dport {p} jump {c}a", "inet rc {c}a counter", "inet rc forward udp dport {p} drop"}},
		{name: "chain-in-two-hooks", packet: f, setup: []string{"add chain inet rc {c}a"}, want: []int{1, 3, 2, 3, 4}, rules: []string{
			"inet rc raw udp dport {p} jump {c}a", "inet rc forward udp dport {p} jump {c}a", "inet rc {c}a counter", "inet rc forward udp dport {p} drop"}},
		{name: "nine-deep", packet: f, setup: []string{"add chain inet rc {c}a", "add chain inet rc {c}b", "add chain inet rc {c}c", "add chain inet rc {c}d",
			"add chain inet rc {c}e", "add chain inet rc {c}f", "add chain inet rc {c}g", "add chain inet rc {c}h"}, want: []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, rules: []string{
			"inet rc forward udp dport {p} jump {c}a", "inet rc {c}a jump {c}b", "inet rc {c}b jump {c}c", "inet rc {c}c jump {c}d", "inet rc {c}d jump {c}e",
			"inet rc {c}e jump {c}f", "inet rc {c}f jump {c}g", "inet rc {c}g jump {c}h", "inet rc {c}h drop"}},

		// verdict maps and sets
		{name: "vmap-anonymous", packet: f, want: []int{1}, rules: []string{"inet rc forward udp dport vmap { 1 : accept, {p} : drop }"}},
		{name: "vmap-named", packet: f, setup: []string{"add map inet rc {c}m { type inet_service : verdict; elements = { {p} : drop }; }"},
			want: []int{1}, rules: []string{"inet rc forward udp dport vmap @{c}m"}},
		{name: "vmap-jump", packet: f, setup: []string{"add chain inet rc {c}a", "add map inet rc {c}m { type inet_service : verdict; elements = { {p} : jump {c}a }; }"},
			want: []int{1, 2}, rules: []string{"inet rc forward udp dport vmap @{c}m", "inet rc {c}a drop"}},
		{name: "vmap-concatenation", packet: f, setup: []string{"add chain inet rc {c}a",
			"add map inet rc {c}m { type ipv4_addr . inet_service : verdict; elements = { {server} . {p} : goto {c}a }; }"},
			want: []int{1, 2}, rules: []string{"inet rc forward ip daddr . udp dport vmap @{c}m", "inet rc {c}a meta l4proto udp drop"}},
		{name: "vmap-interval", packet: f, setup: []string{"add map inet rc {c}m { type inet_service : verdict; flags interval; elements = { 20000-65535 : accept, {p}-{p} : drop }; }"},
			want: []int{1}, rules: []string{"inet rc forward udp dport vmap @{c}m"}},
		{name: "set-named", packet: f, setup: []string{"add set inet rc {c}s { type inet_service; elements = { {p} }; }"}, want: []int{1}, rules: []string{"inet rc forward udp dport @{c}s drop"}},
		{name: "set-anonymous", packet: f, want: []int{1}, rules: []string{"inet rc forward udp dport { 1, {p} } drop"}},
		{name: "set-not", packet: f, setup: []string{"add set inet rc {c}s { type ipv4_addr; elements = { 192.0.2.1 }; }"}, want: []int{2}, rules: []string{
			"inet rc forward udp dport {p} ip daddr @{c}s accept", "inet rc forward udp dport {p} ip daddr != @{c}s drop"}},
		{name: "dynamic-set", packet: f, setup: []string{"add set inet rc {c}s { type ipv4_addr; size 16; flags dynamic,timeout; timeout 60s; }"}, want: []int{1, 2}, rules: []string{
			"inet rc forward udp dport {p} add @{c}s { ip saddr }", "inet rc forward udp dport {p} ip saddr @{c}s drop"}},

		// marks, state, statements that let packets go on
		{name: "mark-then-drop", packet: f, want: []int{1, 2}, rules: []string{"inet rc mangle udp dport {p} meta mark set {p}", "inet rc forward meta mark {p} drop"}},
		{name: "ct-mark", packet: packet{way: ret}, want: []int{1, 2}, rules: []string{"inet rc early udp dport {p} ct mark set {p}", "inet rc forward ct mark {p} drop"}},
		{name: "ct-new", packet: f, want: []int{2}, rules: []string{"inet rc forward udp dport {p} ct state established accept", "inet rc forward udp dport {p} ct state new drop"}},
		{name: "ct-invalid", packet: packet{way: fwd, proto: "icmp-reply"}, want: []int{1}, rules: []string{"inet rc forward ip length {len} meta l4proto icmp ct state invalid drop"}},
		{name: "ct-vmap", packet: packet{way: ret}, setup: []string{"add chain inet rc {c}a"}, want: []int{1, 2}, rules: []string{
			"inet rc forward udp dport {p} ct state vmap { established : jump {c}a, new : accept }", "inet rc {c}a drop"}},
		{name: "notrack", packet: f, want: []int{1, 2}, rules: []string{"inet rc raw udp dport {p} notrack", "inet rc forward udp dport {p} ct state untracked drop"}},
		{name: "counter-then-drop", packet: f, want: []int{1, 2}, rules: []string{"inet rc forward udp dport {p} counter", "inet rc forward udp dport {p} counter drop"}},
		{name: "limit", packet: f, want: []int{1}, rules: []string{"inet rc forward udp dport {p} limit rate 10/second drop"}},
		{name: "limit-over", packet: f, want: []int{2}, rules: []string{"inet rc forward udp dport {p} limit rate over 10/second drop", "inet rc forward udp dport {p} drop"}},
		{name: "log-then-drop", packet: f, want: []int{1, 2}, rules: []string{"inet rc forward udp dport {p} log group 7", "inet rc forward udp dport {p} drop"}},
		{name: "payload-set", packet: f, want: []int{1, 2}, rules: []string{"inet rc mangle udp dport {p} ip dscp set cs1", "inet rc forward udp dport {p} ip dscp cs1 drop"}},
		{name: "quota", packet: f, want: []int{1}, rules: []string{"inet rc forward udp dport {p} quota until 1 mbytes drop"}},
		{name: "numgen-vmap", packet: f, want: []int{1}, rules: []string{"inet rc forward udp dport {p} numgen inc mod 1 vmap { 0 : drop }"}},
		{name: "queue", packet: f, ends: queues, want: []int{1}, module: "nft_queue", rules: []string{"inet rc forward udp dport {p} queue num 9"}},
		{name: "icmp", packet: packet{way: fwd, proto: "icmp"}, want: []int{1}, rules: []string{"inet rc forward ip length {len} icmp type echo-request drop"}},
		{name: "fib", packet: packet{way: in}, want: []int{1}, rules: []string{"inet rc raw udp dport {p} fib daddr type local drop"}},
		{name: "reply", packet: packet{way: ret}, want: []int{1}, rules: []string{"inet rc forward udp sport {echo} udp dport {p} ct state established drop"}},
		{name: "reply-raw", packet: packet{way: ret}, want: []int{1}, rules: []string{"inet rc raw iifname {out} udp dport {p} drop"}},
		{name: "reply-reject", packet: packet{way: ret}, ends: rejects, want: []int{1}, rules: []string{"inet rc forward udp sport {echo} udp dport {p} reject"}},
		{name: "v6-reply", packet: packet{way: ret, v6: true}, want: []int{1}, rules: []string{"ip6 rc6 forward udp sport {echo} udp dport {p} drop"}},
		{name: "accept", packet: f, ends: passes, want: []int{1}, rules: []string{"inet rc forward udp dport {p} accept", "inet rc forward udp dport {p} drop"}},
		// a rule that only compares has no expression that could be listened to
		{name: "comparison-only", packet: f, want: []int{1, 2}, rules: []string{"inet rc forward udp dport {p}", "inet rc forward udp dport {p} drop"}},
		{name: "comparison-then-jump", packet: f, setup: []string{"add chain inet rc {c}a"}, want: []int{1, 2, 3, 4, 6}, rules: []string{
			"inet rc forward ip saddr {client} udp dport {p}", "inet rc forward udp dport {p} jump {c}a", "inet rc {c}a meta mark 0 udp dport >= {p}",
			"inet rc {c}a udp dport {p} ct state new", "inet rc {c}a udp dport {p} ct state established", "inet rc forward udp dport {p} drop"}},
		{name: "comparison-no-match", packet: f, want: []int{2}, rules: []string{"inet rc forward udp dport {q}", "inet rc forward udp dport {p} drop"}},
	}
}

// nftPolicies: base chains of their own that drop what no rule accepts.
func nftPolicies() []ruleCase {
	chain := func(family, hook, priority string) string {
		return "add chain " + family + " rcp {c} { type filter hook " + hook + " priority " + priority + "; policy drop; }"
	}
	// the rules in front of the policy accept every packet but the case's own
	return []ruleCase{
		{name: "policy-forward", packet: packet{way: fwd}, ends: policy, chain: "inet rcp {c}", setup: []string{chain("inet", "forward", "20")},
			rules: []string{"~inet rcp {c} udp dport != {p} accept", "~inet rcp {c} meta l4proto != udp accept"}},
		{name: "policy-after-return", packet: packet{way: fwd}, ends: policy, chain: "inet rcp {c}", setup: []string{chain("inet", "forward", "21"), "add chain inet rcp {c}a"},
			want:  []int{3, 4},
			rules: []string{"~inet rcp {c} udp dport != {p} accept", "~inet rcp {c} meta l4proto != udp accept", "inet rcp {c} udp dport {p} jump {c}a", "inet rcp {c}a return"}},
		{name: "policy-input", packet: packet{way: in}, ends: policy, chain: "inet rcp {c}", setup: []string{chain("inet", "input", "22")},
			rules: []string{"~inet rcp {c} udp dport != {p} accept", "~inet rcp {c} meta l4proto != udp accept"}},
		{name: "policy-output", packet: packet{way: out}, ends: policy, chain: "inet rcp {c}", setup: []string{chain("inet", "output", "23")},
			rules: []string{"~inet rcp {c} udp dport != {p} accept", "~inet rcp {c} meta l4proto != udp accept"}},
	}
}
