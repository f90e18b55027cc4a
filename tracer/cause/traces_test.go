// SPDX-License-Identifier: Apache-2.0

package cause

// This file completes recorded traces with the findings made of them, so that
// the tests of the outputs have whole ones to show (output/testdata).
//
//	PATHTRACE_TRACES=$PWD/output/testdata go test -run TestWriteTraces ./tracer/cause

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/output/jsonl"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// shown are the recordings that outputs are tested with: both directions, all
// kinds of node, and ends of every sort.
var shown = []string{
	"calico-legacy_policy-deny-tcp", "calico-nft_rule-drop-return-tcp", "calico-nftables_rule-drop-udp",
	"calico-legacy_no-listener-tcp", "calico-legacy_no-route-return-icmp", "calico-legacy_vxlan-blocked-icmp",
	"calico-legacy_tunnel-down-tcp", "calico-nft_blackhole-route-tcp", "flannel-legacy_rule-reject-tcp",
	"flannel-nft_reply-not-translated-tcp", "flannel-nft_ttl-loop-udp", "flannel-legacy_vxlan-blocked-return-udp",
	"calico-legacy_mtu-tunnel-udp", "calico-nft_rule-drop-return-tcp.healthy", "flannel-nft_reply-not-translated-tcp.healthy",
}

// testPod is what the test nodes prefix their pods' namespaces with: process,
// time and number, which would be others in each recording. A pod is called as on
// a node where names are found: default/client.
var testPod = regexp.MustCompile(`pt-[0-9]+-[0-9]+-[0-9]+-`)

func TestWriteTraces(t *testing.T) {
	dir := os.Getenv("PATHTRACE_TRACES")
	if dir == "" {
		t.Skip("makes test data: only with PATHTRACE_TRACES set")
	}
	for _, name := range shown {
		var packed bytes.Buffer
		pack := gzip.NewWriter(&packed)
		complete(t, filepath.Join("testdata", name), jsonl.New(pack))
		if err := pack.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, strings.Replace(name, "_", ".", 1)+".jsonl.gz")
		if err := os.WriteFile(path, packed.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// complete plays a recorded trace with its findings.
func complete(t *testing.T, path string, to model.Sink) {
	t.Helper()
	state, err := readRecorded(path + ".state.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	trace, err := readGzip(path + ".jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	trace = testPod.ReplaceAll(trace, []byte("default/"))
	c := New(state, func(line string) { t.Errorf("could not be asked: %s", line) })
	if err := model.ReadJSON(bytes.NewReader(trace), c.Sink(to)); err != nil {
		t.Fatal(err)
	}
}
