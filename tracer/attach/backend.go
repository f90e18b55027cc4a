// SPDX-License-Identifier: Apache-2.0

// The backends: which programs each has, and how one is loaded and attached.

package attach

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// Backend is a way to hook into the kernel, the most exact first.
type Backend struct {
	name     string
	spec     func() (*ebpf.CollectionSpec, error)
	plan     []hook
	brackets bool
	evals    bool // it listens to nft's expressions
}

var backends = []Backend{
	{name: "fentry", spec: bpf.LoadFentry, plan: append(append([]hook{}, fentryHooks...), tracepointHooks...), evals: true},
	{name: "tracepoint", spec: bpf.LoadTracepoint, plan: append([]hook{percpuHook}, tracepointHooks...), brackets: true},
}

// Backends gives the backends to try: the one named, or all for auto and "".
func Backends(name string) ([]Backend, error) {
	if name == "" || name == "auto" {
		return backends, nil
	}
	for _, b := range backends {
		if b.name == name {
			return []Backend{b}, nil
		}
	}
	return nil, fmt.Errorf("backend %q: not one of auto, fentry, tracepoint", name)
}

// Name is what the command line calls it.
func (b Backend) Name() string { return b.name }

// HasFunctions tells that it may attach to functions, not to tracepoints only.
func (b Backend) HasFunctions() bool { return b.evals }

// HearsRules tells that it listens to nft's expressions: rules are told by handle.
func (b Backend) HearsRules() bool { return b.evals }

// Config says what to attach to, and for which flow.
type Config struct {
	Kernel      *kernel.Kernel
	Symbols     *kernel.Symbols
	Namespaces  *node.Namespaces
	Filter      bpf.Filter
	Src, Dst    endpoint.Endpoint
	SnapLen     int
	Expressions []string          // of nft, that rules end with
	Verbose     func(line string) // detail
	Stopwatch   func() (took func(what string))
}

// Open loads the programs and attaches them. They follow nothing before they are
// armed.
func (b Backend) Open(cfg Config) (*Attachment, error) {
	spec, err := b.spec()
	if err != nil {
		return nil, fmt.Errorf("committed BPF object: %w", err)
	}
	a := &Attachment{cfg: cfg, backend: b}
	if a.functions, err = journey.FunctionNames(spec.Types); err != nil {
		return nil, err
	}
	if err := a.prepare(spec); err != nil {
		return nil, err
	}
	if err := a.load(spec); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if err := a.LimitEntries(cfg.Src, cfg.Dst); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// prepare sets what the programs are told before they are loaded.
func (a *Attachment) prepare(spec *ebpf.CollectionSpec) error {
	if err := spec.Variables["cfg"].Set(a.cfg.Filter); err != nil {
		return fmt.Errorf("set the filter: %w", err)
	}
	reason := uint8(0)
	if args, err := a.cfg.Kernel.TracepointArgs("kfree_skb"); err == nil && len(args) >= 3 {
		reason = 1
	}
	if err := spec.Variables["has_drop_reason"].Set(reason); err != nil {
		return fmt.Errorf("set has_drop_reason: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	if err := sizeOracle(spec, cpus); err != nil {
		return err
	}
	if err := sizeFrames(spec, cpus, a.cfg.SnapLen); err != nil {
		return err
	}
	if err := a.findTables(spec); err != nil {
		return err
	}
	if a.backend.brackets {
		return a.bracketOracle(spec, cpus)
	}
	return nil
}

// load loads the programs, and hangs them and the brackets in.
func (a *Attachment) load(spec *ebpf.CollectionSpec) error {
	b, cfg := a.backend, &a.cfg
	links := b.brackets && cfg.Kernel.HasFunc("bpf_nf_link_attach")
	if b.brackets && !links {
		cfg.Verbose("left out netfilter links: " + errNoLinks.Error())
	}
	plan := b.plan
	if b.evals {
		plan = append(evalHooks(cfg.Expressions), plan...)
	}
	var err error
	if a.programs, err = loadPrograms(cfg.Kernel, spec, plan, unattached(links, cfg.SnapLen > 0), cfg.Verbose, cfg.Stopwatch()); err != nil {
		return err
	}
	var later []hook
	if b.evals {
		later = allEvalHooks()
	}
	a.trim(later)
	if a.ring, err = openRing(a.coll.Maps["events"]); err != nil {
		return err
	}
	if cfg.SnapLen > 0 {
		if err := a.findMemory(); err != nil {
			cfg.Verbose("of packets only the linear part can be captured: " + err.Error())
		}
	}
	a.brackets = newBrackets(cfg.Namespaces, links)
	if b.brackets {
		a.placeBrackets(links)
	}
	return nil
}

// unattached are the programs that are loaded besides the plan's.
func unattached(links, bytes bool) []string {
	extra := []string{"sweep", "look"}
	if links {
		extra = append(extra, bracketPrograms()...)
	}
	if bytes {
		extra = append(extra, "find_memory")
	}
	return extra
}
