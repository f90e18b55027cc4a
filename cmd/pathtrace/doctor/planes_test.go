// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// What carries pods' packets past the node is told, in both forms; of a node whose pods
// have pairs nothing is.
func TestPlanes(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	c := nodetest.TwoNodes(t)
	c.Add("mv")
	examine := func() *Report {
		ns, err := node.OpenNamespaces(c.Path("n1"))
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		names := endpoint.NewResolverWith(ns, endpoint.Sources{CNICache: t.TempDir(), CRISocket: "/nonexistent/cri.sock"})
		defer names.Close()
		return Collect(context.Background(), "test", ns, names)
	}
	// others of this machine may have programs on cgroups
	devices := func(r *Report) []model.Plane {
		return slices.DeleteFunc(r.Planes, func(p model.Plane) bool { return p.Kind == model.PlaneConnect })
	}
	if r := examine(); len(devices(r)) != 0 {
		t.Errorf("told of a node whose pods have pairs: %+v", r.Planes)
	}
	c.In("n1", "ip link add name up1 link eth0 type macvlan mode bridge", "ip link set up1 netns @mv name net1")
	c.In("mv", "ip addr add 10.99.0.50/24 dev net1", "ip link set net1 up")
	r := examine()
	if planes := devices(r); len(planes) != 1 || planes[0].Kind != model.PlaneMacvlan || planes[0].Ends != nil {
		t.Fatalf("planes %+v", planes)
	}
	if r.Node.PodNetns != 3 {
		t.Errorf("%d pods, want a, b and mv", r.Node.PodNetns)
	}
	var text, raw bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"past what is watched     macvlan: net1 in " + c.Name("mv") + " is a macvlan (mode bridge) on eth0\n", "   packets go between net1 and eth0 past"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("lacks %q:\n%s", want, text.String())
		}
	}
	if err := r.WriteJSON(&raw); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(raw.Bytes(), &back); err != nil || len(back.Planes) != len(r.Planes) {
		t.Errorf("%v: %s", err, raw.String())
	}
}
