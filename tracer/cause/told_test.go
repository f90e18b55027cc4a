// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// want is what a finding on a recorded scenario must tell. Code and direction
// are testenv's.
type want struct {
	name       string // of testenv's scenario
	confidence string
	says       []string // parts of summary, evidence or fix
}

// told are the recorded scenarios.
var told = []want{
	{"calico-legacy/rule-drop-icmp", Certain, []string{"maintenance-window", "-A FORWARD -s 192.168.166.129/32 -d 192.168.166.130/32 -p icmp",
		"if nobody needs it: iptables-legacy -D FORWARD -s 192.168.166.129/32"}},
	{"calico-nft/rule-drop-return-tcp", Likely, []string{"egress-lockdown", "iptables-nft -D FORWARD", "not known: the rule was read off the rule set"}},
	{"calico-nftables/rule-drop-udp", Likely, []string{"nft delete rule"}},
	{"flannel-legacy/rule-reject-tcp", Certain, []string{"rejects it", "iptables-legacy -D FORWARD"}},
	{"calico-legacy/pod-input-drop-icmp", Certain, []string{"pod-firewall", "network namespace"}},
	{"calico-legacy/policy-deny-tcp", Certain, []string{"Calico NetworkPolicy default/server-ingress", "does not allow it", "cali-tw-cali7715d358f22",
		"let a policy allow ingress to 192.168.166.130 of tcp port 8080"}},
	{"calico-legacy/policy-explicit-deny-icmp", Certain, []string{"NetworkPolicy prod/db-ingress", "denies it", "calicoctl -n prod get networkpolicy db-ingress -o yaml"}},
	{"calico-nftables/policy-deny-tcp", Likely, []string{"default/server-ingress", "does not allow it", "nft at node"}},
	{"calico-legacy/calico-rpf-udp", Certain, []string{"reverse path check", "10.99.99.1", "allowedSourcePrefixes"}},
	{"flannel-nft/forward-policy-tcp", Likely, []string{"policy of FORWARD in table filter (iptables-nft) is to drop", "iptables-nft -P FORWARD ACCEPT"}},
	{"flannel-nftables/forward-policy-icmp", Likely, []string{"table ip filter, chain FORWARD: :FORWARD DROP, and no rule", "iptables-nft -P FORWARD ACCEPT"}},
	{"flannel-legacy/forward-policy-icmp", Certain, []string{":FORWARD DROP"}},
	{"calico-nft/split-rulesets-icmp", Certain, []string{"both backends of iptables", "iptables-legacy holds 1 rules", "of Calico", "left-over", "iptables-legacy -D FORWARD"}},
	{"calico-legacy/split-rulesets-tcp", Likely, []string{"both backends of iptables", "nft holds 1 rules: 1 of nobody known"}},
	{"calico-legacy/ip-forward-off-tcp", Certain, []string{"net.ipv4.ip_forward = 0", "sysctl -w net.ipv4.ip_forward=1"}},
	{"flannel-nft/rp-filter-icmp", Certain, []string{"the way back to 10.244.2.3 does not lead there", "net.ipv4.conf.flannel.1.rp_filter = 1", "via 172.30.0.254 dev eth0"}},
	{"calico-legacy/no-route-return-icmp", Certain, []string{"This node has no route to 192.168.104.1"}},
	{"calico-legacy/no-route-tcp", Certain, []string{"This node has no route to 192.168.166.130"}},
	{"calico-nft/blackhole-route-tcp", Certain, []string{"blackhole 192.168.166.128/26", "protocol 80", "Felix"}},
	{"calico-legacy/ttl-one-icmp", Certain, []string{"TTL was 1 when it was first seen"}},
	{"flannel-nft/ttl-loop-udp", Certain, []string{"circle between this node and node 172.30.0.2", "31 times", "eth0"}},
	{"calico-legacy/interface-down-tcp", Likely, []string{"cali7715d358f22 of this node is set down", "<DOWN>", "ip link set cali7715d358f22 up", "not known: who set it down"}},
	{"flannel-nft/interface-down-icmp", Likely, []string{"set down: it leads to the pod that has 10.244.1.3"}},
	{"calico-legacy/interface-down-source-udp", Likely, []string{"cali7715d358f22 of this node is set down", "the other end of eth0"}},
	{"flannel-nft/uplink-down-icmp", Likely, []string{"eth0 of this node is set down", "the tunnel flannel.1 runs over it"}},
	{"calico-legacy/mtu-icmp", Certain, []string{"(1400 bytes) is larger than 1300 bytes, the MTU of cali7715d358f22"}},
	{"flannel-nft/mtu-udp", Likely, []string{"(1400 bytes) is larger than 1300 bytes, the MTU of veth", "a bridge drops what does not fit silently"}},
	{"calico-legacy/mtu-tunnel-udp", Certain, []string{"the MTU of vxlan.calico", "VXLAN takes 50 bytes"}},
	{"calico-legacy/neighbor-failed-icmp", Certain, []string{"192.168.166.130 dev cali7715d358f22 FAILED", "arp_ignore = 8"}},
	{"calico-legacy/proxy-arp-off-icmp", Certain, []string{"proxy_arp is off on calia7a3e029a7b", "sysctl -w net.ipv4.conf.calia7a3e029a7b.proxy_arp=1"}},
	{"calico-legacy/vxlan-blocked-icmp", Certain, []string{"no-tunnels", "inside vxlan, from 172.30.0.1 to 172.30.0.2 port 4789"}},
	{"flannel-legacy/vxlan-blocked-return-udp", Certain, []string{"no-tunnels", "inside vxlan, from 172.30.0.2 to 172.30.0.1 port 8472"}},
	{"flannel-nft/vxlan-fdb-icmp", Certain, []string{"flannel.1 has no forwarding entry for the other node", "bridge fdb show dev flannel.1"}},
	{"calico-legacy/tunnel-down-tcp", Likely, []string{"vxlan.calico is set down", "leave by the default route instead"}},
	{"calico-legacy/no-listener-tcp", Certain, []string{"nothing listens on tcp port 8080 of 192.168.166.130", "tcp-reset"}},
	{"flannel-nft/no-listener-udp", Certain, []string{"nothing listens on udp port 8080"}},
	{"calico-legacy/unknown-interface-tcp", Certain, []string{"calia7a3e029a7b", "Unknown interface"}},
	{"calico-nftables/unknown-interface-return-icmp", Likely, []string{"cali-to-wl-dispatch drops it"}},
	{"calico-legacy/conntrack-invalid-tcp", Certain, []string{"--ctstate INVALID", "passed the node's own conntrack by: the way is asymmetric"}},
	{"flannel-nftables/conntrack-invalid-icmp", Likely, []string{"ct state invalid"}},
	{"calico-legacy/conntrack-full-tcp", Likely, []string{"table of this node is full", "nf_conntrack_max = "}},
	{"calico-legacy/bgp-blocked-tcp", Likely, []string{"BGP session with 172.30.0.2 does not come about", "SYN-SENT", "no-bgp", "default via 172.30.0.254"}},
	{"flannel-nft/masquerade-udp", Likely, []string{"is rewritten from 10.244.1.2 to 10.244.1.0", "kube-proxy's --cluster-cidr"}},
	{"calico-legacy/accept-queue-tcp", Likely, []string{"accept queue is full", "arrived 2 times and was not answered"}},
	{"flannel-legacy/socket-buffer-udp", Certain, []string{"application reads too slowly"}},
	{"calico-legacy/shaper-icmp", Certain, []string{"queueing discipline", "tc -s qdisc show dev cali7715d358f22"}},
	{"flannel-nft/checksum-udp", Certain, []string{"UDP checksum is wrong, so"}},
	{"calico-legacy/checksum-tunnel-icmp", Certain, []string{"outer UDP checksum of its tunnel packet is wrong", "ethtool -K vxlan.calico"}},
	{"calico-legacy/tc-drop-tcp", Certain, []string{"tc program or filter on node (calia7a3e029a7b)"}},
	{"flannel-nft/xdp-drop-icmp", Certain, []string{"XDP program"}},
	{"calico-legacy/left-node-udp", Certain, []string{"left this node by eth0 in good order", "on node 172.30.0.2: pathtrace"}},
	{"calico-legacy/pod-interface-down-icmp", Likely, []string{"eth0 of the source pod is set down"}},
	{"flannel-nft/pod-no-route-tcp", Likely, []string{"the source pod has no route to 10.244.2.3"}},
	{"calico-legacy/not-sent-tcp", Likely, []string{"nothing was sent while it was traced"}},
	{"flannel-nft/reply-not-translated-tcp", Certain, []string{"while 10.96.10.1:80 had been asked", "net.bridge.bridge-nf-call-iptables = 0"}},
}

// Each fault that testenv makes for real is told by its code, in its direction,
// as the only finding, with what a person needs to know of it.
func TestTold(t *testing.T) {
	for _, w := range told {
		t.Run(w.name, func(t *testing.T) {
			s, err := story.Find(w.name)
			if err != nil {
				t.Fatal(err)
			}
			found := replay(t, filepath.Join("testdata", fileName(w.name)))
			if len(found) != 1 {
				t.Fatalf("%d findings, want one: %+v", len(found), found)
			}
			f := found[0]
			if f.Code != s.Expect.Code || f.Direction != s.Expect.Direction || f.Confidence != w.confidence {
				t.Errorf("told %s, %s, %s; want %s, %s, %s", f.Code, f.Direction, f.Confidence, s.Expect.Code, s.Expect.Direction, w.confidence)
			}
			if (len(f.Packets) == 0) != s.Expect.Silence || len(f.Fix) == 0 {
				t.Errorf("packets %v, fix %q: want some of both", f.Packets, f.Fix)
			}
			all := words(f)
			for _, part := range w.says {
				if !strings.Contains(all, part) {
					t.Errorf("does not say %q:\n%s", part, all)
				}
			}
		})
	}
}

func words(f model.Finding) string {
	return strings.Join(slices.Concat([]string{f.Summary}, f.Evidence, f.Fix), "\n")
}

// The same node and traffic without the fault give no finding.
func TestHealthyTwins(t *testing.T) {
	for _, w := range told {
		t.Run(w.name, func(t *testing.T) {
			for _, f := range replay(t, filepath.Join("testdata", fileName(w.name)+".healthy")) {
				t.Errorf("healthy, but told %s: %s", f.Code, words(f))
			}
		})
	}
}

// Where the kernel hides its symbols, functions are bare addresses: a cause may
// be told with less confidence or not at all, but never another one.
func TestHiddenSymbols(t *testing.T) {
	missed := 0
	for _, w := range told {
		t.Run(w.name, func(t *testing.T) {
			s, err := story.Find(w.name)
			if err != nil {
				t.Fatal(err)
			}
			found := findingsOf(t, filepath.Join("testdata", fileName(w.name)), hideSymbols)
			if !slices.ContainsFunc(found, func(f model.Finding) bool { return f.Code == s.Expect.Code }) {
				missed++
			}
			for _, f := range found {
				if f.Code != s.Expect.Code && f.Code != "unexplained-drop" {
					t.Errorf("told %s, want %s or that it is not known: %s", f.Code, s.Expect.Code, words(f))
				}
			}
		})
	}
	if missed > 2 {
		t.Errorf("%d of %d causes are not told where symbols are hidden", missed, len(told))
	}
}

func hideSymbols(p *model.Packet) {
	if p.Drop != nil {
		p.Drop.Function, p.Drop.Stage, p.Drop.Stack = "0xffffffff81a3c2d1", "", nil
	}
}
