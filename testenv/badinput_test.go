// SPDX-License-Identifier: Apache-2.0

// What cannot be done is refused, with words that say what can be. It takes no root.

package testenv

import (
	"context"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

func TestBadInput(t *testing.T) {
	e := &cluster.Env{Dataplane: cluster.CalicoLegacy}
	for _, c := range []struct {
		traffic traffic.Spec
		want    string
	}{
		{traffic.Spec{Proto: "icmp", Src: "nobody", Dst: "10.0.0.1"}, `"nobody" is neither a pod`},
		{traffic.Spec{Proto: "icmp", Src: "external", Dst: "nobody"}, `"nobody" is neither an address`},
		{traffic.Spec{Proto: "icmp", Src: "external", Dst: "svc:a/b"}, `no service "a/b"`},
		{traffic.Spec{Proto: "sctp", Src: "external", Dst: "10.0.0.1"}, `"sctp": take icmp, tcp or udp`},
	} {
		if _, err := traffic.Send(context.Background(), e, c.traffic); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v gives %v; want %q in it", c.traffic, err, c.want)
		}
	}
	if _, err := fault.Break(context.Background(), e, "nonsense", traffic.Spec{}); err == nil || !strings.Contains(err.Error(), "rule-drop") {
		t.Errorf("an unknown fault gives %v; want an error that lists those there are", err)
	}
	if _, err := fault.Break(context.Background(), e, "ttl-loop", traffic.Spec{}); err == nil || !strings.Contains(err.Error(), "takes 2 nodes") {
		t.Errorf("a fault that does not fit gives %v", err)
	}
	if _, err := cluster.New(context.Background(), cluster.Options{Dataplane: cluster.CalicoLegacy, Nodes: 3}); err == nil {
		t.Error("three nodes give no error")
	}
}
