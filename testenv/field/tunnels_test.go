// SPDX-License-Identifier: Apache-2.0

package field

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// between puts the pods' way between the nodes into a device t0 that a line makes. The
// line knows ME and YOU, the nodes' numbers, and MINE and FAR, their addresses.
func between(device string) []string {
	return onBoth("ip link del $TUNNEL",
		"eval \"MINE=\\$NODE$ME\"; ip addr add fd09::$ME/64 dev eth0 nodad; ip link add t0 "+device+" && ip link set t0 mtu 1400 up && ip route add $PODS dev t0 && sysctl -qw net.ipv4.conf.t0.proxy_arp=1 net.ipv4.neigh.t0.proxy_delay=0",
		"if [ $ME = 1 ]; then ip -6 route replace $WEB26 dev t0; else ip -6 route replace $CLIENT6 dev t0; fi; sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.t0.proxy_ndp=1")
}

// guarded gives each hook of a tunnel's packets a table, with rules that none of them
// meets: a hook with nothing in it is not told.
var guarded = []string{"node1: iptables-legacy -t raw -A PREROUTING -s 203.0.113.9 -j DROP && iptables-legacy -A INPUT -s 203.0.113.9 -j DROP && iptables-legacy -A OUTPUT -d 203.0.113.9 -j DROP",
	"node1: ip6tables-legacy -t raw -A PREROUTING -s 2001:db8::9 -j DROP && ip6tables-legacy -A INPUT -s 2001:db8::9 -j DROP && ip6tables-legacy -A OUTPUT -d 2001:db8::9 -j DROP"}

// TestTunnels sends healthy exchanges between two nodes through each kind of tunnel: each
// packet is one journey that enters the tunnel, or comes out of it, and nothing is found.
func TestTunnels(t *testing.T) {
	p := readPlan(t)
	for _, c := range []struct {
		name, kind string
		modules    []string
		setup      []string
		ipv6       bool
		size       int // of what is sent at once
		captured   bool
	}{
		{"vxlan", "vxlan", []string{"vxlan"}, nil, false, 0, false},
		{"ipip", "ipip", []string{"ipip"}, ipip(), false, 0, true},
		{"gre", "gre", []string{"ip_gre"}, between("type gre local $MINE remote $FAR key 77"), false, 0, false},
		{"gretap", "gre", []string{"ip_gre"}, between("address 02:00:00:00:00:0$ME type gretap local $MINE remote $FAR"), false, 0, false},
		{"geneve", "geneve", []string{"geneve"}, between("address 02:00:00:00:00:0$ME type geneve id 9 remote $FAR"), false, 0, false},
		{"sit", "sit", []string{"sit"}, between("type sit local $MINE remote $FAR"), true, 0, false},
		{"ip6tnl", "ip6tnl", []string{"ip6_tunnel"}, between("type ip6tnl mode any local fd09::$ME remote fd09::$YOU"), false, 0, false},
		{"wireguard", "wireguard", []string{"wireguard"}, wireGuard(), false, 0, true},
		{"wireguard-large", "wireguard", []string{"wireguard"}, append(wireGuard(), "client: ip link set eth0 mtu 1400", "web2: ip link set eth0 mtu 1400"), false, 8000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			one := Case{Name: "tunnel", Node: plain(cluster.CalicoLegacy, 2), Modules: c.modules, Setup: append(slices.Clone(c.setup), guarded...), Traffic: exchange("tcp", client, web2), Flags: []string{"--proto", "tcp"}}
			one.Traffic.IPv6, one.Traffic.Size = c.ipv6, c.size
			if c.kind == "wireguard" {
				one.Tools = []string{"wg"}
			}
			capture := filepath.Join(t.TempDir(), "x.pcapng")
			if c.captured {
				one.Flags = append(one.Flags, "--write-all", "-w", capture)
			}
			s := stand(t, one)
			tr, sender, status := trace(t, p, s, true)
			t.Logf("sender: %s, exit %d", sender, status)
			for _, f := range tr.Findings() {
				t.Errorf("false alarm: %s", words(f))
			}
			if c.captured {
				bothLayers(t, s, capture, c.kind)
			}
			packets := tr.Packets()
			if status != 0 || len(packets) < 4 {
				t.Errorf("exit status %d and %d packets, want 0 and 4 at least", status, len(packets))
			}
			for _, pk := range packets {
				if !crosses(pk, c.kind) {
					t.Errorf("not told as one way through the tunnel: %s", tell(pk))
				}
			}
		})
	}
}

// bothLayers looks with tshark at what was captured: of each packet that crossed the tunnel
// there are bytes with its own addresses and bytes with those of the nodes, or of an
// encrypted one with WireGuard's data.
func bothLayers(t *testing.T, s *Stage, capture, kind string) {
	t.Helper()
	out, err := exec.Command("tshark", "-r", capture, "-T", "fields", "-e", "frame.packet_id", "-e", "ip.src", "-e", "wg.type").CombinedOutput()
	if err != nil {
		t.Errorf("tshark: %v: %s", err, out)
		return
	}
	pods, nodes := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 3 {
			continue // a warning
		}
		for src := range strings.SplitSeq(f[1], ",") {
			switch src {
			case s.cast.client.IPv4.String(), s.cast.web2.IPv4.String():
				pods[f[0]] = true
			case s.Env.Nodes[0].Addr.String(), s.Env.Nodes[1].Addr.String():
				nodes[f[0]] = kind != "wireguard" || f[2] == "4"
			}
		}
	}
	for id := range pods {
		if !nodes[id] {
			t.Errorf("%s: packet %s is captured without its outer header:\n%s", kind, id, out)
			return
		}
	}
	if len(pods) < 4 {
		t.Errorf("%s: bytes of %d packets are captured:\n%s", kind, len(pods), out)
	}
}

// crosses tells that a packet went into the tunnel and left, or came out of it and
// arrived, as its outer packet before: that of WireGuard too.
func crosses(p model.Packet, kind string) bool {
	stage, outcome := model.StageEncapsulate, model.LeftNode
	if p.Direction == model.Return {
		stage, outcome = model.StageDecapsulate, model.Delivered
	}
	at := slices.IndexFunc(p.Hops, func(h model.Hop) bool { return h.Stage == stage && h.Tunnel != nil && h.Tunnel.Kind == kind })
	if at >= 0 && strings.HasPrefix(p.Hops[at].Result, "cut into segments") && !p.Hops[at].Tunnel.Src.IsValid() {
		return p.Outcome == model.LeftNode || p.Outcome == model.Consumed // its segments are not seen by all backends
	}
	if p.Outcome != outcome || at < 0 || !p.Hops[at].Tunnel.Src.IsValid() {
		return false
	}
	inHook := func(name string) func(model.Hop) bool {
		return func(h model.Hop) bool { return h.Hook == name && h.Place == "node" }
	}
	if stage == model.StageEncapsulate {
		return slices.ContainsFunc(p.Hops[at:], inHook("OUTPUT"))
	}
	return slices.ContainsFunc(p.Hops[:at], inHook("PREROUTING")) && slices.ContainsFunc(p.Hops[:at], inHook("INPUT"))
}

// TestTunnelEnds asks for the two ends of a tunnel instead of those inside: its packets
// are told then, both ways.
func TestTunnelEnds(t *testing.T) {
	p := readPlan(t)
	for _, c := range []struct {
		kind, proto string
		setup       []string
	}{{"vxlan", "udp", nil}, {"ipip", "ip-proto-4", ipip()}} {
		t.Run(c.kind, func(t *testing.T) {
			one := Case{Name: "ends", Node: plain(cluster.CalicoLegacy, 2), Modules: []string{c.kind}, Setup: c.setup, Traffic: exchange("tcp", client, web2), Src: "${NODE1}", Dst: "${NODE2}"}
			s := stand(t, one)
			tr, sender, status := trace(t, p, s, true)
			t.Logf("sender: %s, exit %d", sender, status)
			for _, f := range tr.Findings() {
				t.Errorf("false alarm: %s", words(f))
			}
			seen := map[model.Outcome]int{}
			for _, pk := range tr.Packets() {
				if pk.Proto == c.proto {
					seen[pk.Outcome]++
				}
			}
			if status != 0 || seen[model.LeftNode] < 2 || seen[model.Delivered] < 2 {
				t.Errorf("exit status %d, packets of %s: %v; want 0, and two each way at least", status, c.proto, seen)
				for _, pk := range tr.Packets() {
					t.Log(tell(pk))
				}
			}
		})
	}
}
