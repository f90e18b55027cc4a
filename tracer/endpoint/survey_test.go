// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cri/critest"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube/kubetest"
)

func TestSurvey(t *testing.T) {
	c, dir := calicoNode(t, "legacy")
	none, err := resolverFor(t, c, "n1").Survey(context.Background())
	if err != nil || len(none) != 4 {
		t.Fatalf("%+v, %v", none, err)
	}
	for i, want := range []string{"no CNI cache at /nonexistent", "3 Calico interfaces", "no container runtime socket", "no kubeconfig"} {
		if len(none[i].Pods) > 0 || !strings.Contains(none[i].Note, want) {
			t.Errorf("%+v, want %s", none[i], want)
		}
	}
	server := kubetest.Serve(t)
	server.Forbidden = []string{"pods"}
	socket := critest.Serve(t, critest.Pod{ID: "1", Namespace: "default", Name: "client", Netns: c.Path("rc-client")})
	r := resolverFor(t, c, "n1", withCache(dir), withRuntime(socket), withAPI(t, server), func(s *Sources) { s.Namespace = "demo" })
	all, err := r.Survey(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if cache := all[0]; cache.Where != dir || !slices.Equal(cache.Pods, []string{"default/client", "default/server", "prod/db"}) || cache.Note != "" {
		t.Errorf("%+v", cache)
	}
	if runtime := all[2]; runtime.Where != socket || !slices.Equal(runtime.Pods, []string{"default/client"}) {
		t.Errorf("%+v", runtime)
	}
	if api := all[3]; api.Where != server.Host() || !strings.HasSuffix(api.Note, ", pods may not be listed, 10 services in demo") {
		t.Errorf("%+v", api)
	}
}
