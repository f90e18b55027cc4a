// SPDX-License-Identifier: Apache-2.0

// doctor_test.go runs the subcommand with sessions made up; what it finds on
// real nodes is tested in package doctor.

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/cmd/pathtrace/doctor"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestDoctor(t *testing.T) {
	c := nodetest.TwoNodes(t)
	r := finish(t, play(t, "idle", "doctor", "-o", "json", "--netns", c.Path("n1"), "--cni-cache", t.TempDir()))
	r.want(t, 0)
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.stderr != "" {
		t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
	}
	if len(report.Backends) != 2 || report.Backends[1].Name != "tracepoint" || !report.Backends[1].OK || report.Backends[1].Hooks != 24 {
		t.Errorf("backends: %+v", report.Backends)
	}
	if len(report.Capabilities) != 2 || !report.Capabilities[0].OK || !report.BTF.OK || report.Node.Netns != c.Inode("n1") {
		t.Errorf("%+v", report)
	}

	r = finish(t, play(t, "fail-open", "doctor", "--netns", c.Path("n1")))
	r.want(t, 1)
	for _, want := range []string{"backend fentry           no: load program trace_forward: permission denied: invalid mem access", "CAP_NET_ADMIN            yes\n", "leads off by             eth0\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, r.stdout)
		}
	}
}
