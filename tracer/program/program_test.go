// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestFilter(t *testing.T) {
	chain := uint32(3)
	shot := &netlink.GenericAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_SHOT}}
	pass := &netlink.GenericAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_OK}}
	police := &netlink.PoliceAction{ExceedAction: netlink.TC_POLICE_SHOT}
	base := netlink.FilterAttrs{Priority: 7, Handle: 0x1, Chain: &chain}
	for name, tc := range map[string]struct {
		filter   netlink.Filter
		says     string
		id       uint32
		harmless bool
	}{
		"bpf":                 {&netlink.BpfFilter{FilterAttrs: base, Id: 12, Name: "x.o:[cls]", DirectAction: true}, "pref 7 bpf chain 3 handle 0x1 x.o:[cls] direct-action", 12, false},
		"u32 that drops":      {&netlink.U32{FilterAttrs: base, Actions: []netlink.Action{pass, shot}}, "pref 7 u32 chain 3 handle 0x1", 0, false},
		"u32 that passes":     {&netlink.U32{FilterAttrs: base, Actions: []netlink.Action{pass}}, "pref 7 u32 chain 3 handle 0x1", 0, true},
		"a rate":              {&netlink.MatchAll{FilterAttrs: base, Actions: []netlink.Action{police}}, "pref 7 matchall chain 3 handle 0x1", 0, false},
		"a program's action":  {&netlink.Flower{FilterAttrs: base, Actions: []netlink.Action{&netlink.BpfAction{}}}, "pref 7 flower chain 3 handle 0x1", 0, false},
		"of a kind not known": {&netlink.GenericFilter{FilterAttrs: base, FilterType: "route"}, "pref 7 route chain 3 handle 0x1", 0, false},
	} {
		p, ok := filter(tc.filter)
		if !ok || p.Filter != tc.says || p.ID != tc.id || p.Harmless != tc.harmless || p.How != TCFilter {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
	}
	if _, ok := filter(&netlink.U32{FilterAttrs: base, Divisor: 1}); ok {
		t.Error("a hash table of u32 is taken for a filter")
	}
}

func TestHolds(t *testing.T) {
	const prog, mapping = "pos:\t0\nflags:\t02000002\nprog_type:\t3\nprog_tag:\tac62\nmemlock:\t4096\nprog_id:\t123\n", "pos:\t0\nmap_type:\t1\nmap_id:\t12\n"
	if !holds(prog, 123) || holds(prog, 12) || holds(mapping, 12) {
		t.Error("what a file's fdinfo says is not understood")
	}
}

func TestWords(t *testing.T) {
	p := Program{How: TCFilter, Side: Egress, Where: "cali1", Filter: "pref 7 bpf", ID: 12, Name: "guard", Tag: "ab", UID: 3,
		Loaded: time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local), Holders: []Holder{{7, "agent"}}, Pins: []string{"/sys/fs/bpf/p"}}
	says := p.Thing() + " | " + p.At() + " | " + p.Owner()
	if want := "tc filter pref 7 bpf with eBPF program guard (id 12, tag ab) | egress of cali1 | held by agent (pid 7); pinned as /sys/fs/bpf/p; loaded by uid 3 at 2026-01-02 03:04:05"; says != want {
		t.Errorf("says %q\nwant %q", says, want)
	}
}

// ownThread gives the test a thread with a network namespace of its own, and a host's
// root with a bpf file system.
func ownThread(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := errors.Join(os.MkdirAll(root+"/sys/fs/bpf", 0o700), os.MkdirAll(root+"/proc", 0o700)); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", root+"/sys/fs/bpf", "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root+"/sys/fs/bpf", 0); err != nil {
			t.Error(err)
		}
	})
	return root
}

// What is attached for real is found, with the process that holds it.
func TestOnInterface(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("attaching programs takes root")
	}
	root := ownThread(t)
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "pt_reader_test", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}}) // TCX_NEXT
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	held, err := link.AttachTCX(link.TCXOptions{Interface: lo.Index, Attach: ebpf.AttachTCXEgress, Program: prog})
	if err != nil {
		t.Skipf("no tcx here (6.6 and later): %v", err)
	}
	mine := func() (found []Program) {
		all, err := OnInterface(lo.Index)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.Name == "pt_reader_test" {
				found = append(found, p)
			}
		}
		return found
	}
	found := mine()
	if len(found) != 1 || found[0].How != TCX || found[0].Side != Egress || found[0].Where != "lo" || found[0].Link == 0 || len(found[0].Tag) != 16 || time.Since(found[0].Loaded) > time.Minute {
		t.Errorf("found %+v", found)
	}
	if err := held.Pin(root + "/sys/fs/bpf/link"); err != nil {
		t.Fatal(err)
	}
	if err := prog.Pin(root + "/sys/fs/bpf/prog"); err != nil {
		t.Fatal(err)
	}
	NewHost(root + "/proc").Whose(found) // that has no processes
	if says := strings.Join(found[0].Pins, " "); says != root+"/sys/fs/bpf/link "+root+"/sys/fs/bpf/prog" {
		t.Errorf("pinned as %s", says)
	}
	if err := errors.Join(held.Unpin(), prog.Unpin()); err != nil {
		t.Error(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if found := mine(); len(found) != 0 {
		t.Errorf("taken away, but found %+v", found)
	}
}

// A process' cgroup and what is attached there is found by its id.
func TestOnCgroup(t *testing.T) {
	h := NewHost("/proc")
	root, err := h.Cgroups()
	if os.Geteuid() != 0 || err != nil {
		t.Skipf("takes root and cgroups of version 2: %v", err)
	}
	dir, err := os.MkdirTemp(root, "pathtrace-program-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.Remove(dir)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "pt_cgroup_test", Type: ebpf.CGroupSKB, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	held, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: ebpf.AttachCGroupInetEgress, Program: prog})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	path := strings.TrimPrefix(dir, root)
	below := dir + "/below"
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(below)
	for _, at := range []string{path, path + "/below"} {
		all, err := h.OnCgroup(at, Egress)
		if err != nil || len(all) != 1 || all[0].Name != "pt_cgroup_test" || all[0].Where != path {
			t.Errorf("on %s: %+v, %v", at, all, err)
		}
	}
	if all, err := h.OnCgroup(path, Ingress); err != nil || len(all) != 0 {
		t.Errorf("at ingress: %+v, %v", all, err)
	}
	if own, err := h.CgroupOf(os.Getpid()); err != nil || !strings.HasPrefix(own, "/") {
		t.Errorf("this process is in %q, %v", own, err)
	}
}

// Nobody has a socket that there is none of.
func TestSocketOwnerOfNone(t *testing.T) {
	if owner, ok := NewHost("/proc").SocketOwner(1 << 40); ok {
		t.Errorf("%v holds a socket that there is none of", owner)
	}
}
