// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file loads rules with nft, in expressions that iptables 1.8.9 does not
// write but it, or a later one, reads.

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// What is expected of a rule written with nft. Behind twin stands a rule that
// iptables-nft has for the same, of which iptables-nft-save prints the line.
const (
	asSaved = ""  // the line that iptables-nft-save prints of the rule itself
	untold  = "-" // nothing: it is left to nft
)

// native is a rule in nft's words.
type native struct{ family, table, chain, rule, expect string }

func natives() []native {
	const ip, ip6 = nft.FamilyIP, nft.FamilyIP6
	var all []native
	add := func(family, table, chain, expect string, rules ...string) {
		for _, r := range rules {
			all = append(all, native{family, table, chain, r, expect})
		}
	}
	add(ip, "filter", "FORWARD", asSaved,
		"tcp dport 80 accept", "tcp dport 80 counter accept", "counter tcp dport 80", "tcp dport 10-20", "tcp dport != 10-20",
		"tcp sport > 1023 tcp dport 53", "tcp sport < 1024", "tcp dport >= 1000", "tcp dport <= 1000", "tcp dport != 443",
		"tcp flags syn", "tcp flags syn / fin,syn,rst,ack", "tcp flags & (syn|ack) == syn", "udp sport 53 udp dport 53",
		"tcp dport 80 tcp sport 80 tcp flags syn", "tcp sport 0-9 tcp dport != 7", "meta mark 0x5", "meta mark != 0x5",
		"meta mark & 0xff == 0x5", "meta mark & 0xff != 0x5", "limit rate 10/second burst 20 packets", "limit rate 400/minute",
		"limit rate 7/hour burst 1 packets", "log group 3", `log prefix "hello there" group 3 snaplen 60 queue-threshold 5`,
		`log prefix "a prefix that is longer than the sixty-three bytes which iptables itself has room for, up to nft's" group 0`,
		`iifname "eth0" oifname != "cali*" drop`, `iifname "eth*" jump U`, `oifname "eth0" goto U`,
		"ip saddr 10.0.0.0/8 ip daddr != 10.1.0.0/12 return", "ip saddr & 255.0.255.0 == 10.0.3.0", "ip saddr 10.0.0.1",
		"ip protocol tcp", "ip protocol tcp tcp dport 5", "meta l4proto udp ip protocol udp", "meta l4proto != 47",
		"icmp type echo-request", "icmp type 3 icmp code 1", "meta pkttype broadcast", "meta pkttype != unicast",
		"ip ttl 64", "ip ttl != 64", "ip ttl < 5", "ip ttl <= 5", "ip ttl > 5", "ip ttl >= 5",
		"ip frag-off & 0x1fff != 0", "ip frag-off & 0x1fff == 0", `tcp dport 80 comment "the web"`, "meta nftrace set 1")
	add(ip6, "filter", "FORWARD", asSaved,
		"tcp dport 80 accept", "ip6 saddr fd00::/8 ip6 daddr != fd00::1", "ip6 saddr fd00::/13", "ip6 hoplimit 64", "ip6 hoplimit > 64",
		"icmpv6 type echo-request", "icmpv6 type nd-neighbor-solicit icmpv6 code 0", "meta l4proto ipv6-icmp accept",
		"meta mark 1 udp dport 5-6 limit rate 1/second log group 1", `ip6 saddr ::1 iifname != "lo" drop comment "martian"`)
	// What 1.8.9 passes over or a later one is the first to read.
	add(ip, "filter", "FORWARD", "-p icmp -m icmp ! --icmp-type 8", "icmp type != echo-request")
	add(ip6, "filter", "FORWARD", "-p tcp", "ip6 nexthdr tcp")
	add(ip, "mangle", "PREROUTING", "-j MARK --set-xmark 0x10/0xffffffff", "meta mark set 0x10")
	// What no iptables has words for. 1.8.9 refuses the whole table, or drops the
	// expression it does not know and prints a rule that says less.
	add(ip, "filter", "FORWARD", untold,
		"tcp flags == syn", "sctp dport 53", "meta mark 1-5", "limit rate over 10/second", "limit rate 10 kbytes/second",
		"limit rate 3/week", `log prefix "hello there"`, "log level info", `iif "lo" goto U`, "ip saddr 10.0.0.1-10.0.0.7",
		"ip saddr { 10.0.0.1, 10.0.0.2 }", "meta l4proto { tcp, udp } th dport 53", "icmp code 1", "ip frag-off & 0x2000 != 0",
		"ip dscp 5", "ip length > 100", "ct state new", "ct state established,related accept", "meta length 1-100", "reject",
		"tcp dport 1 reject with tcp reset", "meta nftrace set 0", "fib daddr type local", "continue",
		"tcp dport 80 jump { tcp sport 1 drop; }", "tcp dport vmap { 80: accept, 81: drop }", "tcp dport { 80, 81 } drop",
		"log group 3 drop", "quota 10 mbytes", "@nh,0,8 0x45", "@th,0,16 0x45", "tcp dport != 5 tcp dport != 7")
	add(ip, "mangle", "PREROUTING", untold,
		"meta mark set meta mark & 0xffffff00", "meta mark set meta mark | 0x10", "meta mark set ct mark", "ct mark set 5", "ip dscp set 5")
	add(ip, "raw", "PREROUTING", untold, "notrack")
	add(ip, "nat", "POSTROUTING", untold, "masquerade", "ip saddr 10.0.0.0/8 masquerade fully-random", "snat to 10.0.0.1")
	add(ip, "nat", "PREROUTING", untold, "tcp dport 80 dnat to 10.0.0.1:8080", "tcp dport 80 redirect to :8080")
	add(ip6, "nat", "POSTROUTING", untold, "masquerade")
	return all
}

func TestNative(t *testing.T) {
	n := newNode(t)
	kinds := map[string]int{}
	defer func() {
		t.Logf("%d rules as iptables-nft-save prints them, %d left to nft, %d as their twins", kinds[asSaved], kinds[untold],
			len(natives())-kinds[asSaved]-kinds[untold])
	}()
	for _, r := range natives() {
		kinds[r.expect]++
		t.Run(r.family+" "+r.rule, func(t *testing.T) {
			n := node{t, n.c}
			want := r.expect
			if want != untold && want != asSaved {
				want = n.savedTwin(r)
			}
			h := builtin[r.table][r.chain]
			n.run(fmt.Sprintf("flush ruleset\ntable %s %s {\n chain U {\n }\n chain %s {\n type %s hook %s priority %d; policy accept;\n %s\n }\n}\n",
				r.family, r.table, r.chain, h.kind, strings.ToLower(r.chain), h.priority, r.rule), "nft", "-f", "-")
			if r.expect == asSaved {
				want = n.savedRule(r)
			}
			rs, _ := n.read()
			table := rs.Table(r.family, r.table)
			text, _, ok := Text(table, table.Chain(r.chain).Rules[0])
			if !ok {
				text = untold
			}
			if text != want {
				t.Errorf("got %q, want %q", text, want)
			}
		})
	}
}

// savedTwin is what iptables-nft-save prints of a rule's twin.
func (n node) savedTwin(r native) string {
	n.t.Helper()
	n.flush()
	n.run(fmt.Sprintf("*%s\n-A %s %s\nCOMMIT\n", r.table, r.chain, r.expect), tools[r.family]+"-restore")
	return n.savedRule(r)
}

// savedRule is the one rule that iptables-nft-save prints of a chain.
func (n node) savedRule(r native) string {
	n.t.Helper()
	lines := parseSaved(n.run("", tools[r.family]+"-save"))[r.table][r.chain]
	if len(lines) != 2 {
		n.t.Fatalf("iptables-nft-save prints %q where a chain with one rule was due", lines)
	}
	return lines[1]
}
