// SPDX-License-Identifier: Apache-2.0

// The floor: what it costs to be at all the hooks where pathtrace is and to do
// nothing there. No program can be cheaper without leaving a hook out.

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
)

// Floor is a tool that hangs an empty program wherever pathtrace, started with
// the given arguments, has one that others' packets may run into.
func Floor(name, bin string, args ...string) Tool {
	var hooks []hook // found once
	return Tool{Name: name, start: func(ctx context.Context, n *Node) (running, error) {
		if hooks == nil {
			model, err := Pathtrace(name, bin, args...).start(ctx, n)
			if err != nil {
				return nil, err
			}
			hooks, err = hooksOf(model.PID())
			_, stopErr := model.Stop()
			if err := errors.Join(err, stopErr); err != nil {
				return nil, err
			}
		}
		began := time.Now()
		f := &floor{programs: map[ebpf.ProgramID]*ebpf.Program{}}
		if err := f.attach(n, hooks); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.detach())
		}
		f.life = Life{Ready: time.Since(began), Hooks: len(f.links)}
		return f, nil
	}}
}

// hook is a place where a program hangs.
type hook struct {
	spec *ebpf.ProgramSpec      // tracing: the program's own, with attach point
	nf   *link.NetfilterOptions // a netfilter link's place
	prog ebpf.ProgramID
}

// hooksOf finds where the programs of a process hang: tracing programs by their
// names in pathtrace's own objects, netfilter links by what the kernel says.
func hooksOf(pid int) ([]hook, error) {
	specs, err := tracingSpecs()
	if err != nil {
		return nil, err
	}
	links, err := fdValues(pid, "link_id")
	if err != nil {
		return nil, err
	}
	var hooks []hook
	for _, id := range links {
		h, err := hookOf(link.ID(id), specs)
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("BPF link %d: %w", id, err)
		}
		hooks = append(hooks, h)
	}
	return hooks, nil
}

// tracingSpecs are the tracing programs of all backends, by name.
func tracingSpecs() (map[string]*ebpf.ProgramSpec, error) {
	specs := map[string]*ebpf.ProgramSpec{}
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadFentry, bpf.LoadTracepoint, bpf.LoadNode} {
		coll, err := load()
		if err != nil {
			return nil, fmt.Errorf("committed BPF object: %w", err)
		}
		for name, p := range coll.Programs {
			if p.Type == ebpf.Tracing {
				specs[name] = p
			}
		}
	}
	return specs, nil
}

func hookOf(id link.ID, specs map[string]*ebpf.ProgramSpec) (hook, error) {
	l, err := link.NewFromID(id)
	if err != nil {
		return hook{}, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return hook{}, err
	}
	if nf := info.Netfilter(); nf != nil {
		return hook{prog: info.Program, nf: &link.NetfilterOptions{ProtocolFamily: nf.ProtocolFamily, Hook: nf.Hook, Priority: nf.Priority}}, nil
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return hook{}, err
	}
	defer p.Close()
	name, err := programName(p)
	if err != nil {
		return hook{}, err
	}
	if specs[name] == nil {
		return hook{}, fmt.Errorf("program %s is not one of this tree's: build pathtrace and the benchmark from the same source", name)
	}
	return hook{prog: info.Program, spec: specs[name]}, nil
}

// floor are the empty programs: as many as there are others, since each takes
// room of its own in the CPU's caches.
type floor struct {
	programs map[ebpf.ProgramID]*ebpf.Program // by the one it stands for
	links    []link.Link
	life     Life
}

// empty is a program that does nothing. Netfilter programs let the packet go on.
func empty(like ebpf.ProgramSpec, result int32) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "floor", Type: like.Type, AttachType: like.AttachType, AttachTo: like.AttachTo, License: "GPL",
		Instructions: asm.Instructions{asm.LoadImm(asm.R0, int64(result), asm.DWord), asm.Return()},
	})
}

func (f *floor) attach(n *Node, hooks []hook) error {
	return n.Env.Node(1).Netns.Do(func() error {
		for _, h := range hooks {
			if err := f.hang(h); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *floor) hang(h hook) error {
	if h.nf != nil {
		return f.hangNetfilter(h)
	}
	p, err := f.standIn(h.prog, *h.spec, 0)
	if err != nil {
		return fmt.Errorf("load an empty program for %s: %w", h.spec.AttachTo, err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return fmt.Errorf("attach an empty program to %s: %w", h.spec.AttachTo, err)
	}
	f.links = append(f.links, l)
	return nil
}

func (f *floor) hangNetfilter(h hook) error {
	const nfAccept = 1 // include/uapi/linux/netfilter.h: NF_ACCEPT
	p, err := f.standIn(h.prog, ebpf.ProgramSpec{Type: ebpf.Netfilter, AttachType: ebpf.AttachNetfilter}, nfAccept)
	if err != nil {
		return fmt.Errorf("load an empty netfilter program: %w", err)
	}
	// Links of other namespaces than the node's are in the list as well, at
	// the same places, most of them: of two at one place the node gets one.
	l, err := link.AttachNetfilter(link.NetfilterOptions{Program: p, ProtocolFamily: h.nf.ProtocolFamily,
		Hook: h.nf.Hook, Priority: h.nf.Priority})
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("netfilter link at hook %d, priority %d: %w", h.nf.Hook, h.nf.Priority, err)
	}
	f.links = append(f.links, l)
	return nil
}

// standIn is the empty program for another one.
func (f *floor) standIn(id ebpf.ProgramID, like ebpf.ProgramSpec, result int32) (*ebpf.Program, error) {
	if p := f.programs[id]; p != nil {
		return p, nil
	}
	p, err := empty(like, result)
	if err == nil {
		f.programs[id] = p
	}
	return p, err
}

// PID is this process's: the programs are its own.
func (f *floor) PID() int { return os.Getpid() }

// Stop takes the programs out.
func (f *floor) Stop() (Life, error) { return f.life, f.detach() }

func (f *floor) detach() error {
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	for _, p := range f.programs {
		errs = append(errs, p.Close())
	}
	f.links, f.programs = nil, nil
	return errors.Join(errs...)
}
