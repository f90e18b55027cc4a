// SPDX-License-Identifier: Apache-2.0

package cause

// Causes of conntrack and NAT: each with a twin that differs in the one thing that
// matters.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var (
	clusterIP = netip.MustParseAddr("10.96.3.45")
	gonePod   = netip.MustParseAddr("10.244.1.9")
)

const (
	knownPass = "-A cali-tw-calia -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
	lastDrop  = `-A cali-tw-calia -m comment --comment "End of tier default. Drop if no policies passed packet" -j DROP`
	noTrack   = "-A PREROUTING -s 10.244.1.3/32 -p udp -m udp --sport 80 -j CT --notrack"
	dnatRule  = "-A PREROUTING -d 10.96.3.45/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.1.3:80"
)

// holding gives a node these rules, each in the table that its name before the
// colon says.
func holding(r *recorded, rules ...string) {
	var all []meaning.Rule
	for i, text := range rules {
		table, text, _ := strings.Cut(text, ": ")
		all = append(all, meaning.Rule{Family: "ip", Table: table, Chain: strings.Fields(text)[1], Number: i + 1, Text: text})
	}
	r.Places[nodeNS].Rules = &RuleSets{Legacy: Rules(slices.Values(all))}
}

// replying is a datagram of pod B to pod A that died by the last rule of a policy.
func replying(state string, more func(*model.Packet)) *model.Packet {
	return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
		byRule("cali-tw-calia", lastDrop, "")(p)
		p.Direction, p.Proto, p.TCPFlags, p.Src, p.SrcPort, p.Dst, p.DstPort = model.Return, "udp", "", podB, 80, podA, 40000
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Interface: "calib", Hook: "PREROUTING", CTState: state})
		if more != nil {
			more(p)
		}
	})
}

// requested is the datagram that it answers.
func requested() *model.Packet {
	p := arrived()
	p.Proto, p.TCPFlags, p.Time = "udp", "", time.Now().Add(-2*time.Minute)
	return p
}

// exemptedBy adds the hop of the raw table that exempts a packet.
func exemptedBy(source model.RuleSource) func(*model.Packet) {
	return func(p *model.Packet) {
		p.Hops = slices.Insert(p.Hops, 1, model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: "PREROUTING", Family: "ip", Table: "raw", Backend: "legacy", RuleSource: source,
			Rules: []model.Rule{{Family: "ip", Table: "raw", Chain: "PREROUTING", Number: 1, Text: noTrack}}})
	}
}

func TestUnknownToConntrack(t *testing.T) {
	segment := func(flags string) func(*model.Packet) {
		return func(p *model.Packet) { p.Proto, p.TCPFlags = "tcp", flags }
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		rules  []string
		code   string
		sure   string
		says   string
	}{
		"exempted": {replying("untracked", exemptedBy(model.RuleExact)), []string{"filter: " + knownPass}, "conntrack-unknown", Certain, "rule 1 of PREROUTING in raw exempts it"},
		"exempted by a rule that was read": {replying("untracked", exemptedBy(model.RuleInferred)), []string{"filter: " + knownPass},
			"conntrack-unknown", Likely, "was read off the rule set"},
		"exempted by nobody knows": {replying("untracked", nil), []string{"filter: " + knownPass, "raw: " + noTrack}, "conntrack-unknown", Likely, "which rule exempts it; those there that do so: rule 2 of PREROUTING in raw"},
		"nothing lets replies pass": {replying("untracked", exemptedBy(model.RuleExact)), []string{"filter: -A cali-tw-calia -m conntrack --ctstate INVALID -j DROP"},
			"policy-deny", Certain, "open no policy for it"},
		"invalid":                   {replying("invalid", nil), []string{"filter: " + knownPass}, "conntrack-unknown", Certain, "conntrack calls it invalid"},
		"known":                     {replying("established-reply", nil), []string{"filter: " + knownPass}, "policy-deny", Certain, "open no policy for it"},
		"no answer, but a question": {replying("new", segment("S")), []string{"filter: " + knownPass}, "policy-deny", Certain, "let a policy allow ingress"},
		"in the midst":              {replying("new", segment(".")), []string{"filter: " + knownPass}, "conntrack-unknown", Certain, "takes it for the first packet of a new one"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			holding(state, tc.rules...)
			asked := requested()
			asked.Proto = tc.packet.Proto
			found := diagnoseAll(t, state, asked, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || found[0].Confidence != tc.sure || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want %s (%s) saying %q: %+v", tc.code, tc.sure, tc.says, found)
			}
			if isAnswer := tc.code == "conntrack-unknown" || strings.Contains(tc.says, "open no"); isAnswer && strings.Contains(words(found[0]), "let a policy allow") {
				t.Errorf("opens a policy for an answer:\n%s", words(found[0]))
			}
		})
	}
}

// Whichever end was given as the source, what answers is an answer.
func TestRepliesOfTheSource(t *testing.T) {
	asked := requested()
	asked.Direction = model.Return
	reply := replying("untracked", func(p *model.Packet) { p.Direction = model.Forward })
	found := diagnoseAll(t, madeNode(), asked, reply)
	if len(found) != 1 || !strings.Contains(words(found[0]), "open no policy for it") {
		t.Errorf("an answer of the source: %+v", found)
	}
}

// asksService is a datagram to the service that went to a backend, by the rule or by the
// connection's entry, and how it ended.
func asksService(to netip.Addr, rule string, state string, more func(*model.Packet)) *model.Packet {
	return dead("NOT_SPECIFIED", "ip_error+0x94", func(p *model.Packet) {
		p.Proto, p.TCPFlags, p.Dst, p.DstPort, p.Drop.Stage = "udp", "", clusterIP, 53, model.StageRoute
		before := model.Endpoints{Src: podA, SrcPort: 40000, Dst: clusterIP, DstPort: 53}
		after := model.Endpoints{Src: podA, SrcPort: 40000, Dst: to, DstPort: 80}
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Interface: "calia", Hook: "PREROUTING", CTState: state, Before: &before, After: &after})
		nat := model.Hop{Stage: model.StageNetfilter, Netns: nodeNS, Place: "node", Hook: "PREROUTING", Table: "nat", Backend: "legacy", RuleSource: model.RuleInferred}
		if rule != "" {
			nat.Rules = []model.Rule{{Family: "ip", Table: "nat", Chain: "PREROUTING", Number: 1, Text: rule}}
		}
		p.Hops = append(p.Hops, nat)
		if more != nil {
			more(p)
		}
	})
}

func entryTo(to netip.Addr) node.Connection {
	from := netip.AddrPortFrom(podA, 40000)
	return node.Connection{Replied: true, Orig: node.Flow{Proto: unix.IPPROTO_UDP, Src: from, Dst: netip.AddrPortFrom(clusterIP, 53)},
		Reply: node.Flow{Proto: unix.IPPROTO_UDP, Src: netip.AddrPortFrom(to, 80), Dst: from}}
}

func TestStaleEntry(t *testing.T) {
	blackhole := node.Route{Dst: netip.MustParsePrefix("10.244.1.0/26"), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_BLACKHOLE, Protocol: 80}
	for name, tc := range map[string]struct {
		packet *model.Packet
		node   func(*recorded)
		rules  []string
		code   string
		sure   string
	}{
		"no rule names it":   {asksService(gonePod, "", "established", nil), nil, []string{"nat: " + dnatRule}, "stale-conntrack", Certain},
		"not answered yet":   {asksService(gonePod, "", "new", nil), nil, []string{"nat: " + dnatRule}, "stale-conntrack", Likely},
		"another port":       {asksService(gonePod, "", "established", nil), nil, []string{"nat: -A PREROUTING -j DNAT --to-destination 10.244.1.9:81"}, "stale-conntrack", Certain},
		"a comment names it": {asksService(gonePod, "", "established", nil), nil, []string{`nat: -A PREROUTING -m comment --comment "10.244.1.9:80" -j DNAT --to-destination 10.244.1.3:80`}, "stale-conntrack", Certain},
		"a rule names it":    {asksService(gonePod, "", "established", nil), nil, []string{"nat: -A PREROUTING -j DNAT --to-destination 10.244.1.9:80"}, "blackhole-route", Certain},
		"a range holds it":   {asksService(gonePod, "", "established", nil), nil, []string{"nat: -A PREROUTING -j DNAT --to-destination 10.244.1.8-10.244.1.10"}, "blackhole-route", Certain},
		"nft's map holds it": {asksService(gonePod, "", "established", nil), nil, []string{"nat: -A x dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.1.3 . 80, 1 : 10.244.1.9 . 80 }"}, "blackhole-route", Certain},
		"a named map may":    {asksService(gonePod, "", "established", nil), nil, []string{"nat: -A x dnat ip to ip daddr . udp dport map @services"}, "blackhole-route", Certain},
		"the rule was asked": {asksService(gonePod, strings.Replace(dnatRule, "10.244.1.3", "10.244.1.9", 1), "new", nil), nil, nil, "blackhole-route", Certain},
		"IPVS chose": {asksService(gonePod, "", "established", nil), func(r *recorded) {
			r.Places[nodeNS].Links = append(r.Places[nodeNS].Links, node.Link{Index: 9, Name: "kube-ipvs0", Up: true})
		}, nil, "blackhole-route", Certain},
		"the entry is another's": {asksService(gonePod, "", "established", nil), func(r *recorded) {
			r.Places[nodeNS].Connections = []node.Connection{entryTo(podB)}
		}, nil, "blackhole-route", Certain},
		"a rule killed it": {asksService(gonePod, "", "established", func(p *model.Packet) { byRule("FORWARD", "-A FORWARD -j DROP", "")(p) }), nil, []string{"nat: " + dnatRule}, "rule-drop", Certain},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			state.Places[nodeNS].Routes = append(state.Places[nodeNS].Routes, blackhole)
			state.Places[nodeNS].Connections = []node.Connection{entryTo(gonePod)}
			holding(state, tc.rules...)
			if tc.node != nil {
				tc.node(state)
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 || found[0].Code != tc.code || tc.code == "stale-conntrack" && found[0].Confidence != tc.sure {
				t.Fatalf("want %s (%s): %+v", tc.code, tc.sure, found)
			}
			if says := words(found[0]); !strings.Contains(says, "10.96.3.45:53") || !strings.Contains(says, "10.244.1.9:80") {
				t.Errorf("does not say what was asked and what it became:\n%s", says)
			}
		})
	}
}

// An entry without translation that is older than the rule.
func TestOvertakenEntry(t *testing.T) {
	bare := entryTo(clusterIP)
	bare.Reply.Src = bare.Orig.Dst
	packet := func(more func(*model.Packet)) *model.Packet {
		return dead("NOT_SPECIFIED", "ip_error+0x94", func(p *model.Packet) {
			p.Proto, p.TCPFlags, p.Dst, p.DstPort = "udp", "", clusterIP, 53
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Hook: "PREROUTING", CTState: "new"})
			if more != nil {
				more(p)
			}
		})
	}
	for name, tc := range map[string]struct {
		rule  string
		entry []node.Connection
		want  bool
	}{
		"rule of its own":        {"nat: " + dnatRule, []node.Connection{bare}, true},
		"kube-proxy's":           {`nat: -A KUBE-SERVICES -d 10.96.3.45/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU`, []node.Connection{bare}, true},
		"of another port":        {"nat: " + strings.Replace(dnatRule, "--dport 53", "--dport 54", 1), []node.Connection{bare}, false},
		"with another condition": {"nat: " + strings.Replace(dnatRule, "-p udp", "-i eth7 -p udp", 1), []node.Connection{bare}, false},
		"no entry":               {"nat: " + dnatRule, nil, false},
		"entry that translates":  {"nat: " + dnatRule, []node.Connection{entryTo(podB)}, false},
	} {
		state := madeNode()
		holding(state, tc.rule)
		state.Places[nodeNS].Connections = tc.entry
		found := diagnoseAll(t, state, packet(nil))
		if got := len(found) == 1 && found[0].Code == "stale-conntrack"; got != tc.want {
			t.Errorf("%s: told %+v", name, found)
		}
	}
}

// untranslated is a reply that reached pod A from the pod that a rule had chosen.
func untranslated(hops ...model.Hop) *model.Packet {
	p := dead("NO_SOCKET", "__udp4_lib_rcv+0x1", func(p *model.Packet) {
		p.Direction, p.Proto, p.TCPFlags, p.Src, p.SrcPort, p.Dst, p.DstPort = model.Return, "udp", "", podB, 80, podA, 40000
		p.Hops = append(hops, model.Hop{Stage: model.StageReceive, Netns: podNS, Place: "default/a", Interface: "eth0"})
		p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = podNS, "default/a", "eth0", 2
	})
	return p
}

func TestReplyNotTranslated(t *testing.T) {
	request := asksService(podB, dnatRule, "new", func(p *model.Packet) { p.Outcome, p.Drop = model.Delivered, nil })
	at := func(state string) model.Hop {
		return model.Hop{Stage: model.StageConntrack, Netns: nodeNS, Place: "node", Interface: "calib", Hook: "PREROUTING", CTState: state}
	}
	raw := untranslated(at("untracked"))
	exemptedBy(model.RuleExact)(raw)
	for name, tc := range map[string]struct {
		reply *model.Packet
		node  func(*recorded)
		says  string
		never string
		sure  string
	}{
		"exempted":    {raw, nil, "because rule 1 of PREROUTING in raw exempts it", "another way", Certain},
		"invalid":     {untranslated(at("invalid")), nil, "because conntrack calls it invalid", "another way", Certain},
		"forgotten":   {untranslated(at("new")), nil, "does not know its connection", "another way", Certain},
		"another way": {untranslated(), nil, "the reply takes another way", "it is not the bridge", Certain},
		"by the bridge": {untranslated(model.Hop{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "calib"}),
			func(r *recorded) { r.Places[nodeNS].Sysctls["bridge/bridge-nf-call-iptables"] = "0" }, "net.bridge.bridge-nf-call-iptables = 0", "another way", Certain},
		"for no reason that shows": {untranslated(model.Hop{Stage: model.StageReceive, Netns: nodeNS, Place: "node", Interface: "calib"}),
			func(r *recorded) { r.Places[nodeNS].Sysctls["bridge/bridge-nf-call-iptables"] = "1" }, "not known: why conntrack did not look at it", "another way", Likely},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			if tc.node != nil {
				tc.node(state)
			}
			found := diagnoseAll(t, state, request, tc.reply)
			if len(found) != 1 || found[0].Code != "reply-not-translated" || found[0].Confidence != tc.sure {
				t.Fatalf("told %+v", found)
			}
			says := words(found[0])
			if !strings.Contains(says, tc.says) || strings.Contains(says, tc.never) || !strings.Contains(says, "10.96.3.45:53 had been asked") || !strings.Contains(says, dnatRule) {
				t.Errorf("want %q, never %q:\n%s", tc.says, tc.never, says)
			}
		})
	}
	// a reply to the pod's own address, from another socket, was never translated
	other := untranslated(at("established-reply"))
	other.DstPort = 40001
	if found := diagnoseAll(t, madeNode(), request, other); len(found) != 1 || found[0].Code == "reply-not-translated" {
		t.Errorf("told of a connection that nobody translated: %+v", found)
	}
}

// What a pod's own rule sends to a sidecar tells who was asked.
func TestRedirected(t *testing.T) {
	const redirect = "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001"
	loopback := netip.MustParseAddr("127.0.0.1")
	packet := func(rule string) *model.Packet {
		return dead("NO_SOCKET", "tcp_v4_rcv+0x1", func(p *model.Packet) {
			before := model.Endpoints{Src: podA, SrcPort: 40000, Dst: podB, DstPort: 80}
			after := model.Endpoints{Src: podA, SrcPort: 40000, Dst: loopback, DstPort: 15001}
			p.Hops = []model.Hop{{Stage: model.StageNAT, Netns: podNS, Place: "default/a", Interface: "eth0", Hook: "OUTPUT", CTState: "new", Before: &before, After: &after},
				{Stage: model.StageNetfilter, Netns: podNS, Place: "default/a", Hook: "OUTPUT", Family: "ip", Table: "nat", Backend: "legacy", RuleSource: model.RuleExact, Rules: []model.Rule{
					{Table: "nat", Chain: "OUTPUT", Number: 1, Text: "-A OUTPUT -p tcp -j ISTIO_REDIRECT"}, {Table: "nat", Chain: "ISTIO_REDIRECT", Number: 1, Text: rule}}}}
			p.Drop.Netns, p.Drop.Place, p.Drop.Interface, p.Drop.IfIndex = podNS, "default/a", "lo", 1
			p.Outcome = model.Rejected
		})
	}
	state := madeNode()
	state.Places[podNS].Links = append(state.Places[podNS].Links, node.Link{Index: 1, Name: "lo", Up: true, Carrier: true, Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}})
	found := diagnoseAll(t, state, packet(redirect))
	if len(found) != 1 || found[0].Code != "no-listener" {
		t.Fatalf("told %+v", found)
	}
	for _, part := range []string{"10.244.1.3:80 was asked, and redirected there by default/a's own nat rule (rule 1 of ISTIO_REDIRECT in nat)", redirect, "sidecar", "iptables-legacy -t nat -D ISTIO_REDIRECT"} {
		if !strings.Contains(words(found[0]), part) {
			t.Errorf("does not say %q:\n%s", part, words(found[0]))
		}
	}
}

// crowded is a connection's first packet that died behind all rules of POSTROUTING.
func crowded(more func(*model.Packet)) *model.Packet {
	return dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
		p.Proto, p.TCPFlags, p.Drop.Hook = "udp", "", "POSTROUTING"
		before := model.Endpoints{Src: podA, SrcPort: 40000, Dst: podB, DstPort: 80}
		after := model.Endpoints{Src: node1, SrcPort: 5000, Dst: podB, DstPort: 80}
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageNAT, Netns: nodeNS, Place: "node", Hook: "POSTROUTING", CTState: "new", Before: &before, After: &after})
		if more != nil {
			more(p)
		}
	})
}

func TestInsertFailed(t *testing.T) {
	taken := netip.AddrPortFrom(node1, 5000)
	holder := node.Connection{Orig: node.Flow{Proto: unix.IPPROTO_UDP, Src: netip.AddrPortFrom(gonePod, 7), Dst: netip.AddrPortFrom(podB, 80)},
		Reply: node.Flow{Proto: unix.IPPROTO_UDP, Src: netip.AddrPortFrom(podB, 80), Dst: taken}}
	for name, tc := range map[string]struct {
		packet  *model.Packet
		entries []node.Connection
		code    string
		says    string
	}{
		"no port left": {crowded(nil), []node.Connection{holder}, "conntrack-insert", "from 172.30.0.1:5000 to 10.244.1.3:80 (udp) another one goes already"},
		"a clash": {crowded(func(p *model.Packet) { p.Hops = p.Hops[:1]; p.Hops[0].CTState = "new" }), []node.Connection{{Orig: node.Flow{Proto: unix.IPPROTO_UDP, Src: netip.AddrPortFrom(podA, 40000), Dst: netip.AddrPortFrom(podB, 80)},
			Reply: node.Flow{Proto: unix.IPPROTO_UDP, Src: netip.AddrPortFrom(gonePod, 80), Dst: netip.AddrPortFrom(podA, 40000)}}}, "conntrack-insert", "conntrack entered the other one, to 10.244.1.9:80"},
		"nobody has its place": {crowded(nil), nil, "unexplained-drop", ""},
		"not its first":        {crowded(func(p *model.Packet) { p.Hops[1].CTState = "established" }), []node.Connection{holder}, "unexplained-drop", ""},
		"a rule did it": {crowded(func(p *model.Packet) {
			byRule("POSTROUTING", "-A POSTROUTING -j DROP", "")(p)
			p.Drop.Hook = "POSTROUTING"
		}), []node.Connection{holder}, "rule-drop", ""},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			state.Places[nodeNS].Connections = tc.entries
			c := New(state, nil)
			c.Start(&model.Start{Type: model.TypeStart})
			state.Places[nodeNS].Stats.InsertFailed = 3
			c.Packet(tc.packet)
			found := c.Findings()
			if len(found) != 1 || found[0].Code != tc.code || !strings.Contains(words(found[0]), tc.says) {
				t.Fatalf("want %s saying %q: %+v", tc.code, tc.says, found)
			}
			if tc.code == "conntrack-insert" && (found[0].Confidence != Likely || !strings.Contains(words(found[0]), "insert_failed was 0 when the trace began, and is 3")) {
				t.Errorf("told %s:\n%s", found[0].Confidence, words(found[0]))
			}
		})
	}
}

// An answer that died is told with what it answers, in this order, and not as if it
// had been heard.
func TestJoined(t *testing.T) {
	big := func(outcome model.Outcome) *model.Packet {
		return dead("PKT_TOO_BIG", "ip_forward+0x1", func(p *model.Packet) {
			p.Length, p.Outcome = 1500, outcome
			p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: nodeNS, Place: "node", Answer: "icmp-frag-needed"})
		})
	}
	answer := dead("NETFILTER_DROP", "nf_hook_slow+0x1", func(p *model.Packet) {
		byRule("OUTPUT", "-A OUTPUT -p icmp -j DROP", "")(p)
		p.Direction, p.Proto, p.TCPFlags, p.ICMP, p.Src, p.Dst, p.OwnAnswer, p.AnswerTo, p.Drop.Hook = model.Return, "icmp", "", "frag-needed", node1, podA, true, 1, "OUTPUT"
	})
	found := diagnoseAll(t, madeNode(), big(model.Dropped), answer)
	if len(found) != 2 || found[0].Code != "mtu" || found[1].Code != "rule-drop" {
		t.Fatalf("want mtu, then rule-drop: %+v", found)
	}
	for i, part := range []string{"its sender does not learn of it: the answer (icmp-frag-needed) died as well, by rule 3 of OUTPUT in filter", "answers to packets that died of mtu, such as #1"} {
		if !strings.Contains(words(found[i]), part) {
			t.Errorf("does not say %q:\n%s", part, words(found[i]))
		}
	}
	if strings.Contains(words(found[0]), "the sender was told") {
		t.Errorf("says what is not so:\n%s", words(found[0]))
	}
	if found := diagnoseAll(t, madeNode(), big(model.Rejected)); len(found) != 1 || !strings.Contains(words(found[0]), "the sender was told: icmp-frag-needed") || strings.Contains(words(found[0]), "does not learn") {
		t.Errorf("an answer that came through: %+v", found)
	}
}

// An answer of this node is no sign of life of the other end.
func TestOwnAnswerIsNoReply(t *testing.T) {
	own := reply(remote, 80)
	own.TCPFlags, own.OwnAnswer = "R.", true
	if found := diagnoseAll(t, madeNode(), leaving(nil), own); len(found) != 1 || found[0].Code != "left-node" {
		t.Errorf("told %+v", found)
	}
}

func TestTargets(t *testing.T) {
	for rule, want := range map[string]bool{
		"-A PREROUTING -j DNAT --to-destination 10.1.1.1:80":    true,
		"-A ISTIO -p tcp -j REDIRECT --to-ports 15001":          true,
		"-A OUTPUT -p tcp -j ISTIO_REDIRECT":                    false,
		`-A OUTPUT -m comment --comment "-j DNAT -" -j ACCEPT`:  false,
		"ip daddr 10.96.0.1 tcp dport 443 dnat to 10.1.1.1:643": true,
		"tcp dport 80 redirect to :8080":                        true,
		"ip daddr 10.96.0.1 jump dnat_chain":                    false,
	} {
		if translates(rule) != want {
			t.Errorf("%s: %v", rule, !want)
		}
	}
	for rule, want := range map[string]bool{
		noTrack: true, "-A OUTPUT -j NOTRACK": true, "udp sport 53 notrack": true,
		"-A OUTPUT -j CT --zone 5": false, `-A OUTPUT -m comment --comment "notrack it" -j ACCEPT`: false,
	} {
		if exempts(rule) != want {
			t.Errorf("%s: %v", rule, !want)
		}
	}
	six := netip.MustParseAddrPort("[fd00::9]:80")
	for rule, want := range map[string]bool{
		"-A x -j DNAT --to-destination [fd00::9]:80": true, "-A x -j DNAT --to-destination [fd00::9]:81": false,
		"-A x -j DNAT --to-destination fd00::9": true, "-A x -j NETMAP --to fd00::/64": true, "dnat to [fd00::9]:80": true, "dnat to fd01::9": false,
	} {
		if sendsTo(rule, six) != want {
			t.Errorf("%s: %v", rule, !want)
		}
	}
}
