// SPDX-License-Identifier: Apache-2.0

package tracer

// Loads the backends into the running kernel. Needs root; runs the same in
// VMs of other kernels:
//
//	go test -c -o tracer.test ./tracer
//	vm --kernel 6.12 --single-thread -- tracer.test -test.v -test.run 'TestBackendsLoad|TestLateModule'

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// smallNode is a node with one uplink and no pods, in namespaces of its own.
func smallNode(t *testing.T) Config {
	t.Helper()
	c := nodetest.New(t)
	c.Add("n", "far")
	c.In("n", "ip link add eth0 type veth peer name eth0 netns @far", "ip addr add 10.99.0.1/24 dev eth0",
		"ip link set eth0 up", "ip route add default via 10.99.0.2")
	return Config{Src: "10.99.0.1", Dst: "10.99.0.2", NetnsPath: c.Path("n"), Version: "test"}
}

// On a node without any packet filter types of absent modules must not be
// needed. In a VM this test has to come first: it wants nothing loaded.
func TestBackendsLoadBare(t *testing.T) { loadBackends(t, smallNode(t), !inVM()) }

// A module that is loaded during the trace is attached to, and said to be.
func TestLateModule(t *testing.T) {
	if !inVM() {
		t.Skip("loads kernel modules: only in a VM of testenv/vm")
	}
	cfg := smallNode(t)
	var heard listener
	cfg.Backend, cfg.Verbose, cfg.Warn = "fentry", heard.hear, heard.hear
	tr, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	type end struct {
		sum *model.Summary
		err error
	}
	done := make(chan end, 1)
	go func() {
		sum, err := tr.Run(ctx, &collector{})
		done <- end{sum, err}
	}()
	more := 0
	for _, m := range []struct {
		name  string
		hooks int
	}{{"ip_tables", 2}, {"nf_conntrack", 1}, {"nf_tables", 2}, {"vxlan", 2}, {"bridge", 3}, {"nf_reject_ipv4", 1}} {
		if loaded, err := tr.kern.kern.ModuleLoaded(m.name); err != nil || loaded {
			t.Logf("%s: loaded before (%v)", m.name, err)
			continue
		}
		if out, err := exec.Command("modprobe", m.name).CombinedOutput(); err != nil {
			t.Errorf("modprobe %s: %v: %s", m.name, err, out)
			continue
		}
		line := heard.about(m.name, 20*time.Second)
		if want := fmt.Sprintf("kernel module %s was loaded: %d hooks more", m.name, m.hooks); line != want {
			t.Errorf("said %q, want %q", line, want)
		}
		more += m.hooks
	}
	cancel()
	r := <-done
	if r.err != nil {
		t.Error(r.err)
	}
	if more == 0 {
		t.Error("all modules were loaded before: nothing was tested")
	}
	if got := tr.att.Hooks(); got < tr.Start().Hooks+more {
		t.Errorf("%d hooks at last, %d at first: want at least %d more", got, tr.Start().Hooks, more)
	}
	t.Logf("%d hooks at first, %d at last, missed %v", tr.Start().Hooks, tr.att.Hooks(), r.sum.MissedHooks)
	if err := tr.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// The same with everything loaded that hooks want.
func TestBackendsLoad(t *testing.T) {
	if !inVM() || modulesDir(t) == "" {
		t.Skip("kernel without modules, or no VM of testenv/vm to load them in: TestBackendsLoadBare did the same")
	}
	cfg := smallNode(t)
	loadModules(t, "ip_tables", "ip6_tables", "iptable_filter", "nf_tables", "nf_conntrack", "vxlan", "br_netfilter",
		"bridge", "nf_reject_ipv4", "nf_reject_ipv6", "sctp", "ipip", "sit", "ip6_tunnel", "ip_gre", "geneve", "wireguard")
	loadBackends(t, cfg, true)
}

// loadBackends: every backend loads, or is refused in one line by this node's
// policy. Stock kernels from 6.1 on refuse none: whatever else keeps a backend
// from loading is a fault. With bytes: the same once more with packet bytes, page
// fragments included.
func loadBackends(t *testing.T, cfg Config, withBytes bool) {
	release, err := kernel.Release()
	if err != nil {
		t.Fatal(err)
	}
	backends, err := attach.Backends("auto")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * len(backends) {
		b, bytes := backends[i/2], i%2 == 1
		name := b.Name()
		if bytes && !withBytes {
			continue
		}
		if bytes {
			name += " with bytes"
		}
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			if bytes {
				cfg.SnapLen = 256
			}
			cfg.Backend, cfg.Verbose = b.Name(), func(line string) { t.Log(line) }
			tr, err := New(context.Background(), cfg)
			if err != nil {
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("error of more than one line: %q", err)
				}
				if b.Name() != "tracepoint" && errors.Is(err, attach.ErrRefused) && strings.Contains(err.Error(), "policy of this node") {
					t.Skipf("backend %s, kernel %s: %v", b.Name(), release, err)
				}
				t.Fatalf("kernel %s: %v", release, err)
			}
			if bytes {
				checkMemory(t, tr)
			}
			checkLoaded(t, tr, b)
		})
	}
}

// checkMemory: page fragments can be read.
func checkMemory(t *testing.T, tr *Tracer) {
	t.Helper()
	var page, address uint64
	if err := errors.Join(tr.att.Variable("known_page").Get(&page), tr.att.Variable("known_address").Get(&address)); err != nil {
		t.Error(err)
	}
	if page == 0 || address == 0 {
		t.Errorf("page %#x at %#x: fragments cannot be read", page, address)
	}
}

// tracepoints are those that every backend binds.
const tracepoints = 8

// checkLoaded looks at what an attached tracer says of itself, runs it, and
// takes it down.
func checkLoaded(t *testing.T, tr *Tracer, b attach.Backend) {
	t.Helper()
	s := tr.Start()
	if s.Backend != b.Name() || s.Hooks < tracepoints || s.Kernel == "" || s.Src.Given != "10.99.0.1" {
		t.Errorf("start %+v", s)
	}
	t.Logf("%d hooks in %.0f ms", s.Hooks, s.AttachMS)
	for _, m := range tr.att.Missed() {
		t.Logf("missed %s (quiet %v): %s", m.Hook, m.Quiet, m.Why)
	}
	checkDoers(t, tr)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	sum, err := tr.Run(ctx, &collector{})
	if err != nil || sum.ExitStatus() != 3 || sum.LostEvents != 0 {
		t.Errorf("summary %+v, %v", sum, err)
	}
	if err := tr.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// checkDoers wants what tells who changes the node: all that is not of a module
// which is not there.
func checkDoers(t *testing.T, tr *Tracer) {
	t.Helper()
	if tr.changes == nil || tr.changes.doers == nil {
		t.Error("the node is not watched")
		return
	}
	for _, why := range tr.changes.doers.Absent() {
		t.Error(why)
	}
}

// modulesDir is where this kernel's modules lie; "" when it has none.
func modulesDir(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return dir
}

// inVM tells that this is a throw-away machine of testenv/vm, in which loading
// modules changes nothing for anybody: it gives its commands a folder to leave
// things in.
func inVM() bool { return os.Getenv("VM_OUT") != "" }

// loadModules loads what this kernel has as modules of that name; in VMs only.
func loadModules(t *testing.T, names ...string) {
	t.Helper()
	for _, m := range names {
		// one that this kernel does not have shows as a missed hook
		if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
			t.Logf("modprobe %s: %v: %s", m, err, out)
		}
	}
}

// listener collects what a tracer says while it runs.
type listener struct {
	mu    sync.Mutex
	lines []string
}

func (l *listener) hear(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// about gives the line that names a module, once there is one.
func (l *listener) about(module string, wait time.Duration) string {
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		for _, line := range l.lines {
			if strings.HasPrefix(line, fmt.Sprintf("kernel module %s was loaded", module)) {
				l.mu.Unlock()
				return line
			}
		}
		l.mu.Unlock()
		if time.Now().After(end) {
			return ""
		}
	}
}
