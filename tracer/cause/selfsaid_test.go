// SPDX-License-Identifier: Apache-2.0

package cause

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// A reason that is the whole cause is told as that, and each has words of its own.
func TestSelfSaid(t *testing.T) {
	for _, s := range selfSaids {
		for _, reason := range s.reasons {
			t.Run(reason, func(t *testing.T) {
				state := madeNode()
				state.Places[nodeNS].Listening = map[string][]node.Listener{"tcp": {{Local: netip.MustParseAddrPort("0.0.0.0:179"), Inode: 5, Whole: true}}}
				found := diagnoseAll(t, state, dead(reason, "tcp_v4_rcv+0x91", func(p *model.Packet) { p.DstPort = 179 }))
				if len(found) != 1 || found[0].Code != "unexplained-drop" || found[0].Confidence != Certain {
					t.Fatalf("told %+v", found)
				}
				text := words(found[0])
				for _, part := range []string{"the kernel says why itself: ", "(BGP, TCP port 179)", "server (pid 812) listens there", "ss -lnt: 0.0.0.0:179 at node"} {
					if !strings.Contains(text, part) {
						t.Errorf("does not say %q:\n%s", part, text)
					}
				}
				if strings.Contains(text, "no known cause") || strings.Contains(text, "not known: why") {
					t.Errorf("a cause that the kernel gave is told as unknown:\n%s", text)
				}
			})
		}
	}
	// what says only where it died does not
	found := diagnoseAll(t, madeNode(), dead("PKT_TOO_SMALL", "ip_rcv_core+0x1", nil))
	if len(found) != 1 || found[0].Confidence != Likely || !strings.Contains(words(found[0]), "no known cause fits") || !strings.Contains(words(found[0]), "not known: why") {
		t.Errorf("told %+v", found)
	}
}

// A segment of a connection is told with whose it is.
func TestSelfSaidOfConnection(t *testing.T) {
	state := madeNode()
	state.Places[nodeNS].Sockets = []node.Socket{{Local: netip.MustParseAddrPort("10.244.1.3:80"), Remote: netip.MustParseAddrPort("10.244.1.2:40000"), State: node.TCPEstablished, Inode: 9}}
	found := diagnoseAll(t, state, dead("TCP_AOFAILURE", "tcp_v4_rcv+0x91", func(p *model.Packet) { p.TCPFlags = "." }))
	if len(found) != 1 || !says(found[0], "ss -nt: 10.244.1.3:80 to 10.244.1.2:40000 at node, of server (pid 812)") || strings.Contains(words(found[0]), "BGP, TCP port") {
		t.Errorf("told %+v", found)
	}
}
