// SPDX-License-Identifier: Apache-2.0

// The parts that need no root: names, texts, rewriting.

package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/owner"
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

func TestBadInput(t *testing.T) {
	e := &Env{Dataplane: CalicoLegacy}
	for _, c := range []struct {
		traffic Traffic
		want    string
	}{
		{Traffic{Proto: "icmp", Src: "nobody", Dst: "10.0.0.1"}, `"nobody" is neither a pod`},
		{Traffic{Proto: "icmp", Src: "external", Dst: "nobody"}, `"nobody" is neither an address`},
		{Traffic{Proto: "icmp", Src: "external", Dst: "svc:a/b"}, `no service "a/b"`},
		{Traffic{Proto: "sctp", Src: "external", Dst: "10.0.0.1"}, `"sctp": take icmp, tcp or udp`},
	} {
		if _, err := Send(context.Background(), e, c.traffic); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v gives %v; want %q in it", c.traffic, err, c.want)
		}
	}
	if _, err := Break(context.Background(), e, "nonsense", Traffic{}); err == nil || !strings.Contains(err.Error(), "rule-drop") {
		t.Errorf("an unknown fault gives %v; want an error that lists those there are", err)
	}
	if _, err := Break(context.Background(), e, "ttl-loop", Traffic{}); err == nil || !strings.Contains(err.Error(), "takes 2 nodes") {
		t.Errorf("a fault that does not fit gives %v", err)
	}
	if _, err := New(context.Background(), Options{Dataplane: CalicoLegacy, Nodes: 3}); err == nil {
		t.Error("three nodes give no error")
	}
}

// TestMain lets the test binary play the owner that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("TESTENV_VICTIM") != "" {
		playVictim()
	}
	os.Exit(m.Run())
}

// playVictim builds an environment, says so, and waits to be killed.
func playVictim() {
	e, err := New(context.Background(), Options{Dataplane: CalicoLegacy})
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	if err := e.Node(1).Netns.Start(exec.Command("sleep", "300")); err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString(e.name + " " + e.StateDir + "\n")
	time.Sleep(time.Minute)
	os.Exit(1)
}

// TestCleanStale kills an owner and removes what it left, but not what a living
// one owns.
func TestCleanStale(t *testing.T) {
	alive := newTestEnv(t, Options{Dataplane: CalicoLegacy})
	victim := exec.CommandContext(t.Context(), os.Args[0])
	victim.Env = append(os.Environ(), "TESTENV_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var name, state string
	if _, err := fmt.Fscan(out, &name, &state); err != nil {
		t.Fatalf("the victim said nothing: %v", err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.Wait() // killed, as wanted
	if left := netnsOf(t, name); len(left) == 0 {
		t.Fatalf("the victim %s left nothing to clean", name)
	}
	removed, err := owner.CleanStale()
	if err != nil {
		t.Fatal(err)
	}
	if left := netnsOf(t, name); len(left) > 0 {
		t.Errorf("CleanStale left %v, removed %v", left, removed)
	}
	if _, err := os.Stat(state); err == nil {
		t.Errorf("CleanStale left %s", state)
	}
	if left := netnsOf(t, alive.name); len(left) == 0 {
		t.Error("CleanStale removed what a living owner owns")
	}
}

// TestFaultRuleText: a fault's rule is listed as the fault says.
func TestFaultRuleText(t *testing.T) {
	for _, d := range []Dataplane{CalicoLegacy, CalicoNFT, FlannelNFTables} {
		e := newTestEnv(t, Options{Dataplane: d})
		for _, fault := range []string{"rule-drop", "rule-reject", "rule-drop-return", "split-rulesets"} {
			for _, traffic := range []Traffic{
				{Proto: "tcp", Src: client, Dst: server}, {Proto: "udp", Src: client, Dst: server, Port: 53},
				{Proto: "icmp", Src: client, Dst: server}, {Proto: "icmp", Src: client, Dst: server, IPv6: true},
			} {
				applied, err := Break(t.Context(), e, fault, traffic)
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

func checkListed(t *testing.T, e *Env, a *Applied) {
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
