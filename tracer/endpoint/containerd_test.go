// SPDX-License-Identifier: Apache-2.0

package endpoint

// This test resolves pods of a real containerd, with real CNI plugins: by the
// runtime alone and by the CNI cache alone. containerd runs in a mount
// namespace of its own, with /run and /var/lib empty, which the resolver sees
// as it would see the host's from a container: below a prefix.

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// containerdConfig is for containerd 1.6 (Debian 12) and later. Control groups
// are left alone: the test's machine may not have them.
const containerdConfig = `version = 2
root = "/run/ct/root"
state = "/run/ct/state"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  disable_apparmor = true
  disable_cgroup = true
  disable_tcp_service = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/ct/net.d"
`

const bridgeNetwork = `{"cniVersion":"0.4.0","name":"cbr0","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.88.0.0/24"}],[{"subnet":"fd00:88::/64"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`

// pauseProgram is all that a pod's sandbox runs.
const pauseProgram = `package main
import ("os"; "os/signal"; "syscall")
func main() { c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGTERM); <-c }
`

// containerd is a running one.
type containerd struct {
	t    *testing.T
	cmd  *exec.Cmd
	root string // its mount namespace's root, seen from here
	rpc  runtime.RuntimeServiceClient
	log  bytes.Buffer
}

// startContainerd starts one in the network namespace of n1.
func startContainerd(t *testing.T, c *nodetest.Cluster) *containerd {
	t.Helper()
	for _, program := range []string{"containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install containerd runc", program)
		}
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "config.toml"), containerdConfig)
	put(t, filepath.Join(dir, "10-test.conflist"), bridgeNetwork)
	d := &containerd{t: t}
	d.cmd = exec.Command("nsenter", "--net="+c.Path("n1"), "sh", "-c", `set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p /run/ct/net.d
cp "$0/10-test.conflist" /run/ct/net.d/
exec containerd -c "$0/config.toml" --log-level warn`, dir)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	d.root = fmt.Sprintf("/proc/%d/root", d.cmd.Process.Pid)
	d.importPause(dir)
	conn, err := grpc.NewClient("unix:"+d.root+"/run/containerd/containerd.sock", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.removePods()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	d.rpc = runtime.NewRuntimeServiceClient(conn)
	return d
}

func (d *containerd) stop() {
	err := errors.Join(d.cmd.Process.Signal(syscall.SIGTERM), d.cmd.Wait())
	if d.t.Failed() {
		d.t.Logf("containerd: %v\n%s", err, d.log.String())
	}
}

// importPause makes the sandbox's image here and imports it, waiting for
// containerd to listen first.
func (d *containerd) importPause(dir string) {
	d.t.Helper()
	put(d.t, filepath.Join(dir, "main.go"), pauseProgram)
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "pause"), filepath.Join(dir, "main.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		d.t.Fatalf("build pause: %v: %s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "pause"))
	if err != nil {
		d.t.Fatal(err)
	}
	put(d.t, filepath.Join(dir, "pause.tar"), string(imageArchive(d.t, "localhost/pause:test", program)))
	ctr := []string{"--target", fmt.Sprint(d.cmd.Process.Pid), "--mount", "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "native", filepath.Join(dir, "pause.tar")}
	var out []byte
	for range 100 {
		if out, err = exec.Command("nsenter", ctr...).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Fatalf("import pause: %v: %s\n%s", err, out, d.log.String())
}

// imageArchive is an image of one file, as docker save writes it.
func imageArchive(t *testing.T, name string, program []byte) []byte {
	layer := archive(t, map[string][]byte{"pause": program})
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, map[string][]byte{configName: config, "layer.tar": layer, "manifest.json": manifest})
}

func archive(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// run makes a pod as the kubelet does, and gives its id and addresses.
func (d *containerd) run(namespace, name string, attempt uint32, network runtime.NamespaceMode) (id string, addrs []string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config := &runtime.PodSandboxConfig{
		Metadata:     &runtime.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: "uid-" + name, Attempt: attempt},
		LogDirectory: "/run/ct/log",
		Labels:       map[string]string{"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": name},
		Linux:        &runtime.LinuxPodSandboxConfig{SecurityContext: &runtime.LinuxSandboxSecurityContext{NamespaceOptions: &runtime.NamespaceOption{Network: network}}},
	}
	if network == runtime.NamespaceMode_POD {
		config.Hostname = name
	}
	made, err := d.rpc.RunPodSandbox(ctx, &runtime.RunPodSandboxRequest{Config: config})
	if err != nil {
		d.t.Fatalf("pod %s/%s: %v", namespace, name, err)
	}
	status, err := d.rpc.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: made.PodSandboxId})
	if err != nil {
		d.t.Fatal(err)
	}
	addrs = []string{status.Status.Network.GetIp()}
	for _, more := range status.Status.Network.GetAdditionalIps() {
		addrs = append(addrs, more.Ip)
	}
	return made.PodSandboxId, addrs
}

func (d *containerd) stopPod(id string) {
	d.t.Helper()
	if _, err := d.rpc.StopPodSandbox(context.Background(), &runtime.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		d.t.Error(err)
	}
}

func (d *containerd) removePods() {
	list, err := d.rpc.ListPodSandbox(context.Background(), &runtime.ListPodSandboxRequest{})
	if err != nil {
		d.t.Error(err)
	}
	for _, p := range list.GetItems() {
		d.stopPod(p.Id)
		if _, err := d.rpc.RemovePodSandbox(context.Background(), &runtime.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			d.t.Error(err)
		}
	}
}

func TestContainerd(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n1")
	c.In("n1", "ip link add up0 type bridge", "ip addr add 172.30.0.1/24 dev up0", "ip link set up0 up")
	d := startContainerd(t, c)
	first, clientAddrs := d.run("default", "client", 0, runtime.NamespaceMode_POD)
	_, dbAddrs := d.run("prod", "db", 0, runtime.NamespaceMode_POD)
	d.run("kube-system", "proxy", 0, runtime.NamespaceMode_NODE)

	byRuntime := resolverFor(t, c, "n1", func(s *Sources) { s.HostRoot, s.CNICache = d.root, "/nonexistent" })
	byCache := resolverFor(t, c, "n1", func(s *Sources) { s.HostRoot, s.CNICache, s.CRISocket = d.root, "", "/nonexistent" })
	for _, r := range []*Resolver{byRuntime, byCache} {
		client := resolve(t, r, "client")
		d.checkPod(client, clientAddrs)
		d.checkPod(resolve(t, r, "prod/db"), dbAddrs)
		n := namesFor(t, r)
		if got := n.Place(client.Netns); got != "default/client" {
			t.Errorf("place: %s", got)
		}
		if got := addressName(n, dbAddrs[0]); got != "prod/db" {
			t.Errorf("address: %s", got)
		}
	}
	if e := resolve(t, byRuntime, "kube-system/proxy"); e.Netns != c.Inode("n1") || !strings.Contains(words(e.Prefixes), "172.30.0.1/32") {
		t.Errorf("host network: %+v", e)
	}
	if _, err := byCache.Resolve(context.Background(), "kube-system/proxy"); err == nil || !strings.Contains(err.Error(), "(2 pods: default/client, prod/db)") {
		t.Errorf("a pod in the node's network has no entry in the cache: %v", err)
	}
	d.checkRestart(first, byRuntime, byCache)
}

// checkPod wants the runtime's addresses, and a place on this node.
func (d *containerd) checkPod(e Endpoint, addrs []string) {
	d.t.Helper()
	var want []string
	for _, a := range parseAddrs(addrs) {
		want = append(want, fmt.Sprintf("%s/%d", a, a.BitLen()))
	}
	if got := words(e.Prefixes); got != strings.Join(want, " ") || len(want) != 2 {
		d.t.Errorf("%s: addresses %s, the runtime says %s", e.Given, got, want)
	}
	if e.Netns == 0 || !strings.HasPrefix(e.Interface, "veth") || e.HostIfIndex == 0 {
		d.t.Errorf("%s: %+v", e.Given, e)
	}
	d.t.Logf("%s: %s, %s, %s", e.Given, e.Addresses, e.Interface, e.ResolvedBy)
}

// checkRestart restarts a pod as the kubelet does: the old sandbox is stopped,
// listed still, and a new one made.
func (d *containerd) checkRestart(id string, resolvers ...*Resolver) {
	d.t.Helper()
	var before []Endpoint
	for _, r := range resolvers {
		before = append(before, resolve(d.t, r, "client"))
	}
	d.stopPod(id)
	for _, r := range resolvers {
		if _, err := r.Resolve(context.Background(), "client"); err == nil {
			d.t.Error("a stopped pod is resolved")
		}
	}
	_, addrs := d.run("default", "client", 1, runtime.NamespaceMode_POD)
	for i, r := range resolvers {
		now, change, err := r.Again(context.Background(), before[i])
		if err != nil || !strings.HasPrefix(change, "default/client restarted: now "+addrs[0]) {
			d.t.Errorf("%q, %v", change, err)
			continue
		}
		d.checkPod(now, addrs)
	}
}
