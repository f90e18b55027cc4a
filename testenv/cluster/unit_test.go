// SPDX-License-Identifier: Apache-2.0

// The parts that need no root: names, texts, rewriting.

package cluster

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

func TestParseDataplane(t *testing.T) {
	for _, d := range Dataplanes() {
		if got, err := ParseDataplane(string(d)); err != nil || got != d {
			t.Errorf("ParseDataplane(%q) = %q, %v", d, got, err)
		}
	}
	if _, err := ParseDataplane("cilium"); err == nil || !strings.Contains(err.Error(), "flannel-nftables") {
		t.Errorf("an unknown dataplane gives %v; want an error that lists those there are", err)
	}
	if d := CalicoNFTables; d.Kind() != Calico || d.Form() != FormNFTables {
		t.Errorf("%s is %s, %s", d, d.Kind(), d.Form())
	}
}

func TestRewriteAddrs(t *testing.T) {
	to := map[string]string{"10.244.1.10": "192.168.166.130", "192.168.77.1": "172.30.0.254"}
	in := "-d 10.244.1.10/32 -s 10.244.1.100/32 to 10.244.1.10:8080 192.168.77.1:6443 192.168.77.10"
	want := "-d 192.168.166.130/32 -s 10.244.1.100/32 to 192.168.166.130:8080 172.30.0.254:6443 192.168.77.10"
	if got := rewriteAddrs(in, to); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPlaceJumps(t *testing.T) {
	in := "*filter\n:FORWARD ACCEPT [0:0]\n[1:2] -A FORWARD -j A\n-A KUBE-FORWARD -j B\n-A FORWARD -j C\nCOMMIT\n*nat\n-A OUTPUT -j D\n-A FORWARD -j E\nCOMMIT\n"
	want := "*filter\n:FORWARD ACCEPT [0:0]\n-I FORWARD 2 -j A\n-A KUBE-FORWARD -j B\n-I FORWARD 3 -j C\nCOMMIT\n*nat\n-I OUTPUT 2 -j D\n-I FORWARD 2 -j E\nCOMMIT\n"
	if got := placeJumps(in, 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNativeTables(t *testing.T) {
	in := "table ip filter { # handle 1\n\tchain A {\n\t}\n}\ntable arp calico-arp {\n\tchain B {\n\t}\n}\ntable ip6 nat {\n}\ntable ip calico {\n}\n"
	want := "table arp calico-arp {\n\tchain B {\n\t}\n}\ntable ip calico {\n}\n"
	if got := nativeTables(in); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseSysctls(t *testing.T) {
	in := "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n/proc/sys/net/ipv4/conf/eth0 proxy_arp=0 rp_filter=2\n/proc/sys/net/ipv4/conf/veth1 rp_filter=1\n/proc/sys/net/ipv4/conf/all forwarding=1 rp_filter=0\n"
	got := parseSysctls(in, map[string]bool{"eth0": true, "all": true})
	want := []netns.Setting{
		{Path: "bridge/bridge-nf-call-iptables", Value: "1"}, {Path: "ipv4/conf/eth0/proxy_arp", Value: "0"},
		{Path: "ipv4/conf/eth0/rp_filter", Value: "2"}, {Path: "ipv4/conf/all/rp_filter", Value: "0"},
	}
	gotText, _ := json.Marshal(got)
	wantText, _ := json.Marshal(want)
	if string(gotText) != string(wantText) {
		t.Errorf("got %s; want %s", gotText, wantText)
	}
}

func TestCalicoPlan(t *testing.T) {
	plan, err := planPods(CalicoNFT)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan) != 4 {
		t.Fatalf("%d pods: %+v", len(plan), plan)
	}
	var c podPlan
	for _, p := range plan {
		if p.name == "client" {
			c = p
		}
	}
	if c.namespace != "default" || c.node != 1 || c.ipv4.String() != "192.168.166.129" ||
		c.hostInterface != "calia7a3e029a7b" || c.mac != "82:2c:99:27:93:e5" || c.ipv6.String() != "fd00:10:166:1::81" {
		t.Errorf("client is %+v", c)
	}
}
