// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube/kubetest"
)

// environment is a process environment of one's own.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if value, ok := strings.CutPrefix(p, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func noHost(path string) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func connect(t *testing.T, kubeconfig string) *kube.Client {
	t.Helper()
	config, err := kube.Locate(kubeconfig, environment(), noHost)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kube.NewClient(context.Background(), *config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestObjects(t *testing.T) {
	server := kubetest.Serve(t, kubetest.NewPod("demo", "web-0", "node2", "172.30.0.2", "10.244.2.10", "fd00::10"))
	server.PageSize = 3 // so that lists take several requests
	c, ctx := connect(t, server.Kubeconfig(t, kubetest.Token)), context.Background()

	pod, err := c.Pod(ctx, "demo", "web-0")
	if err != nil || pod.Status.PodIPs[1].IP != "fd00::10" || pod.Spec.NodeName != "node2" || pod.Status.HostIP != "172.30.0.2" {
		t.Errorf("%+v, %v", pod, err)
	}
	svc, err := c.Service(ctx, "demo", "dualstack")
	if err != nil || strings.Join(svc.Spec.ClusterIPs, " ") != "10.96.10.20 fd00:10:96::20" || svc.Spec.Ports[0].Port != 80 || string(svc.Spec.Ports[0].TargetPort) != "8080" {
		t.Errorf("%+v, %v", svc, err)
	}
	slices, err := c.EndpointSlices(ctx, "demo", "dualstack")
	if err != nil || len(slices) != 2 || slices[0].Endpoints[1].NodeName != "kp-node2" || !slices[0].Endpoints[0].Ready() {
		t.Errorf("%+v, %v", slices, err)
	}
	draining, err := c.EndpointSlices(ctx, "demo", "draining")
	if err != nil || len(draining) != 1 || draining[0].Endpoints[0].Ready() {
		t.Errorf("%+v, %v", draining, err)
	}
	all, err := c.Services(ctx)
	if err != nil || len(all) != 20 {
		t.Errorf("%d services, %v", len(all), err)
	}
	names, err := c.Names(ctx, "services", "demo", "")
	if err != nil || len(names) != 10 {
		t.Errorf("%d services in demo, %v", len(names), err)
	}
	names, err = c.Names(ctx, "services", "", "kube-dns")
	if err != nil || len(names) != 1 || names[0].Namespace != "kube-system" {
		t.Errorf("%+v, %v", names, err)
	}
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) == 0 || len(nodes[0].Status.Addresses) == 0 {
		t.Errorf("%+v, %v", nodes, err)
	}
}

func TestRefusals(t *testing.T) {
	server, ctx := kubetest.Serve(t), context.Background()
	c := connect(t, server.Kubeconfig(t, kubetest.Token))
	if _, err := c.Pod(ctx, "demo", "none"); !errors.Is(err, kube.ErrNotFound) || !strings.Contains(err.Error(), `pods "none" not found`) {
		t.Errorf("%v", err)
	}
	server.Forbidden = []string{"services"}
	if _, err := c.Service(ctx, "demo", "one"); !errors.Is(err, kube.ErrForbidden) || !strings.Contains(err.Error(), "cannot get resource") {
		t.Errorf("%v", err)
	}
	if _, err := connect(t, server.Kubeconfig(t, "bad-token")).Pod(ctx, "a", "b"); !errors.Is(err, kube.ErrUnauthorized) {
		t.Errorf("%v", err)
	}
	// A web server that is no API server says 404 too, and 200 to everything.
	for _, status := range []int{http.StatusNotFound, http.StatusOK, http.StatusFound, http.StatusBadGateway} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			fmt.Fprint(w, "<html>")
		}))
		_, err := connect(t, writeConfig(t, web.URL, "")).Pod(ctx, "a", "b")
		if !errors.Is(err, kube.ErrUnreachable) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d: %v", status, err)
		}
		web.Close()
	}
}

// writeConfig writes a kubeconfig for a server with what user says.
func writeConfig(t *testing.T, server, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: %q, insecure-skip-tls-verify: true}}]\nusers: [{name: u, user: {%s}}]\n", server, user)
	put(t, path, text, 0o600)
	return path
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = connect(t, writeConfig(t, "https://"+addr, "")).Pod(context.Background(), "a", "b")
	if !errors.Is(err, kube.ErrUnreachable) || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	// A server whose certificate the kubeconfig does not know.
	server := kubetest.Serve(t)
	path := filepath.Join(t.TempDir(), "config")
	put(t, path, "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: "+server.URL+"}}]\n", 0o600)
	if _, err := connect(t, path).Pod(context.Background(), "a", "b"); !errors.Is(err, kube.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}

// Every way of proving who one is that a kubeconfig may name.
func TestCredentials(t *testing.T) {
	server := kubetest.Serve(t, kubetest.NewPod("a", "b", "n", "1.2.3.4", "10.0.0.1"))
	dir := t.TempDir()
	put(t, filepath.Join(dir, "token"), kubetest.Token+"\n", 0o600)
	plugin := filepath.Join(dir, "plugin")
	put(t, plugin, "#!/bin/sh\ncase $KUBERNETES_EXEC_INFO in *client.authentication.k8s.io/v1*) ;; *) exit 9;; esac\n"+
		`echo '{"kind":"ExecCredential","status":{"token":"'$1$SECOND'"}}'`, 0o700)
	for name, user := range map[string]string{
		"token":     "token: " + kubetest.Token,
		"tokenFile": "tokenFile: " + filepath.Join(dir, "token"),
		"exec": fmt.Sprintf("exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, args: [good], env: [{name: SECOND, value: -token}], provideClusterInfo: true}",
			plugin),
	} {
		if _, err := connect(t, writeConfig(t, server.URL, user)).Pod(context.Background(), "a", "b"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(t, filepath.Join(dir, "fails"), "#!/bin/sh\necho s3cr3t\necho login expired >&2\nexit 3\n", 0o700)
	put(t, filepath.Join(dir, "babbles"), "#!/bin/sh\necho s3cr3t\n", 0o700)
	for command, want := range map[string]string{
		filepath.Join(dir, "fails"):   "exit status 3: login expired",
		filepath.Join(dir, "babbles"): "its output is no ExecCredential",
		"no-such-plugin-here":         "not found in PATH",
	} {
		config, err := kube.Locate(writeConfig(t, server.URL, "exec: {command: "+command+"}"), environment(), noHost)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kube.NewClient(context.Background(), *config); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestBadKubeconfig(t *testing.T) {
	dir := t.TempDir()
	context := "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
	cluster := "clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "no current-context"},
		"no yaml":     {"a: [", "not understood"},
		"types":       {"users: s3cr3t", "1 of its fields are not of the type"},
		"context":     {"current-context: x", `"x" is not among its contexts`},
		"cluster":     {context, `names the cluster "k", which is not in it`},
		"user":        {context + cluster, `names the user "u", who is not in it`},
		"no server":   {context + "clusters: [{name: k}]", "has no server"},
		"base64":      {context + cluster + "users: [{name: u, user: {client-certificate-data: s3cr3t!}}]", "not base64"},
		"key file":    {context + cluster + "users: [{name: u, user: {client-certificate-data: eA==, client-key: none.pem}}]", "none.pem: no such file"},
		"old plugin":  {context + cluster + "users: [{name: u, user: {auth-provider: {name: gcp}}}]", "auth-provider gcp: no longer in use"},
		"certificate": {context + cluster + "users: [{name: u, user: {client-certificate-data: eA==, client-key-data: eA==}}]", "client certificate: "},
		"url":         {context + "clusters: [{name: k, cluster: {server: nowhere}}]\nusers: [{name: u}]", "is no URL"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		put(t, path, c.text, 0o600)
		config, err := kube.Locate(path, environment(), noHost)
		if err == nil {
			_, err = kube.NewClient(t.Context(), *config)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := kube.Locate(filepath.Join(dir, "none"), environment(), noHost); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Where credentials are looked for, in order.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	put(t, one, "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://one', certificate-authority: ca.pem}}]\n", 0o600)
	put(t, two, "current-context: other\nclusters: [{name: k, cluster: {server: 'https://two'}}]\nusers: [{name: u, user: {token: "+base64.StdEncoding.EncodeToString([]byte("x"))+"}}]\n", 0o600)
	put(t, filepath.Join(dir, "ca.pem"), "PEM", 0o600)
	kubelet := func(path string) ([]byte, error) {
		if path == "/var/lib/kubelet/kubeconfig" {
			return os.ReadFile(two)
		}
		return noHost(path)
	}
	merged, err := kube.Locate("", environment("KUBECONFIG="+dir+"/none:"+one+":"+two), noHost)
	if err != nil || merged.Server != "https://one" || merged.Token == "" || string(merged.CA) != "PEM" {
		t.Errorf("merged: %+v, %v", merged, err)
	}
	if _, err := kube.Locate("", environment("KUBECONFIG="+dir+"/none"), noHost); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("KUBECONFIG of nothing: %v", err)
	}
	if _, err := kube.Locate("", environment(), kubelet); err == nil || !strings.Contains(err.Error(), `the kubelet's /var/lib/kubelet/kubeconfig`) {
		t.Errorf("the kubelet's: %v", err)
	}
	if _, err := kube.Locate("", environment("KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443"), noHost); !errors.Is(err, kube.ErrNoConfig) {
		t.Errorf("a pod without service account: %v", err)
	}
}
