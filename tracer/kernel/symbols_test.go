// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const someSymbols = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 t twin
ffffffff81000100 T nf_hook_slow
ffffffff81000300 t twin
ffffffff82000000 D some_data
ffffffffc0401000 t ipt_do_table	[ip_tables]
ffffffffc0400000 T xt_register	[x_tables]
ffffffffc0500000 t bpf_prog_1234	[bpf]
`

func symbolsOf(t *testing.T, text string) (*Symbols, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kallsyms")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Symbols{path: path}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	return s, path
}

func TestSymbolNames(t *testing.T) {
	s, _ := symbolsOf(t, someSymbols)
	for _, c := range []struct {
		addr   uint64
		name   string
		off    uint64
		module string
		format string
	}{
		{0xffffffff81000000, "_stext", 0, "", "_stext+0x0"},
		{0xffffffff81000001, "_stext", 1, "", "_stext+0x1"},
		{0xffffffff8100013d, "nf_hook_slow", 0x3d, "", "nf_hook_slow+0x3d"},
		{0xffffffffc0400fff, "xt_register", 0xfff, "x_tables", "xt_register+0xfff"},
		{0xffffffffc0401002, "ipt_do_table", 2, "ip_tables", "ipt_do_table+0x2"},
		{0xffffffffc0500010, "bpf_prog_1234", 0x10, "bpf", "bpf_prog_1234+0x10"},
		{0xffffffff80ffffff, "", 0, "", "0xffffffff80ffffff"}, // before the first
		{0xffffffff90000000, "", 0, "", "0xffffffff90000000"}, // in the gap before the modules
		{0, "", 0, "", "0x0"},
	} {
		name, off, module, ok := s.Name(c.addr)
		if name != c.name || off != c.off || module != c.module || ok != (c.name != "") {
			t.Errorf("%#x is %q+%#x [%s] %v, want %q+%#x [%s]", c.addr, name, off, module, ok, c.name, c.off, c.module)
		}
		if got := s.Format(c.addr); got != c.format {
			t.Errorf("%#x prints as %q, want %q", c.addr, got, c.format)
		}
	}
	if a, ok := s.Addr("twin"); !ok || a != 0xffffffff81000040 {
		t.Errorf("twin at %#x %v", a, ok)
	}
	if got := s.Addrs("twin"); !slices.Equal(got, []uint64{0xffffffff81000040, 0xffffffff81000300}) {
		t.Errorf("twins at %#x", got)
	}
	if s.Has("some_data") || !s.Has("ipt_do_table") || s.Len() != 8 {
		t.Errorf("kept %d symbols, want the 8 of text", s.Len())
	}
	if s.Hidden() || s.Note() != "" {
		t.Error("says addresses are hidden")
	}
}

func TestHiddenSymbols(t *testing.T) {
	s, _ := symbolsOf(t, "0000000000000000 T _stext\n0000000000000000 t nf_hook_slow\n")
	if !s.Hidden() || !strings.Contains(s.Note(), "kptr_restrict") {
		t.Errorf("hidden %v, note %q", s.Hidden(), s.Note())
	}
	if _, ok := s.Addr("nf_hook_slow"); ok {
		t.Error("a hidden address is told")
	}
	if got := s.Format(0xffffffff81000100); got != "0xffffffff81000100" {
		t.Errorf("prints as %q", got)
	}
	if !s.Has("nf_hook_slow") {
		t.Error("the name is not known any more")
	}
}

func TestReloadSeesNewModuleAndKeepsOldListOnFailure(t *testing.T) {
	s, path := symbolsOf(t, someSymbols)
	more := someSymbols + "ffffffffc0600000 t reject_tg\t[ipt_REJECT]\n"
	if err := os.WriteFile(path, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := s.Format(0xffffffffc0600004); got != "reject_tg+0x4" {
		t.Errorf("new module's address prints as %q", got)
	}
	for _, bad := range []string{"no symbols at all\n", "zzz T x\n", "ffffffff81000000\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v, want an error naming line 1", bad, err)
		}
	}
	if !s.Has("reject_tg") {
		t.Error("the former list is gone")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); !errors.Is(err, ErrNoSymbols) {
		t.Errorf("%v, want ErrNoSymbols", err)
	}
}

func TestHasBuiltin(t *testing.T) {
	_, path := symbolsOf(t, someSymbols+"ffffffff82000100 T last") // without a newline
	want := map[string]bool{
		"nf_hook_slow": true, "ipt_do_table": false, "some_data": false, "hook_slow": false, "twin": true, "last": true,
	}
	got, err := builtins(path, slices.Collect(maps.Keys(want)))
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	found, err := HasBuiltin("nf_hook_slow", "no_such_function")
	if err != nil || !found["nf_hook_slow"] || found["no_such_function"] {
		t.Errorf("%v, %v", found, err)
	}
}

func TestSymbolsOfThisKernel(t *testing.T) {
	s, err := LoadSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if !s.Has("nf_hook_slow") || s.Len() < 20000 {
		t.Fatalf("%d symbols, nf_hook_slow %v", s.Len(), s.Has("nf_hook_slow"))
	}
	if s.Hidden() {
		t.Skip("addresses are hidden from this user")
	}
	addr, ok := s.Addr("nf_hook_slow")
	if !ok || s.Format(addr+7) != "nf_hook_slow+0x7" {
		t.Errorf("nf_hook_slow at %#x %v prints as %s", addr, ok, s.Format(addr+7))
	}
}

func BenchmarkLoadSymbols(b *testing.B) {
	for b.Loop() {
		if _, err := LoadSymbols(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbolName(b *testing.B) {
	s, err := LoadSymbols()
	if err != nil {
		b.Fatal(err)
	}
	addr, _ := s.Addr("nf_hook_slow")
	for b.Loop() {
		s.Name(addr + 20)
	}
}
