// SPDX-License-Identifier: Apache-2.0

package cri_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cri"
	"github.com/pathtrace/pathtrace/tracer/endpoint/cri/critest"
)

func open(t *testing.T, socket string) *cri.Client {
	t.Helper()
	c, err := cri.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestSandboxes(t *testing.T) {
	socket := critest.Serve(t,
		critest.Pod{ID: "1", Namespace: "default", Name: "web", Created: 5, Addrs: []string{"10.1.0.1", "fd00::1"}, Netns: "/var/run/netns/cni-1", PID: 42},
		critest.Pod{ID: "2", Namespace: "kube-system", Name: "proxy", HostNetwork: true, Addrs: []string{"172.30.0.1"}},
		critest.Pod{ID: "3", Namespace: "default", Name: "quiet", Addrs: []string{"10.1.0.3"}, Silent: true},
		critest.Pod{ID: "4", Namespace: "default", Name: "gone", Gone: true},
	)
	c := open(t, "unix://"+socket)
	if c.Socket() != socket {
		t.Errorf("socket %s", c.Socket())
	}
	all, err := c.List(context.Background())
	if err != nil || len(all) != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i := range all {
		ok, err := c.Status(context.Background(), &all[i])
		if err != nil || ok != (all[i].Name != "gone") {
			t.Errorf("%+v: %t, %v", all[i], ok, err)
		}
	}
	web, proxy, quiet := all[0], all[1], all[2]
	if len(web.Addrs) != 2 || web.Addrs[1].String() != "fd00::1" || web.Netns != "/var/run/netns/cni-1" || web.PID != 42 || web.HostNetwork || web.Created.UnixNano() != 5 {
		t.Errorf("%+v", web)
	}
	if !proxy.HostNetwork || len(proxy.Addrs) != 0 {
		t.Errorf("%+v", proxy)
	}
	if quiet.Netns != "" || quiet.PID != 0 || len(quiet.Addrs) != 1 {
		t.Errorf("%+v", quiet)
	}
}

func TestNoRuntime(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{filepath.Join(dir, "none"), plain} {
		if _, err := cri.Open(socket); !errors.Is(err, cri.ErrNoSocket) || !strings.Contains(err.Error(), socket) {
			t.Errorf("%s: %v", socket, err)
		}
	}
	dead := listen(t, filepath.Join(dir, "dead"))
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dead.Addr().String()).List(context.Background()); !errors.Is(err, cri.ErrNoSocket) || strings.Contains(err.Error(), "\n") {
		t.Errorf("nobody listens: %v", err)
	}
	// containerd with its cri plugin disabled answers, but knows no such service.
	other := listen(t, filepath.Join(dir, "other"))
	server := grpc.NewServer()
	go func() { _ = server.Serve(other) }() // ends with Stop
	t.Cleanup(server.Stop)
	if _, err := open(t, other.Addr().String()).List(context.Background()); !errors.Is(err, cri.ErrNoCRI) {
		t.Errorf("no CRI: %v", err)
	}
}

// A runtime that hangs is not waited for.
func TestHangingRuntime(t *testing.T) {
	silent := listen(t, filepath.Join(t.TempDir(), "silent"))
	c := open(t, silent.Addr().String())
	if _, err := c.List(context.Background()); err == nil || !strings.Contains(err.Error(), silent.Addr().String()) {
		t.Errorf("%v", err)
	}
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // some are closed by then
	return l
}
