// SPDX-License-Identifier: Apache-2.0

package attach

// The plan of hooks and the committed objects have to agree.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

func TestPlansMatchTheirObjects(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			spec, err := b.spec()
			if err != nil {
				t.Fatal(err)
			}
			var fn *btf.Enum
			if err := spec.Types.TypeByName("fn", &fn); err != nil {
				t.Fatal(err)
			}
			known := map[string]bool{}
			for _, v := range fn.Values {
				known[strings.TrimPrefix(v.Name, "FN_")] = true
			}
			extra := unattached(b.brackets, true)
			planned := slices.Clone(extra)
			plan := b.plan
			if b.evals {
				var all []string
				for _, e := range evals() {
					all = append(all, e.expr)
				}
				plan = append(evalHooks(all), plan...)
			}
			for _, h := range plan {
				planned = append(planned, h.prog)
				p := spec.Programs[h.prog]
				if p == nil {
					t.Errorf("the plan's program %s is not in the object", h.prog)
					continue
				}
				if !known[p.AttachTo] && !unnamed[h.prog] {
					t.Errorf("program %s hangs on %s, which enum fn does not have", h.prog, p.AttachTo)
				}
				if h.loses == "" {
					t.Errorf("program %s: the plan does not say what is lost without it", h.prog)
				}
				if p.AttachType == ebpf.AttachTraceRawTp && h.module != "" {
					t.Errorf("program %s: a tracepoint of a module cannot be waited for", h.prog)
				}
			}
			for _, name := range extra {
				if spec.Programs[name] == nil {
					t.Errorf("the extra program %s is not in the object", name)
				}
			}
			for name := range spec.Programs {
				if n := count(planned, name); n != 1 {
					t.Errorf("program %s of the object is planned %d times", name, n)
				}
			}
		})
	}
}

// unnamed are programs that tell no event of their own, whose function no hop
// therefore names.
var unnamed = func() map[string]bool {
	m := map[string]bool{"tp_percpu_alloc_percpu": true, "xt_replace_table_in": true}
	for _, e := range evals() {
		m[e.function+"_out"] = true
	}
	return m
}()

func count(list []string, s string) int {
	n := 0
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

func TestTarget(t *testing.T) {
	for want, p := range map[string]*ebpf.ProgramSpec{
		"fentry/ip_forward":   {AttachType: ebpf.AttachTraceFEntry, AttachTo: "ip_forward"},
		"fexit/ipt_do_table":  {AttachType: ebpf.AttachTraceFExit, AttachTo: "ipt_do_table"},
		"tp_btf/kfree_skb":    {AttachType: ebpf.AttachTraceRawTp, AttachTo: "kfree_skb"},
		"tp_btf/consume_skb2": {AttachType: ebpf.AttachTraceRawTp, AttachTo: "consume_skb2"},
	} {
		if got := target(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPointee(t *testing.T) {
	skb := &btf.Struct{Name: "sk_buff"}
	for _, c := range []struct {
		typ  btf.Type
		want string
	}{
		{&btf.Pointer{Target: skb}, typeSKB},
		{&btf.Pointer{Target: &btf.Const{Type: skb}}, typeSKB},
		{&btf.Typedef{Name: "t", Type: &btf.Pointer{Target: skb}}, typeSKB},
		{&btf.Pointer{Target: &btf.Pointer{Target: skb}}, typeSKBPtr},
		{&btf.Pointer{Target: &btf.Fwd{Name: "nft_pktinfo"}}, typePktinfo},
		{&btf.Pointer{Target: &btf.Void{}}, "void"},
		{&btf.Int{Size: 4}, ""},
		{skb, ""},
	} {
		if got := pointee(c.typ); got != c.want {
			t.Errorf("%v: %q, want %q", c.typ, got, c.want)
		}
	}
}

func TestLoadErrorIsOneLine(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("program x: %w (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", unix.EPERM), "refused by the kernel: operation not permitted (policy of this node)"},
		{errors.New("program x: no such thing"), "refused by the kernel: program x: no such thing"},
		{fmt.Errorf("program x: %w", &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"0: r1 = 0", "  R1 type=scalar expected=fp ", "processed 3 insns"}}),
			"refused by the kernel: permission denied: R1 type=scalar expected=fp"},
		{fmt.Errorf("program x: %w", &ebpf.VerifierError{Cause: unix.EINVAL, Log: []string{"processed 0 insns"}}),
			"refused by the kernel: invalid argument: processed 0 insns"},
	} {
		got := loadError(c.err)
		if !errors.Is(got, ErrRefused) || got.Error() != c.want || strings.Contains(got.Error(), "\n") {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestForgive(t *testing.T) {
	a := &programs{}
	for _, h := range []string{"fentry/a", "fexit/b", "fentry/a"} {
		m := Missed{}
		m.Hook = h
		a.missed = append(a.missed, m)
	}
	a.forgive("fentry/a")
	if len(a.missed) != 1 || a.missed[0].Hook != "fexit/b" {
		t.Errorf("left %+v", a.missed)
	}
}

func TestBackendsFor(t *testing.T) {
	for name, want := range map[string]string{"": "fentry tracepoint", "auto": "fentry tracepoint", "fentry": "fentry", "tracepoint": "tracepoint"} {
		var got []string
		list, err := Backends(name)
		for _, b := range list {
			got = append(got, b.Name())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v, want %s", name, got, err, want)
		}
	}
	_, err := Backends("kprobe")
	if want := `backend "kprobe": not one of auto, fentry, tracepoint`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}
