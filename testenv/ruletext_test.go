// SPDX-License-Identifier: Apache-2.0

// A fault says what the tracer is to read: the line its rule is listed as.

package testenv

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// TestFaultRuleText: a fault's rule is listed as the fault says.
func TestFaultRuleText(t *testing.T) {
	for _, d := range []cluster.Dataplane{cluster.CalicoLegacy, cluster.CalicoNFT, cluster.FlannelNFTables} {
		e := newTestEnv(t, cluster.Options{Dataplane: d})
		for _, name := range []string{"rule-drop", "rule-reject", "rule-drop-return", "split-rulesets"} {
			for _, sent := range []traffic.Spec{
				{Proto: "tcp", Src: client, Dst: server}, {Proto: "udp", Src: client, Dst: server, Port: 53},
				{Proto: "icmp", Src: client, Dst: server}, {Proto: "icmp", Src: client, Dst: server, IPv6: true},
			} {
				applied, err := fault.Break(t.Context(), e, name, sent)
				if err != nil {
					t.Fatal(err)
				}
				checkListed(t, e, applied)
				if err := applied.Undo(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func checkListed(t *testing.T, e *cluster.Env, a *fault.Applied) {
	t.Helper()
	v6 := map[string]string{"ip": "", "ip6": "6"}[a.Rule.Family]
	cmd := []string{"ip" + v6 + "tables-" + a.Rule.Backend + "-save"}
	if strings.HasPrefix(a.Rule.Table, "site-") {
		cmd = []string{"nft", "list", "table", a.Rule.Family, a.Rule.Table}
	}
	out, err := e.RunTool(t.Context(), e.Node(1).Netns, "", cmd...)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == a.Rule.Text {
			return
		}
	}
	t.Errorf("%s: %q is not listed as such in\n%s", a.Fault.Name, a.Rule.Text, out)
}
