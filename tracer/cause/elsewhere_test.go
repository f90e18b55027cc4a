// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// unheardAt is a packet that came to a port of pod B that no socket took.
func unheardAt(proto string, dst netip.Addr) *model.Packet {
	return dead("NO_SOCKET", proto+"_v4_rcv+0x91", func(p *model.Packet) {
		inPod(otherNS, "default/b")(p)
		p.Proto, p.Dst = proto, dst
		if dst.Is6() {
			p.Src = netip.MustParseAddr("fd00::2")
		}
		if proto != "tcp" {
			p.TCPFlags = ""
		}
		answer := map[string]string{"tcp": "tcp-reset", "udp": "icmp-port-unreachable"}[proto]
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageAnswer, Netns: otherNS, Place: "default/b", Interface: "eth0", IfIndex: 2, Answer: answer})
	})
}

// Who does listen on the port that nobody was found on is told with why it did not do.
func TestListensElsewhere(t *testing.T) {
	podB6 := netip.MustParseAddr("fd00::3")
	at := func(addr string, more func(*node.Listener)) []node.Listener {
		l := node.Listener{Local: netip.MustParseAddrPort(addr), Inode: 7, Whole: true}
		if more != nil {
			more(&l)
		}
		return []node.Listener{l}
	}
	only := func(l *node.Listener) { l.V6Only = true }
	unread := func(l *node.Listener) { l.Whole = false }
	inVRF := func(r *recorded) {
		p := r.Places[otherNS]
		p.Links = append(p.Links, node.Link{Index: 9, Name: "vrf0", Kind: "vrf", Up: true, VRFTable: 10})
		p.Links[0].Master = 9
		p.Sysctls = map[string]string{"ipv4/tcp_l3mdev_accept": "0"}
	}
	for name, tc := range map[string]struct {
		packet *model.Packet
		there  map[string][]node.Listener
		node   map[string][]node.Listener
		more   func(*recorded)
		says   []string
		never  string
	}{
		"IPv6 only": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("[::]:80", only)}, nil, nil,
			[]string{"server (pid 812) listens on [::]:80 there, which takes IPv6 only (IPV6_V6ONLY), while this is IPv4", "ss -lnt: [::]:80 at default/b, of server (pid 812)", "on 0.0.0.0:80 beside"}, "127.0.0.1"},
		"IPv6, of proc": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("[::]:80", unread)}, nil, nil,
			[]string{"or had not been there when the packet came", "/proc/net/tcp: [::]:80"}, "127.0.0.1"},
		"bindv6only": {unheardAt("udp", podB), map[string][]node.Listener{"udp": at("[::]:80", only)}, nil, func(r *recorded) { r.Places[otherNS].Sysctls = map[string]string{"ipv6/bindv6only": "1"} },
			[]string{"net.ipv6.bindv6only = 1", "ss -lnu: [::]:80"}, "127.0.0.1"},
		"IPv4 only": {unheardAt("tcp", podB6), map[string][]node.Listener{"tcp": at("0.0.0.0:80", nil)}, nil, nil,
			[]string{"which takes IPv4 only, while this is IPv6", "have it listen on [::]:80"}, "listen on 0.0.0.0"},
		"loopback": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("127.0.0.1:80", nil)}, nil, nil,
			[]string{"listens on 127.0.0.1:80 there, which is not reached from outside", "let it listen on 0.0.0.0 or 10.244.1.3 instead of 127.0.0.1"}, loopbackFix},
		"another address": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("198.51.100.7:80", nil)}, nil, nil,
			[]string{"which is another address than 10.244.1.3", "or ask for 198.51.100.7"}, "127.0.0.1"},
		"another device": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("0.0.0.0:80", func(l *node.Listener) { l.Device = 5 })}, nil,
			func(r *recorded) {
				r.Places[otherNS].Links = append(r.Places[otherNS].Links, node.Link{Index: 5, Name: "net1", Up: true})
			}, []string{"bound to net1 (SO_BINDTODEVICE), while this came in by eth0", "ss -lnt: 0.0.0.0%net1:80 at default/b"}, "127.0.0.1"},
		"no VRF": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("0.0.0.0:80", nil)}, nil, inVRF,
			[]string{"in no VRF, while this came in by eth0 of VRF vrf0 (net.ipv4.tcp_l3mdev_accept = 0)"}, "127.0.0.1"},
		"bound to its VRF": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("0.0.0.0:80", func(l *node.Listener) { l.Device = 9 })}, nil, inVRF,
			[]string{"by now: it did not when the packet came"}, "SO_BINDTODEVICE"},
		"by now": {unheardAt("tcp", podB), map[string][]node.Listener{"tcp": at("0.0.0.0:80", nil)}, nil, nil,
			[]string{"server (pid 812) listens on 0.0.0.0:80 there, by now: it did not when the packet came"}, "127.0.0.1"},
		"UDP": {unheardAt("tcp", podB), map[string][]node.Listener{"udp": at("0.0.0.0:80", nil), "tcp": at("0.0.0.0:8080", nil)}, nil, nil,
			[]string{"by UDP, while this is TCP", "ss -lnt: none on port 80 at default/b, but on 8080", "ss -lnu: 0.0.0.0:80 at default/b"}, "127.0.0.1"},
		"on the node": {unheardAt("tcp", podB), map[string][]node.Listener{}, map[string][]node.Listener{"tcp": at("[::]:80", nil)}, nil,
			[]string{"in this node's own namespace, not in the pod's", "ss -lnt: none on port 80 at default/b", "ss -lnt: *:80 at node, of server (pid 812)", "hostNetwork"}, "127.0.0.1"},
		"nobody": {unheardAt("udp", podB), map[string][]node.Listener{"udp": append(at("0.0.0.0:53", nil), at("0.0.0.0:40001", nil)...)}, nil, nil,
			[]string{"ss -lnu: none on port 80 at default/b, but on 53"}, "40001"},
	} {
		t.Run(name, func(t *testing.T) {
			state := madeNode()
			state.Places[otherNS].Listening, state.Places[nodeNS].Listening = tc.there, tc.node
			if tc.more != nil {
				tc.more(state)
			}
			found := diagnoseAll(t, state, tc.packet)
			if len(found) != 1 || found[0].Code != "no-listener" || found[0].Confidence != Certain {
				t.Fatalf("told %+v", found)
			}
			for _, part := range tc.says {
				if !says(found[0], part) {
					t.Errorf("does not say %q:\n%s", part, words(found[0]))
				}
			}
			if strings.Contains(words(found[0]), tc.never) || strings.Contains(words(found[0]), loopbackFix) {
				t.Errorf("says %q:\n%s", tc.never, words(found[0]))
			}
		})
	}
}
