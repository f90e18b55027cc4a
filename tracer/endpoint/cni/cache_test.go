// SPDX-License-Identifier: Apache-2.0

package cni

// These tests read caches as real plugins left them (testdata: Calico 3.34 and
// flannel 0.28, each with three kinds of rules) and ones that went wrong.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// summary is an attachment in one line.
func summary(a Attachment) string {
	var addrs []string
	for _, addr := range a.Addrs {
		addrs = append(addrs, addr.String())
	}
	return fmt.Sprintf("%s/%s %s %s %s", a.PodNamespace, a.PodName, a.IfName, strings.Join(addrs, ","), filepath.Base(a.Netns))
}

func listing(t *testing.T, dir string) Listing {
	t.Helper()
	l, err := New(dir).List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRealCaches(t *testing.T) {
	calico := map[string][]string{
		"node1": {"prod/db eth0 192.168.166.131 rc-db calibc0d3acf431", "default/server eth0 192.168.166.130 rc-server cali7715d358f22", "default/client eth0 192.168.166.129 rc-client calia7a3e029a7b"},
		"node2": {"default/web2 eth0 192.168.104.1 rc-web2 cali4e54bcdb445"},
	}
	for _, mode := range []string{"legacy", "nft", "nftables"} {
		for node, want := range calico {
			l := listing(t, filepath.Join("testdata", "calico-"+mode, node))
			var got []string
			for _, a := range l.Attachments {
				got = append(got, summary(a)+" "+strings.Join(a.HostInterfaces, ","))
			}
			if !slices.Equal(got, want) || len(l.Problems) > 0 {
				t.Errorf("calico-%s %s:\n got %q\nwant %q (%v)", mode, node, got, want, l.Problems)
			}
		}
		l := listing(t, filepath.Join("testdata", "flannel-"+mode, "node1"))
		if len(l.Attachments) != 2 || len(l.Problems) > 0 {
			t.Fatalf("flannel-%s: %+v", mode, l)
		}
		for i, want := range []string{"default/server eth0 10.244.1.3 rc-server", "default/client eth0 10.244.1.2 rc-client"} {
			a := l.Attachments[i]
			if summary(a) != want || len(a.HostInterfaces) != 2 || a.HostInterfaces[0] != "cni0" || !strings.HasPrefix(a.HostInterfaces[1], "veth") {
				t.Errorf("flannel-%s: %s %q", mode, summary(a), a.HostInterfaces)
			}
		}
	}
}

// entry builds a cache file's text.
func cacheFile(namespace, pod, more string) string {
	return fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"id-%s","ifName":"eth0","cniArgs":[["K8S_POD_NAMESPACE",%q],["K8S_POD_NAME",%q]]%s}`, pod, namespace, pod, more)
}

func TestFormats(t *testing.T) {
	const secret = "s3cr3t"
	good := map[string]struct{ text, want string }{
		// containerd 1.6: no netns key.
		"containerd": {cacheFile("a", "b", `,"result":{"interfaces":[{"name":"caliX"},{"name":"eth0","sandbox":"/var/run/netns/cni-1"}],"ips":[{"address":"10.1.0.1/32","interface":1}]}`), "a/b eth0 10.1.0.1 cni-1"},
		"dual":       {cacheFile("a", "b", `,"netns":"/run/netns/n","result":{"ips":[{"address":"10.1.0.1/24"},{"address":"fd00::5/64"}]}`), "a/b eth0 10.1.0.1,fd00::5 n"},
		"version2":   {cacheFile("a", "b", `,"netns":"/run/netns/n","result":{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.1/24"},"ip6":{"ip":"fd00::5/64"}}`), "a/b eth0 10.1.0.1,fd00::5 n"},
		"host side":  {cacheFile("a", "b", `,"netns":"/run/netns/n","result":{"interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.1.0.254/24","interface":0},{"address":"10.1.0.1/24","interface":1}]}`), "a/b eth0 10.1.0.1 n"},
		"no result":  {cacheFile("a", "b", `,"netns":"/run/netns/n"`), "a/b eth0  n"},
		"capability": {cacheFile("a", "b", `,"netns":"/run/netns/n","capabilityArgs":{"aliases":"`+secret+`"},"config":"`+secret+`"`), "a/b eth0  n"},
	}
	dir := t.TempDir()
	for name, c := range good {
		write(t, filepath.Join(dir, name), c.text)
	}
	l := listing(t, dir)
	if len(l.Problems) > 0 || len(l.Attachments) != len(good) {
		t.Fatalf("%d of %d, problems %v", len(l.Attachments), len(good), l.Problems)
	}
	for _, a := range l.Attachments {
		if got := summary(a); got != good[a.File].want {
			t.Errorf("%s: %s, want %s", a.File, got, good[a.File].want)
		}
		if strings.Contains(fmt.Sprintf("%+v", a), secret) {
			t.Errorf("%s: read out: %+v", a.File, a)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Entries that are no pod's are passed over, broken ones told, a pipe is not
// waited for; none of them shows a secret.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	whole := cacheFile("a", "b", `,"capabilityArgs":{"password":"s3cr3t"},"result":{}`)
	for name, text := range map[string]string{
		"passed-lo":      strings.Replace(cacheFile("a", "b", ""), "eth0", "lo", 1),
		"passed-docker":  `{"kind":"cniCacheV1","containerId":"x","ifName":"eth0","cniArgs":[["IgnoreUnknown","1"]]}`,
		"passed-ancient": `{"cniVersion":"0.3.1","ips":[{"address":"10.1.0.1/24"}]}`,
		"broken-empty":   "",
		"broken-cut":     whole[:strings.Index(whole, "s3cr3t")+6],
		"broken-text":    "\x00\x01 no json",
		"broken-type":    strings.Replace(whole, `"result":{}`, `"result":{"ips":"s3cr3t"}`, 1),
		"broken-address": strings.Replace(whole, `"result":{}`, `"result":{"ips":[{"address":"10.1.0.1"}]}`, 1),
		"broken-kind":    strings.Replace(whole, "cniCacheV1", "cniCacheV9", 1),
		"broken-large":   cacheFile("a", "b", `,"config":"`+strings.Repeat("A", maxFile)+`"`),
		"good":           whole,
	} {
		write(t, filepath.Join(dir, name), text)
	}
	if err := os.Mkdir(filepath.Join(dir, "passed-folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "passed-pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := listing(t, dir)
	if len(l.Attachments) != 1 || l.Attachments[0].File != "good" {
		t.Errorf("%+v", l.Attachments)
	}
	for _, p := range l.Problems {
		if !strings.HasPrefix(p.File, "broken-") {
			t.Errorf("%s: %v", p.File, p.Err)
		}
		if text := p.Err.Error(); strings.Contains(text, "s3cr3t") || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", p.File, text)
		}
	}
	if len(l.Problems) != 7 {
		t.Errorf("%d problems, want 7: %v", len(l.Problems), l.Problems)
	}
}

func TestNoCache(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "none")).List(context.Background()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	if _, err := New(file).List(context.Background()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as the folder: %v", err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New("testdata/calico-nft/node1").List(done); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What is there on the next reading counts, not what was there before.
func TestChanges(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "results"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := New(dir) // the folder above is fine too
	see := func(want ...string) {
		t.Helper()
		l, err := c.List(context.Background())
		var got []string
		for _, a := range l.Attachments {
			got = append(got, summary(a))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	see()
	path := filepath.Join(dir, "results", "net-a-eth0")
	write(t, path, cacheFile("x", "a", ""))
	see("x/a eth0  .")
	write(t, path, cacheFile("x", "b", ""))
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	see("x/b eth0  .")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	see()
}

// A node with 5,000 entries is read twice, as for two ends, in under half a
// second: the second reading takes what is known.
func TestLargeCache(t *testing.T) {
	text, err := os.ReadFile("testdata/calico-legacy/node1/k8s-pod-network-cnitool-a019bf6a75f61bc17c28-eth0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const n = 5000
	for i := range n {
		one := strings.Replace(string(text), `"client"`, fmt.Sprintf(`"client-%d"`, i), 1)
		write(t, filepath.Join(dir, fmt.Sprintf("k8s-pod-network-%d-eth0", i)), one)
	}
	best := time.Hour // of a machine that has other things to do
	for range 3 {
		c := New(dir)
		began := time.Now()
		for range 2 {
			l, err := c.List(context.Background())
			if err != nil || len(l.Attachments) != n || l.Attachments[0].Addrs[0] != netip.MustParseAddr("192.168.166.129") {
				t.Fatalf("%d entries, %v", len(l.Attachments), err)
			}
		}
		best = min(best, time.Since(began))
	}
	t.Logf("%d entries twice in %v", n, best)
	if best > 500*time.Millisecond {
		t.Errorf("%d entries took %v", n, best)
	}
}
