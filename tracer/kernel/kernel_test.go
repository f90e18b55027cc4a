// SPDX-License-Identifier: Apache-2.0

package kernel

// These tests ask the running kernel what is known of every kernel with BTF,
// so that they pass on each kernel of the test matrix.

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T) *Kernel {
	t.Helper()
	k, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpenTellsRelease(t *testing.T) {
	k := open(t)
	want, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if k.Release() != strings.TrimSpace(string(want)) {
		t.Errorf("release %q, want %q", k.Release(), want)
	}
}

func TestFindFunc(t *testing.T) {
	k := open(t)
	fn, module, err := k.FindFunc("nf_hook_slow")
	if err != nil || fn.Name != "nf_hook_slow" || module != VMLinux {
		t.Fatalf("nf_hook_slow: %v in %q, %v", fn, module, err)
	}
	if _, _, err = k.FindFunc("pathtrace_no_such_function", "no_such_module"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown function: %v, want ErrNotFound", err)
	} else if !strings.Contains(err.Error(), "no_such_module") {
		t.Errorf("error does not name the module passed over: %v", err)
	}
	args, err := k.FuncArgs("nf_hook_slow")
	if err != nil || !slices.Equal(args, []string{"skb", "state", "e", "s"}) {
		t.Errorf("arguments of nf_hook_slow: %q, %v", args, err)
	}
}

// A function of a loaded module is found in the module, on a kernel where it
// is built in, in the image.
func TestFindFuncInModule(t *testing.T) {
	k := open(t)
	loaded, err := k.ModuleLoaded("ip_tables")
	if err != nil {
		t.Fatal(err)
	}
	builtin, err := HasBuiltin("ipt_do_table")
	if err != nil {
		t.Fatal(err)
	}
	_, module, err := k.FindFunc("ipt_do_table", "ip_tables")
	switch {
	case builtin["ipt_do_table"] && (err != nil || module != VMLinux):
		t.Errorf("built in, yet found in %q, %v", module, err)
	case !builtin["ipt_do_table"] && !loaded && !errors.Is(err, ErrNotFound):
		t.Errorf("not there, yet found in %q, %v", module, err)
	case !builtin["ipt_do_table"] && loaded && err == nil && module != "ip_tables":
		t.Errorf("found in %q, want ip_tables", module)
	}
}

func TestModuleBTFOfMissingModule(t *testing.T) {
	if _, err := open(t).ModuleBTF("no_such_module"); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("%v, want ErrNotLoaded", err)
	}
}

func TestTracepointArgs(t *testing.T) {
	k := open(t)
	args, err := k.TracepointArgs("kfree_skb")
	if err != nil {
		t.Fatal(err)
	}
	// 5.10: skb, location; + reason 5.17; + rx_sk 6.11.
	all := []string{"skb", "location", "reason", "rx_sk"}
	if len(args) < 2 || len(args) > len(all) || !slices.Equal(args, all[:len(args)]) {
		t.Errorf("kfree_skb has %q", args)
	}
	// An event of a class: its names are those of the event's own functions.
	if args, err = k.TracepointArgs("netif_receive_skb"); err != nil || !slices.Equal(args, []string{"skb"}) {
		t.Errorf("netif_receive_skb has %q, %v", args, err)
	}
	if _, err = k.TracepointArgs("pathtrace_no_such_event"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown tracepoint: %v, want ErrNotFound", err)
	}
	if !k.HasTracepoint("kfree_skb") || k.HasTracepoint("pathtrace_no_such_event") {
		t.Error("HasTracepoint contradicts TracepointArgs")
	}
}

func TestFieldOffset(t *testing.T) {
	k := open(t)
	for _, c := range []struct {
		typ, path string
		want      uint32
		missing   bool
	}{
		{typ: "iphdr", path: "ttl", want: 8}, // wire formats cannot move
		{typ: "iphdr", path: "daddr", want: 16},
		{typ: "tcphdr", path: "window", want: 14},
		{typ: "sk_buff", path: "next", want: 0}, // within an anonymous union and struct
		{typ: "list_head", path: "prev", want: 8},
		{typ: "iphdr", path: "no_such", missing: true},
		{typ: "no_such_struct", path: "x", missing: true},
		{typ: "iphdr", path: "ttl.deeper", missing: true},
	} {
		got, err := k.FieldOffset(c.typ, c.path)
		switch {
		case c.missing && !errors.Is(err, ErrNotFound):
			t.Errorf("%s.%s: %d, %v, want ErrNotFound", c.typ, c.path, got, err)
		case !c.missing && (err != nil || got != c.want):
			t.Errorf("%s.%s at %d, %v, want %d", c.typ, c.path, got, err, c.want)
		}
	}
	outer, err1 := k.FieldOffset("net", "nf")
	inner, err2 := k.FieldOffset("net", "nf.hooks_ipv4")
	if err1 != nil || err2 != nil || inner < outer {
		t.Errorf("net.nf at %d (%v), net.nf.hooks_ipv4 at %d (%v)", outer, err1, inner, err2)
	}
	if _, err := k.FieldOffset("tcphdr", "syn"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("bit field tcphdr.syn: %v, want a refusal", err)
	}
}

func TestEnums(t *testing.T) {
	k := open(t)
	if v, err := k.EnumValue("nf_inet_hooks", "NF_INET_POST_ROUTING"); err != nil || v != 4 {
		t.Errorf("NF_INET_POST_ROUTING is %d, %v", v, err)
	}
	if _, err := k.EnumValue("nf_inet_hooks", "NO_SUCH"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown value: %v", err)
	}
	names, err := k.EnumNames("nf_inet_hooks")
	if err != nil || names[2] != "NF_INET_FORWARD" {
		t.Errorf("hook 2 is %q, %v", names[2], err)
	}
	if !k.HasType("nf_hook_state") || k.HasType("no_such_type") {
		t.Error("HasType is wrong")
	}
}

func TestLoadedModules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "modules")
	text := "xt_comment 16384 3 - Live 0x0000000000000000\nip_tables 36864 1 iptable_filter, Live 0x0000000000000000\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := loadedModules(path)
	if err != nil || !slices.Equal(got, []string{"ip_tables", "xt_comment"}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = loadedModules(path + ".none"); err != nil || len(got) != 0 {
		t.Errorf("kernel without modules: %q, %v", got, err)
	}
	if _, err = loadedModules(t.TempDir()); err == nil {
		t.Error("unreadable list gives no error")
	}
}
