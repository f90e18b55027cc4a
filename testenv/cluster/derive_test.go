// SPDX-License-Identifier: Apache-2.0

// Rules made of recorded ones, as far as they need no root.

package cluster

import (
	"io/fs"
	"path"
	"strings"
	"testing"
)

// TestDerive: the rules of a way between the nodes stand where VXLAN's stood, on both
// nodes, and nothing of VXLAN's is left but what keeps pods from making tunnels of their own.
func TestDerive(t *testing.T) {
	for _, c := range []struct {
		d    Dataplane
		file string
		want []string // parts of lines, one each
	}{
		{CalicoIPIP, "iptables-legacy-save-c.txt", []string{
			`-A cali-INPUT -p 4 -m comment --comment "cali:PajejrV4aFdkZojI"`, `-A cali-INPUT -p 4 -m comment --comment "cali:_wjq-Yrma8Ly1Svo"`,
			`-A cali-OUTPUT -p 4 `, `-A cali-POSTROUTING -o tunl0 `}},
		{CalicoIPIP, "ipset-save.txt", []string{"create cali40all-hosts-net ", "add cali40all-hosts-net 172.30.0.1", "add cali40all-hosts-net 172.30.0.2"}},
		{CalicoWireGuard, "iptables-nft-save-c.txt", []string{
			`-A cali-INPUT -p udp -m comment --comment "cali:Vnbo2QqyS1ffLI4P"`, `-A cali-OUTPUT -p udp -m comment --comment "cali:o2S0bt1hL_KIBcHM"`,
			`-A cali-POSTROUTING -o wireguard.cali `}},
		{CalicoIPVS, "iptables-legacy-save-c.txt", []string{
			`-A cali-INPUT -m comment --comment "cali:forward" -j cali-forward-check`, `-g cali-forward-endpoint-mark`, `:cali-forward-check `,
			`"Allow IPv4 VXLAN packets from allowed hosts"`}},
	} {
		for _, node := range []string{"node1", "node2"} {
			text, err := testdata.ReadFile(path.Join(c.d.recording(), node, c.file))
			if err != nil {
				t.Fatal(err)
			}
			got := c.d.derive(string(text))
			for _, part := range c.want {
				if n := strings.Count(got, part); n != 1 {
					t.Errorf("%s, %s of %s: %q is there %d times, want once", c.d, c.file, node, part, n)
				}
			}
			for line := range strings.Lines(got) {
				if c.d.Way() != WayVXLAN && !strings.Contains(line, "originating in workloads") && (strings.Contains(line, "vxlan") || strings.Contains(line, "4789")) {
					t.Errorf("%s, %s of %s: VXLAN's line is left: %s", c.d, c.file, node, line)
				}
			}
		}
	}
}

// TestDeriveEveryPod: with IPVS every pod of a node has a mark of its own, set and read.
func TestDeriveEveryPod(t *testing.T) {
	for _, node := range []string{"node1", "node2"} {
		text, err := testdata.ReadFile(path.Join(CalicoIPVS.recording(), node, "iptables-legacy-save-c.txt"))
		if err != nil {
			t.Fatal(err)
		}
		pods, err := fs.Glob(testdata, path.Join(CalicoIPVS.recording(), node, "cni-results", "*"))
		if err != nil {
			t.Fatal(err)
		}
		got := CalicoIPVS.derive(string(text))
		for _, part := range []string{" -g cali-sm-", " -j MARK --set-xmark 0x", " -g cali-fw-"} {
			marks := map[string]bool{}
			for line := range strings.Lines(got) {
				if strings.Contains(line, "endpoint-mark ") && strings.Contains(line, part) || strings.HasPrefix(line, "-A cali-sm-") && strings.Contains(line, part) {
					marks[line] = true
				}
			}
			delete(marks, "-A cali-set-endpoint-mark -m comment --comment \"Non-Cali endpoint mark\" -j MARK --set-xmark 0x200000/0xffe00000\n")
			delete(marks, "-A cali-forward-endpoint-mark -m comment --comment \"cali:clear\" -j MARK --set-xmark 0x0/0xffe00000\n")
			if len(marks) != len(pods) {
				t.Errorf("%s: %d lines with %q, %d pods: %v", node, len(marks), part, len(pods), marks)
			}
		}
	}
}

// TestRecordedStay: what was recorded is put back as it was.
func TestRecordedStay(t *testing.T) {
	const text = "-A cali-POSTROUTING -o vxlan.calico -p udp -j MASQUERADE\n"
	for _, d := range append(Recorded(), FlannelIPIP) {
		if got := d.derive(text); got != text {
			t.Errorf("%s: %q", d, got)
		}
	}
}
