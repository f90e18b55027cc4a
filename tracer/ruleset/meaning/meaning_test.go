// SPDX-License-Identifier: Apache-2.0

// Rules that the recorded nodes do not have: other versions, other writers,
// people. What is compared is the sentence a user reads.

package meaning

import (
	"strings"
	"testing"
)

// save is a rule in iptables-save's form: "table number -A CHAIN ...".
func save(backend, table string, number int, text string) Rule {
	return Rule{Backend: backend, Family: "ip", Table: table, Chain: strings.Fields(text)[1], Number: number, Text: text}
}

func legacy(table string, number int, text string) Rule { return save("legacy", table, number, text) }

func nft(family, table, chain string, number int, text string) Rule {
	return Rule{Backend: "nft", Family: family, Table: table, Chain: chain, Number: number, Text: text}
}

type sentenceCase struct {
	name  string
	known Known
	path  Path
	kind  Kind
	want  string
}

func rules(r ...Rule) Path { return Path{Rules: r} }

func checkSentences(t *testing.T, cases []sentenceCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := NewBook(c.known).Explain(c.path)
			if m.Sentence != c.want || m.Kind != c.kind {
				t.Errorf("got  %s: %q\nwant %s: %q", m.Kind, m.Sentence, c.kind, c.want)
			}
		})
	}
}

func TestPeoplesRules(t *testing.T) {
	checkSentences(t, []sentenceCase{
		{"a comment", Known{}, rules(legacy("filter", 3, `-A FORWARD -s 10.0.0.0/8 -m comment --comment "maintenance window" -j DROP`)), PlainRule,
			`rule 3 of filter/FORWARD (iptables-legacy) drops it: its comment is "maintenance window"`},
		{"a comment told apart", Known{}, rules(Rule{Backend: "nft", Family: "ip6", Table: "filter", Chain: "FORWARD", Number: 1,
			Text: `-A FORWARD -j REJECT --reject-with icmp6-port-unreachable`, Comments: []string{"why"}}), PlainRule,
			`rule 1 of filter/FORWARD (ip6tables-nft) rejects it: its comment is "why"`},
		{"native", Known{}, rules(nft("inet", "fw", "forward", 2, `ip saddr 10.0.0.1 counter packets 1 bytes 84 drop`)), PlainRule,
			`rule 2 of chain forward (nftables table inet fw) drops it`},
		{"number not known", Known{}, rules(nft("inet", "fw", "forward", 0, `log prefix "drop accept " level info drop comment "say \"no\""`)), PlainRule,
			`a rule of chain forward (nftables table inet fw) drops it: its comment is "say \"no\""`},
		{"a mark set in another table", Known{}, rules(
			legacy("mangle", 1, `-A PREROUTING -s 10.0.0.1/32 -j MARK --set-xmark 0x8/0x8`),
			legacy("mangle", 2, `-A PREROUTING -j MARK --set-xmark 0x0/0x10000`),
			legacy("filter", 1, `-A FORWARD -m mark --mark 0x8/0x8 -j DROP`)), PlainRule,
			`rule 1 of filter/FORWARD (iptables-legacy) drops it: the packet's mark is 0x8/0x8, set by rule 1 of mangle/PREROUTING (iptables-legacy)`},
		{"a mark that is not in the path", Known{}, rules(legacy("filter", 1, `-A FORWARD -m mark --mark 0x8/0x8 -j DROP`)), PlainRule,
			`rule 1 of filter/FORWARD (iptables-legacy) drops it`},
		{"a mark restored from the connection", Known{}, rules(
			legacy("mangle", 1, `-A PREROUTING -j MARK --set-xmark 0x8/0x8`),
			legacy("mangle", 2, `-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff`),
			legacy("filter", 1, `-A FORWARD -m mark --mark 0x8/0x8 -j DROP`)), PlainRule,
			`rule 1 of filter/FORWARD (iptables-legacy) drops it`},
		{"a mark, natively", Known{}, rules(
			nft("inet", "fw", "pre", 4, `ip saddr 10.0.0.1 meta mark set meta mark & 0xffffff0f | 0x00000020`),
			nft("inet", "fw", "forward", 1, `meta mark & 0x000000f0 == 0x00000020 counter drop`)), PlainRule,
			`rule 1 of chain forward (nftables table inet fw) drops it: the packet's mark is 0x20/0xf0, set by rule 4 of chain pre (nftables table inet fw)`},
		{"more than the mark is tested", Known{}, rules(
			legacy("mangle", 1, `-A PREROUTING -j MARK --set-xmark 0x8/0x8`),
			legacy("filter", 1, `-A FORWARD -p udp -m mark --mark 0x8/0x8 -j DROP`)), PlainRule,
			`rule 1 of filter/FORWARD (iptables-legacy) drops it`},
		{"invalid", Known{}, rules(legacy("filter", 2, `-A FORWARD -m conntrack --ctstate INVALID -j DROP`)), Invalid,
			`rule 2 of filter/FORWARD (iptables-legacy) drops it: connection tracking calls the packet invalid`},
		{"not invalid", Known{}, rules(legacy("filter", 2, `-A FORWARD -m conntrack ! --ctstate INVALID -j DROP`)), PlainRule,
			`rule 2 of filter/FORWARD (iptables-legacy) drops it`},
		{"policy", Known{}, rules(legacy("filter", 1, `-A FORWARD -j CHAIN`), Rule{Backend: "legacy", Family: "ip", Table: "filter", Chain: "FORWARD", Text: ":FORWARD DROP [5:300]"}), ChainPolicy,
			`the policy of filter/FORWARD (iptables-legacy) drops it: no rule before decided otherwise`},
		{"policy, natively", Known{}, rules(nft("inet", "fw", "forward", 0, "type filter hook forward priority filter; policy drop;")), ChainPolicy,
			`the policy of chain forward (nftables table inet fw) drops it: no rule before decided otherwise`},
		{"a verdict map", Known{}, Path{Rules: []Rule{nft("inet", "fw", "forward", 1, `tcp dport vmap @ports`)}, Verdict: "drop"}, PlainRule,
			`rule 1 of chain forward (nftables table inet fw) drops it`},
		{"a map in the rule", Known{}, rules(nft("inet", "fw", "forward", 1, `tcp dport vmap { 22 : accept, 23 : drop }`)), PlainRule,
			`rule 1 of chain forward (nftables table inet fw) decides on it`},
		{"a set in the rule", Known{}, rules(nft("inet", "fw", "forward", 1, `meta mark 0x00000001 ip saddr { 10.0.0.0/8, 192.168.0.0/16 } jump drop`)), PlainRule,
			`rule 1 of chain forward (nftables table inet fw) sends it to drop`},
		{"docker's user chain", Known{}, rules(legacy("filter", 1, `-A DOCKER-USER -s 10.0.0.0/8 -j DROP`)), PlainRule,
			`rule 1 of filter/DOCKER-USER (iptables-legacy) drops it`},
		{"a status that looks like a verdict", Known{}, rules(nft("ip", "fw", "forward", 1, `ct status dnat ct mark set meta mark accept`)), PlainRule,
			`rule 1 of chain forward (nftables table ip fw) accepts it`},
		{"nothing", Known{}, Path{}, "", ""},
	})
}

const hash = `-m comment --comment "cali:0123456789abcdef" `

func TestCalicoElsewhere(t *testing.T) {
	endpoints := map[string]string{"cali1": "default/web", "cali2": "default/new"}
	tw := func(n int, text string) Rule { return legacy("filter", n, "-A cali-tw-cali1 "+hash+text) }
	tier := []Rule{
		tw(4, `-m comment --comment "Start of tier security" -j MARK --set-xmark 0x0/0x20000`),
		tw(5, `-m mark --mark 0x0/0x20000 -j cali-pi-gnp/first`),
		tw(7, `-m comment --comment "End of tier security. Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP`),
		tw(8, `-m comment --comment "Start of tier default" -j MARK --set-xmark 0x0/0x20000`),
		tw(9, `-m mark --mark 0x0/0x20000 -j cali-gi-3TnJpbrIFaaghUSZ`),
		tw(11, `-m comment --comment "End of tier default. Reject if no policies passed packet" -m mark --mark 0x0/0x20000 -j REJECT`),
	}
	group := []Rule{legacy("filter", 1, "-A cali-gi-3TnJpbrIFaaghUSZ "+hash+"-j cali-pi-np/a/b"), legacy("filter", 2, "-A cali-gi-3TnJpbrIFaaghUSZ "+hash+"-m mark --mark 0x0/0x30000 -j cali-pi-knp/a/c")}
	chains := func(r Rule) []Rule {
		return map[string][]Rule{"cali-tw-cali1": tier, "cali-gi-3TnJpbrIFaaghUSZ": group}[r.Chain]
	}
	known := Known{Endpoints: endpoints, Chain: chains}
	checkSentences(t, []sentenceCase{
		{"the first of two tiers", known, rules(tier[2]), TierEnd,
			"Calico GlobalNetworkPolicy first (ingress of pod default/web behind cali1) does not allow it: end of tier security"},
		{"a group of policies in the second", known, rules(tier[5]), TierEnd,
			"none of Calico NetworkPolicy a/b and Kubernetes NetworkPolicy a/c (ingress of pod default/web behind cali1) allows it: end of tier default"},
		{"no policy known", Known{}, rules(tier[5]), TierEnd,
			"no Calico policy (ingress of the pod behind cali1) allows it: end of tier default"},
		{"an older version", Known{}, rules(
			tw(4, `-m comment --comment "Start of policies" -j MARK --set-xmark 0x0/0x20000`),
			tw(5, `-m mark --mark 0x0/0x20000 -j cali-pi-_Eb-vckmN-lr2eREXQcs`),
			legacy("filter", 1, `-A cali-pi-_Eb-vckmN-lr2eREXQcs -p tcp -m comment --comment "cali:0123456789abcdef" -m comment --comment "Policy default/knp.default.haejun-policy ingress" -j MARK --set-xmark 0x10000/0x10000`),
			tw(7, `-m comment --comment "Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP`)), TierEnd,
			"Kubernetes NetworkPolicy default/haejun-policy (ingress of the pod behind cali1) does not allow it: end of the policies"},
		{"an older version's hash", Known{Policies: []string{"KubernetesNetworkPolicy default/haejun-policy"}}, rules(
			legacy("filter", 2, `-A cali-pi-_Eb-vckmN-lr2eREXQcs `+hash+`-j DROP`)), PolicyDeny,
			"Kubernetes NetworkPolicy default/haejun-policy (ingress) denies it"},
		{"a path with a gap is not filled with another's endpoint", known, rules(
			legacy("filter", 3, `-A cali-fw-cali1 `+hash+`-j MARK --set-xmark 0x0/0x30000`),
			legacy("filter", 2, `-A cali-pi-np/a/b `+hash+`-j DROP`)), PolicyDeny,
			"Calico NetworkPolicy a/b (ingress) denies it"},
		{"unknown interface, source", known, Path{In: "cali2", Out: "eth0", Rules: []Rule{legacy("filter", 4, `-A cali-from-wl-dispatch `+hash+`-m comment --comment "Unknown interface" -j DROP`)}}, UnknownInterface,
			"Calico has no endpoint for interface cali2 (pod default/new): cali-from-wl-dispatch drops it"},
		{"unknown interface, destination, in a prefix tree", Known{}, Path{In: "eth0", Out: "cali2", Rules: []Rule{legacy("filter", 4, `-A cali-to-wl-dispatch-2 `+hash+`-m comment --comment "Unknown interface" -j DROP`)}}, UnknownInterface,
			"Calico has no endpoint for interface cali2: cali-to-wl-dispatch-2 drops it"},
		{"reverse path", known, Path{In: "cali1", Rules: []Rule{legacy("raw", 5, `-A cali-PREROUTING `+hash+`-m mark --mark 0x80000/0x80000 -m rpfilter --validmark --invert -j DROP`)}}, ReversePath,
			"Calico's reverse path check (raw cali-PREROUTING) drops it: the way back to its source address does not lead out of cali1 (pod default/web)"},
		{"switched off", known, rules(tw(1, `-m comment --comment "Endpoint admin disabled" -j DROP`)), AdminDown,
			"Calico (ingress of pod default/web behind cali1) drops it: the endpoint is switched off in Calico's data"},
		{"a host endpoint", Known{}, rules(legacy("filter", 6, `-A cali-fh-eth0 `+hash+`-m comment --comment "Drop if no profiles matched" -j DROP`)), NoProfile,
			"no Calico policy decided on it and no profile allows it (ingress of host interface eth0)"},
		{"the wildcard host endpoint, forwarding", Known{}, rules(
			legacy("filter", 9, `-A `+CalicoChain("cali-thfw-", "any-interface-at-all")+` `+hash+`-m comment --comment "End of tier default. Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP`)), TierEnd,
			"no Calico policy (egress of forwarded packets at the host's interfaces) allows it: end of tier default"},
		{"a service loop", Known{}, rules(legacy("filter", 1, `-A cali-cidr-block -d 10.96.0.0/12 `+hash+`-j DROP`)), ServiceLoop,
			"Calico (filter cali-cidr-block) drops it: its destination is in a service range and no service has translated it"},
		{"to the node", Known{}, rules(legacy("filter", 2, `-A cali-wl-to-host `+hash+`-m comment --comment "Configured DefaultEndpointToHostAction" -j DROP`)), PodToHost,
			"Calico (filter cali-wl-to-host) drops it: this is what DefaultEndpointToHostAction says for packets from pods to their own node"},
		{"annotations beside the policy's name", Known{}, rules(
			legacy("filter", 1, `-A cali-po-_0123456789012345678 `+hash+`-m comment --comment "team=net" -m comment --comment "GlobalNetworkPolicy x egress" -j MARK --set-xmark 0x40000/0x40000`),
			legacy("filter", 2, `-A cali-po-_0123456789012345678 `+hash+`-m mark --mark 0x40000/0x40000 -j DROP`)), PolicyDeny,
			"Calico GlobalNetworkPolicy x (egress) denies it"},
	})
}

func TestKubeProxyElsewhere(t *testing.T) {
	one := Service{Namespace: "demo", Name: "one", Proto: "TCP", Endpoints: []string{"10.244.1.10:8080"}}
	known := Known{Services: []Service{one}}
	sep := "KUBE-SEP-" + KubeEndpointHash(one, one.Endpoints[0])
	checkSentences(t, []sentenceCase{
		{"more than 1000 endpoints: no comments", known, rules(legacy("nat", 2, `-A `+sep+` -p tcp -m tcp -j DNAT --to-destination 10.244.1.10:8080`)), Translation,
			"kube-proxy sends it to 10.244.1.10:8080, an endpoint of service demo/one"},
		{"and no services known", Known{}, rules(legacy("nat", 2, `-A `+sep+` -p tcp -m tcp -j DNAT --to-destination 10.244.1.10:8080`)), Translation,
			"kube-proxy sends it to 10.244.1.10:8080, an endpoint of the service at its destination"},
		{"one endpoint in nftables mode", Known{}, rules(nft("ip6", "kube-proxy", "endpoint-RERW4EIL-demo/sticky/tcp/__fd00..10/8080", 2, `meta l4proto tcp dnat to [fd00::10]:8080`)), Translation,
			"kube-proxy sends it to [fd00::10]:8080, an endpoint of service demo/sticky"},
		{"an endpoint that only the chain's name tells", known, rules(nft("ip", "nat", sep, 2, `meta l4proto tcp dnat`)), Translation,
			"kube-proxy sends it to 10.244.1.10:8080, an endpoint of service demo/one"},
		{"nftables mode", Known{}, rules(nft("ip", "kube-proxy", "service-YU5CZIXF-demo/one/tcp/", 1, `meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.244.1.10 . 8080 }`)), Translation,
			"kube-proxy sends it to an endpoint of service demo/one"},
		{"no local endpoint in nftables mode", Known{}, rules(Rule{Backend: "nft", Family: "ip", Table: "kube-proxy", Chain: "service-endpoints-check", Number: 1,
			Text: `ip daddr . meta l4proto . th dport vmap @no-endpoint-services`, Element: `10.96.10.7 . tcp . 80 comment "demo/itp-local-remote-only" : drop`}), NoLocalEndpoints,
			"kube-proxy drops it: service demo/itp-local-remote-only has no endpoints on this node, and its traffic policy is Local"},
		{"and its element not known", Known{}, Path{Verdict: "drop", Rules: []Rule{nft("ip", "kube-proxy", "service-endpoints-check", 1,
			`ip daddr . meta l4proto . th dport vmap @no-endpoint-services`)}}, NoLocalEndpoints,
			"kube-proxy drops it: the service at its destination has no endpoints on this node, and its traffic policy is Local"},
		{"an older version: marked for dropping", Known{}, rules(
			legacy("nat", 3, `-A KUBE-FW-UDILEREKOONJD5RF -m comment --comment "prod/lb:https loadbalancer IP" -j KUBE-MARK-DROP`),
			legacy("nat", 1, `-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000`),
			legacy("filter", 1, `-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP`)), SourceRange,
			"kube-proxy drops it: its source is not among the loadBalancerSourceRanges of service prod/lb:https"},
		{"loopback from elsewhere", Known{}, rules(legacy("filter", 1, `-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`)), Localnet,
			"kube-proxy drops it: a loopback address from another host"},
		{"invalid", Known{}, rules(legacy("filter", 1, `-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`)), Invalid,
			"kube-proxy drops it: connection tracking calls the packet invalid"},
	})
}

func TestOtherWriters(t *testing.T) {
	fw := func(n int, text string) Rule { return legacy("filter", n, "-A KUBE-POD-FW-ABCDEFGHIJKLMNOP "+text) }
	reject := fw(5, `-m comment --comment "rule to REJECT traffic destined for POD name:web-1 namespace: prod" -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable`)
	checkSentences(t, []sentenceCase{
		{"kube-router", Known{}, rules(fw(3, `-m comment --comment "run through nw policy allow-web" -j KUBE-NWPLCY-QRSTUVWXYZ234567`), reject), TierEnd,
			"Kubernetes NetworkPolicy prod/allow-web (pod prod/web-1, by kube-router) does not allow it: end of the pod's policies"},
		{"kube-router, alone", Known{}, rules(reject), TierEnd,
			"no NetworkPolicy (pod prod/web-1, by kube-router) allows it: end of the pod's policies"},
		{"docker's networks", Known{}, rules(legacy("filter", 1, `-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP`)), Isolation,
			"Docker's rule 1 of filter/DOCKER-ISOLATION-STAGE-2 (iptables-legacy) drops it: Docker keeps its bridge networks apart"},
		{"flannel", Known{}, rules(legacy("nat", 5, `-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully`)), Translation,
			`flannel's rule 5 of nat/FLANNEL-POSTRTG (iptables-legacy) rewrites its source: its comment is "flanneld masq"`},
		{"firewalld", Known{}, rules(nft("inet", "firewalld", "filter_FORWARD", 7, `reject with icmpx admin-prohibited`)), PlainRule,
			`firewalld's rule 7 of chain filter_FORWARD (nftables table inet firewalld) rejects it`},
	})
}

// Marks as the tools print them, and whether the first rule explains the second.
func TestWhichRuleSetTheMark(t *testing.T) {
	for _, c := range []struct {
		set, test string
		want      bool
	}{
		{`-A X -j MARK --set-xmark 0x40000/0x40000`, `-A Y -m mark --mark 0x40000/0x40000 -j DROP`, true},
		{`-A X -j MARK --set-mark 0x40000`, `-A Y -m mark --mark 0x40000 -j DROP`, true},
		{`-A X -j MARK --or-mark 0x1`, `-A Y -m mark --mark 0x1/0x1 -j DROP`, true},
		{`-A X -j MARK --and-mark 0xfffffffe`, `-A Y -m mark --mark 0x1/0x1 -j DROP`, false},
		{`-A X -j MARK --xor-mark 0x1`, `-A Y -m mark --mark 0x1/0x1 -j DROP`, false},
		{`-A X -j MARK --set-xmark 0x4000/0x0`, `-A Y -m mark --mark 0x4000/0x4000 -j DROP`, false},
		{`-A X -j MARK --set-xmark 0x10000/0x10000`, `-A Y -m mark --mark 0x40000/0x40000 -j DROP`, false},
		{`-A X -j MARK --set-xmark 0x0/0x20000`, `-A Y -m mark --mark 0x0/0x20000 -j DROP`, false},
		{`-A X -j MARK --set-xmark 0x1/0x1`, `-A Y -m mark ! --mark 0x1/0x1 -j DROP`, false},
		{`-A X -j MARK --set-xmark 0x2/0x3`, `-A Y -m mark ! --mark 0x0/0x3 -j DROP`, true},
		{`meta mark set meta mark | 0x00040000`, `meta mark & 0x00040000 == 0x00040000 drop`, true},
		{`meta mark set mark or 0x40000`, `meta mark and 0x40000 != 0x0 drop`, true},
		{`meta mark set 0x00000007`, `meta mark 0x00000007 drop`, true},
		{`meta mark set 0x00000007`, `meta mark != 0x00000007 drop`, false},
		{`meta mark set ct mark`, `meta mark 0x00000007 drop`, false},
		{`meta mark set mark and 0xffffff00 xor 0x7`, `meta mark & 0x000000ff == 0x00000007 drop`, true},
		{`ct mark set meta mark drop`, `meta mark 0x00000007 drop`, false},
	} {
		rule := func(text string) Rule {
			if strings.HasPrefix(text, "-A") {
				return legacy("filter", 1, text)
			}
			return nft("inet", "fw", "x", 1, text)
		}
		m := NewBook(Known{}).Explain(rules(rule(c.set), rule(c.test)))
		if got := m.Cause != nil; got != c.want {
			t.Errorf("%s\n%s\nexplained: %v, want %v", c.set, c.test, got, c.want)
		}
	}
}

// Whatever stands in a line, it is explained without a panic, and in one line.
func FuzzExplain(f *testing.F) {
	for _, set := range calicoSets {
		for _, r := range loadRecorded(f, set.path).rules[:40] {
			f.Add(r.Table, r.Chain, r.Text, "")
		}
	}
	f.Add("filter", "KUBE-FW-X", "-A KUBE-FW-X -j", `a : `)
	f.Add("kube-proxy", "reject-chain", `meta mark set`, `comment`)
	f.Fuzz(func(t *testing.T, table, chain, text, element string) {
		for _, backend := range []string{"legacy", "nft"} {
			r := Rule{Backend: backend, Family: "ip", Table: table, Chain: chain, Number: 2, Text: text, Element: element}
			m := NewBook(Known{}).Explain(rules(r, r))
			if m.Kind == "" || m.Sentence == "" {
				t.Errorf("%q: nothing told", text)
			}
		}
	})
}
