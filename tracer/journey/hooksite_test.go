// SPDX-License-Identifier: Apache-2.0

package journey

// Deaths in hooks of devices and bridges, and in queues.

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// ruleSet answers for chains, by "chain: verdict", what rules a packet would have
// met; verdict "" is what they make of it by themselves.
type ruleSet map[string]Ruling

func (ruleSet) Ruling(*Record) Ruling { return Ruling{} }
func (r ruleSet) Infer(p Passage, verdict string) Ruling {
	return r[p.Table.Chain+": "+verdict]
}
func (ruleSet) Compared(_ Passage, _ *Record, r Ruling) Ruling { return r }
func (ruleSet) Explain(*model.Packet)                          {}

// ruled is a ruling by one rule.
func ruled(text, ends string) Ruling {
	r := Ruling{Rules: []model.Rule{{Text: text}}, Ends: ends, Source: model.RuleInferred}
	if ends == "queue" || ends == "reject" {
		r.Verdict = ends
	}
	r.Decided = &r.Rules[0]
	if ends == "queue" {
		r.Queue = new(uint16)
		*r.Queue = 7
	}
	return r
}

// The stacks are those of Linux 6.18 and 6.12.
func TestSites(t *testing.T) {
	for _, c := range []struct {
		name, want string
		stack      []string
	}{
		{"egress", "netdev EGRESS netdev", []string{"nft_do_chain+0x3e8", "nft_do_chain_netdev+0x1ba", "nf_hook_slow+0x43", "__dev_queue_xmit+0x3f9", "ip_finish_output2+0x2c1"}},
		{"ingress", "netdev INGRESS netdev", []string{"nft_do_chain+0x3e8", "nft_do_chain_netdev+0x1ba", "nf_hook_slow+0x43", "__netif_receive_skb_core.constprop.0+0xd05", "__netif_receive_skb_one_core+0x39"}},
		{"inet ingress", "netdev INGRESS inet", []string{"nft_do_chain+0x3e8", "nft_do_chain_inet_ingress+0x13e", "nf_hook_slow+0x43", "__netif_receive_skb_core.constprop.0+0xd05"}},
		{"before 6.7", "netdev INGRESS", []string{"nf_hook_slow+0x43", "__netif_receive_skb_core.constprop.0+0xd05"}},
		{"a packet socket's egress", "netdev EGRESS", []string{"nf_hook_slow+0x43", "packet_xmit+0x1", "packet_snd+0x1"}},
		{"bridge prerouting", "bridge PREROUTING bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "br_handle_frame+0x279", "__netif_receive_skb_core.constprop.0+0x1d7"}},
		{"behind br_netfilter's prerouting", "bridge PREROUTING bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "nf_hook_slow+0x43", "br_nf_hook_thresh+0xc8", "br_nf_pre_routing_finish+0x173"}},
		{"bridge forward", "bridge FORWARD bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "nf_hook_slow+0x43", "__br_forward+0xa5", "br_handle_frame_finish+0x380", "br_handle_frame+0x1"}},
		{"bridge output", "bridge OUTPUT bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "nf_hook_slow+0x43", "__br_forward+0xa5", "br_dev_xmit+0x380", "dev_hard_start_xmit+0x1"}},
		{"forwarded for nobody we know", "bridge  bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "nf_hook_slow+0x43", "__br_forward+0xa5", "br_flood+0x1"}},
		{"bridge postrouting", "bridge POSTROUTING bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "nf_hook_slow+0x43", "br_forward_finish+0xb2", "br_nf_hook_thresh+0xc8", "br_nf_forward_finish+0x18a"}},
		{"bridge input", "bridge INPUT bridge", []string{"nft_do_chain+0x3e8", "nft_do_chain_bridge+0x1bf", "nf_hook_slow+0x43", "br_pass_frame_up+0x115", "br_handle_frame_finish+0x539"}},
		{"bridge queue", "bridge FORWARD", []string{"nf_queue+0x21f", "nf_hook_slow+0xb4", "__br_forward+0xa5", "br_handle_frame_finish+0x380"}},
		{"IP's hook of a bridged packet", "", []string{"nf_hook_slow+0x43", "br_nf_pre_routing+0x216", "br_handle_frame+0x279"}},
		{"forward", "", []string{"nft_do_chain+0x3e8", "nft_do_chain_inet+0x43", "nf_hook_slow+0x43", "ip_forward+0x697", "__netif_receive_skb_one_core+0x8d"}},
		{"prerouting", "", []string{"nf_hook_slow+0x43", "ip_rcv+0x1", "__netif_receive_skb_one_core+0x8d"}},
		{"no symbols", "", []string{"0xffffffff81000000", "0xffffffff81000001"}},
		{"no stack", "", nil},
	} {
		got := ""
		if s, ok := siteOf(&model.Drop{Stack: c.stack}); ok {
			got = strings.TrimSpace(map[uint8]string{unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge"}[s.PF] + " " + s.String() + " " + s.family)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDropAtDevice(t *testing.T) {
	chain := func(family, name string) Table {
		return Table{Backend: "nft", Family: family, Table: "t", Chain: name}
	}
	ingress := []string{"nft_do_chain_netdev+0x1", "nf_hook_slow+0x1", "__netif_receive_skb_core.constprop.0+0x1"}
	forward := []string{"nft_do_chain_bridge+0x1", "nf_hook_slow+0x1", "__br_forward+0x1", "br_handle_frame_finish+0x1"}
	rules := ruleSet{
		"kills: ": ruled("udp drop", "drop"), "kills: drop": ruled("udp drop", "drop"),
		"passes: ": ruled("policy accept", "accept"), "passes: drop": {Unknown: "they would accept by the policy"},
		"asks: ": {Unknown: "not seen: ether saddr"}, "asks: drop": ruled("ether saddr 1 drop", "drop"),
		"queues: ": ruled("queue to 7", "queue"), "queues: queue": ruled("queue to 7", "queue"),
	}
	for _, c := range []struct {
		name, freed string
		stack       []string
		pf, hook    uint8
		chains      []Table
		old         bool // before 6.7
		want        string
	}{
		{"the only chain", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, between(chain("netdev", "kills")), false, "INGRESS netdev t kills: udp drop"},
		{"behind one that lets it go on", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, between(chain("netdev", "passes"), chain("netdev", "kills")), false, "INGRESS netdev t kills: udp drop"},
		{"before one that is not asked then", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, between(chain("netdev", "kills"), chain("netdev", "asks")), false, "INGRESS netdev t kills: udp drop"},
		{"one of two", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, between(chain("netdev", "asks"), chain("netdev", "kills")), false, "INGRESS netdev one of nft netdev table t chain asks, nft netdev table t chain kills"},
		{"another family's chain at the same hook", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, between(chain("inet", "asks"), chain("netdev", "kills")), false, "INGRESS netdev t kills: udp drop"},
		{"rules that do not explain it", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, between(chain("netdev", "passes")), false, "INGRESS netdev t passes: not known: they would accept by the policy"},
		{"the chain is gone", "nft_do_chain+0x1", ingress, unix.NFPROTO_NETDEV, 0, nil, false, "INGRESS netdev: not known: no chain was found on this hook: it is gone by now, or could not be read"},
		{"a bridge", "nft_do_chain+0x1", forward, unix.NFPROTO_BRIDGE, 2, between(chain("bridge", "kills")), false, "FORWARD bridge t kills: udp drop"},
		{"a bridge, not by nft", "nf_hook_slow+0x1", forward[2:], unix.NFPROTO_BRIDGE, 2, between(chain("bridge", "kills")), false, "FORWARD bridge: not known: no nft chain freed it: ebtables or a flow table may have"},
		{"before 6.7", "nf_hook_slow+0x1", forward[2:], unix.NFPROTO_BRIDGE, 2, between(chain("bridge", "kills")), true, "FORWARD bridge t kills: udp drop"},
		{"before 6.7, beside ebtables", "nf_hook_slow+0x1", forward[2:], unix.NFPROTO_BRIDGE, 2, between(otherEntry("ebt_in_hook"), chain("bridge", "kills")), true, "FORWARD bridge one of ebt_in_hook, nft bridge table t chain kills"},
		{"a queue", "nf_queue+0x1", forward[1:], unix.NFPROTO_BRIDGE, 2, between(chain("bridge", "passes"), chain("bridge", "queues")), false, "FORWARD bridge t queues: queue to 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			s.asm.w.rules = rules
			s.names.inChain = !c.old
			s.tables[besideKey(1, c.pf, c.hook)] = [][]Table{c.chains}
			// whatever the link passed last says
			syn(s).fromClient().pass(behindAll, calicl, postrouting).kfree("NETFILTER_DROP", c.freed, calicl, in(unix.NFPROTO_IPV4, postrouting), index(behindAll),
				stack(append([]string{c.freed}, c.stack...)...))
			d := s.one().Drop
			got := strings.TrimSpace(strings.Join([]string{d.Hook, d.Family, d.Table, d.Chain}, " "))
			switch {
			case d.Rule != nil:
				got += ": " + d.Rule.Text
			case d.Candidates != nil:
				got += " one of " + strings.Join(d.Candidates.Strings(), ", ")
			default:
				got += ": not known: " + d.RuleUnknown
			}
			if got != c.want {
				t.Errorf("told  %q\nwant  %q", got, c.want)
			}
			if c.name == "a queue" && (d.Queue == nil || *d.Queue != 7) {
				t.Errorf("queue %v", d.Queue)
			}
		})
	}
}

// Where symbols are hidden the stack tells no hook: with a chain on a device the
// hook passed last is not blamed, without one it is.
func TestHiddenSite(t *testing.T) {
	for beside, want := range map[bool]string{false: "POSTROUTING", true: ""} {
		s := newStory(t)
		s.names.hidden = true
		s.bracketed(1, postrouting, between(legacyTable("mangle")), nil)
		if beside {
			s.tables[besideKey(1, unix.NFPROTO_NETDEV, 1)] = [][]Table{between(nftChain("t", "c"))}
		}
		syn(s).fromClient().pass(behindAll, calisv, postrouting).kfree("NETFILTER_DROP", "", calisv, in(unix.NFPROTO_IPV4, postrouting), index(behindAll))
		if d := s.one().Drop; d.Hook != want || (d.RuleUnknown != "") != beside {
			t.Errorf("with a chain on a device %v: hook %q, %q", beside, d.Hook, d.RuleUnknown)
		}
	}
}

// verdictQueue7 is what ipt_do_table and nft_do_chain give for queue 7.
const verdictQueue7 = 7<<16 | 3

func TestQueue(t *testing.T) {
	toQueue := func(t *testing.T) (*story, *packet) {
		s := newStory(t)
		p := syn(s).fromClient().see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, in(unix.NFPROTO_IPV4, forwardHook), table("filter", "", 0, verdictQueue7))
		return s, p
	}
	queued := "netfilter calicl@node FORWARD legacy ip filter FORWARD queue 7"
	t.Run("nobody listens", func(t *testing.T) {
		s, p := toQueue(t)
		p.kfree("NOT_SPECIFIED", "nf_queue+0x1", calicl, in(unix.NFPROTO_IPV4, forwardHook))
		got := s.one()
		wantQueueDeath(t, got, queued)
	})
	t.Run("the listener drops it", func(t *testing.T) {
		s, p := toQueue(t)
		p.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, forwardHook), result(0))
		p.kfree("NOT_SPECIFIED", "nfqnl_recv_verdict+0x1", calicl)
		got := s.one()
		wantQueueDeath(t, got, queued)
		if v := got.Hops[len(got.Hops)-2].Verdict; v != "queue" {
			t.Errorf("the hook's verdict is %q", v)
		}
	})
	t.Run("the listener accepts it", func(t *testing.T) {
		s, p := toQueue(t)
		p.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, forwardHook), result(0)).toServer(bpf.FentryFnFN_tcpV4Rcv)
		wantOutcome(t, s.one(), model.Delivered)
	})
	t.Run("a later table drops what the listener accepts", func(t *testing.T) {
		s, p := toQueue(t)
		p.see(bpf.KindHook, bpf.FentryFnFN_nfHookSlow, calicl, in(unix.NFPROTO_IPV4, forwardHook), result(0))
		p.see(bpf.KindTable, bpf.FentryFnFN_iptDoTable, calicl, in(unix.NFPROTO_IPV4, forwardHook), table("security", "", 0, 0))
		p.kfree("NOT_SPECIFIED", "nf_reinject+0x1", calicl, in(unix.NFPROTO_IPV4, forwardHook))
		if d := s.one().Drop; d.Table != "security" || d.Queue != nil {
			t.Errorf("told table %q, queue %v", d.Table, d.Queue)
		}
	})
	t.Run("between links", func(t *testing.T) {
		s := newStory(t)
		s.asm.w.rules = ruleSet{"c: queue": ruled("queue to 7", "queue"), "c: accept": ruled("queue to 7", "queue")}
		s.bracketed(1, forwardHook, between(nftChain("t", "c")), nil)
		syn(s).fromClient().pass(1, calicl, forwardHook).kfree("NOT_SPECIFIED", "nf_queue+0x1", calicl, in(unix.NFPROTO_IPV4, forwardHook), index(1))
		if d := s.one().Drop; d.Hook != "FORWARD" || d.Chain != "c" || d.Rule == nil || d.Queue == nil || *d.Queue != 7 {
			t.Errorf("told %+v", d)
		}
		syn(s).fromClient().pass(1, calicl, forwardHook).pass(behindAll, calicl, forwardHook).xmit(uplink)
		got := s.one()
		if h := got.Hops[2]; h.Verdict != "queue" || h.Queue == nil {
			t.Errorf("what a listener let go on: %v", hops(got))
		}
	})
}

func wantQueueDeath(t *testing.T, p *model.Packet, hop string) {
	t.Helper()
	wantOutcome(t, p, model.Dropped)
	if !slices.Contains(hops(p), hop) {
		t.Errorf("hops %q, want %q", hops(p), hop)
	}
	d := p.Drop
	if d.Hook != "FORWARD" || d.Table != "filter" || d.Stage != model.StageNetfilter || d.Queue == nil || *d.Queue != 7 {
		t.Errorf("told %+v", d)
	}
}

// A redirect that the node's own NAT refuses is no loss; one that died on its way
// to the client, or another ICMP error of the node, is a death.
func TestOwnRedirect(t *testing.T) {
	type seen func(*packet)
	redirect := func(s *story, typ uint8, opts ...with) *packet {
		return s.send(unix.IPPROTO_ICMP, "10.244.1.1", "10.244.1.5", append([]with{icmp(typ, 1, 0, 0), returning}, opts...)...)
	}
	dies := func(p *packet) {
		p.kfree("NETFILTER_DROP", "nf_hook_slow+0x1", calicl, in(unix.NFPROTO_IPV4, output), index(1))
	}
	for _, c := range []struct {
		name string
		typ  uint8
		see  seen
		want model.Outcome
	}{
		{"in its own OUTPUT", 5, func(p *packet) { p.pass(1, calicl, output); dies(p) }, model.Consumed},
		{"sent before", 5, func(p *packet) { p.xmit(calicl); dies(p) }, model.Dropped},
		{"an error", 3, func(p *packet) { p.pass(1, calicl, output); dies(p) }, model.Dropped},
	} {
		s := newStory(t)
		s.bracketed(1, output, between(otherEntry("nf_nat_ipv4_local_fn"), legacyTable("nat")), nil)
		s.asm.w.rules = ruleSet{": drop": {Unknown: "the packet asked no NAT rule", NotAsked: true}}
		c.see(redirect(s, c.typ))
		got := s.one()
		wantOutcome(t, got, c.want)
		if d := got.Drop; d != nil && (d.Table != "" || d.Rule != nil || c.typ == 3 && !strings.Contains(d.RuleUnknown, "NAT itself")) {
			t.Errorf("%s: told table %q: %q", c.name, d.Table, d.RuleUnknown)
		}
	}
}

// A datagram that lay in a socket's buffer when that closed had arrived.
func TestUnreadDatagram(t *testing.T) {
	s := newStory(t)
	p := s.send(unix.IPPROTO_UDP, "10.244.1.5 4000", "10.244.1.6 53").fromClient().toServer(bpf.FentryFnFN_udpQueueRcvSkb)
	p.kfree("NOT_SPECIFIED", "udp_destruct_common+0xb9", serverEth)
	wantOutcome(t, s.one(), model.Delivered)
}
